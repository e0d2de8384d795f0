//! Guest memory: how much there is, and the cells that it comes in.

use ferry_domxml::memory::CpuSet;
use ferry_domxml::numa::NumaCell;

use super::memory_backend::Part;
use super::{Builder, CommandLineError, incomplete};
use crate::props::KeyValue;

/// Name of the RAM block when the machine does not tell: what both families have always had.
const RAM_ID: &str = "pc.ram";

/// Guest memory comes in whole MiB.
const MIB_KIB: u64 = 1024;

/// Distance between two cells of which the definition says nothing, and of a cell to itself.
const DISTANCE: u32 = 20;
const DISTANCE_TO_SELF: u32 = 10;

impl Builder<'_> {
    pub(super) fn memory_size(&mut self) {
        let kib = match self.domain.cells() {
            [] => whole(self.domain.memory_at_boot_kib()),
            cells => cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(whole(cell.kib))),
        };
        let max = self.domain.max_memory.as_ref();
        let option = KeyValue::new("")
            .with("size", format!("{kib}k"))
            .with_some("slots", max.map(|max| max.slots))
            .with_some("maxmem", max.map(|max| format!("{}k", whole(max.kib))));
        self.option("-m", option);
    }

    /// The one block of a guest without cells.
    pub(super) fn whole_memory(&mut self) -> Result<(), CommandLineError> {
        if self.domain.cells().is_empty() {
            let backend = self.memory_backend(self.ram_id(), self.domain.memory_at_boot_kib(), Part::All)?;
            self.option("-object", backend);
        }
        Ok(())
    }

    pub(super) fn ram_id(&self) -> String {
        let name = self.domain.os.machine.machine.as_deref().unwrap_or_default();
        let ram = self.capabilities.machine(name).and_then(|machine| machine.ram_id.clone());
        ram.unwrap_or_else(|| RAM_ID.to_owned())
    }

    pub(super) fn cells(&mut self) -> Result<(), CommandLineError> {
        let cells = self.domain.cells();
        for cell in cells {
            let id = cell.id.ok_or_else(|| incomplete("a memory cell", "number"))?;
            let backend = self.memory_backend(format!("ram-node{id}"), cell.kib, Part::Cell(cell))?;
            self.option("-object", backend);
            let node = KeyValue::new("node").with("nodeid", id);
            let ranges = cell.cpus.as_ref().map_or_else(Vec::new, CpuSet::texts);
            let node = ranges.iter().fold(node, |node, range| node.with("cpus", range));
            self.option("-numa", node.with("memdev", format!("ram-node{id}")));
        }
        if cells.iter().any(|cell| cell.distances.is_some()) {
            for source in cells {
                for target in cells {
                    let option = KeyValue::new("dist")
                        .with("src", source.id.unwrap_or(0))
                        .with("dst", target.id.unwrap_or(0))
                        .with("val", distance(source, target));
                    self.option("-numa", option);
                }
            }
        }
        Ok(())
    }
}

/// In whole MiB.
pub(super) fn whole(kib: u64) -> u64 {
    kib.checked_next_multiple_of(MIB_KIB).unwrap_or(kib)
}

fn distance(source: &NumaCell, target: &NumaCell) -> u32 {
    if source.id == target.id {
        return DISTANCE_TO_SELF;
    }
    let siblings = source.distances.as_ref().map_or(&[][..], |distances| &distances.siblings);
    let given = siblings.iter().find(|sibling| Some(sibling.id) == target.id);
    given.map_or(DISTANCE, |sibling| sibling.value)
}
