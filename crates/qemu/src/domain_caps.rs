//! The domain capabilities document: what a guest of one kind can have with one QEMU.
//!
//! Clients that make definitions (virt-install, Nova, KubeVirt) choose from it, so it must not offer what a definition is
//! then refused for. Each device and each word in the document is therefore tried: a small definition with it must be
//! understood and supported, and this QEMU must have the device behind it.

use crate::capabilities::{Accelerator, Capabilities, Machine};
use crate::host_model::host_model;
use crate::tree::{Tree, element};
use ferry_domxml::{Domain, DomainKind};
use std::fmt::Write as _;

/// What the document is about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Path of the QEMU binary.
    pub emulator: &'a str,
    /// What runs the guest's processors.
    pub kind: DomainKind,
    /// The machine type.
    pub machine: &'a Machine,
    /// Firmware images of this host.
    pub loaders: &'a [String],
    /// This host has the program that plays a TPM.
    pub plays_tpm: bool,
}

/// One word of a list, the definition that uses it, and the device that QEMU must have; none where it is no device.
type Word = (&'static str, &'static str, &'static str);

/// One kind of device: its element, and its lists.
type Kind = (&'static str, &'static [(&'static str, &'static [Word])]);

const DISK_DEVICES: &[Word] = &[
    (
        "disk",
        "<disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/></disk>",
        "virtio-blk-pci",
    ),
    ("cdrom", "<disk type='file' device='cdrom'><target dev='sda' bus='scsi'/></disk>", "scsi-cd"),
    (
        "floppy",
        "<disk type='file' device='floppy'><source file='/a'/><target dev='fda' bus='fdc'/></disk>",
        "floppy",
    ),
    (
        "lun",
        "<disk type='block' device='lun'><source dev='/a'/><target dev='sda' bus='scsi'/></disk>",
        "scsi-block",
    ),
];

const DISK_BUSES: &[Word] = &[
    (IDE, "<disk type='file'><source file='/a'/><target dev='hda' bus='ide'/></disk>", "ide-hd"),
    (
        "fdc",
        "<disk type='file' device='floppy'><source file='/a'/><target dev='fda' bus='fdc'/></disk>",
        "floppy",
    ),
    ("scsi", "<disk type='file'><source file='/a'/><target dev='sda' bus='scsi'/></disk>", "scsi-hd"),
    (
        "virtio",
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>",
        "virtio-blk-pci",
    ),
    ("usb", "<disk type='file'><source file='/a'/><target dev='sda' bus='usb'/></disk>", "usb-storage"),
    ("sata", "<disk type='file'><source file='/a'/><target dev='sda' bus='sata'/></disk>", "ich9-ahci"),
];

/// Only machines with the old south bridge have this bus.
const IDE: &str = "ide";

const DISK_MODELS: &[Word] = &[
    (
        "virtio",
        "<disk type='file' model='virtio'><source file='/a'/><target dev='vda' bus='virtio'/></disk>",
        "virtio-blk-pci",
    ),
    (
        "virtio-transitional",
        "<disk type='file' model='virtio-transitional'><source file='/a'/><target dev='vda' bus='virtio'/></disk>",
        "virtio-blk-pci-transitional",
    ),
    (
        "virtio-non-transitional",
        "<disk type='file' model='virtio-non-transitional'><source file='/a'/><target dev='vda' bus='virtio'/></disk>",
        "virtio-blk-pci-non-transitional",
    ),
];

const GRAPHICS: &[Word] = &[
    ("sdl", "<graphics type='sdl'/>", ""),
    ("vnc", "<graphics type='vnc'/>", ""),
    ("spice", "<graphics type='spice'/>", "qxl"),
    ("egl-headless", "<graphics type='egl-headless'/>", ""),
    ("dbus", "<graphics type='dbus'/>", ""),
];

const VIDEOS: &[Word] = &[
    ("vga", "<video><model type='vga'/></video>", "VGA"),
    ("cirrus", "<video><model type='cirrus'/></video>", "cirrus-vga"),
    ("vmvga", "<video><model type='vmvga'/></video>", "vmware-svga"),
    ("qxl", "<video><model type='qxl'/></video>", "qxl-vga"),
    ("virtio", "<video><model type='virtio'/></video>", "virtio-vga"),
    ("none", "<video><model type='none'/></video>", ""),
    ("bochs", "<video><model type='bochs'/></video>", "bochs-display"),
    ("ramfb", "<video><model type='ramfb'/></video>", "ramfb"),
];

const RNG_MODELS: &[Word] = &[
    ("virtio", "<rng model='virtio'><backend model='random'/></rng>", "virtio-rng-pci"),
    (
        "virtio-transitional",
        "<rng model='virtio-transitional'><backend model='random'/></rng>",
        "virtio-rng-pci-transitional",
    ),
    (
        "virtio-non-transitional",
        "<rng model='virtio-non-transitional'><backend model='random'/></rng>",
        "virtio-rng-pci-non-transitional",
    ),
];

const RNG_BACKENDS: &[Word] = &[
    ("random", "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>", "virtio-rng-pci"),
    (
        "egd",
        "<rng model='virtio'><backend model='egd' type='udp'><source mode='bind' service='1'/></backend></rng>",
        "virtio-rng-pci",
    ),
    ("builtin", "<rng model='virtio'><backend model='builtin'/></rng>", "virtio-rng-pci"),
];

const HOST_DEVICES: &[Word] = &[
    (
        "usb",
        "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/><product id='0x1'/></source></hostdev>",
        "usb-host",
    ),
    (
        "pci",
        "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0' slot='1' function='0'/></source></hostdev>",
        "vfio-pci",
    ),
];

const FILE_SYSTEMS: &[Word] = &[
    (
        "path",
        "<filesystem type='mount'><driver type='path'/><source dir='/a'/><target dir='a'/></filesystem>",
        "virtio-9p-pci",
    ),
    (
        "virtiofs",
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='/a'/><target dir='a'/></filesystem>",
        "vhost-user-fs-pci",
    ),
];

/// Only hosts that have a program for it.
const TPM: &str = "tpm";

const TPM_MODELS: &[Word] = &[
    ("tpm-tis", "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>", "tpm-tis"),
    ("tpm-crb", "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>", "tpm-crb"),
];

const TPM_BACKENDS: &[Word] = &[
    (
        "passthrough",
        "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
        "tpm-tis",
    ),
    ("emulator", "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>", "tpm-tis"),
    (
        "external",
        "<tpm model='tpm-tis'><backend type='external'><source type='unix' mode='connect' path='/a'/></backend></tpm>",
        "tpm-tis",
    ),
];

const TPM_VERSIONS: &[Word] = &[
    ("1.2", "<tpm model='tpm-tis'><backend type='emulator' version='1.2'/></tpm>", "tpm-tis"),
    ("2.0", "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>", "tpm-tis"),
];

const REDIRECTIONS: &[Word] = &[("usb", "<redirdev bus='usb' type='pty'/>", "usb-redir")];

const CHANNELS: &[Word] = &[
    ("pty", "<channel type='pty'><target type='virtio' name='a'/></channel>", "virtserialport"),
    ("unix", "<channel type='unix'><target type='virtio' name='a'/></channel>", "virtserialport"),
    ("spicevmc", "<channel type='spicevmc'><target type='virtio' name='a'/></channel>", "qxl"),
];

const PANICS: &[Word] =
    &[("isa", "<panic model='isa'/>", "pvpanic"), ("pvpanic", "<panic model='pvpanic'/>", "pvpanic-pci")];

const CRYPTO: &[Word] = &[(
    "virtio",
    "<crypto model='virtio' type='qemu'><backend model='builtin' queues='1'/></crypto>",
    "virtio-crypto-pci",
)];

const SHARED_MEMORY: &str = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>";

/// In stock's order.
const DEVICES: &[Kind] = &[
    ("disk", &[("diskDevice", DISK_DEVICES), ("bus", DISK_BUSES), ("model", DISK_MODELS)]),
    ("graphics", &[("type", GRAPHICS)]),
    ("video", &[("modelType", VIDEOS)]),
    ("hostdev", &[("subsysType", HOST_DEVICES)]),
    ("rng", &[("model", RNG_MODELS), ("backendModel", RNG_BACKENDS)]),
    ("filesystem", &[("driverType", FILE_SYSTEMS)]),
    (TPM, &[("model", TPM_MODELS), ("backendModel", TPM_BACKENDS), ("backendVersion", TPM_VERSIONS)]),
    ("redirdev", &[("bus", REDIRECTIONS)]),
    ("channel", &[("type", CHANNELS)]),
    ("crypto", &[("model", CRYPTO)]),
    ("panic", &[("model", PANICS)]),
];

/// The document, with a line break at its end.
pub fn document(asked: &Asked<'_>, capabilities: &Capabilities) -> String {
    let kind = word_of(asked.kind);
    let iothreads = is_supported("<iothreads>1</iothreads>", "");
    let root = element("domainCapabilities")
        .with(element("path").text(asked.emulator))
        .with(element("domain").text(kind))
        .with(element("machine").text(&asked.machine.name))
        .with(element("arch").text(&capabilities.arch))
        .with(element("vcpu").attribute("max", asked.machine.cpus_max))
        .with(element("iothreads").attribute("supported", yes_no(iothreads)))
        .with(os(asked, capabilities))
        .with(cpu(asked.kind, capabilities))
        .with(memory())
        .with(devices(asked, capabilities))
        .with(features(capabilities));
    root.format()
}

fn word_of(kind: DomainKind) -> &'static str {
    match kind {
        DomainKind::Qemu => "qemu",
        DomainKind::Kvm => "kvm",
    }
}

