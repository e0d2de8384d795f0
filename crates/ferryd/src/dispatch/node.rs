//! The host: processors, memory, security model. Read from /proc and /sys at every call; nothing is remembered.
//!
//! The readers take a root folder, so that tests can show them a machine of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    NodeCpuStat, NodeGetCellsFreeMemory, NodeGetCellsFreeMemoryReply, NodeGetCpuMap, NodeGetCpuMapReply,
    NodeGetCpuStats, NodeGetCpuStatsReply, NodeGetFreeMemory, NodeGetInfo, NodeGetInfoReply,
    NodeGetMemoryStats, NodeGetMemoryStatsReply, NodeGetSecurityModel, NodeGetSecurityModelReply,
    NodeMemoryStat,
};

use super::Context;

/// The longest answer to procedure 101.
const CELLS_MAX: i32 = 1024;

/// "All processors" as a number of one.
const ALL_CPUS: i32 = -1;

/// "All cells" as a number of one.
const ALL_CELLS: i32 = -1;

pub(super) fn info(_: &Context, _: NodeGetInfo) -> Result<NodeGetInfoReply, Error> {
    let machine = Machine::here();
    let topology = machine.topology();
    Ok(NodeGetInfoReply {
        model: std::env::consts::ARCH.to_owned(),
        memory: machine.memory_kib("MemTotal", None)?,
        cpus: topology.cpus,
        mhz: machine.mhz(),
        nodes: topology.nodes,
        sockets: topology.sockets,
        cores: topology.cores,
        threads: topology.threads,
    })
}

/// Bytes.
pub(super) fn free_memory(_: &Context, _: NodeGetFreeMemory) -> Result<u64, Error> {
    Machine::here().memory_kib("MemFree", None).map(|kib| kib.saturating_mul(1024))
}

/// Bytes of each cell.
pub(super) fn cells_free_memory(
    _: &Context,
    call: NodeGetCellsFreeMemory,
) -> Result<NodeGetCellsFreeMemoryReply, Error> {
    if call.maxcells > CELLS_MAX {
        return Err(Error::new(ErrorCode::RPC, Origin::RPC, "maxcells > REMOTE_NODE_MAX_CELLS"));
    }
    let invalid = |text: &str| Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text);
    let start = u32::try_from(call.start_cell)
        .map_err(|_| invalid("startCell in virNodeGetCellsFreeMemory must be zero or greater"))?;
    let wanted = usize::try_from(call.maxcells)
        .ok()
        .filter(|wanted| *wanted > 0)
        .ok_or_else(|| invalid("maxCells in virNodeGetCellsFreeMemory must be greater than zero"))?;
    let machine = Machine::here();
    let nodes = machine.nodes();
    let last = nodes.last().copied().unwrap_or(0);
    if start > last {
        let text = format!("start cell {start} out of range (0-{last})");
        return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::NONE, text));
    }
    let chosen = nodes.into_iter().filter(|node| *node >= start).take(wanted);
    let free =
        chosen.map(|node| machine.memory_kib("MemFree", Some(node)).map(|kib| kib.saturating_mul(1024)));
    Ok(NodeGetCellsFreeMemoryReply { cells: free.collect::<Result<_, _>>()? })
}

pub(super) fn cpu_map(_: &Context, call: NodeGetCpuMap) -> Result<NodeGetCpuMapReply, Error> {
    no_flags(call.flags, "virHostCPUGetMap")?;
    let machine = Machine::here();
    let (present, online) = (machine.cpus("present"), machine.cpus("online"));
    let count = present.last().map_or(0, |last| last + 1);
    Ok(NodeGetCpuMapReply {
        cpumap: if call.need_map { cpu_set_bytes(&online, count) } else { Vec::new() },
        online: if call.need_online { u32::try_from(online.len()).unwrap_or(u32::MAX) } else { 0 },
        count: i32::try_from(count).unwrap_or(i32::MAX),
    })
}

