//! Which devices cannot go along, by what the definition shows of them.
//!
//! Called through [`super::allowed`]. It looks at plain elements, not at the model: a source that is older or another
//! program may send what nobody here could start, and is to hear why the guest cannot move before it hears that an
//! element is not known.
//!
//! | device | decided by |
//! |---|---|
//! | pci, scsi, mdev of the host; vDPA | QEMU's own word where it gives one, else this table |
//! | usb of the host, and all its `capabilities` | this table: QEMU would let the guest go without the device |
//! | dimm, shmem, virtiofs | this table |

use ferry_domxml::Element;
use ferry_rpc::error::ErrorCode;

use super::{Finding, Severity};

/// Every device that cannot go along. `qemu_says`: QEMU names by itself what it cannot migrate.
pub(super) fn findings(domain: &Element, qemu_says: bool) -> Vec<Finding> {
    let devices = domain.child("devices").into_iter().flat_map(Element::elements);
    devices.filter_map(|device| judge(device, qemu_says)).collect()
}

fn judge(device: &Element, qemu_says: bool) -> Option<Finding> {
    let is = |name, value| device.attribute(name) == Some(value);
    let (text, remedy) = match device.name.as_str() {
        "hostdev" => (host_device(device, qemu_says)?, DETACH),
        "interface" if is("type", "hostdev") && !qemu_says => (subsystem("pci"), DETACH),
        "interface" if is("type", "vdpa") && !qemu_says => {
            ("vDPA devices cannot be migrated".to_owned(), "plug the card into a bridge, or detach it first")
        }
        "memory" if is("model", "dimm") && !is_placed(device) => (
            "domain's dimm info lacks slot ID or base address".to_owned(),
            "give the module <address type='dimm' slot='…' base='…'/>, so that it is at the same place there",
        ),
        "shmem" => (shared_memory(device)?, "only the master's memory is sent: detach the device first"),
        "filesystem" if is_virtiofs(device) => (
            "migration with this virtiofs device is not supported".to_owned(),
            "unmount the file system in the guest and detach it first: what virtiofsd knows of open files stays here",
        ),
        _ => return None,
    };
    Some(Finding { severity: Severity::Refusal, code: ErrorCode::OPERATION_INVALID, text, remedy })
}

const DETACH: &str =
    "the device belongs to this host: detach it first, and attach one of the other host's afterwards";

fn host_device(device: &Element, qemu_says: bool) -> Option<String> {
    match (device.attribute("mode"), device.attribute("type")) {
        (Some("capabilities"), _) => {
            Some("cannot migrate a domain with <hostdev mode='capabilities'>".to_owned())
        }
        (_, Some(kind)) if kind == "usb" || !qemu_says => Some(subsystem(kind)),
        // Of a device without a type nothing is known, not even to QEMU.
        (_, None) => Some(subsystem("")),
        (_, Some(_)) => None,
    }
}

fn subsystem(kind: &str) -> String {
    format!("cannot migrate a domain with <hostdev mode='subsystem' type='{kind}'>")
}

/// Whether a memory module has its slot and its address in the guest.
fn is_placed(module: &Element) -> bool {
    module.child("address").is_some_and(|address| {
        address.attribute("type") == Some("dimm")
            && address.attribute("slot").is_some()
            && address.attribute("base").is_some()
    })
}

fn shared_memory(device: &Element) -> Option<String> {
    let name = device.attribute("name").unwrap_or_default();
    let model = device.child("model").and_then(|model| model.attribute("type"));
    if model == Some("ivshmem") {
        return Some("migration with legacy shmem device is not supported".to_owned());
    }
    (device.attribute("role") != Some("master")).then(|| {
        format!("shmem device '{name}' cannot be migrated, only shmem with role='master' can be migrated")
    })
}

