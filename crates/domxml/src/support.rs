//! Refusal of what is not supported: nothing in a definition is dropped, so what we cannot give is an error.
//!
//! Every element, attribute and word that the model does not know was kept in a `Rest`. Here each of them is
//! looked up in a short table of things that do not change the guest; whatever is not in it is refused by its
//! path. The daemon calls it at define, at create and before it takes a guest in.

use std::fmt;

use crate::model::{Output, Piece};
use crate::reader::shorten;
use crate::{
    BackingStore, Disk, Domain, Element, FormatOptions, Location, Node, PciModel, PlaceMode, SmbiosMode,
    Source, Tray, VcpuPlacement, YesNo,
};

/// What stands in the way. On the wire: code 67, `unsupported configuration: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Where: `devices/disk[2]/driver`. Numbers count from 1 and are left out where there is only one.
    pub path: String,
    /// What it is.
    pub what: What,
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An element, with the beginning of it as written.
    Element(String),
    /// An attribute, or a value of it, as written.
    Attribute {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Text where there should be none.
    Text(String),
    /// Something that is modelled, with the reason why it is refused all the same.
    Modelled(&'static str),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            What::Element(text) => write!(f, "unsupported configuration: element '{path}': {text}"),
            What::Attribute { name, value } => {
                write!(f, "unsupported configuration: attribute '{path}/@{name}' with value '{value}'")
            }
            What::Text(text) => write!(f, "unsupported configuration: text in element '{path}': {text}"),
            What::Modelled(reason) => write!(f, "unsupported configuration: element '{path}': {reason}"),
        }
    }
}

impl std::error::Error for Unsupported {}

/// Elements that are kept and do not change the guest, and why that is so. A `*` is any one name.
const HARMLESS: &[(&str, &str)] = &[
    ("seclabel", "confines QEMU on one host; a host without that security driver has nothing to apply"),
    ("resource", "names a control group of one host"),
    ("cputune/*", "shares of the host's processors and caches; the guest's own count is elsewhere"),
    ("memtune", "limits on QEMU's use of host memory"),
    ("blkiotune", "shares of the host's disks"),
    ("devices/disk/source/seclabel", "confines QEMU's use of one file on one host"),
    ("devices/*/source/seclabel", "confines QEMU's use of one socket or file on one host"),
];

impl Domain {
    /// Refuses the first thing, in the order of the XML, that we keep but cannot give to the guest.
    pub fn check_supported(&self) -> Result<(), Unsupported> {
        check_modelled(self)?;
        let root = self.open(FormatOptions::LIVE);
        let mut path = Path::default();
        check_output(&root, &mut path)
    }
}

/// A part of a disk that the model knows and nothing behind it does yet.
struct RefusedOnDisk {
    path: &'static str,
    reason: &'static str,
    is_there: fn(&Disk) -> bool,
}

const REFUSED_ON_DISK: &[RefusedOnDisk] = &[
    RefusedOnDisk {
        path: "source",
        reason: "disk type 'volume' needs a storage pool, and there are none",
        is_there: |disk| sources(disk).any(|source| matches!(source.location, Location::Volume { .. })),
    },
    RefusedOnDisk {
        path: "source/@tls",
        reason: "nobody looks after the certificates of an encrypted NBD connection",
        is_there: |disk| {
            sources(disk).filter_map(Source::network).any(|network| network.tls == Some(YesNo::Yes))
        },
    },
    RefusedOnDisk {
        path: "source/identity",
        reason: "QEMU's own SSH client takes a user's name and nothing else; keys come from its agent",
        is_there: |disk| {
            let mut identities =
                sources(disk).filter_map(Source::network).filter_map(|network| network.identity.as_ref());
            identities.any(|identity| identity.keyfile.is_some() || identity.agent_socket.is_some())
        },
    },
    RefusedOnDisk {
        path: "source/knownHosts",
        reason: "QEMU's own SSH client believes the keys that its account knows",
        is_there: |disk| {
            sources(disk).filter_map(Source::network).any(|network| network.known_hosts.is_some())
        },
    },
    RefusedOnDisk {
        path: "source/slices",
        reason: "an image has one slice, with a size",
        is_there: |disk| {
            let mut slices = sources(disk).filter_map(|source| source.slices.as_ref());
            slices.any(|slices| slices.slices.len() != 1 || slices.slices.iter().any(|slice| slice.size == 0))
        },
    },
    RefusedOnDisk {
        path: "backingStore/source/encryption",
        reason: "only the top image can be encrypted",
        is_there: |disk| sources(disk).skip(1).any(|source| source.encryption.is_some()),
    },
    RefusedOnDisk {
        path: "transient",
        reason: "what the guest writes would be kept",
        is_there: |disk| disk.transient,
    },
    RefusedOnDisk {
        path: "target/@tray",
        reason: "a medium in an open tray would be seen by the guest",
        is_there: |disk| disk.target.tray == Some(Tray::Open) && !disk.source.is_empty(),
    },
];

