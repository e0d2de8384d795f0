//! `<memory>` among the devices: memory that can be plugged in, and memory that outlives the guest.

use crate::address::DeviceInfo;
use crate::memory::{CpuSet, Size};
use crate::model::{Input, Model, Output, Refusal, YesNo, element, parse_integer, values};
use crate::numa::MemoryAccess;

element! {
    /// A memory device.
    pub struct MemoryDevice {
        /// What the guest sees.
        model: MemoryModel => Attr("model"),
        /// Who may see it on the host. `None`: as its cell, or all memory.
        access: Option<MemoryAccess> => Attr("access"),
        /// Whether what a file held is thrown away when QEMU ends. `None`: as its cell, or all memory.
        discard: Option<YesNo> => Attr("discard"),
        /// What holds it on the host.
        source: Option<MemoryDeviceSource> => Child("source"),
        /// What the guest gets.
        target: MemoryDeviceTarget => Child("target"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    order ["source", "target", "alias", "address"]
}

values! {
    /// What a guest sees of a memory device.
    pub enum MemoryModel {
        /// a module in a slot
        Dimm = "dimm",
        /// a module that keeps what is in it
        Nvdimm = "nvdimm",
        /// a block of which the guest has as much as it is asked to take
        VirtioMem = "virtio-mem",
        /// a block that keeps what is in it
        VirtioPmem = "virtio-pmem",
    }
}

element! {
    /// `<source>` of a memory device.
    #[derive(Default)]
    pub struct MemoryDeviceSource {
        /// Cells of the host that it is taken from.
        nodes: Option<CpuSet> => TextChild("nodemask"),
        /// Pages that it is made of.
        page_size: Option<Size> => Child("pagesize"),
        /// Absolute path of the file that keeps it (nvdimm, virtio-pmem).
        path: Option<String> => TextChild("path"),
        /// What its start in QEMU's address space is a multiple of.
        align: Option<Size> => Child("alignsize"),
        /// The file lies in memory that outlives the host's power (nvdimm).
        pmem: bool => Flag("pmem"),
    }
}

element! {
    /// `<target>` of a memory device.
    pub struct MemoryDeviceTarget {
        /// Whether memory is given to the guest in several pieces (virtio-mem).
        dynamic_slots: Option<YesNo> => Attr("dynamicMemslots"),
        /// How much it is.
        size: Size => Child("size"),
        /// Cell of the guest that it belongs to.
        node: Option<u32> => TextChild("node"),
        /// A part that the guest keeps its own administration in (nvdimm).
        label: Option<MemoryLabel> => Child("label"),
        /// Whether the guest may not write (nvdimm).
        readonly: bool => Flag("readonly"),
        /// What it grows and shrinks by (virtio-mem).
        block: Option<Size> => Child("block"),
        /// How much of it the guest is to have (virtio-mem).
        requested: Option<Size> => Child("requested"),
        /// How much of it the guest has (virtio-mem, live XML only).
        current: Option<Size> => Child("current"),
        /// Where it begins in the guest's address space (virtio-mem, virtio-pmem).
        base: Option<MemoryBase> => Child("address"),
    }
}

element! {
    /// `<label>` of a memory device.
    #[derive(Default)]
    pub struct MemoryLabel {
        /// How much it is, at least 128 KiB.
        size: Option<Size> => Child("size"),
    }
}

/// `<address base='0x…'/>`: a place in the guest's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBase(pub u64);

impl Model for MemoryBase {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let text: String = input.required("base")?;
        let base = parse_integer(&text).map_err(|_| input.invalid_attribute("base", &text))?;
        input.finish()?;
        Ok(Self(base))
    }

    fn write(&self, out: &mut Output) {
        out.attribute("base", &format!("0x{:x}", self.0));
    }
}

impl MemoryDevice {
    /// Whether it sits in a slot of the board; the others are virtio devices on a PCI bus.
    pub fn is_module(&self) -> bool {
        matches!(self.model, MemoryModel::Dimm | MemoryModel::Nvdimm)
    }

    /// Whether its content outlives the guest.
    pub fn is_persistent(&self) -> bool {
        matches!(self.model, MemoryModel::Nvdimm | MemoryModel::VirtioPmem)
    }

    /// Where it begins in the guest's address space, when that is known.
    pub fn base(&self) -> Option<u64> {
        match &self.info.address {
            Some(crate::Address::Dimm(dimm)) => dimm.base,
            _ => self.target.base.map(|base| base.0),
        }
    }

    /// The slot of a module.
    pub fn slot(&self) -> Option<u32> {
        match &self.info.address {
            Some(crate::Address::Dimm(dimm)) => Some(dimm.slot),
            _ => None,
        }
    }

    /// How much of it the guest is asked to take, in KiB; all of it, unless it is of a kind that shrinks.
    pub fn requested_kib(&self) -> u64 {
        match self.model {
            MemoryModel::VirtioMem => self.target.requested.map_or(0, |size| size.kib),
            MemoryModel::Dimm | MemoryModel::Nvdimm | MemoryModel::VirtioPmem => self.target.size.kib,
        }
    }
}
