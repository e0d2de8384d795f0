//! Definitions: what is filled in, kept, shown and refused, as an operator with stock virsh sees it.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::path::{Path, PathBuf};

use ferry_testkit::command::Output;
use ferry_testkit::guest::{Boot, Domain, Port};
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};

/// One UUID for a domain that is defined over and over.
const UUID: &str = "11111111-2222-3333-4444-555555555555";

/// A host with one definition that changes from word to word.
struct Desk {
    pair: Pair,
    xml: String,
    file: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let pair = Pair::new(&Pair::distribution()).unwrap();
        let (domain, _) = pair.sector("vm").unwrap();
        let xml = domain.uuid(UUID).xml();
        let file = pair.lab().shared().join("vm.xml");
        Self { pair, xml, file }
    }

    /// Defines the domain with `from` turned into `to`.
    fn define(&self, from: &str, to: &str) -> Output {
        assert!(self.xml.contains(from), "{from} is not in {}", self.xml);
        self.define_text(&self.xml.replacen(from, to, 1))
    }

    /// Defines it with more devices.
    fn with(&self, devices: &str) -> Output {
        self.define("<devices>", &format!("<devices>{devices}"))
    }

    fn define_text(&self, xml: &str) -> Output {
        fs::write(&self.file, xml).unwrap();
        self.pair.virsh(0).run(["define".as_ref(), self.file.as_os_str()]).unwrap()
    }

    fn shown(&self, flags: &[&str]) -> String {
        self.pair.virsh(0).ok(["dumpxml", "vm"].into_iter().chain(flags.iter().copied())).unwrap()
    }

    /// What is said when the domain, as it is defined now, cannot be started; nothing is left of the attempt.
    fn start_refused(&self) -> String {
        let said = self.pair.virsh(0).fails(["start", "vm"]).unwrap();
        assert_eq!(self.pair.virsh(0).reason("vm"), "shut off (failed)", "{said}");
        self.pair.nothing_runs(0);
        said
    }
}

#[test]
fn what_was_filled_in_stays_whatever_happens() {
    let desk = Desk::new();
    let virsh = desk.pair.virsh(0);
    let devices = "<interface type='bridge'><source bridge='br0'/></interface>\
                   <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>";
    desk.with(if desk.pair.host(0).is_isolated() { devices } else { "" }).ok().unwrap();
    let first = desk.shown(&["--inactive"]);
    for filled_in in
        ["<address type='pci'", "machine='pc-q35-7.2'", "<controller type='usb'", "<mac address='"]
    {
        if filled_in.contains("mac") && !desk.pair.host(0).is_isolated() {
            continue;
        }
        assert!(first.contains(filled_in), "{filled_in} is not in {first}");
    }

    // Defined from what is shown, started and stopped: always the same machine.
    desk.define_text(&first).ok().unwrap();
    assert_eq!(desk.shown(&["--inactive"]), first);
    virsh.ok(["start", "vm"]).unwrap();
    assert_eq!(desk.shown(&["--inactive"]), first);
    virsh.ok(["destroy", "vm"]).unwrap();
    assert_eq!(desk.shown(&[]), first);

    // A device that comes later takes a place of its own and moves nobody.
    let disk = desk.pair.lab().shared().join("more.img");
    fs::write(&disk, [0; 4096]).unwrap();
    let more = format!(
        "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
         <target dev='vdz' bus='virtio'/></disk>",
        disk.display()
    );
    desk.define_text(&first.replacen("<devices>", &more, 1)).ok().unwrap();
    let second = desk.shown(&["--inactive"]);
    let addresses = |xml: &str| {
        let of = xml.lines().map(str::trim).filter(|line| line.starts_with("<address type='pci'"));
        of.map(str::to_owned).collect::<Vec<_>>()
    };
    for address in addresses(&first) {
        assert!(addresses(&second).contains(&address), "{address} is gone from {second}");
    }
}

#[test]
fn an_editor_changes_one_word() {
    let desk = Desk::new();
    desk.define("<devices>", "<devices>").ok().unwrap();
    let before = desk.shown(&["--inactive"]);
    let edit = |script: &str| {
        let editor = format!("EDITOR=sed -i {script}");
        let virsh = desk.pair.host(0).tool("virsh");
        let words = [editor.as_str(), "LC_ALL=C", virsh.to_str().unwrap(), "-c", &desk.pair.daemon(0).uri()]
            .map(str::to_owned);
        desk.pair
            .host(0)
            .run("env", words.into_iter().chain(["edit", "vm"].map(str::to_owned)), SOON)
            .unwrap()
    };
    let said = edit("s/32768/65536/").ok().unwrap();
    assert!(said.contains("XML configuration edited"), "{said}");
    assert_eq!(desk.shown(&["--inactive"]), before.replace("32768", "65536"));
    let said = edit("s/32768/1/").ok().unwrap();
    assert!(said.contains("XML configuration not changed"), "{said}");
}