/// Nanoseconds that a processor, or all of them, spent on each kind of work.
pub(super) fn cpu_stats(_: &Context, call: NodeGetCpuStats) -> Result<NodeGetCpuStatsReply, Error> {
    no_flags(call.flags, "virHostCPUGetStats")?;
    let label = match call.cpu_num {
        ALL_CPUS => "cpu".to_owned(),
        number if number < 0 => {
            let text = "cpuNum in virNodeGetCPUStats only accepts -1 as a negative value";
            return Err(Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text));
        }
        number => format!("cpu{number}"),
    };
    let stat = Machine::here().read("proc/stat")?;
    let unknown = || {
        let text = "Invalid cpuNum in virHostCPUGetStatsLinux";
        Error::new(ErrorCode::INVALID_ARG, Origin::NONE, text)
    };
    let params = cpu_times(&stat, &label).ok_or_else(unknown)?;
    let params: Vec<_> =
        params.into_iter().map(|(field, value)| NodeCpuStat { field: field.to_owned(), value }).collect();
    let nparams = i32::try_from(params.len()).unwrap_or(i32::MAX);
    match call.nparams {
        0 => Ok(NodeGetCpuStatsReply { params: Vec::new(), nparams }),
        asked if asked == nparams => Ok(NodeGetCpuStatsReply { params, nparams }),
        _ => {
            let text = format!("nparams in virHostCPUGetStatsLinux must be equal to {nparams}");
            Err(Error::new(ErrorCode::INVALID_ARG, Origin::NONE, text))
        }
    }
}

/// KiB of memory of the host, or of one cell of it.
pub(super) fn memory_stats(_: &Context, call: NodeGetMemoryStats) -> Result<NodeGetMemoryStatsReply, Error> {
    no_flags(call.flags, "virHostMemGetStats")?;
    let machine = Machine::here();
    let node = match call.cell_num {
        ALL_CELLS => None,
        number => {
            let last = machine.nodes().into_iter().next_back().unwrap_or(0);
            let node = u32::try_from(number).ok().filter(|node| *node <= last).ok_or_else(|| {
                let text = format!("cellNum in virHostMemGetStats must be less than or equal to {last}");
                Error::new(ErrorCode::INVALID_ARG, Origin::NONE, text)
            })?;
            Some(node)
        }
    };
    // A cell has neither buffers nor a cache of its own.
    let fields: &[(&str, &str)] = match node {
        None => &[("total", "MemTotal"), ("free", "MemFree"), ("buffers", "Buffers"), ("cached", "Cached")],
        Some(_) => &[("total", "MemTotal"), ("free", "MemFree")],
    };
    let nparams = i32::try_from(fields.len()).unwrap_or(i32::MAX);
    match call.nparams {
        0 => Ok(NodeGetMemoryStatsReply { params: Vec::new(), nparams }),
        asked if asked == nparams => {
            let stat = |(field, key): &(&str, &str)| {
                Ok(NodeMemoryStat { field: (*field).to_owned(), value: machine.memory_kib(key, node)? })
            };
            let params = fields.iter().map(stat).collect::<Result<_, Error>>()?;
            Ok(NodeGetMemoryStatsReply { params, nparams })
        }
        _ => {
            let text = format!("nparams in virHostMemGetStatsLinux must be {nparams}");
            Err(Error::new(ErrorCode::INVALID_ARG, Origin::NONE, text))
        }
    }
}

/// Guests are confined by user and system call filter; there is no labelling driver.
pub(super) fn security_model(
    _: &Context,
    _: NodeGetSecurityModel,
) -> Result<NodeGetSecurityModelReply, Error> {
    Ok(NodeGetSecurityModelReply { model: "none".to_owned(), doi: "0".to_owned() })
}

/// The host's processors that are present, as a number that is one above the highest; the size of CPU maps.
pub(super) fn cpus_present() -> u32 {
    Machine::here().cpus("present").last().map_or(1, |last| last + 1)
}

/// A CPU map: bit n of byte n / 8 for every processor n of the set below `count`.
pub(super) fn cpu_set_bytes(set: &BTreeSet<u32>, count: u32) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(count.div_ceil(8)).unwrap_or(0)];
    for cpu in set {
        if let Some(byte) = usize::try_from(cpu / 8).ok().and_then(|at| bytes.get_mut(at)) {
            *byte |= 1 << (cpu % 8);
        }
    }
    bytes
}

