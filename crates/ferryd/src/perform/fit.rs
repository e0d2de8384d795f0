//! What this host has for a guest that is to come, and what a guest of this host is made of: the facts behind
//! `ferry_migration::checks::fits`.
//!
//! Called by a driver at Begin and at Prepare, and for a plan. It reads /proc and images, and makes command
//! lines; it starts nothing.

use std::fs;

use ferry_domxml::Domain;
use ferry_migration::checks::fits::{self, Memory, Overcommit};
use ferry_migration::checks::{Finding, safe};
use ferry_migration::cookie::{MACHINE_MAX, Machine};
use ferry_migration::overlay::{Like, NO_DATA_FILE, Overlay};
use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::{cpu_match, inventory};

use super::{images, launch};
use crate::host::Host;
use crate::refuse;

/// What a definition comes to on this host; `None` when no command line can be made of it, which others say.
pub(crate) fn machine(host: &Host, domain: &Domain, capabilities: &Capabilities) -> Option<Machine> {
    let lacks = cpu_match::lacking(domain, capabilities);
    let line = launch::unopened_line(host, domain.clone(), capabilities);
    let devices = line.map(|line| inventory::devices(&line));
    match devices {
        Ok(devices) if devices.len() <= MACHINE_MAX && lacks.len() <= MACHINE_MAX => {
            Some(Machine { devices, lacks })
        }
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(domain = domain.name, error = refuse::chain(&error), "no inventory of the guest");
            None
        }
    }
}

/// What this host lacks for a guest that arrives. `source` is what the guest is made of there, when the source tells.
/// Reads files: for a thread that may wait a moment for /proc.
pub(crate) fn findings(
    host: &Host,
    domain: &Domain,
    capabilities: &Capabilities,
    source: Option<&Machine>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if let (Some(source), Some(here)) = (source, machine(host, domain, capabilities)) {
        found.extend(fits::devices(&source.devices, &here.devices));
        found.extend(fits::processor(&here.lacks, &source.lacks));
    }
    // Large pages come out of a pool of their own, not out of what is free.
    let is_apart = domain.memory_backing.as_ref().is_some_and(|backing| backing.hugepages.is_some());
    if !is_apart {
        let guest = domain.memory.kib.saturating_mul(1024);
        found.extend(memory().and_then(|memory| fits::memory(guest, &memory)));
    }
    found
}

/// Compares the source's images that hold nothing but bitmaps with those that stand here under the same paths. Which bitmaps
/// are in one QEMU alone sees. An image whose chain cannot be followed is for others to tell. May block.
pub(crate) fn misfits(domain: &Domain, overlays: &[Overlay]) -> Vec<Finding> {
    let misfit = |overlay: &Overlay| {
        let disk = domain.devices.disks.iter().find(|disk| disk.target.dev == overlay.disk);
        let Some(mut disk) = disk.cloned() else { return Some(NO_DATA_FILE.to_owned()) };
        images::follow(std::slice::from_mut(&mut disk)).ok()?;
        let Some(data) = &disk.source.data_store else { return Some(NO_DATA_FILE.to_owned()) };
        let header = match images::header(disk.source.path()?) {
            Ok(header) => header,
            Err(error) => return Some(format!("it cannot be read: {error}")),
        };
        overlay.unlike(&Like {
            holds_bitmaps_alone: header.data_file.is_some_and(|data| data.raw) && header.backing.is_none(),
            size: header.virtual_size_bytes,
            // Where the definition names it, the user has said where it is.
            data: data.source.path().filter(|_| data.detected),
        })
    };
    overlays.iter().filter_map(|overlay| Some(safe::unfit(&overlay.disk, &misfit(overlay)?))).collect()
}

/// This host's memory; `None` when the kernel does not show it.
fn memory() -> Option<Memory> {
    let shown = fs::read_to_string("/proc/meminfo").ok()?;
    let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    memory_of(&shown, mode.trim())
}

fn memory_of(meminfo: &str, overcommit: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let overcommit = match overcommit {
        "1" => Overcommit::Always,
        "2" => Overcommit::Never { left: bytes("CommitLimit")?.saturating_sub(bytes("Committed_AS")?) },
        _ => Overcommit::Heuristic,
    };
    Some(Memory {
        total: bytes("MemTotal")?,
        available: bytes("MemAvailable")?,
        swap: bytes("SwapTotal").unwrap_or(0),
        overcommit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "MemTotal:       16384 kB\nMemFree:         1024 kB\nMemAvailable:    8192 kB\n\
                         SwapTotal:       2048 kB\nCommitLimit:    10240 kB\nCommitted_AS:    6144 kB\n";

    #[test]
    fn the_kernels_lines_are_read() {
        let memory = memory_of(SHOWN, "0").unwrap();
        assert_eq!((memory.total, memory.available, memory.swap), (16 << 20, 8 << 20, 2 << 20));
        assert_eq!(memory.overcommit, Overcommit::Heuristic);
        assert_eq!(memory_of(SHOWN, "1").unwrap().overcommit, Overcommit::Always);
        assert_eq!(memory_of(SHOWN, "2").unwrap().overcommit, Overcommit::Never { left: 4 << 20 });
        assert_eq!(memory_of("nothing of the kind", "0"), None);
    }

    #[test]
    fn this_host_has_memory() {
        let memory = memory().unwrap();
        assert!(memory.available > 0 && memory.available <= memory.total);
    }
}