fn os(asked: &Asked<'_>, capabilities: &Capabilities) -> Tree {
    let with_loader = |attributes: &str| {
        is_supported("", &format!("<os><type>hvm</type><loader {attributes}>/a</loader></os>"))
    };
    let automatic = is_supported("", "<os firmware='efi'><type>hvm</type></os>") && !asked.loaders.is_empty();
    let pflash = with_loader("readonly='yes' type='pflash'") && capabilities.has_device("cfi.pflash01");
    let types = [("rom", with_loader("type='rom'")), ("pflash", pflash)];
    let loaders = if pflash { asked.loaders } else { &[] };
    element("os").attribute("supported", "yes").with(list("firmware", automatic.then_some("efi"))).with(
        element("loader")
            .attribute("supported", yes_no(types.iter().any(|(_, has)| *has)))
            .with_all(loaders.iter().map(|path| element("value").text(path)))
            .with(list("type", types.iter().filter(|(_, has)| *has).map(|(name, _)| *name)))
            .with(list("readonly", ["yes", "no"]))
            .with(list("secure", ["no"])),
    )
}

fn cpu(kind: DomainKind, capabilities: &Capabilities) -> Tree {
    let accelerator = match kind {
        DomainKind::Qemu => Accelerator::Tcg,
        DomainKind::Kvm => Accelerator::Kvm,
    };
    let mode = |name: &str, supported: bool| {
        element("mode").attribute("name", name).attribute("supported", yes_no(supported))
    };
    let migratable = |name: &str| list(name, ["on", "off"]);
    let known = capabilities.accelerators.get(&accelerator);
    let maximum = known.is_some();
    let passthrough = mode("host-passthrough", kind == DomainKind::Kvm && maximum)
        .with_all((kind == DomainKind::Kvm && maximum).then(|| migratable("hostPassthroughMigratable")));
    let maximum = mode("maximum", maximum).with_all(maximum.then(|| migratable("maximumMigratable")));
    let host = match host_model(kind, capabilities) {
        Ok((model, features)) => mode("host-model", true)
            .with(element("model").attribute("fallback", "forbid").text(model))
            .with_all(
                features
                    .into_iter()
                    .map(|name| element("feature").attribute("policy", "require").attribute("name", name)),
            ),
        Err(_) => mode("host-model", false),
    };
    let models = known.map(|known| &known.cpu_models[..]).unwrap_or_default();
    let models =
        models.iter().filter(|model| !matches!(model.name.as_str(), "base" | "host" | "max")).map(|model| {
            let usable = match &model.lacks {
                None => "unknown",
                Some(lacks) => yes_no(lacks.is_empty()),
            };
            let entry = element("model").attribute("usable", usable);
            let entry = if model.deprecated { entry.attribute("deprecated", "yes") } else { entry };
            let entry = match &model.alias_of {
                Some(canonical) => entry.attribute("canonical", canonical),
                None => entry,
            };
            entry.text(&model.name)
        });
    element("cpu")
        .with(passthrough)
        .with(maximum)
        .with(host)
        .with(mode("custom", known.is_some()).with_all(models))
}