#[test]
fn each_way_to_show_it_shows_its_own() {
    let desk = Desk::new();
    let virsh = desk.pair.virsh(0);
    let vnc = "<graphics type='vnc' autoport='yes' passwd='secret'/>";
    let meta = "<metadata><a:b xmlns:a='http://example.org/'>kept</a:b></metadata><features>";
    desk.define_text(&desk.xml.replacen("<devices>", &format!("<devices>{vnc}"), 1).replacen(
        "<features>",
        meta,
        1,
    ))
    .ok()
    .unwrap();
    assert!(desk.shown(&[]).contains(">kept</a:b>"), "what is not ours is kept");
    assert!(!desk.shown(&[]).contains("secret"));
    assert!(desk.shown(&["--security-info"]).contains("passwd='secret'"));

    virsh.ok(["start", "vm"]).unwrap();
    let live = desk.shown(&[]);
    for part in ["<domain type='qemu' id='", "<alias name='virtio-disk0'/>", "index='1'/>", "port='5900'"] {
        assert!(live.contains(part), "{part} is not in {live}");
    }
    let inactive = desk.shown(&["--inactive"]);
    for part in [" id='", "<alias", "index='1'/>", "port='5900'"] {
        assert!(!inactive.contains(&format!("<domain type='qemu'{part}")), "{part} is in {inactive}");
    }
    assert!(!inactive.contains("<alias"), "{inactive}");
    let migratable = desk.shown(&["--migratable"]);
    assert!(!migratable.contains("<alias") && migratable.contains("machine='pc-q35-7.2'"), "{migratable}");
}

#[test]
fn what_is_not_supported_is_refused_with_its_path() {
    let desk = Desk::new();
    let devices = |xml: &str| desk.with(xml).err().unwrap();
    for (said, part) in [
        (devices("<frobnicator model='x'/>"), "unsupported configuration: element 'devices/frobnicator'"),
        (
            devices(
                "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='0' \
                 function='0'/></source></hostdev>",
            ),
            "unsupported configuration: element 'devices/hostdev'",
        ),
        (
            devices(
                "<disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdb'/></disk>",
            ),
            "element 'devices/disk[2]/source': disk type 'volume' needs a storage pool, and there are none",
        ),
        (
            desk.define("<memballoon model='virtio'/>", "<memballoon model='virtio' colour='red'/>")
                .err()
                .unwrap(),
            "unsupported configuration: attribute 'devices/memballoon/@colour' with value 'red'",
        ),
        (
            desk.define("type='qemu'", "type='xen'").err().unwrap(),
            "unsupported configuration: invalid domain type xen",
        ),
        (desk.define("<vcpu>1", "<vcpu>0").err().unwrap(), "XML error: Invalid value '0' for element 'vcpu'"),
        (desk.define("<name>vm</name>", "").err().unwrap(), "missing name information"),
        (desk.define("<devices>", "<devices><nope").err().unwrap(), "(domain_definition):"),
        (
            desk.define("/qemu-system-x86_64<", "/nothing<").err().unwrap(),
            "/nothing: No such file or directory",
        ),
    ] {
        assert!(said.contains(part), "wanted: {part}\nsaid:   {said}");
        assert!(!said.contains("os error"), "{said}");
    }
    assert!(desk.pair.virsh(0).domains().unwrap().is_empty(), "nothing was defined");
}

#[test]
fn what_cannot_be_started_is_refused_with_the_reason() {
    let desk = Desk::new();
    let qemu = "process exited while connecting to monitor: ";
    for (from, to, part) in [
        ("machine='q35'", "machine='pc-q35-99.0'", "does not support machine type 'pc-q35-99.0'".to_owned()),
        (
            "<devices>",
            "<devices><interface type='network'><source network='nowhere'/></interface>",
            "network 'nowhere' is not mapped to a bridge: add it to [networks] in".to_owned(),
        ),
        (
            "<features>",
            "<cpu mode='custom'><model>Nonsense</model></cpu><features>",
            "CPU model 'Nonsense' is not supported".to_owned(),
        ),
        ("<vcpu>1", "<vcpu>9999", "Maximum CPUs greater than specified machine type limit 288".to_owned()),
        ("type='raw'", "type='qcow2'", "is not usable as qcow2: not a qcow2 image".to_owned()),
        ("vm.img", "nothing.img", "nothing.img': No such file or directory".to_owned()),
        // What only QEMU knows, it says itself.
        (
            "</os>",
            "<kernel>/nonexistent/kernel</kernel></os>",
            format!(
                "{qemu}qemu: could not open kernel file '/nonexistent/kernel': No such file or directory"
            ),
        ),
        (
            "<devices>",
            "<devices><graphics type='vnc' port='99999' autoport='no'/>",
            "port 94099 out of range".to_owned(),
        ),
    ] {
        desk.define(from, to).ok().unwrap();
        let said = desk.start_refused();
        assert!(said.contains(&part), "wanted: {part}\nsaid:   {said}");
    }
    if desk.pair.host(0).is_isolated() {
        desk.with("<interface type='bridge'><source bridge='nowhere'/></interface>").ok().unwrap();
        let said = desk.start_refused();
        assert!(said.contains("to bridge nowhere: No such device"), "{said}");
        let interfaces = desk.pair.host(0).sh("ls /sys/class/net").unwrap();
        assert!(!interfaces.contains("vnet"), "a TAP was left behind: {interfaces}");
    }
    // It was never the daemon's fault: the plain guest starts.
    desk.define("<devices>", "<devices>").ok().unwrap();
    desk.pair.virsh(0).ok(["start", "vm"]).unwrap();
}