/// Whether a file system is served by a virtiofsd of this host. One behind a socket of somebody else's is that one's
/// matter.
fn is_virtiofs(device: &Element) -> bool {
    let driver = device.child("driver").and_then(|driver| driver.attribute("type"));
    let socket = device.child("source").and_then(|source| source.attribute("socket"));
    driver == Some("virtiofs") && socket.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(devices: &str, qemu_says: bool) -> Vec<String> {
        let root = Element::parse(&format!("<domain><devices>{devices}</devices></domain>")).unwrap();
        let found = findings(&root, qemu_says);
        assert!(
            found.iter().all(|finding| {
                !finding.remedy.is_empty() && finding.code == ErrorCode::OPERATION_INVALID
            })
        );
        found.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn devices_of_the_host_stay_with_it() {
        for kind in ["pci", "usb", "scsi", "scsi_host", "mdev"] {
            let device = format!("<hostdev mode='subsystem' type='{kind}' managed='yes'><source/></hostdev>");
            let text = format!("cannot migrate a domain with <hostdev mode='subsystem' type='{kind}'>");
            assert_eq!(texts(&device, false), [&*text]);
            // QEMU has been asked, and has more to say; only of USB it says nothing.
            let left = if kind == "usb" { vec![text] } else { Vec::new() };
            assert_eq!(texts(&device, true), left);
        }
        let card = "<interface type='hostdev' managed='yes'><source/></interface>";
        assert_eq!(
            texts(card, false),
            ["cannot migrate a domain with <hostdev mode='subsystem' type='pci'>"]
        );
        assert_eq!(texts(card, true), [""; 0]);
        for says in [false, true] {
            assert_eq!(
                texts("<hostdev mode='capabilities' type='misc'/>", says),
                ["cannot migrate a domain with <hostdev mode='capabilities'>"]
            );
            assert_eq!(texts("<hostdev mode='subsystem'/>", says).len(), 1);
        }
    }

    #[test]
    fn a_vdpa_card_is_left_to_a_qemu_that_says_what_it_cannot_do() {
        let card = "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>";
        assert_eq!(texts(card, false), ["vDPA devices cannot be migrated"]);
        assert_eq!(texts(card, true), [""; 0]);
        assert_eq!(texts("<interface type='bridge'><source bridge='br0'/></interface>", false), [""; 0]);
    }

    #[test]
    fn a_memory_module_needs_its_place() {
        let module = |address: &str| texts(&format!("<memory model='dimm'>{address}</memory>"), true);
        let lacks = ["domain's dimm info lacks slot ID or base address"];
        assert_eq!(module("<address type='dimm' slot='0' base='0x100000000'/>"), [""; 0]);
        assert_eq!(module(""), lacks);
        assert_eq!(module("<address type='dimm' slot='0'/>"), lacks);
        assert_eq!(module("<address type='dimm' base='0x100000000'/>"), lacks);
        assert_eq!(texts("<memory model='virtio-mem'/>", true), [""; 0]);
    }

    #[test]
    fn only_the_master_of_shared_memory_can_go() {
        let shmem = |role: &str, model: &str| {
            texts(&format!("<shmem name='m'{role}><model type='{model}'/></shmem>"), true)
        };
        let peer = ["shmem device 'm' cannot be migrated, only shmem with role='master' can be migrated"];
        assert_eq!(shmem(" role='master'", "ivshmem-plain"), [""; 0]);
        assert_eq!(shmem(" role='peer'", "ivshmem-plain"), peer);
        assert_eq!(shmem("", "ivshmem-doorbell"), peer);
        assert_eq!(
            shmem(" role='master'", "ivshmem"),
            ["migration with legacy shmem device is not supported"]
        );
    }

    #[test]
    fn what_virtiofsd_knows_stays_here() {
        let share = |source: &str| {
            texts(&format!("<filesystem type='mount'><driver type='virtiofs'/>{source}</filesystem>"), true)
        };
        assert_eq!(share("<source dir='/srv'/>"), ["migration with this virtiofs device is not supported"]);
        assert_eq!(share("<source socket='/run/own.sock'/>"), [""; 0]);
        assert_eq!(texts("<filesystem type='mount'><source dir='/srv'/></filesystem>", true), [""; 0]);
    }
}