fn memory() -> Tree {
    let sources = ["file", "anonymous", "memfd"].into_iter().filter(|source| {
        is_supported(&format!("<memoryBacking><source type='{source}'/></memoryBacking>"), "")
    });
    let sources: Vec<_> = sources.collect();
    let tree = element("memoryBacking").attribute("supported", yes_no(!sources.is_empty()));
    if sources.is_empty() { tree } else { tree.with(list("sourceType", sources)) }
}

fn devices(asked: &Asked<'_>, capabilities: &Capabilities) -> Tree {
    let has_ide = asked.machine.name.starts_with("pc-i440fx-");
    let kinds = DEVICES.iter().map(|(name, lists)| {
        let lists: Vec<(&str, Vec<&str>)> = lists
            .iter()
            .map(|(list, words)| {
                let known = words.iter().filter(|(word, definition, device)| {
                    (device.is_empty() || capabilities.has_device(device))
                        && (*word != IDE || has_ide)
                        && (*name != TPM || asked.plays_tpm)
                        // Some of them need memory that other programs see.
                        && is_supported(&format!("{SHARED_MEMORY}<devices>{definition}</devices>"), "")
                });
                (*list, known.map(|(word, ..)| *word).collect())
            })
            .collect();
        let supported = lists.iter().all(|(_, words)| !words.is_empty());
        let tree = element(name).attribute("supported", yes_no(supported));
        if supported { tree.with_all(lists.into_iter().map(|(name, words)| list(name, words))) } else { tree }
    });
    element("devices").with_all(kinds)
}

