//! Memory devices: modules in slots, and blocks on the PCI bus.

use ferry_domxml::memory_device::{MemoryDevice, MemoryModel};

use super::memory_backend::Part;
use super::{Builder, CommandLineError, alias, incomplete};
use crate::props::Props;

/// Devices come in multiples of so many KiB, a large page of the processor. As with stock.
const MODULE_KIB: u64 = 2048;

impl Builder<'_> {
    pub(super) fn memory_devices(&mut self) -> Result<(), CommandLineError> {
        let domain = self.domain;
        for memory in &domain.devices.memories {
            let (backend, device) = self.memory_device(memory)?;
            self.option("-object", backend);
            self.device(&device);
        }
        Ok(())
    }

    /// The host's memory of a device, and the device.
    pub(super) fn memory_device(&self, memory: &MemoryDevice) -> Result<(Props, Props), CommandLineError> {
        let name = alias(&memory.info, "memory device")?;
        let backend_name = format!("mem{name}");
        let target = &memory.target;
        let granule = target.block.map_or(MODULE_KIB, |block| block.kib.max(MODULE_KIB));
        let kib = target.size.kib.checked_next_multiple_of(granule).unwrap_or(target.size.kib);
        let backend = self.memory_backend(backend_name.clone(), kib, Part::Device(memory))?;
        let bytes = |kib: u64| kib.saturating_mul(1024);
        let driver = memory_driver(memory.model);
        let props = match memory.model {
            MemoryModel::Dimm | MemoryModel::Nvdimm => {
                let label = target.label.as_ref().and_then(|label| label.size);
                let slot = memory.slot().ok_or_else(|| incomplete(name, "slot"))?;
                Props::driver(driver)
                    .with("node", target.node.unwrap_or(0))
                    .with_some("label-size", label.map(|size| bytes(size.kib)))
                    .with_some("unarmed", target.readonly.then_some(true))
                    .with("memdev", backend_name)
                    .with("id", name)
                    .with("slot", slot)
                    .with_some("addr", memory.base())
            }
            MemoryModel::VirtioMem => {
                let block = target.block.ok_or_else(|| incomplete(name, "block size"))?;
                let requested = memory.requested_kib();
                let props = Props::driver(driver)
                    .with("node", target.node.unwrap_or(0))
                    .with("block-size", bytes(block.kib))
                    .with_some("requested-size", (requested > 0).then_some(bytes(requested)))
                    .with("memdev", backend_name)
                    .with_some("prealloc", self.grows_at_once(memory)?.then_some(true))
                    .with_some("dynamic-memslots", target.dynamic_slots.map(|slots| slots.is_yes()))
                    .with_some("memaddr", memory.base())
                    .with("id", name);
                self.pci(props, &memory.info, "memory device")?
            }
            MemoryModel::VirtioPmem => {
                let props = Props::driver(driver)
                    .with("memdev", backend_name)
                    .with_some("memaddr", memory.base())
                    .with("id", name);
                self.pci(props, &memory.info, "memory device")?
            }
        };
        Ok((backend, props))
    }
}

/// QEMU's name of a memory device.
pub(crate) fn memory_driver(model: MemoryModel) -> &'static str {
    match model {
        MemoryModel::Dimm => "pc-dimm",
        MemoryModel::Nvdimm => "nvdimm",
        MemoryModel::VirtioMem => "virtio-mem-pci",
        MemoryModel::VirtioPmem => "virtio-pmem-pci",
    }
}