/// A wish for memory that the model knows and nothing gives.
struct RefusedMemory {
    path: &'static str,
    reason: &'static str,
    is_there: fn(&Domain) -> bool,
}

const REFUSED_MEMORY: &[RefusedMemory] = &[
    RefusedMemory {
        path: "numatune/memory/@placement",
        reason: "nobody advises on where memory lies",
        is_there: |domain| {
            let memory = domain.numa_tune.as_ref().and_then(|tune| tune.memory.as_ref());
            memory.is_some_and(|memory| memory.placement == Some(VcpuPlacement::Auto))
        },
    },
    RefusedMemory {
        path: "numatune/memory/@mode",
        reason: "mode 'restrictive' needs a control group, and none is made",
        is_there: |domain| {
            let memory = domain.numa_tune.as_ref().and_then(|tune| tune.memory.as_ref());
            memory.is_some_and(|memory| memory.mode == Some(PlaceMode::Restrictive))
        },
    },
    RefusedMemory {
        path: "numatune/memnode/@mode",
        reason: "mode 'restrictive' needs a control group, and none is made",
        is_there: |domain| {
            let cells = domain.numa_tune.as_ref().map_or(&[][..], |tune| &tune.cells);
            cells.iter().any(|cell| cell.mode == PlaceMode::Restrictive)
        },
    },
];

/// What the model knows and we refuse all the same.
fn check_modelled(domain: &Domain) -> Result<(), Unsupported> {
    let refuse = |path: String, reason| Err(Unsupported { path, what: What::Modelled(reason) });
    if domain.vcpus.placement == Some(VcpuPlacement::Auto) {
        return refuse("vcpu/@placement".to_owned(), "nobody advises on where processors run");
    }
    if let Some(refused) = REFUSED_MEMORY.iter().find(|refused| (refused.is_there)(domain)) {
        return refuse(refused.path.to_owned(), refused.reason);
    }
    if domain.os.smbios == Some(SmbiosMode::Host) {
        return refuse("os/smbios/@mode".to_owned(), "the host's own tables are not read");
    }
    for (index, disk) in domain.devices.disks.iter().enumerate() {
        if let Some(refused) = REFUSED_ON_DISK.iter().find(|refused| (refused.is_there)(disk)) {
            return refuse(format!("devices/disk[{}]/{}", index + 1, refused.path), refused.reason);
        }
    }
    if let Some(vsock) = &domain.devices.vsock {
        let is_given = vsock
            .cid
            .as_ref()
            .is_some_and(|cid| cid.address.is_some() && cid.auto.is_none_or(|auto| !auto.is_yes()));
        if !is_given {
            return refuse("devices/vsock/cid".to_owned(), "nobody gives out numbers; name one with address");
        }
    }
    if domain.devices.pstore.as_ref().is_some_and(|pstore| pstore.path.is_none() || pstore.size.is_none()) {
        return refuse("devices/pstore".to_owned(), "its path and its size must be given");
    }
    for (index, interface) in domain.devices.interfaces.iter().enumerate() {
        let guest = interface.driver.as_ref().and_then(|driver| driver.guest.as_ref());
        if guest.is_some_and(|guest| guest.gso.is_some() || guest.mrg_rxbuf.is_some()) {
            let path = format!("devices/interface[{}]/driver/guest", index + 1);
            return refuse(path, "gso and mrg_rxbuf are the host's");
        }
    }
    for (index, controller) in domain.devices.controllers.iter().enumerate() {
        let is_root = matches!(controller.pci_model(), Some(PciModel::PciRoot | PciModel::PcieRoot));
        if controller.pcihole64.is_some() && !is_root {
            let path = format!("devices/controller[{}]/pcihole64", index + 1);
            return refuse(path, "only the root of the PCI buses has a 64-bit window");
        }
    }
    Ok(())
}

