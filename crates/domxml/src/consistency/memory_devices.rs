//! Memory devices: each by itself, and their slots and places among each other.

use super::{contradiction, detail, unsupported};
use crate::{Address, Domain, MemoryAccess, MemoryDevice, MemoryModel, ParseError, YesNo};

/// The smallest part of an nvdimm that a guest can keep its administration in, in KiB.
const LABEL_MIN_KIB: u64 = 128;

/// What a virtio-mem device grows and shrinks by, at least: a large page of the processor, in KiB.
const BLOCK_MIN_KIB: u64 = 2048;

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    let devices = &domain.devices.memories;
    if devices.is_empty() {
        return Ok(());
    }
    let Some(max) = &domain.max_memory else {
        return unsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined");
    };
    let mut seen: Vec<&MemoryDevice> = Vec::new();
    for device in devices {
        one(device)?;
        node(device, domain.cells().len())?;
        if let Some(slot) = device.slot() {
            if slot >= max.slots {
                return unsupported(format!(
                    "memory device slot '{slot}' exceeds slots count '{}'",
                    max.slots
                ));
            }
            if seen.iter().any(|other| other.slot() == Some(slot)) {
                return unsupported(format!(
                    "memory device slot '{slot}' is already being used by another memory device"
                ));
            }
        }
        places(device, &seen)?;
        seen.push(device);
    }
    Ok(())
}

/// Two devices in one place of the guest's address space.
fn places(device: &MemoryDevice, others: &[&MemoryDevice]) -> Result<(), ParseError> {
    let range = |device: &MemoryDevice| {
        let base = device.base()?;
        Some((base, base.saturating_add(device.target.size.kib.saturating_mul(1024))))
    };
    let Some((first, end)) = range(device) else { return Ok(()) };
    let other = others.iter().filter_map(|other| range(other));
    match other.into_iter().find(|&(other_first, other_end)| first < other_end && other_first < end) {
        Some((other, _)) => unsupported(format!(
            "memory device address [0x{first:x}:0x{end:x}] overlaps with other memory device (0x{other:x})"
        )),
        None => Ok(()),
    }
}

fn node(device: &MemoryDevice, cells: usize) -> Result<(), ParseError> {
    let node = device.target.node;
    match device.model {
        MemoryModel::VirtioPmem if node.is_some() => unsupported("virtio-pmem does not support NUMA nodes"),
        MemoryModel::VirtioPmem => Ok(()),
        // A guest without cells gets one.
        MemoryModel::Dimm | MemoryModel::Nvdimm | MemoryModel::VirtioMem => match node {
            None if cells > 0 => unsupported("target NUMA node needs to be specified for memory device"),
            Some(node) if node as usize >= cells.max(1) => unsupported(format!(
                "can't add memory backend for guest node '{node}' as the guest has only '{}' NUMA nodes configured",
                cells.max(1)
            )),
            None | Some(_) => Ok(()),
        },
    }
}

fn one(device: &MemoryDevice) -> Result<(), ParseError> {
    let model = device.model;
    let source = device.source.as_ref();
    let target = &device.target;
    if target.size.kib == 0 {
        return contradiction(format!("a memory device of model '{model}' has no memory"));
    }
    if device.is_persistent() && source.is_none_or(|source| source.path.is_none()) {
        return detail(format!("path is required for model '{model}'"));
    }
    let is_discarded = device.discard == Some(YesNo::Yes);
    match model {
        MemoryModel::Nvdimm if is_discarded => return unsupported("discard is not supported for nvdimms"),
        MemoryModel::VirtioPmem if is_discarded => {
            return unsupported("discard is not supported for model 'virtio-pmem'");
        }
        _ => {}
    }
    if device.is_module() && matches!(device.info.address, Some(Address::Pci(_))) {
        return unsupported(format!("only 'dimm' addresses are supported for the {model} device"));
    }
    if !device.is_module() && !matches!(device.info.address, None | Some(Address::Pci(_))) {
        return unsupported(format!("only 'pci' and 'ccw' addresses are supported for the {model} device"));
    }
    match model {
        MemoryModel::Dimm => Ok(()),
        MemoryModel::Nvdimm => label(device),
        MemoryModel::VirtioMem => blocks(device),
        MemoryModel::VirtioPmem if device.access == Some(MemoryAccess::Private) => {
            unsupported("shared access mode required for virtio-pmem device")
        }
        MemoryModel::VirtioPmem => Ok(()),
    }
}

fn label(device: &MemoryDevice) -> Result<(), ParseError> {
    let size = device.target.label.as_ref().and_then(|label| label.size);
    match size {
        Some(size) if size.kib < LABEL_MIN_KIB => contradiction("nvdimm label must be at least 128KiB"),
        Some(size) if size >= device.target.size => {
            contradiction("label size must be smaller than NVDIMM size")
        }
        Some(_) | None => Ok(()),
    }
}

fn blocks(device: &MemoryDevice) -> Result<(), ParseError> {
    let target = &device.target;
    let size = target.size.kib;
    let block = target.block.map_or(0, |block| block.kib);
    let requested = target.requested.map_or(0, |requested| requested.kib);
    if requested > size {
        return detail(format!("requested size must be smaller than or equal to @size ({size}KiB)"));
    }
    if !block.is_power_of_two() {
        return detail("block size must be a power of two");
    }
    if block < BLOCK_MIN_KIB {
        return detail(format!("block size too small, must be at least {BLOCK_MIN_KIB}KiB"));
    }
    if !requested.is_multiple_of(block) {
        return detail("requested size must be an integer multiple of block size");
    }
    Ok(())
}
