//! `<memoryBacking>`, `<maxMemory>`: what the guest's memory is made of on the host, and how far it can grow.

use crate::memory::{Unit, take_kib};
use crate::model::{Input, Model, Output, Refusal, Rest, Value, element, values};

element! {
    /// What guest memory is made of on the host.
    #[derive(Default)]
    pub struct MemoryBacking {
        /// Equal pages of guests are not merged.
        no_share_pages: bool => Flag("nosharepages"),
        /// What holds it. `None`: anonymous memory.
        source: Option<MemorySourceType> => ChildAttr("source", "type"),
        /// Who may see it. `None`: private.
        access: Option<crate::numa::MemoryAccess> => ChildAttr("access", "mode"),
        /// When it is taken from the host.
        allocation: Option<Allocation> => Child("allocation"),
    }
}

values! {
    /// What holds guest memory.
    pub enum MemorySourceType {
        /// anonymous memory
        Anonymous = "anonymous",
        /// an anonymous file
        Memfd = "memfd",
    }
}

element! {
    /// `<allocation>`
    pub struct Allocation {
        /// When.
        mode: Option<AllocationMode> => Attr("mode"),
        /// Threads that touch it, at start.
        threads: Option<u32> => Attr("threads"),
    }
}

values! {
    /// When guest memory is taken from the host.
    pub enum AllocationMode {
        /// before the guest runs
        Immediate = "immediate",
        /// when it is touched
        OnDemand = "ondemand",
    }
}

/// `<maxMemory>`: how far the guest's memory can grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxMemory {
    /// Slots for memory devices, at least one.
    pub slots: u32,
    /// KiB of all memory together.
    pub kib: u64,
    /// What is written here and not modelled above.
    pub rest: Rest,
}

impl Model for MaxMemory {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let slots: u32 = input.required("slots")?;
        if slots == 0 {
            return Err(input.invalid_attribute("slots", "0"));
        }
        Ok(Self { slots, kib: take_kib(input)?, rest: input.rest() })
    }

    fn write(&self, out: &mut Output) {
        out.attribute("slots", &self.slots);
        out.attribute("unit", &Unit::Kib);
        out.children.push(crate::model::Piece::Text(self.kib.to_text()));
        out.rest(&self.rest);
    }
}