/// The folder in which a machine shows itself.
struct Machine {
    root: PathBuf,
}

/// How a machine is built.
#[derive(Debug, PartialEq, Eq)]
struct Topology {
    /// Online.
    cpus: i32,
    nodes: i32,
    /// In each node, at most.
    sockets: i32,
    /// In each socket, at most.
    cores: i32,
    /// In each core, at most.
    threads: i32,
}

impl Machine {
    fn here() -> Machine {
        Machine { root: PathBuf::from("/") }
    }

    fn read(&self, path: &str) -> Result<String, Error> {
        fs::read_to_string(self.root.join(path)).map_err(|error| {
            Error::new(ErrorCode::SYSTEM_ERROR, Origin::NONE, format!("cannot read /{path}: {error}"))
        })
    }

    /// A value of the host's, or a node's, meminfo.
    fn memory_kib(&self, key: &str, node: Option<u32>) -> Result<u64, Error> {
        let path = match node {
            None => "proc/meminfo".to_owned(),
            Some(node) => format!("sys/devices/system/node/node{node}/meminfo"),
        };
        let text = self.read(&path)?;
        memory_value(&text, key).ok_or_else(|| {
            let text = format!("no {key} in /{path}");
            Error::of(ErrorCode::INTERNAL_ERROR, Origin::NONE, text)
        })
    }

    /// The numbers of processors in a list of sysfs: `online`, `present`. A kernel without it has one.
    fn cpus(&self, list: &str) -> BTreeSet<u32> {
        let text = self.read(&format!("sys/devices/system/cpu/{list}")).unwrap_or_default();
        let cpus = number_list(&text);
        if cpus.is_empty() { BTreeSet::from([0]) } else { cpus }
    }

    fn nodes(&self) -> BTreeSet<u32> {
        let text = self.read("sys/devices/system/node/online").unwrap_or_default();
        let nodes = number_list(&text);
        if nodes.is_empty() { BTreeSet::from([0]) } else { nodes }
    }

