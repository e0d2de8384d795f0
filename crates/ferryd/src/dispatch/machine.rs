//! The machine that the daemon runs on, as /proc and /sys show it. Read anew at every question; nothing is
//! remembered.
//!
//! [`super::node`] and [`super::connect`] ask. What a kernel does not show is taken as the smallest machine:
//! one processor, one cell. The root folder is a parameter so that tests can show a machine of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use ferry_qemu::host_caps::{Cell, HostCpu, Processor};
use ferry_rpc::error::{Error, ErrorCode, Origin};

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";

/// A machine, by the folder in which it shows itself.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
}

/// How a machine is built, in the numbers that clients multiply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Topology {
    /// Processors that are online.
    pub(super) cpus: usize,
    /// NUMA cells.
    pub(super) nodes: usize,
    /// Sockets of a cell, at most.
    pub(super) sockets: usize,
    /// Cores of a socket, at most.
    pub(super) cores: usize,
    /// Threads of a core, at most.
    pub(super) threads: usize,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Machine {
        Machine { root: PathBuf::from("/") }
    }

    /// A file below the root.
    ///
    /// # Errors
    /// 38/0 when it cannot be read.
    pub(super) fn read(&self, path: &str) -> Result<String, Error> {
        fs::read_to_string(self.root.join(path)).map_err(|error| {
            Error::new(ErrorCode::SYSTEM_ERROR, Origin::NONE, format!("cannot read /{path}: {error}"))
        })
    }

    /// A value of the host's meminfo, or of a cell's, in KiB.
    ///
    /// # Errors
    /// 38/0 when there is no such file, 1/0 when there is no such value in it.
    pub(super) fn memory_kib(&self, key: &str, node: Option<u32>) -> Result<u64, Error> {
        let path = match node {
            None => "proc/meminfo".to_owned(),
            Some(node) => format!("{NODES}/node{node}/meminfo"),
        };
        let value = memory_value(&self.read(&path)?, key);
        value
            .ok_or_else(|| Error::of(ErrorCode::INTERNAL_ERROR, Origin::NONE, format!("no {key} in /{path}")))
    }

    /// A value of meminfo over all cells, in KiB.
    ///
    /// # Errors
    /// As [`Machine::memory_kib`].
    pub(super) fn memory_of_all_kib(&self, key: &str) -> Result<u64, Error> {
        let of_nodes = self.nodes().into_iter().map(|node| self.memory_kib(key, Some(node)));
        // A kernel without NUMA shows the host's only.
        of_nodes.sum::<Result<u64, Error>>().or_else(|_| self.memory_kib(key, None))
    }

    /// The numbers of processors in one of the kernel's lists: `online`, `present`.
    pub(super) fn cpus(&self, list: &str) -> BTreeSet<u32> {
        self.numbers(&format!("{CPUS}/{list}"))
    }

    /// The numbers of the cells.
    pub(super) fn nodes(&self) -> BTreeSet<u32> {
        self.numbers(&format!("{NODES}/online"))
    }

    /// The first processor's frequency.
    pub(super) fn mhz(&self) -> u32 {
        let value = self.cpu_info("cpu MHz").unwrap_or_default();
        value.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
    }

    /// Who made the processor, and which one it is.
    pub(super) fn processor(&self) -> HostCpu {
        let number = |key| self.cpu_info(key).and_then(|text| text.parse().ok());
        let signature = number("cpu family").zip(number("model")).zip(number("stepping"));
        HostCpu {
            vendor: self.cpu_info("vendor_id").unwrap_or_default(),
            signature: signature.map(|((family, model), stepping)| (family, model, stepping)),
            microcode: self
                .cpu_info("microcode")
                .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()),
        }
    }

    /// Sizes of pages in KiB, smallest first.
    pub(super) fn page_sizes_kib(&self) -> Vec<u64> {
        let huge = fs::read_dir(self.root.join("sys/kernel/mm/hugepages"));
        let names = huge.into_iter().flatten().flatten().map(|entry| entry.file_name());
        let sizes = names.filter_map(|name| {
            name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()
        });
        let base = u64::try_from(rustix::param::page_size() / 1024).unwrap_or(4);
        BTreeSet::from_iter(sizes.chain([base])).into_iter().collect()
    }

    /// Whether devices are behind an IOMMU.
    pub(super) fn has_iommu(&self) -> bool {
        fs::read_dir(self.root.join("sys/kernel/iommu_groups"))
            .is_ok_and(|mut groups| groups.next().is_some())
    }

    /// The cells with their memory and the processors that are online.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let (nodes, online, sizes) = (self.nodes(), self.cpus("online"), self.page_sizes_kib());
        let cell = |id: u32| {
            let cpus = self.read(&format!("{NODES}/node{id}/cpulist"));
            let cpus = cpus.map_or_else(|_| online.clone(), |text| number_list(&text));
            let distances = self.read(&format!("{NODES}/node{id}/distance")).unwrap_or_default();
            let distances = distances.split_whitespace().map_while(|word| word.parse::<u32>().ok());
            let memory_kib = self.memory_kib("MemTotal", Some(id));
            let memory_kib = memory_kib.or_else(|_| self.memory_kib("MemTotal", None)).unwrap_or(0);
            Cell {
                id,
                memory_kib,
                pages: self.pages(id, memory_kib, &sizes),
                distances: nodes.iter().copied().zip(distances).collect(),
                cpus: cpus.intersection(&online).map(|cpu| self.place(*cpu)).collect(),
            }
        };
        nodes.iter().map(|node| cell(*node)).collect()
    }

    /// Cells, sockets, cores and threads. Where the machine is not even, stock calls it one socket of as many
    /// cores as there are processors, because clients multiply.
    pub(super) fn topology(&self) -> Topology {
        let (mut sockets, mut cores, mut threads) = (0, 0, 0);
        let cells = self.cells();
        for cell in &cells {
            let of_cell: BTreeSet<u32> = cell.cpus.iter().map(|cpu| cpu.socket).collect();
            sockets = sockets.max(of_cell.len());
            for socket in of_cell {
                let places =
                    cell.cpus.iter().filter(|cpu| cpu.socket == socket).map(|cpu| (cpu.die, cpu.core));
                let places: Vec<_> = places.collect();
                let different = BTreeSet::from_iter(&places);
                cores = cores.max(different.len());
                let of_core = |core| places.iter().filter(|place| *place == core).count();
                threads = threads.max(different.into_iter().map(of_core).max().unwrap_or(0));
            }
        }
        let (cpus, nodes) = (self.cpus("online").len(), cells.len());
        if nodes * sockets * cores * threads == cpus {
            Topology { cpus, nodes, sockets, cores, threads }
        } else {
            Topology { cpus, nodes: 1, sockets: 1, cores: cpus, threads: 1 }
        }
    }

    /// How many pages a cell has of each size. What is not huge is of the smallest.
    fn pages(&self, node: u32, memory_kib: u64, sizes: &[u64]) -> Vec<(u64, u64)> {
        let Some((base, huge)) = sizes.split_first() else { return Vec::new() };
        let count = |size: &u64| {
            let path = format!("{NODES}/node{node}/hugepages/hugepages-{size}kB/nr_hugepages");
            (*size, self.read(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
        };
        let huge: Vec<(u64, u64)> = huge.iter().map(count).collect();
        let taken = huge.iter().map(|(size, count)| size.saturating_mul(*count)).sum::<u64>();
        let rest = (*base, memory_kib.saturating_sub(taken) / (*base).max(1));
        std::iter::once(rest).chain(huge).collect()
    }

    fn place(&self, cpu: u32) -> Processor {
        let of = |what: &str| self.read(&format!("{CPUS}/cpu{cpu}/topology/{what}"));
        let number = |what: &str| of(what).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let siblings = of("thread_siblings_list").map(|text| number_list(&text)).unwrap_or_default();
        let siblings = if siblings.is_empty() { vec![cpu] } else { siblings.into_iter().collect() };
        Processor {
            id: cpu,
            socket: number("physical_package_id"),
            die: number("die_id"),
            core: number("core_id"),
            siblings,
        }
    }

    /// The first processor's line of /proc/cpuinfo with this key.
    fn cpu_info(&self, key: &str) -> Option<String> {
        let text = self.read("proc/cpuinfo").ok()?;
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    }

    fn numbers(&self, path: &str) -> BTreeSet<u32> {
        let numbers = self.read(path).map(|text| number_list(&text)).unwrap_or_default();
        if numbers.is_empty() { BTreeSet::from([0]) } else { numbers }
    }
}

/// A CPU map: bit n of byte n / 8 for every processor n of the set below `count`.
pub(super) fn cpu_map(set: &BTreeSet<u32>, count: u32) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(count.div_ceil(8)).unwrap_or(0)];
    for cpu in set {
        if let Some(byte) = usize::try_from(cpu / 8).ok().and_then(|at| bytes.get_mut(at)) {
            *byte |= 1 << (cpu % 8);
        }
    }
    bytes
}

