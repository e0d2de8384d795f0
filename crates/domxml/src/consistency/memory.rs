//! Memory: cells, where they lie, how far they can grow.

use super::{contradiction, repeated, unsupported};
use crate::{Domain, MemoryPlace, NumaCell, ParseError, VcpuPlacement};

/// Cells of a guest: QEMU's own bound.
const CELLS_MAX: usize = 128;

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    let cells = domain.cells();
    self::cells(domain, cells)?;
    distances(cells)?;
    tuning(domain, cells.len())?;
    let Some(max) = &domain.max_memory else { return Ok(()) };
    let total = match cells {
        [] => domain.memory.kib,
        cells => cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell.kib)),
    };
    if total > max.kib {
        return contradiction("maximum memory size must be equal or greater than the actual memory size");
    }
    if cells.is_empty() {
        return unsupported("At least one numa node has to be configured when enabling memory hotplug");
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
