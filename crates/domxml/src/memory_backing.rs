//! `<memoryBacking>`, `<maxMemory>`: what the guest's memory is made of on the host, and how far it can grow.

use crate::memory::{CpuSet, Unit, size_of, take_kib};
use crate::model::{Attr, Input, Model, Output, Refusal, Rest, Value, element, values};

element! {
    /// What guest memory is made of on the host.
    #[derive(Default)]
    pub struct MemoryBacking {
        /// Pages that are larger than the processor's smallest.
        hugepages: Option<HugePages> => Child("hugepages"),
        /// Equal pages of guests are not merged.
        no_share_pages: bool => Flag("nosharepages"),
        /// Nothing of QEMU is swapped out.
        locked: bool => Flag("locked"),
        /// What holds it. `None`: anonymous memory.
        source: Option<MemorySourceType> => ChildAttr("source", "type"),
        /// Who may see it. `None`: private.
        access: Option<crate::numa::MemoryAccess> => ChildAttr("access", "mode"),
        /// When it is taken from the host.
        allocation: Option<Allocation> => Child("allocation"),
        /// What a file held is thrown away when QEMU ends, not written back.
        discard: bool => Flag("discard"),
    }
}

element! {
    /// `<hugepages>`: none listed means the host's usual large pages for all memory.
    #[derive(Default)]
    pub struct HugePages {
        /// One size each; at most one without cells of its own.
        pages: Vec<HugePage> => Child("page"),
    }
}

/// `<page>`: one size of pages, and the cells that are made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePage {
    /// KiB, more than 0.
    pub kib: u64,
    /// Cells of the guest. `None`: those of no other size.
    pub cells: Option<CpuSet>,
    /// What is written here and not modelled above.
    pub rest: Rest,
}

impl Model for HugePage {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let unit = match input.attribute::<String>("unit")? {
            None => Unit::Kib,
            Some(text) => Unit::of(&text).ok_or_else(|| input.invalid_attribute("unit", &text))?,
        };
        let text: String = input.required("size")?;
        let kib = size_of(&text, unit).ok_or_else(|| input.invalid_attribute("size", &text))?;
        if kib == 0 {
            let text = "hugepage size can't be zero".to_owned();
            return Err(Refusal::Invalid(crate::ParseError::Detail(text)));
        }
        Ok(Self { kib, cells: Attr::take(input, "nodeset")?, rest: input.rest() })
    }

    fn write(&self, out: &mut Output) {
        out.attribute("size", &self.kib);
        out.attribute("unit", &Unit::Kib);
        out.optional("nodeset", &self.cells);
        out.rest(&self.rest);
    }
}

/// The pages that a piece of guest memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// Large ones, of the size that the host takes when none is named.
    Usual,
    /// Of so many KiB.
    Kib(u64),
}

impl MemoryBacking {
    /// What the memory of a cell is made of; a guest without cells asks for cell 0. `None`: nothing is said.
    pub fn pages(&self, cell: u32) -> Option<PageSize> {
        let pages = &self.hugepages.as_ref()?.pages;
        let own = pages.iter().find(|page| page.cells.as_ref().is_some_and(|cells| cells.contains(cell)));
        match own.or_else(|| pages.iter().find(|page| page.cells.is_none())) {
            Some(page) => Some(PageSize::Kib(page.kib)),
            None => pages.is_empty().then_some(PageSize::Usual),
        }
    }
}

values! {
    /// What holds guest memory.
    pub enum MemorySourceType {
        /// anonymous memory
        Anonymous = "anonymous",
        /// an anonymous file
        Memfd = "memfd",
        /// a file in a folder of the daemon's choice
        File = "file",
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
