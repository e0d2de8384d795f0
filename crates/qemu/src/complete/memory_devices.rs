//! What memory devices leave open: the cell that they belong to, and the slot of those that have one.

use std::collections::BTreeSet;

use ferry_domxml::Domain;
use ferry_domxml::address::{Address, DimmAddress};
use ferry_domxml::memory_device::MemoryModel;
use ferry_domxml::numa::MemoryAccess;

use super::CompleteError;

/// Completes the memory devices. Slots that are named come first, the others take the lowest that are free.
pub(super) fn complete(domain: &mut Domain) -> Result<(), CompleteError> {
    let slots = domain.max_memory.as_ref().map_or(0, |max| max.slots);
    let devices = &mut domain.devices.memories;
    let mut taken: BTreeSet<u32> = devices.iter().filter_map(|device| device.slot()).collect();
    for device in devices {
        match device.model {
            MemoryModel::VirtioPmem => {
                device.access.get_or_insert(MemoryAccess::Shared);
            }
            MemoryModel::Dimm | MemoryModel::Nvdimm | MemoryModel::VirtioMem => {
                device.target.node.get_or_insert(0);
            }
        }
        if device.is_module() && device.slot().is_none() {
            let free = (0..slots).find(|slot| !taken.contains(slot)).ok_or(CompleteError::MemorySlots)?;
            taken.insert(free);
            device.info.address = Some(Address::Dimm(DimmAddress { slot: free, base: None }));
        }
    }
    Ok(())
}
