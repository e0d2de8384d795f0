//! Memory: cells, where they lie, what they are made of, how far they can grow.

use super::{contradiction, detail, repeated, unsupported};
use crate::{
    AllocationMode, Domain, MemoryBacking, MemoryPlace, MemorySourceType, NumaCell, ParseError, VcpuPlacement,
};

/// Cells of a guest: QEMU's own bound.
const CELLS_MAX: usize = 128;

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    let cells = domain.cells();
    self::cells(domain, cells)?;
    distances(cells)?;
    tuning(domain, cells.len())?;
    if let Some(backing) = &domain.memory_backing {
        self::backing(backing)?;
        pages(backing, cells.len())?;
    }
    let Some(max) = &domain.max_memory else { return Ok(()) };
    let devices = domain.devices.memory_kib();
    if cells.is_empty() && devices > domain.memory.kib {
        return contradiction("Total size of memory devices exceeds the total memory size");
    }
    if domain.memory_at_boot_kib().saturating_add(devices) > max.kib {
        return contradiction("maximum memory size must be equal or greater than the actual memory size");
    }
    Ok(())
}

fn backing(backing: &MemoryBacking) -> Result<(), ParseError> {
    if backing.hugepages.is_none() {
        return Ok(());
    }
    if backing.source == Some(MemorySourceType::Anonymous) {
        return unsupported("hugepages are not allowed with anonymous memory source");
    }
    let mode = backing.allocation.as_ref().and_then(|allocation| allocation.mode);
    if mode == Some(AllocationMode::OnDemand) {
        return unsupported("hugepages are not allowed with memory allocation ondemand");
    }
    Ok(())
}

/// Each cell is made of one size of pages.
fn pages(backing: &MemoryBacking, cells: usize) -> Result<(), ParseError> {
    let pages = backing.hugepages.as_ref().map_or(&[][..], |hugepages| &hugepages.pages);
    for (place, page) in pages.iter().enumerate() {
        // All memory of a guest without cells is that of cell 0.
        let last = page.cells.as_ref().and_then(|set| set.last());
        if let Some(last) = last.filter(|last| *last as usize >= cells.max(1)) {
            return detail(format!("hugepages: node {last} not found"));
        }
        for other in &pages[..place] {
            match (&page.cells, &other.cells) {
                (Some(one), Some(two)) if one.overlaps(two) => {
                    return detail(format!(
                        "nodeset attribute of hugepages of sizes {} and {} intersect",
                        page.kib, other.kib
                    ));
                }
                (None, None) => {
                    return detail(format!("two master hugepages detected: {} and {}", page.kib, other.kib));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The cells with their numbers: a cell that names none has the number of its place.
fn numbered(cells: &[NumaCell]) -> impl Iterator<Item = (u32, &NumaCell)> {
    (0..).zip(cells).map(|(place, cell)| (cell.id.unwrap_or(place), cell))
}

fn cells(domain: &Domain, cells: &[NumaCell]) -> Result<(), ParseError> {
    if cells.len() > CELLS_MAX {
        return unsupported(format!("more than {CELLS_MAX} NUMA cells"));
    }
    if numbered(cells).any(|(id, _)| id as usize >= cells.len()) {
        return contradiction(
            "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting from 0 \
             are not allowed",
        );
    }
    if let Some(id) = repeated(numbered(cells).map(|(id, _)| id)) {
        return contradiction(format!("Duplicate NUMA cell info for cell id '{id}'"));
    }
    let sets = || numbered(cells).filter_map(|(id, cell)| Some((id, cell.cpus.as_ref()?)));
    for (id, cpus) in sets() {
        if cpus.last().is_some_and(|last| last >= domain.vcpus.max) {
            return Err(ParseError::Internal("Number of CPUs in <numa> exceeds the <vcpu> count".to_owned()));
        }
        if let Some((other, _)) = sets().find(|(other, set)| *other < id && cpus.overlaps(set)) {
            return unsupported(format!("NUMA cells {id} and {other} have overlapping vCPU ids"));
        }
    }
    Ok(())
}

fn distances(cells: &[NumaCell]) -> Result<(), ParseError> {
    for (id, cell) in numbered(cells) {
        let siblings = cell.distances.as_ref().map_or(&[][..], |distances| &distances.siblings);
        for sibling in siblings {
            if sibling.id as usize >= cells.len() {
                return contradiction(format!(
                    "'sibling_id {}' does not refer to a valid cell within NUMA 'cell id {id}'",
                    sibling.id
                ));
            }
            let is_valid = match sibling.id == id {
                true => sibling.value == 10,
                false => (11..=255).contains(&sibling.value),
            };
            if !is_valid {
                return contradiction(format!(
                    "'value {}' is invalid for 'sibling id {}' under NUMA 'cell id {id}'",
                    sibling.value, sibling.id
                ));
            }
        }
        if let Some(sibling) = repeated(siblings.iter().map(|sibling| sibling.id)) {
            return contradiction(format!("Duplicate 'sibling id {sibling}' under NUMA 'cell id {id}'"));
        }
    }
    Ok(())
}

fn tuning(domain: &Domain, cells: usize) -> Result<(), ParseError> {
    let Some(tune) = &domain.numa_tune else { return Ok(()) };
    let is_auto = |place: &MemoryPlace| place.placement == Some(VcpuPlacement::Auto);
    if tune.memory.as_ref().is_some_and(|place| place.nodes.is_none() && !is_auto(place)) {
        return unsupported("nodeset for NUMA memory tuning must be set if 'placement' is 'static'");
    }
    if cells == 0 && !tune.cells.is_empty() {
        return contradiction("Element 'memnode' is invalid without any guest NUMA cells");
    }
    if tune.cells.iter().any(|place| place.cell as usize >= cells) {
        return contradiction("Argument 'memnode' must correspond to existing guest's NUMA cell");
    }
    match repeated(tune.cells.iter().map(|place| place.cell)) {
        Some(cell) => contradiction(format!("Multiple 'memnode' elements with cellid {cell}")),
        None => Ok(()),
    }
}