/// The disk's own source and those below it.
fn sources(disk: &Disk) -> impl Iterator<Item = &Source> {
    let mut below = disk.backing_store.as_ref();
    let images = std::iter::from_fn(move || match below {
        Some(BackingStore::Image(image)) => {
            below = image.backing_store.as_ref();
            Some(&image.source)
        }
        Some(BackingStore::End) | None => None,
    });
    std::iter::once(&disk.source).chain(images)
}

fn check_output<'a>(output: &'a Output, path: &mut Path<'a>) -> Result<(), Unsupported> {
    // A namespace does nothing; what is in it is looked at like everything else.
    let is_refused = |(name, _, kept): &&(String, String, bool)| *kept && !name.starts_with("xmlns:");
    if let Some((name, value, _)) = output.attributes.iter().find(is_refused) {
        let what = What::Attribute { name: shorten(name), value: shorten(value) };
        return Err(Unsupported { path: path.to_string(), what });
    }
    for (index, piece) in output.children.iter().enumerate() {
        match piece {
            Piece::Text(_) | Piece::Opaque(_) => {}
            Piece::Modelled(child) => {
                path.0.push((output, index));
                check_output(child, path)?;
                path.0.pop();
            }
            Piece::Kept(Node::Element(element)) => {
                path.0.push((output, index));
                if !path.is_harmless() {
                    let text = shorten(&flat(element));
                    return Err(Unsupported { path: path.to_string(), what: What::Element(text) });
                }
                path.0.pop();
            }
            Piece::Kept(Node::Text(text)) => {
                let what = What::Text(shorten(text.trim()));
                return Err(Unsupported { path: path.to_string(), what });
            }
            Piece::Kept(Node::Comment(_) | Node::Instruction(_)) => {}
        }
    }
    Ok(())
}

/// The way from the root to the element in hand: every step is a parent and the place of the child in it.
#[derive(Default)]
struct Path<'a>(Vec<(&'a Output, usize)>);

impl Path<'_> {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(parent, index)| parent.children[*index].name().unwrap_or_default())
    }

    fn is_harmless(&self) -> bool {
        HARMLESS.iter().any(|(pattern, _)| {
            let mut names = self.names();
            pattern.split('/').all(|wanted| names.next().is_some_and(|name| wanted == "*" || wanted == name))
                && names.next().is_none()
        })
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("domain");
        }
        for (level, (parent, index)) in self.0.iter().enumerate() {
            let name = parent.children[*index].name();
            let namesakes = |pieces: &[Piece]| pieces.iter().filter(|piece| piece.name() == name).count();
            let separator = if level == 0 { "" } else { "/" };
            write!(f, "{separator}{}", name.unwrap_or_default())?;
            if namesakes(&parent.children) > 1 {
                write!(f, "[{}]", namesakes(&parent.children[..=*index]))?;
            }
        }
        Ok(())
    }
}

