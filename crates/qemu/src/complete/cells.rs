//! Memory cells: their numbers, processors that nobody claims, distances that follow from others.

use ferry_domxml::memory::CpuSet;
use ferry_domxml::numa::{Distances, NumaCell, Sibling};
use ferry_domxml::{Domain, Rest};

use super::Origin;
use super::defaults::empty_cpu;

/// Distance of a cell to itself.
const TO_SELF: u32 = 10;

/// Completes the cells, and the guest's memory, which is what they and the memory devices have together. A new guest whose
/// memory can grow has at least one.
pub(super) fn complete(domain: &mut Domain, origin: Origin) {
    let vcpus = domain.vcpus.max;
    if origin == Origin::Define && domain.max_memory.is_some() && domain.cells().is_empty() {
        let cell = NumaCell { kib: domain.memory_at_boot_kib(), ..NumaCell::default() };
        domain.cpu.get_or_insert_with(empty_cpu).numa.get_or_insert_default().cells.push(cell);
    }
    pages(domain);
    let devices_kib = domain.devices.memory_kib();
    let Some(numa) = domain.cpu.as_mut().and_then(|cpu| cpu.numa.as_mut()) else { return };
    let cells = &mut numa.cells;
    for (place, cell) in (0..).zip(cells.iter_mut()) {
        cell.id.get_or_insert(place);
    }
    cells.sort_by_key(|cell| cell.id);
    unclaimed(cells, vcpus);
    if cells.iter().any(|cell| cell.distances.is_some()) {
        distances(cells);
    }
    if !cells.is_empty() {
        domain.memory.kib = cells.iter().fold(devices_kib, |sum: u64, cell| sum.saturating_add(cell.kib));
    }
}

/// The pages of a guest without cells are those of all its memory.
fn pages(domain: &mut Domain) {
    let is_whole = domain.cells().is_empty();
    let pages = domain.memory_backing.as_mut().and_then(|backing| backing.hugepages.as_mut());
    if let Some(pages) = pages.filter(|_| is_whole) {
        pages.pages.iter_mut().for_each(|page| page.cells = None);
    }
}

/// Processors of no cell are the first one's.
fn unclaimed(cells: &mut [NumaCell], vcpus: u32) {
    let is_claimed =
        |number| cells.iter().filter_map(|cell| cell.cpus.as_ref()).any(|cpus| cpus.contains(number));
    let free = CpuSet::of_members(|number| number < vcpus && !is_claimed(number));
    let (Some(free), Some(first)) = (free, cells.first_mut()) else { return };
    let own = first.cpus.take();
    let has = |number| free.contains(number) || own.as_ref().is_some_and(|own| own.contains(number));
    first.cpus = CpuSet::of_members(has);
}

/// As far there as back, unless it is said otherwise; and every cell near itself.
fn distances(cells: &mut [NumaCell]) {
    let given: Vec<(u32, u32, u32)> = cells
        .iter()
        .flat_map(|cell| {
            let siblings = cell.distances.as_ref().map_or(&[][..], |distances| &distances.siblings);
            siblings.iter().map(|sibling| (cell.id.unwrap_or(0), sibling.id, sibling.value))
        })
        .collect();
    for cell in cells {
        let id = cell.id.unwrap_or(0);
        let siblings = &mut cell.distances.get_or_insert_with(Distances::default).siblings;
        let back =
            given.iter().filter(|(_, target, _)| *target == id).map(|(source, _, value)| (*source, *value));
        for (other, value) in back.chain([(id, TO_SELF)]) {
            if !siblings.iter().any(|sibling| sibling.id == other) {
                siblings.push(Sibling { id: other, value, rest: Rest::default() });
            }
        }
        siblings.sort_by_key(|sibling| sibling.id);
    }
}
