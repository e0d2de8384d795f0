//! The same devices as on the command line, for a machine that runs: what is said over the monitor to plug one in.
//!
//! The domain is the running one with the new device already in it, completed and named, a disk with its node numbers. The
//! device's own boot order counts, not the machine's: it was fixed when the machine was started.

use ferry_domxml::Domain;
use ferry_domxml::interface::Network;

use super::{Builder, CommandLineError, Launch, MemoryFolders, Now, incomplete};
use crate::blockgraph::nodes;
use crate::capabilities::Capabilities;
use crate::props::Props;

/// What plugs in a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlug {
    /// Its block nodes, base first.
    pub blockdevs: Vec<Props>,
    /// The device on top of them.
    pub device: Props,
}

/// What plugs in a network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePlug {
    /// The host's end.
    pub netdev: Props,
    /// The card.
    pub device: Props,
}

/// What plugs in a memory device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlug {
    /// The host's memory.
    pub backend: Props,
    /// The device.
    pub device: Props,
}

/// What plugs in memory device `at`. `folders` are where memory in files lies.
///
/// # Errors
/// The domain was not completed, or the host does not have the pages.
pub fn memory(
    domain: &Domain,
    capabilities: &Capabilities,
    at: usize,
    folders: MemoryFolders,
) -> Result<MemoryPlug, CommandLineError> {
    let launch = Launch { memory: folders, ..Launch::new(0, Now { utc_s: 0, zone_offset_s: 0 }) };
    let memory = domain.devices.memories.get(at).ok_or_else(|| incomplete("the domain", "such memory"))?;
    let (backend, device) = Builder::new(domain, capabilities, &launch)?.memory_device(memory)?;
    Ok(MemoryPlug { backend, device })
}

/// What plugs in disk `at`.
///
/// # Errors
/// The domain was not completed, or the disk was not numbered.
pub fn disk(domain: &Domain, capabilities: &Capabilities, at: usize) -> Result<DiskPlug, CommandLineError> {
    let launch = Launch::new(0, Now { utc_s: 0, zone_offset_s: 0 });
    let disk = domain.devices.disks.get(at).ok_or_else(|| incomplete("the domain", "such disk"))?;
    let graph = nodes(disk)?;
    let device = Builder::new(domain, capabilities, &launch)?.disk_props(disk, disk.boot_order, graph.top)?;
    Ok(DiskPlug { blockdevs: graph.blockdevs, device })
}

/// What plugs in network card `at`. `taps` are the names under which QEMU was given the descriptors of its TAP, one a queue.
///
/// # Errors
/// The domain was not completed, or there is no descriptor.
pub fn interface(
    domain: &Domain,
    capabilities: &Capabilities,
    at: usize,
    taps: &[String],
) -> Result<InterfacePlug, CommandLineError> {
    let launch = Launch::new(0, Now { utc_s: 0, zone_offset_s: 0 });
    let card = domain.devices.interfaces.get(at).ok_or_else(|| incomplete("the domain", "such interface"))?;
    let name = super::alias(&card.info, "interface")?;
    let netdev = match (&card.source.network, taps) {
        (Network::User, _) => Props::new().with("type", "user"),
        (_, []) => return Err(CommandLineError::NoFd(name.to_owned())),
        (_, [tap]) => Props::new().with("type", "tap").with("fd", tap.as_str()),
        (_, taps) => Props::new().with("type", "tap").with("fds", taps.join(":")),
    };
    let device = Builder::new(domain, capabilities, &launch)?.interface_props(card, name, card.boot_order)?;
    Ok(InterfacePlug { netdev: netdev.with("id", format!("host{name}")), device })
}
