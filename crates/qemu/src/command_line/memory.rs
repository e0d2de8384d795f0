//! Guest memory: how much there is, what it is made of on the host, and the cells that it comes in.

use ferry_domxml::memory::CpuSet;
use ferry_domxml::memory_backing::{AllocationMode, MemorySourceType};
use ferry_domxml::numa::{MemoryAccess, NumaCell, PlaceMode};

use super::{Builder, CommandLineError, incomplete};
use crate::props::{KeyValue, Props};

/// Name of the RAM block when the machine does not tell: what both families have always had.
const RAM_ID: &str = "pc.ram";

/// Guest memory comes in whole MiB.
const MIB_KIB: u64 = 1024;

/// Distance between two cells of which the definition says nothing, and of a cell to itself.
const DISTANCE: u32 = 20;
const DISTANCE_TO_SELF: u32 = 10;

impl Builder<'_> {
    pub(super) fn memory_size(&mut self) {
        let cells = self.domain.cells();
        let kib = match cells {
            [] => whole(self.domain.memory.kib),
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
    pub(super) fn whole_memory(&mut self) {
        if self.domain.cells().is_empty() {
            let backend = self.memory_backend(self.ram_id(), self.domain.memory.kib, None);
            self.option("-object", backend);
        }
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
            let backend = self.memory_backend(format!("ram-node{id}"), cell.kib, Some(cell));
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

    fn memory_backend(&self, name: String, kib: u64, cell: Option<&NumaCell>) -> Props {
        let backing = self.domain.memory_backing.as_ref();
        let kind = match backing.and_then(|backing| backing.source) {
            None | Some(MemorySourceType::Anonymous) => "memory-backend-ram",
            Some(MemorySourceType::Memfd) => "memory-backend-memfd",
        };
        let access = cell.and_then(|cell| cell.mem_access).or(backing.and_then(|backing| backing.access));
        let is_memfd = kind == "memory-backend-memfd";
        let allocation = backing.and_then(|backing| backing.allocation.as_ref());
        let is_allocated =
            allocation.and_then(|allocation| allocation.mode) == Some(AllocationMode::Immediate);
        let threads = allocation.and_then(|allocation| allocation.threads).filter(|_| is_allocated);
        let (nodes, policy) = self.host_nodes(cell).unzip();
        let nodes: Option<Vec<u32>> = nodes.map(|nodes: &CpuSet| nodes.members().collect());
        Props::object(kind, name)
            .with_some("share", (access == Some(MemoryAccess::Shared)).then_some(true))
            // The name of the block travels with a migration, and is to be the same whatever it is made of.
            .with_some("x-use-canonical-path-for-ramblock-id", (is_memfd && cell.is_none()).then_some(false))
            .with_some("prealloc", is_allocated.then_some(true))
            .with_some("prealloc-threads", threads)
            .with("size", whole(kib).saturating_mul(1024))
            .with_some("host-nodes", nodes)
            .with_some("policy", policy)
    }

    /// Where on the host a cell lies, or the whole of a guest without cells, and how strictly.
    fn host_nodes(&self, cell: Option<&NumaCell>) -> Option<(&CpuSet, &'static str)> {
        let tune = self.domain.numa_tune.as_ref()?;
        let own = cell.and_then(|cell| tune.cells.iter().find(|place| Some(place.cell) == cell.id));
        let (nodes, mode) = match (own, &tune.memory) {
            (Some(place), _) => (&place.nodes, place.mode),
            (None, Some(place)) => (place.nodes.as_ref()?, place.mode.unwrap_or(PlaceMode::Strict)),
            (None, None) => return None,
        };
        let policy = match mode {
            PlaceMode::Strict => "bind",
            PlaceMode::Preferred => "preferred",
            PlaceMode::Interleave => "interleave",
            // Refused before: a control group would have to say it.
            PlaceMode::Restrictive => return None,
        };
        Some((nodes, policy))
    }
}

fn whole(kib: u64) -> u64 {
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
