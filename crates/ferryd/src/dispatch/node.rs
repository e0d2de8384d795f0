//! The host: processors, memory, security model.

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    NodeCpuStat, NodeGetCellsFreeMemory, NodeGetCellsFreeMemoryReply, NodeGetCpuMap, NodeGetCpuMapReply,
    NodeGetCpuStats, NodeGetCpuStatsReply, NodeGetFreeMemory, NodeGetInfo, NodeGetInfoReply,
    NodeGetMemoryParameters, NodeGetMemoryParametersReply, NodeGetMemoryStats, NodeGetMemoryStatsReply,
    NodeGetSecurityModel, NodeGetSecurityModelReply, NodeMemoryStat,
};
use ferry_rpc::typed_param::TypedParam;

use super::machine::{Machine, cpu_map};
use super::{Context, int};

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
        memory: machine.memory_of_all_kib("MemTotal")?,
        cpus: int(topology.cpus),
        mhz: int(machine.mhz()),
        nodes: int(topology.nodes),
        sockets: int(topology.sockets),
        cores: int(topology.cores),
        threads: int(topology.threads),
    })
}

/// Bytes.
pub(super) fn free_memory(_: &Context, _: NodeGetFreeMemory) -> Result<u64, Error> {
    Machine::here().memory_of_all_kib("MemFree").map(|kib| kib.saturating_mul(1024))
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

pub(super) fn cpus(_: &Context, call: NodeGetCpuMap) -> Result<NodeGetCpuMapReply, Error> {
    no_flags(call.flags, "virHostCPUGetMap")?;
    let machine = Machine::here();
    let (present, online) = (machine.cpus("present"), machine.cpus("online"));
    let count = present.last().map_or(0, |last| last + 1);
    Ok(NodeGetCpuMapReply {
        cpumap: if call.need_map { cpu_map(&online, count) } else { Vec::new() },
        online: if call.need_online { u32::try_from(online.len()).unwrap_or(u32::MAX) } else { 0 },
        count: int(count),
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
    let nparams = int(params.len());
    match call.nparams {
        0 => Ok(NodeGetCpuStatsReply { params: Vec::new(), nparams }),
        asked if asked == nparams => Ok(NodeGetCpuStatsReply { params, nparams: 0 }),
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
    let nparams = int(fields.len());
    match call.nparams {
        0 => Ok(NodeGetMemoryStatsReply { params: Vec::new(), nparams }),
        asked if asked == nparams => {
            let stat = |(field, key): &(&str, &str)| {
                Ok(NodeMemoryStat { field: (*field).to_owned(), value: machine.memory_kib(key, node)? })
            };
            let params = fields.iter().map(stat).collect::<Result<_, Error>>()?;
            Ok(NodeGetMemoryStatsReply { params, nparams: 0 })
        }
        _ => {
            let text = format!("nparams in virHostMemGetStatsLinux must be {nparams}");
            Err(Error::new(ErrorCode::INVALID_ARG, Origin::NONE, text))
        }
    }
}

/// How the host shares equal pages of memory between its guests.
pub(super) fn memory_parameters(
    _: &Context,
    call: NodeGetMemoryParameters,
) -> Result<NodeGetMemoryParametersReply, Error> {
    /// The file of `/sys/kernel/mm/ksm`, and whether it holds a small number.
    const FILES: [(&str, bool); 8] = [
        ("pages_to_scan", true),
        ("sleep_millisecs", true),
        ("pages_shared", false),
        ("pages_sharing", false),
        ("pages_unshared", false),
        ("pages_volatile", false),
        ("full_scans", false),
        ("merge_across_nodes", true),
    ];
    super::accept_flags(call.flags, ferry_rpc::flags::TYPED_PARAM_STRING_OKAY, "virHostMemGetParameters")?;
    if call.nparams == 0 {
        return Ok(NodeGetMemoryParametersReply { params: Vec::new(), nparams: int(FILES.len()) });
    }
    let room = usize::try_from(call.nparams).unwrap_or(0);
    let read = |(file, small): (&str, bool)| {
        let text = std::fs::read_to_string(format!("/sys/kernel/mm/ksm/{file}")).ok()?;
        let name = format!("shm_{file}");
        Some(match small {
            true => TypedParam::new(name, text.trim().parse::<u32>().ok()?),
            false => TypedParam::new(name, text.trim().parse::<u64>().ok()?),
        })
    };
    let params: Vec<_> = FILES.into_iter().filter_map(read).take(room).collect();
    Ok(NodeGetMemoryParametersReply { nparams: int(params.len()), params })
}

/// Guests are confined by user and system call filter; there is no labelling driver.
pub(super) fn security_model(
    _: &Context,
    _: NodeGetSecurityModel,
) -> Result<NodeGetSecurityModelReply, Error> {
    Ok(NodeGetSecurityModelReply { model: "none".to_owned(), doi: "0".to_owned() })
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