fn features(capabilities: &Capabilities) -> Tree {
    let feature = |name: &str, supported: bool| element(name).attribute("supported", yes_no(supported));
    let in_features = |inside: &str| is_supported(&format!("<features>{inside}</features>"), "");
    element("features")
        .with(feature("gic", false))
        .with(feature("vmcoreinfo", capabilities.has_device("vmcoreinfo") && in_features("<vmcoreinfo state='on'/>")))
        .with(feature("genid", capabilities.has_device("vmgenid") && is_supported("<genid/>", "")))
        .with(feature(
            "backingStoreInput",
            is_supported(
                "<devices><disk type='file'><source file='/a'/><backingStore type='file'><format type='raw'/>\
                 <source file='/b'/><backingStore/></backingStore><target dev='vda' bus='virtio'/></disk></devices>",
                "",
            ),
        ))
        .with(feature("backup", false))
        .with(feature("async-teardown", false))
        .with(feature("sev", false))
        .with(feature("sgx", false))
        .with(feature("launchSecurity", false))
}

/// Whether a definition with these parts is understood, and refused for none of them.
fn is_supported(parts: &str, os: &str) -> bool {
    let mut text = String::from("<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu>");
    let os = if os.is_empty() { "<os><type>hvm</type></os>" } else { os };
    let _ = write!(text, "{os}{parts}</domain>");
    Domain::parse(&text).is_ok_and(|domain| domain.check_supported().is_ok())
}

fn list<'a>(name: &str, words: impl IntoIterator<Item = &'a str>) -> Tree {
    element("enum")
        .attribute("name", name)
        .with_all(words.into_iter().map(|word| element("value").text(word)))
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured() -> Capabilities {
        Capabilities::from_json(include_str!("../tests/data/qemu-7.2.json")).unwrap()
    }

    #[test]
    fn a_document_offers_what_a_definition_may_use_and_this_machine_has() {
        let capabilities = captured();
        let document_of = |machine: &str| {
            let machine = capabilities.machine(machine).unwrap();
            let plays_tpm = machine.name.contains("q35");
            let asked = Asked { emulator: "/q", kind: DomainKind::Qemu, machine, loaders: &[], plays_tpm };
            document(&asked, &capabilities)
        };
        let (old, new) = (document_of("pc"), document_of("q35"));
        assert!(old.contains("<tpm supported='no'/>"), "{old}");
        assert!(old.contains("<value>ide</value>"), "{old}");
        assert!(!new.contains("<value>ide</value>"), "{new}");
        for part in [
            "<machine>pc-q35-7.2</machine>",
            "<vcpu max='288'/>",
            "<value>virtio-non-transitional</value>",
            "<value>vnc</value>",
            "<mode name='host-passthrough' supported='no'/>",
            "<model fallback='forbid'>qemu64</model>",
            "<gic supported='no'/>",
            "<tpm supported='yes'>",
            "<value>tpm-crb</value>",
            "<enum name='backendModel'>\n        <value>emulator</value>\n      </enum>",
            "<enum name='backendVersion'>\n        <value>1.2</value>\n        <value>2.0</value>",
        ] {
            assert!(new.contains(part), "{part}: {new}");
        }
        assert!(!new.contains(">max<") && !new.contains("loader supported='yes'>\n      <value>"));
    }

    #[test]
    fn a_binary_without_devices_offers_none() {
        let machine = captured().machine("q35").unwrap().clone();
        let asked =
            Asked { emulator: "/q", kind: DomainKind::Kvm, machine: &machine, loaders: &[], plays_tpm: true };
        let document = document(&asked, &Capabilities::default());
        assert!(document.contains("<disk supported='no'/>"), "{document}");
        assert!(document.contains("<mode name='custom' supported='no'/>"), "{document}");
    }

    #[test]
    fn every_word_that_is_offered_by_a_full_binary_is_tried_with_a_definition_that_can_be_read() {
        // A typing error would make a word vanish from every document without anybody noticing.
        let words = DEVICES.iter().flat_map(|(_, lists)| lists.iter().flat_map(|(_, words)| words.iter()));
        for (word, definition, _) in words {
            assert!(ferry_domxml::Element::parse(definition).is_ok(), "{word}: {definition}");
        }
    }
}
