//! What guest memory is made of on the host: QEMU's `memory-backend-…` objects, for all memory, a cell, or a device.
//!
//! A file is given to QEMU as a folder, in which it makes one without a name: nothing is left of it when QEMU ends.

use std::collections::BTreeMap;

use ferry_domxml::Domain;
use ferry_domxml::memory::CpuSet;
use ferry_domxml::memory_backing::{AllocationMode, MemorySourceType, PageSize};
use ferry_domxml::memory_device::{MemoryDevice, MemoryModel};
use ferry_domxml::numa::{MemoryAccess, NumaCell, PlaceMode};

use super::memory::whole;
use super::{Builder, CommandLineError, Launch, Now, incomplete};
use crate::capabilities::Capabilities;
use crate::props::Props;

/// Folders of the host in which guest memory can be put into files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryFolders {
    /// For memory that is to lie in a file.
    pub files: Option<String>,
    /// On the mounted file systems of large pages, by the size of their pages in KiB.
    pub pages: BTreeMap<u64, String>,
    /// Size of the large pages that the host gives when none is named, in KiB.
    pub usual_pages_kib: Option<u64>,
}

/// Which part of the guest's memory is meant.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// All of a guest without cells.
    All,
    Cell(&'a NumaCell),
    Device(&'a MemoryDevice),
}

/// The page that an x86 processor has when no large one is asked for.
const PAGE_KIB: u64 = 4;

/// Where the bytes are.
enum Holder {
    Ram,
    Memfd { page_kib: Option<u64> },
    File { path: String },
}

/// Whether the host has the pages that a guest's memory is to be made of.
///
/// # Errors
/// [`CommandLineError::NoLargePages`], [`CommandLineError::NoPagesOfSize`], or the domain was not completed.
pub fn check_memory(
    domain: &Domain,
    capabilities: &Capabilities,
    folders: MemoryFolders,
) -> Result<(), CommandLineError> {
    let launch = Launch { memory: folders, ..Launch::new(0, Now { utc_s: 0, zone_offset_s: 0 }) };
    let builder = Builder::new(domain, capabilities, &launch)?;
    let cells = domain.cells().iter().map(Part::Cell);
    let devices = domain.devices.memories.iter().map(Part::Device);
    let all = domain.cells().is_empty().then_some(Part::All);
    let mut parts = cells.chain(devices).chain(all);
    parts.try_for_each(|part| builder.memory_backend(String::new(), 0, part).map(drop))
}

impl Builder<'_> {
    /// One block of memory. `kib` is rounded up to whole MiB.
    pub(super) fn memory_backend(
        &self,
        name: String,
        kib: u64,
        part: Part<'_>,
    ) -> Result<Props, CommandLineError> {
        let backing = self.domain.memory_backing.as_ref();
        let (cell, device) = match part {
            Part::All => (None, None),
            Part::Cell(cell) => (Some(cell), None),
            Part::Device(device) => (self.cell_of(device), Some(device)),
        };
        let model = device.map(|device| device.model);
        let pages = self.large_pages(part)?;
        let access = match model {
            // What keeps its content keeps it in the file.
            Some(MemoryModel::VirtioPmem) => Some(MemoryAccess::Shared),
            _ => device
                .and_then(|device| device.access)
                .or(cell.and_then(|cell| cell.mem_access))
                .or(backing.and_then(|backing| backing.access)),
        };
        let holder = self.holder(part, pages, access)?;
        let (kind, memfd_pages, path) = match holder {
            Holder::Ram => ("memory-backend-ram", None, None),
            Holder::Memfd { page_kib } => ("memory-backend-memfd", page_kib, None),
            Holder::File { path } => ("memory-backend-file", None, Some(path)),
        };
        let own = device.and_then(|device| device.discard).or(cell.and_then(|cell| cell.discard));
        let discard = own.map(|discard| discard.is_yes());
        let discard = discard.or(backing.filter(|backing| backing.discard).map(|_| true));
        let is_thrown_away = path.is_some() && !device.is_some_and(MemoryDevice::is_persistent);
        let keeps_name = matches!(part, Part::All) && kind != "memory-backend-ram";
        let source = device.and_then(|device| device.source.as_ref());
        let in_pmem = source.is_some_and(|source| source.pmem);
        let allocation = backing.and_then(|backing| backing.allocation.as_ref());
        let is_immediate =
            allocation.and_then(|allocation| allocation.mode) == Some(AllocationMode::Immediate);
        // A block that grows is taken as it does.
        let grows = model == Some(MemoryModel::VirtioMem);
        let keeps = model == Some(MemoryModel::Nvdimm);
        let is_large = pages.is_some() && model != Some(MemoryModel::VirtioPmem);
        let is_taken = !grows && (is_immediate || is_large && !keeps || keeps && !in_pmem);
        let threads = allocation.and_then(|allocation| allocation.threads).filter(|_| !grows);
        let (nodes, policy) = self.host_nodes(cell, device).unzip();
        let nodes: Option<Vec<u32>> = nodes.map(|nodes: &CpuSet| nodes.members().collect());
        Ok(Props::object(kind, name)
            .with_some("hugetlb", memfd_pages.map(|_| true))
            .with_some("hugetlbsize", memfd_pages.map(|kib| kib.saturating_mul(1024)))
            .with_some("mem-path", path)
            .with_some("discard-data", discard.filter(|_| is_thrown_away))
            .with_some("share", access.map(|access| access == MemoryAccess::Shared))
            .with_some("reserve", grows.then_some(false))
            // The name of the block travels with a migration, and is to be the same whatever it is made of.
            .with_some("x-use-canonical-path-for-ramblock-id", keeps_name.then_some(false))
            .with_some("prealloc", is_taken.then_some(true))
            .with_some("prealloc-threads", threads)
            .with("size", whole(kib).saturating_mul(1024))
            .with_some("host-nodes", nodes)
            .with_some("policy", policy)
            .with_some(
                "align",
                source.and_then(|source| source.align).map(|size| size.kib.saturating_mul(1024)),
            )
            .with_some("pmem", in_pmem.then_some(true)))
    }

    fn holder(
        &self,
        part: Part<'_>,
        pages: Option<u64>,
        access: Option<MemoryAccess>,
    ) -> Result<Holder, CommandLineError> {
        if let Part::Device(device) = part
            && device.is_persistent()
        {
            let path = device.source.as_ref().and_then(|source| source.path.clone());
            return Ok(Holder::File { path: path.ok_or_else(|| incomplete("a memory device", "path"))? });
        }
        let source = self.domain.memory_backing.as_ref().and_then(|backing| backing.source);
        match (source, pages) {
            (Some(MemorySourceType::Memfd), page_kib) => Ok(Holder::Memfd { page_kib }),
            (_, Some(kib)) => match self.launch.memory.pages.get(&kib) {
                Some(folder) => Ok(Holder::File { path: folder.clone() }),
                None if self.launch.memory.pages.is_empty() => Err(CommandLineError::NoLargePages),
                None => Err(CommandLineError::NoPagesOfSize { kib }),
            },
            // With a word on who may see it stock takes a file, whatever else is said.
            (source, None) if access.is_some() || source == Some(MemorySourceType::File) => {
                let folder = self.launch.memory.files.clone();
                Ok(Holder::File {
                    path: folder.ok_or_else(|| CommandLineError::NoFd("guest memory".into()))?,
                })
            }
            (_, None) => Ok(Holder::Ram),
        }
    }

    /// The size of the large pages that a part is made of, in KiB.
    fn large_pages(&self, part: Part<'_>) -> Result<Option<u64>, CommandLineError> {
        let backing = self.domain.memory_backing.as_ref();
        let cell = match part {
            Part::All => 0,
            Part::Cell(cell) => cell.id.unwrap_or(0),
            Part::Device(device) => device.target.node.unwrap_or(0),
        };
        let own = match part {
            Part::Device(device) => device.source.as_ref().and_then(|source| source.page_size),
            Part::All | Part::Cell(_) => None,
        };
        let pages = match own {
            Some(size) => Some(PageSize::Kib(size.kib)),
            None => backing.and_then(|backing| backing.pages(cell)),
        };
        let kib = match pages {
            None => None,
            Some(PageSize::Kib(kib)) => Some(kib),
            Some(PageSize::Usual) => {
                Some(self.launch.memory.usual_pages_kib.ok_or(CommandLineError::NoLargePages)?)
            }
        };
        Ok(kib.filter(|kib| *kib != PAGE_KIB))
    }

    /// The cell of the guest that a device belongs to.
    fn cell_of(&self, device: &MemoryDevice) -> Option<&NumaCell> {
        let node = device.target.node?;
        self.domain.cells().iter().find(|cell| cell.id == Some(node))
    }

    /// Where on the host a part lies, and how strictly.
    fn host_nodes<'a>(
        &'a self,
        cell: Option<&NumaCell>,
        device: Option<&'a MemoryDevice>,
    ) -> Option<(&'a CpuSet, &'static str)> {
        let tune = self.domain.numa_tune.as_ref();
        let places = tune.map_or(&[][..], |tune| &tune.cells);
        let own = cell.and_then(|cell| places.iter().find(|place| Some(place.cell) == cell.id));
        let all = tune.and_then(|tune| tune.memory.as_ref());
        let mode = own.map(|place| place.mode).or(all.and_then(|place| place.mode));
        let asked = device.and_then(|device| device.source.as_ref()).and_then(|source| source.nodes.as_ref());
        let nodes = asked.or(own.map(|place| &place.nodes)).or(all.and_then(|place| place.nodes.as_ref()))?;
        let policy = match mode.unwrap_or(PlaceMode::Strict) {
            PlaceMode::Strict => "bind",
            PlaceMode::Preferred => "preferred",
            PlaceMode::Interleave => "interleave",
            // Refused before: a control group would have to say it.
            PlaceMode::Restrictive => return None,
        };
        Some((nodes, policy))
    }

    /// Whether a block that grows is to take from the host at once what it grows by.
    pub(super) fn grows_at_once(&self, device: &MemoryDevice) -> Result<bool, CommandLineError> {
        let backing = self.domain.memory_backing.as_ref();
        let mode = backing.and_then(|backing| backing.allocation.as_ref()).and_then(|one| one.mode);
        let is_large = self.large_pages(Part::Device(device))?.is_some();
        Ok(is_large || mode == Some(AllocationMode::Immediate))
    }
}