    fn mhz(&self) -> i32 {
        let text = self.read("proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("cpu MHz"));
        let value = line.and_then(|line| line.split_once(':')).and_then(|(_, value)| value.split('.').next());
        value.and_then(|whole| whole.trim().parse().ok()).unwrap_or(0)
    }

    fn topology(&self) -> Topology {
        let online = self.cpus("online");
        let nodes = self.nodes();
        let of = |cpu: u32, what: &str| -> u32 {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/{what}");
            self.read(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        let place = |cpu: u32| (of(cpu, "physical_package_id"), of(cpu, "die_id"), of(cpu, "core_id"));
        let mut most = (0, 0, 0);
        for node in &nodes {
            let path = format!("sys/devices/system/node/node{node}/cpulist");
            let cpus = self.read(&path).map_or_else(|_| online.clone(), |text| number_list(&text));
            let places: Vec<_> = cpus.intersection(&online).map(|cpu| place(*cpu)).collect();
            let sockets: BTreeSet<_> = places.iter().map(|place| place.0).collect();
            most.0 = most.0.max(sockets.len());
            for socket in sockets {
                let cores: BTreeSet<_> = places.iter().filter(|place| place.0 == socket).collect();
                most.1 = most.1.max(cores.len());
                let threads = |core| places.iter().filter(|place| *place == core).count();
                most.2 = most.2.max(cores.into_iter().map(threads).max().unwrap_or(0));
            }
        }
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let cpus = online.len();
        let (nodes, sockets, cores, threads) = (nodes.len(), most.0, most.1, most.2);
        // Clients multiply. Where the machine is not even, stock calls it one socket of as many cores as there are.
        if nodes * sockets * cores * threads == cpus {
            Topology {
                cpus: number(cpus),
                nodes: number(nodes),
                sockets: number(sockets),
                cores: number(cores),
                threads: number(threads),
            }
        } else {
            Topology { cpus: number(cpus), nodes: 1, sockets: 1, cores: number(cpus), threads: 1 }
        }
    }
}

/// `MemTotal:  24684084 kB`, in a node's file with `Node 0` before it.
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

/// The times of one line of /proc/stat in nanoseconds, in stock's four kinds.
fn cpu_times(stat: &str, label: &str) -> Option<[(&'static str, u64); 4]> {
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(label))?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, ..] = *ticks.as_slice() else { return None };
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let ns = |ticks: u64| ticks.saturating_mul(tick_ns);
    Some([
        ("kernel", ns(system + irq + softirq)),
        ("user", ns(user + nice)),
        ("idle", ns(idle)),
        ("iowait", ns(iowait)),
    ])
}

fn no_flags(flags: u32, function: &str) -> Result<(), Error> {
    super::accept_flags(flags, 0, function).map_err(|error| Error { origin: Origin::NONE, ..error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Where the given files are all that a machine shows.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path: &Path = Path::new(path);
            fs::create_dir_all(folder.path().join(path.parent().unwrap())).unwrap();
            fs::write(folder.path().join(path), content).unwrap();
        }
        let root = folder.path().to_owned();
        (folder, Machine { root })
    }

    /// Two nodes of one socket each, two cores of two threads each; `online` may leave some out.
    fn eight(online: &str) -> (tempfile::TempDir, Machine) {
        let mut files = vec![
            ("sys/devices/system/cpu/online".to_owned(), online.to_owned()),
            ("sys/devices/system/node/online".to_owned(), "0-1\n".to_owned()),
            ("sys/devices/system/node/node0/cpulist".to_owned(), "0-3\n".to_owned()),
            ("sys/devices/system/node/node1/cpulist".to_owned(), "4-7\n".to_owned()),
        ];
        for cpu in 0..8 {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            files.push((format!("{folder}/physical_package_id"), format!("{}\n", cpu / 4)));
            files.push((format!("{folder}/core_id"), format!("{}\n", cpu / 2 % 2)));
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
    fn memory_is_found_for_the_host_and_for_a_node() {
        let (_folder, machine) = machine(&[
            ("proc/meminfo", "MemTotal:       24684084 kB\nMemFree:         1000 kB\nCached: 5 kB\n"),
            ("sys/devices/system/node/node1/meminfo", "Node 1 MemTotal:  77 kB\nNode 1 MemFree:   7 kB\n"),
            ("proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 2599.998\n"),
        ]);
        assert_eq!(machine.memory_kib("MemTotal", None).unwrap(), 24_684_084);
        assert_eq!(machine.memory_kib("MemFree", Some(1)).unwrap(), 7);
        assert!(machine.memory_kib("Nonsense", None).is_err());
        assert!(machine.memory_kib("MemFree", Some(9)).is_err());
        assert_eq!(machine.mhz(), 2599);
    }

    #[test]
    fn lists_and_maps_of_processors() {
        let cpus = number_list("0-1,9,x,4294967295\n");
        assert_eq!(cpus.iter().copied().collect::<Vec<_>>(), [0, 1, 9]);
        assert_eq!(cpu_set_bytes(&cpus, 10), [3, 2]);
        assert_eq!(cpu_set_bytes(&cpus, 8), [3], "what is beyond the map is left out");
        assert!(number_list("").is_empty());
    }

    #[test]
    fn processor_times_come_in_the_four_kinds_of_stock() {
        let stat = "cpu  100 10 50 1000 20 3 4 0 0 0\ncpu0 1 0 0 0 0 0 0 0 0 0\nintr 5\n";
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let all = [("kernel", 57 * tick), ("user", 110 * tick), ("idle", 1000 * tick), ("iowait", 20 * tick)];
        assert_eq!(cpu_times(stat, "cpu"), Some(all));
        assert_eq!(cpu_times(stat, "cpu0").map(|times| times[1]), Some(("user", tick)));
        assert_eq!(cpu_times(stat, "cpu7"), None);
    }
}
