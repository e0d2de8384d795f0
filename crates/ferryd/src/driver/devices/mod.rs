//! Devices of a running guest and of a kept definition: plugged in, taken out, changed; and what the guest does with them.
//!
//! ```text
//!   attach ─▶ in the definition ─▶ recorded ─▶ nodes, host's end, device_add ─▶ event      failed: all of it undone
//!   detach ─▶ device_del ─▶ (the guest lets go: DEVICE_DELETED) ─▶ back ends ─▶ out of the definition ─▶ event
//!                       └─▶ (5 s) ─▶ answered all the same; what comes later is handled as above
//! ```
//!
//! A device is recorded before QEMU has it: a daemon that comes back finds out which of the recorded ones QEMU has, and
//! could not know of one that was never written down.

mod attach;
mod detach;
mod memory;
mod objects;
mod observed;
mod update;

use ferry_domxml::interface::Interface;
use ferry_domxml::{Disk, Domain};
use ferry_qemu::complete::Origin as From;
use ferry_qemu::props::Props;
use ferry_qmp::commands::block::BlockdevDel;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use serde_json::{Map, Value};

use super::change::check;
use crate::host::random_byte;
use crate::perform::monitor::Monitor;
use crate::refuse;

pub(super) use detach::Unplug;

/// Where a disk with this name is in a domain.
fn disk_at(domain: &Domain, dev: &str) -> Option<usize> {
    domain.devices.disks.iter().position(|disk| disk.target.dev == dev)
}

/// Where the network card that is meant is in a domain: by its hardware address, and by its place and name in so far as
/// they are given.
///
/// # Errors
/// There is none (99/10), or there are several (9/10).
fn interface_at(domain: &Domain, meant: &Interface) -> Result<usize, Error> {
    let fits = |card: &Interface| {
        (meant.mac.is_none() || card.mac == meant.mac)
            && (meant.info.address.is_none() || card.info.address == meant.info.address)
            && (meant.info.alias.is_none() || card.info.alias == meant.info.alias)
    };
    let mut found = domain.devices.interfaces.iter().enumerate().filter(|(_, card)| fits(card));
    let shown = |what: Option<String>| what.unwrap_or_else(|| "(<null>)".to_owned());
    let what = || {
        let place =
            shown(meant.info.pci().map(|pci| {
                format!("{:04x}:{:02x}:{:02x}.{:x}", pci.domain, pci.bus, pci.slot, pci.function)
            }));
        let (mac, alias) = (shown(meant.mac.map(|mac| mac.to_string())), shown(meant.info.alias.clone()));
        format!("at address '{place}' matching MAC address '{mac}' and alias '{alias}'")
    };
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        (None, _) => {
            let text = format!("no device found {}", what());
            Err(Error::of(ErrorCode::DEVICE_MISSING, Origin::DOMAIN, text))
        }
        (Some(_), Some(_)) => {
            let text = format!("multiple devices found {}", what());
            Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::DOMAIN, text))
        }
    }
}

/// Fills in what a new device of a kept definition leaves open, and judges the whole.
fn complete_kept(
    mut config: Domain,
    capabilities: &ferry_qemu::capabilities::Capabilities,
) -> Result<Domain, Error> {
    ferry_qemu::complete(&mut config, capabilities, From::Define, &mut random_byte)
        .map_err(refuse::incomplete)?;
    check(&config)?;
    ferry_qemu::validate(&config, capabilities).map_err(refuse::invalid_definition)?;
    Ok(config.inactive())
}

/// Takes block nodes away again, top first. One that is still in use stays: it does no harm, its name is never used again.
async fn delete_nodes(monitor: &Monitor, nodes: &[Props]) {
    for node in nodes.iter().rev() {
        let Some(ferry_qemu::props::Value::Str(name)) = node.value("node-name") else { continue };
        if let Err(error) = monitor.execute(&BlockdevDel { node_name: name.clone() }).await {
            tracing::warn!(node = name, error = refuse::chain(&error), "a block node stays");
        }
    }
}

/// Properties as arguments of a command.
fn arguments(props: &Props) -> Map<String, Value> {
    match props.to_json() {
        Value::Object(arguments) => arguments,
        _ => Map::new(),
    }
}

/// Whether a drive's medium can be taken out.
fn is_removable(disk: &Disk) -> bool {
    use ferry_domxml::DiskDevice;
    matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy)
}

/// A device that is not there.
fn missing(text: String) -> Error {
    Error::of(ErrorCode::DEVICE_MISSING, Origin::QEMU, text)
}

/// Something that cannot be done to this device.
fn unsupported(text: impl AsRef<str>) -> Error {
    Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::Device;

    fn domain() -> Domain {
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>\
            <interface type='user'><mac address='52:54:00:00:00:01'/></interface>\
            <interface type='user'><mac address='52:54:00:00:00:02'/><alias name='net1'/></interface>\
            <interface type='user'><mac address='52:54:00:00:00:02'/><alias name='net2'/></interface></devices></domain>";
        Domain::parse(xml).unwrap()
    }

    fn at(xml: &str) -> Result<usize, (i32, String)> {
        let Device::Interface(card) = Device::parse(xml).unwrap() else { panic!("no card") };
        interface_at(&domain(), &card).map_err(|error| (error.code.0, error.message))
    }

    #[test]
    fn a_card_is_meant_by_all_that_is_said_of_it() {
        assert_eq!(at("<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"), Ok(0));
        assert_eq!(
            at("<interface type='user'><mac address='52:54:00:00:00:02'/><alias name='net2'/></interface>"),
            Ok(2)
        );
        let missing = "device not found: no device found at address '(<null>)' matching MAC address '52:54:00:00:00:07' and alias '(<null>)'";
        assert_eq!(
            at("<interface type='user'><mac address='52:54:00:00:00:07'/></interface>"),
            Err((99, missing.to_owned()))
        );
        assert_eq!(
            at("<interface type='user'><mac address='52:54:00:00:00:02'/></interface>").unwrap_err().0,
            9
        );
    }
}
