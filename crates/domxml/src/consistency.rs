//! Contradictions within a definition that no host can resolve. Called once, by `Domain::parse`.
//!
//! Error texts are those that stock shows. What depends on QEMU or the host is the `qemu` crate's to say.

mod devices;
mod disks;
mod file_systems;
mod firmware;
mod memory;
mod memory_devices;
mod threads;

use std::collections::BTreeSet;

use crate::reader::shorten;
use crate::{Domain, ParseError};

/// The first contradiction.
pub(crate) fn check(domain: &Domain) -> Result<(), ParseError> {
    name(&domain.name)?;
    vcpus(domain)?;
    each_vcpu(domain)?;
    domain.cpu_tune.as_ref().map_or(Ok(()), crate::cpu_tune::check)?;
    domain.qemu_command_line.as_ref().map_or(Ok(()), crate::passthrough::check)?;
    memory::check(domain)?;
    memory_devices::check(domain)?;
    threads::check(domain)?;
    firmware::check(domain)?;
    disks::check(domain)?;
    boot_order(domain)?;
    devices::check(domain)?;
    file_systems::check(domain)
}

fn contradiction(text: impl Into<String>) -> Result<(), ParseError> {
    Err(ParseError::Contradiction(text.into()))
}

fn unsupported(text: impl Into<String>) -> Result<(), ParseError> {
    Err(ParseError::Unsupported(text.into()))
}

fn detail(text: impl Into<String>) -> Result<(), ParseError> {
    Err(ParseError::Detail(text.into()))
}

/// The first value that occurs a second time.
fn repeated<T: Ord + Copy>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    values.into_iter().find(|value| !seen.insert(*value))
}

/// A number that must not be 0.
fn zero(attribute: &str, element: &str) -> ParseError {
    let value = "0".to_owned();
    ParseError::InvalidAttribute { attribute: attribute.to_owned(), element: element.to_owned(), value }
}

fn name(name: &str) -> Result<(), ParseError> {
    let refused = |character| Err(ParseError::NameCharacter { name: shorten(name), character });
    match name {
        name if name.trim().is_empty() => Err(ParseError::MissingName),
        // A domain's name becomes the name of files and directories, and these are taken.
        "." | ".." => refused("."),
        name if name.contains('/') => refused("/"),
        name if name.contains('\n') => refused("\\n"),
        _ => Ok(()),
    }
}

fn vcpus(domain: &Domain) -> Result<(), ParseError> {
    let topology = domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    match topology {
        Some(topology) if topology.cpus() != Some(domain.vcpus.max) => {
            Err(ParseError::Unsupported("CPU topology doesn't match maximum vcpu count".to_owned()))
        }
        _ => Ok(()),
    }
}

fn each_vcpu(domain: &Domain) -> Result<(), ParseError> {
    let all = domain.each_vcpu.as_ref().map_or(&[][..], |each| &each.vcpus);
    if let Some(vcpu) = all.iter().find(|vcpu| vcpu.id >= domain.vcpus.max) {
        return contradiction(format!("vcpu id '{}' is out of range of maximum vcpu count", vcpu.id));
    }
    if let Some(id) = repeated(all.iter().map(|vcpu| vcpu.id)) {
        return contradiction(format!("vcpu id '{id}' is listed twice"));
    }
    for vcpu in all {
        let is_hotpluggable = vcpu.hotpluggable.map(crate::YesNo::is_yes);
        if vcpu.id == 0 && !vcpu.enabled.is_yes() {
            return unsupported("vcpu 0 can't be offline");
        }
        if vcpu.id == 0 && is_hotpluggable == Some(true) {
            return unsupported("vcpu0 can't be hotpluggable");
        }
        if !vcpu.enabled.is_yes() && is_hotpluggable == Some(false) {
            return unsupported(format!("vcpu '{}' is both offline and not hotpluggable", vcpu.id));
        }
    }
    if !all.is_empty() && !all.iter().any(|vcpu| vcpu.id == 0) {
        return unsupported("vcpu 0 can't be offline");
    }
    // QEMU has the machine's own first.
    let mut own = all.iter().filter(|vcpu| vcpu.enabled.is_yes() && !vcpu.is_plugged());
    let count = u32::try_from(own.clone().count()).unwrap_or(u32::MAX);
    if own.any(|vcpu| vcpu.id >= count) {
        return unsupported("online non-hotpluggable vcpus need to be ordered prior to hotpluggable vcpus");
    }
    Ok(())
}

/// The boot order is either given by kind of device or on the devices, and no number twice.
fn boot_order(domain: &Domain) -> Result<(), ParseError> {
    let disks = domain.devices.disks.iter().filter_map(|disk| disk.boot_order);
    let interfaces = domain.devices.interfaces.iter().filter_map(|interface| interface.boot_order);
    let redirected = domain.devices.redirdevs.iter().filter_map(|redirdev| redirdev.boot_order);
    let mut orders: Vec<u32> = disks.chain(interfaces).chain(redirected).collect();
    if !orders.is_empty() && !domain.os.boot.is_empty() {
        return Err(ParseError::Unsupported(
            "per-device boot elements cannot be used together with os/boot elements".to_owned(),
        ));
    }
    orders.sort_unstable();
    if let Some(order) = orders.iter().find(|order| **order == 0) {
        return Err(ParseError::InvalidAttribute {
            attribute: "order".to_owned(),
            element: "boot".to_owned(),
            value: order.to_string(),
        });
    }
    match orders.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(ParseError::Unsupported(format!("boot order '{}' used for more than one device", pair[0])))
        }
        None => Ok(()),
    }
}