/// An element on one line, for an error text that is cut off anyway.
fn flat(element: &Element) -> String {
    let mut text = format!("<{}", element.name);
    for (name, value) in &element.attributes {
        text.extend([" ", name, "='", value, "'"]);
    }
    text.push('>');
    for child in element.elements().take(4) {
        text.push_str(&flat(child));
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::Domain;

    fn refusal(inside: &str, devices: &str) -> Option<String> {
        let text = format!(
            "<domain type='qemu'><name>a</name><memory>65536</memory><os><type>hvm</type></os>{inside}\
             <devices>{devices}</devices></domain>"
        );
        Domain::parse(&text).unwrap().check_supported().err().map(|error| error.to_string())
    }

    fn refused(inside: &str, devices: &str, expected: &str) {
        let text = format!("unsupported configuration: {expected}");
        assert_eq!(refusal(inside, devices), Some(text), "{inside}{devices}");
    }

    #[test]
    fn kept_parts_are_refused_by_their_path() {
        refused("<perf/>", "", "element 'perf': <perf>");
        refused(
            "<features><hyperv><what state='on'/></hyperv></features>",
            "",
            "element 'features/hyperv/what': <what state='on'>",
        );
        refused("<features><ps2 state='off'/></features>", "", "element 'features/ps2': <ps2 state='off'>");
        refused(
            "",
            "<tpm model='tpm-crb'><backend type='passthrough'/></tpm>",
            "element 'devices/tpm/backend': <backend type='passthrough'>",
        );
        refused(
            "",
            "<disk><source file='/a'/><target dev='vda'/></disk>\
             <disk><driver name='qemu' io='x'/><source file='/b'/><target dev='vdb'/></disk>",
            "attribute 'devices/disk[2]/driver/@io' with value 'x'",
        );
        refused(
            "",
            "<graphics type='vnc'/><graphics type='spice'/>",
            "element 'devices/graphics[2]': <graphics type='spice'>",
        );
        refused("", "<input type='tablet'>text</input>", "text in element 'devices/input': text");
    }

    #[test]
    fn unknown_words_are_refused_not_dropped() {
        refused("<clock offset='lunar'/>", "", "element 'clock': <clock offset='lunar'>");
        refused("<on_crash>sulk</on_crash>", "", "element 'on_crash': <on_crash>");
        refused(
            "",
            "<video><model type='qxl'/></video>",
            "element 'devices/video': <video><model type='qxl'>",
        );
        refused(
            "",
            "<controller type='usb' model='what'/>",
            "attribute 'devices/controller/@model' with value 'what'",
        );
        refused(
            "",
            "<memballoon model='virtio'><address type='ccw'/></memballoon>",
            "element 'devices/memballoon/address': <address type='ccw'>",
        );
        refused(
            "",
            "<memballoon model='virtio'><address type='pci' uid='1'/></memballoon>",
            "element 'devices/memballoon/address': <address type='pci' uid='1'>",
        );
    }

    #[test]
    fn modelled_parts_that_nothing_gives_are_refused() {
        refused(
            "",
            "<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>",
            "element 'devices/disk[1]/source': disk type 'volume' needs a storage pool, and there are none",
        );
        refused(
            "",
            "<disk><source file='/a'/><target dev='vda'/><transient/></disk>",
            "element 'devices/disk[1]/transient': what the guest writes would be kept",
        );
        refused(
            "<vcpu placement='auto'>1</vcpu>",
            "",
            "element 'vcpu/@placement': nobody advises on where processors run",
        );
    }

    #[test]
    fn what_does_not_change_the_guest_is_accepted() {
        assert_eq!(
            refusal("<seclabel type='none'/><resource><partition>/m</partition></resource>", ""),
            None
        );
        assert_eq!(
            refusal("<cputune><shares>9</shares></cputune><metadata><x:y xmlns:x='z'/></metadata>", ""),
            None
        );
        assert_eq!(
            refusal(
                "",
                "<disk><source file='/a'><seclabel relabel='no'/></source><target dev='vda'/></disk>"
            ),
            None
        );
    }

    #[test]
    fn a_long_element_is_cut_off_in_the_text() {
        let text = refusal("", &format!("<shmem name='{}'/>", "x".repeat(100_000))).unwrap();
        assert!(text.len() < 400, "{}", text.len());
    }
}
