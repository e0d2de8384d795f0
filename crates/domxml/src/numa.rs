//! `<numa>` of a CPU and `<numatune>`: the guest's memory cells, and where on the host they lie.

use crate::memory::{CpuSet, Unit, size_of};
use crate::model::{Attr, Child, Input, Model, Output, Refusal, Rest, YesNo, element, values};

element! {
    /// `<numa>`: the guest's memory cells.
    #[derive(Default)]
    pub struct Numa {
        /// The cells, in order of their numbers once they are known.
        cells: Vec<NumaCell> => Child("cell"),
    }
}

/// One memory cell of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumaCell {
    /// Number, from 0 without gaps. `None`: its place in the list.
    pub id: Option<u32>,
    /// Processors of the guest that belong to it. `None`: memory alone.
    pub cpus: Option<CpuSet>,
    /// KiB of memory at boot.
    pub kib: u64,
    /// Whether the memory is shared with other processes of the host.
    pub mem_access: Option<MemoryAccess>,
    /// Whether what a file held is thrown away when QEMU ends. `None`: as all memory.
    pub discard: Option<YesNo>,
    /// How far it is to which cell.
    pub distances: Option<Distances>,
    /// What is written here and not modelled above.
    pub rest: Rest,
}

values! {
    /// Whether guest memory is shared with other processes of the host.
    pub enum MemoryAccess {
        /// shared
        Shared = "shared",
        /// QEMU's own
        Private = "private",
    }
}

element! {
    /// `<distances>`
    #[derive(Default)]
    pub struct Distances {
        /// One a cell.
        siblings: Vec<Sibling> => Child("sibling"),
    }
}

element! {
    /// `<sibling>`
    pub struct Sibling {
        /// Number of the other cell.
        id: u32 => Attr("id"),
        /// Distance, 10..=254, 255 for unreachable; 10 is the cell itself.
        value: u32 => Attr("value"),
    }
}

impl Model for NumaCell {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let unit = match input.attribute::<String>("unit")? {
            None => Unit::Kib,
            Some(text) => Unit::of(&text).ok_or_else(|| input.invalid_attribute("unit", &text))?,
        };
        let text: String = input.required("memory")?;
        Ok(Self {
            id: Attr::take(input, "id")?,
            cpus: Attr::take(input, "cpus")?,
            kib: size_of(&text, unit).ok_or_else(|| input.invalid_attribute("memory", &text))?,
            mem_access: Attr::take(input, "memAccess")?,
            discard: Attr::take(input, "discard")?,
            distances: Child::take(input, "distances")?,
            rest: input.rest(),
        })
    }

    fn write(&self, out: &mut Output) {
        out.optional("id", &self.id);
        out.optional("cpus", &self.cpus);
        out.attribute("memory", &self.kib);
        out.attribute("unit", &Unit::Kib);
        out.optional("memAccess", &self.mem_access);
        out.optional("discard", &self.discard);
        Child::put(&self.distances, out, "distances");
        out.rest(&self.rest);
    }
}

element! {
    /// `<numatune>`: where on the host the guest's memory lies.
    #[derive(Default)]
    pub struct NumaTune {
        /// All of it, but for what the next says.
        memory: Option<MemoryPlace> => Child("memory"),
        /// Single cells.
        cells: Vec<CellPlace> => Child("memnode"),
    }
}

element! {
    /// `<memory>` of `<numatune>`.
    pub struct MemoryPlace {
        /// How strictly. `None`: strict.
        mode: Option<PlaceMode> => Attr("mode"),
        /// Cells of the host.
        nodes: Option<CpuSet> => Attr("nodeset"),
        /// Who chooses.
        placement: Option<crate::cpu::VcpuPlacement> => Attr("placement"),
    }
}

element! {
    /// `<memnode>`
    pub struct CellPlace {
        /// Number of the guest's cell.
        cell: u32 => Attr("cellid"),
        /// How strictly.
        mode: PlaceMode => Attr("mode"),
        /// Cells of the host.
        nodes: CpuSet => Attr("nodeset"),
    }
}

values! {
    /// How strictly memory keeps to a cell of the host.
    pub enum PlaceMode {
        /// from these cells or not at all
        Strict = "strict",
        /// from these if they have any left
        Preferred = "preferred",
        /// spread over these
        Interleave = "interleave",
        /// by a control group, which the daemon would make
        Restrictive = "restrictive",
    }
}