/// `MemTotal:  24684084 kB`, in a cell's file with `Node 0` before it.
fn memory_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.split_whitespace().next_back() == Some(key)).then_some(())?;
        value.split_whitespace().next()?.parse().ok()
    })
}

/// `0-3,8`.
fn number_list(text: &str) -> BTreeSet<u32> {
    /// More processors than Linux can have.
    const LIMIT: u32 = 65_536;
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            numbers.extend(first..=last.min(LIMIT));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A machine that shows these files and nothing else.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            fs::create_dir_all(folder.path().join(Path::new(path).parent().unwrap())).unwrap();
            fs::write(folder.path().join(path), content).unwrap();
        }
        let root = folder.path().to_owned();
        (folder, Machine { root })
    }

    /// Two cells of one socket each, two cores of two threads each; `online` may leave some out.
    fn eight(online: &str) -> (tempfile::TempDir, Machine) {
        let mut files = vec![
            (format!("{CPUS}/online"), online.to_owned()),
            (format!("{NODES}/online"), "0-1\n".to_owned()),
            (format!("{NODES}/node0/cpulist"), "0-3\n".to_owned()),
            (format!("{NODES}/node1/cpulist"), "4-7\n".to_owned()),
            (format!("{NODES}/node1/distance"), "21 10\n".to_owned()),
            (format!("{NODES}/node1/meminfo"), "Node 1 MemTotal: 8192 kB\nNode 1 MemFree: 7 kB\n".to_owned()),
            (format!("{NODES}/node1/hugepages/hugepages-2048kB/nr_hugepages"), "3\n".to_owned()),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages".to_owned(), "0\n".to_owned()),
        ];
        for cpu in 0..8 {
            let folder = format!("{CPUS}/cpu{cpu}/topology");
            files.push((format!("{folder}/physical_package_id"), format!("{}\n", cpu / 4)));
            files.push((format!("{folder}/core_id"), format!("{}\n", cpu / 2 % 2)));
            files.push((format!("{folder}/thread_siblings_list"), format!("{}-{}\n", cpu & !1, cpu | 1)));
        }
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        machine(&files)
    }

    #[test]
    fn an_even_machine_is_counted_and_an_uneven_one_flattened() {
        let even = Topology { cpus: 8, nodes: 2, sockets: 1, cores: 2, threads: 2 };
        assert_eq!(eight("0-7\n").1.topology(), even);
        let flat = Topology { cpus: 7, nodes: 1, sockets: 1, cores: 7, threads: 1 };
        assert_eq!(eight("0-6\n").1.topology(), flat);
        let bare = Topology { cpus: 1, nodes: 1, sockets: 1, cores: 1, threads: 1 };
        assert_eq!(machine(&[]).1.topology(), bare, "a kernel that shows nothing");
    }

    #[test]
    fn a_cell_has_its_processors_pages_and_distances() {
        let (_folder, machine) = eight("0-7\n");
        let cell = machine.cells().remove(1);
        assert_eq!((cell.id, cell.memory_kib), (1, 8192));
        assert_eq!(cell.distances, [(0, 21), (1, 10)]);
        let base = machine.page_sizes_kib()[0];
        assert_eq!(cell.pages, [(base, 2048 / base), (2048, 3)]);
        let last = Processor { id: 7, socket: 1, die: 0, core: 1, siblings: vec![6, 7] };
        assert_eq!(cell.cpus.last(), Some(&last));
    }

    #[test]
    fn memory_is_found_for_the_host_and_for_a_cell() {
        let (_folder, machine) = machine(&[
            ("proc/meminfo", "MemTotal:       24684084 kB\nMemFree:         1000 kB\nCached: 5 kB\n"),
            ("sys/devices/system/node/node1/meminfo", "Node 1 MemTotal:  77 kB\nNode 1 MemFree:   7 kB\n"),
        ]);
        assert_eq!(machine.memory_kib("MemTotal", None).unwrap(), 24_684_084);
        assert_eq!(machine.memory_kib("MemFree", Some(1)).unwrap(), 7);
        assert!(machine.memory_kib("Nonsense", None).is_err());
        assert!(machine.memory_kib("MemFree", Some(9)).is_err());
        assert_eq!(machine.memory_of_all_kib("MemFree").unwrap(), 1000, "cell 0 shows nothing");
    }

    #[test]
    fn the_processor_is_named_by_its_first_line() {
        let info = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 167\n\
                    model name\t: Some Processor\nstepping\t: 1\nmicrocode\t: 0x1f\ncpu MHz\t\t: 2599.998\n\n\
                    processor\t: 1\ncpu MHz\t\t: 800.0\n";
        let (_folder, machine) = machine(&[("proc/cpuinfo", info)]);
        let cpu = machine.processor();
        assert_eq!(
            (cpu.vendor.as_str(), cpu.signature, cpu.microcode),
            ("GenuineIntel", Some((6, 167, 1)), Some(31))
        );
        assert_eq!(machine.mhz(), 2599);
        assert!(!machine.has_iommu());
    }

    #[test]
    fn lists_and_maps_of_processors() {
        let cpus = number_list("0-1,9,x,4294967295\n");
        assert_eq!(cpus.iter().copied().collect::<Vec<_>>(), [0, 1, 9]);
        assert_eq!(cpu_map(&cpus, 10), [3, 2]);
        assert_eq!(cpu_map(&cpus, 8), [3], "what is beyond the map is left out");
        assert!(number_list("").is_empty());
    }
}