fn qemu_img(desk: &Desk, words: &[&str]) {
    desk.pair.host(0).run(desk.pair.host(0).tool("qemu-img"), words, SOON).unwrap().ok().unwrap();
}

/// The whole chain of a disk is found by looking, and each image is named in the live definition.
#[test]
fn images_are_followed_to_their_base_and_to_their_data() {
    let desk = Desk::new();
    let shared = desk.pair.lab().shared().to_owned();
    let path = |name: &str| shared.join(name).display().to_string();
    // The boot sector's image below two layers, the middle one with its data beside it.
    qemu_img(&desk, &["convert", "-O", "qcow2", &path("vm.img"), &path("base.qcow2")]);
    let data = format!("data_file={},data_file_raw=on", path("data.raw"));
    qemu_img(&desk, &["create", "-q", "-f", "qcow2", "-o", &data, &path("whole.qcow2"), "1M"]);
    qemu_img(
        &desk,
        &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &path("base.qcow2"), &path("middle.qcow2")],
    );
    qemu_img(
        &desk,
        &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &path("middle.qcow2"), &path("top.qcow2")],
    );
    let (log, serial) = desk.pair.listen("vm").unwrap();
    let domain = Domain::new("vm", Boot::Disk, Port::File(log))
        .disk(path("top.qcow2"), "qcow2")
        .disk(path("whole.qcow2"), "qcow2");
    desk.pair.start("vm", domain).unwrap();
    serial.wait_beats(100, SOON).unwrap();

    let live = desk.shown(&[]);
    let at = |part: &str| live.find(part).unwrap_or_else(|| panic!("{part} is not in {live}"));
    let chain = ["top.qcow2", "middle.qcow2", "base.qcow2"].map(|name| at(&format!("file='{}'", path(name))));
    assert!(chain.is_sorted(), "{live}");
    assert_eq!(live.matches("<backingStore type='file'").count(), 2, "{live}");
    at(&format!("file='{}'", path("data.raw")));
    at("<dataStore type='file'");
    let inactive = desk.shown(&["--inactive"]);
    assert!(!inactive.contains("base.qcow2") && !inactive.contains("data.raw"), "{inactive}");

    // And they all go along.
    desk.pair.virsh(0).ok(["migrate", "vm", &desk.pair.uri(1), "--live", "--unsafe"]).unwrap();
    desk.pair.moved(0, "vm", "running (migrated)", &serial);
}

#[test]
fn a_base_without_a_recorded_format_is_not_guessed() {
    let desk = Desk::new();
    let shared = desk.pair.lab().shared().to_owned();
    let (base, top) = (shared.join("vm.img"), shared.join("top.qcow2"));
    // As old tools wrote it: qemu-img no longer leaves the format out by itself.
    fs::write(&top, overlay_without_format(&base)).unwrap();
    let from = format!("type='raw' cache='none'/>\n      <source file='{}'", base.display());
    let to = format!("type='qcow2' cache='none'/>\n      <source file='{}'", top.display());
    desk.define(&from, &to).ok().unwrap();
    let said = desk.start_refused();
    assert!(said.contains("format") && said.contains(&base.display().to_string()), "{said}");
}

/// A qcow2 header of version 2 that names a backing file and not its format.
fn overlay_without_format(base: &Path) -> Vec<u8> {
    let base = base.to_str().unwrap().as_bytes();
    let mut header = Vec::new();
    header.extend(b"QFI\xfb");
    header.extend(2_u32.to_be_bytes());
    header.extend(1024_u64.to_be_bytes()); // backing file's offset
    header.extend(u32::try_from(base.len()).unwrap().to_be_bytes());
    header.extend(16_u32.to_be_bytes()); // cluster bits
    header.extend((1_u64 << 20).to_be_bytes());
    header.resize(1024, 0);
    header.extend(base);
    header.resize(4 << 16, 0);
    header
}
