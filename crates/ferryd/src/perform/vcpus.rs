//! Processors of a machine that is there: its free places, what is plugged into them, and on which of the host's they run.
//!
//! Called at every start for what the definition says is plugged in, and when a running guest gets one more.

use std::collections::BTreeMap;
use std::io;

use ferry_domxml::Domain;
use ferry_domxml::memory::CpuSet;
use ferry_qmp::commands::device::{DeviceAdd, QueryIothreads};
use ferry_qmp::commands::run::{CpuSocket, QueryCpusFast, QueryHotpluggableCpus};
use serde_json::{Map, Value};

use super::monitor::{Monitor, MonitorError};

/// A place for one processor that is empty.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Number of the processor that belongs there.
    pub(crate) number: u32,
    socket: CpuSocket,
}

/// The free places, lowest number first.
///
/// # Errors
/// QEMU does not answer.
pub(crate) async fn free(monitor: &Monitor) -> Result<Vec<Place>, MonitorError> {
    monitor.execute(&QueryHotpluggableCpus).await.map(free_places)
}

/// Fills a place.
///
/// # Errors
/// QEMU refuses.
pub(crate) async fn plug(monitor: &Monitor, place: &Place) -> Result<(), MonitorError> {
    monitor.execute(&device(place)).await.map(drop)
}

/// Plugs in what the definition says was plugged in, before the machine runs or its state arrives.
///
/// # Errors
/// QEMU refuses; the guest must then not be started.
pub(crate) async fn plug_all(monitor: &Monitor, domain: &Domain) -> Result<(), MonitorError> {
    let plugged = domain.plugged_vcpus();
    if plugged.is_empty() {
        return Ok(());
    }
    let places = free(monitor).await?;
    let places: BTreeMap<u32, Place> = places.into_iter().map(|place| (place.number, place)).collect();
    for place in plugged.iter().filter_map(|number| places.get(number)) {
        plug(monitor, place).await?;
    }
    Ok(())
}

/// Keeps each thread of a QEMU to the processors of the host that the definition names for it. Threads that QEMU makes later
/// are like the one that makes them.
///
/// # Errors
/// QEMU does not answer, or the host has none of the processors.
pub(crate) async fn pin(monitor: &Monitor, domain: &Domain, pid: i32) -> Result<(), PinError> {
    let tuned = domain.cpu_tune.as_ref().is_some_and(|tune| {
        !tune.vcpu_pins.is_empty() || tune.emulator_pin.is_some() || !tune.iothread_pins.is_empty()
    });
    if !tuned && domain.vcpus.cpuset.is_none() {
        return Ok(());
    }
    let processors = monitor.execute(&QueryCpusFast).await?;
    let disks = monitor.execute(&QueryIothreads).await?;
    let mut wanted: BTreeMap<i32, Option<&CpuSet>> = threads_of(pid).map_err(PinError::Threads)?;
    wanted.values_mut().for_each(|cpus| *cpus = domain.cpus_of_emulator());
    for thread in &disks {
        let number = thread.id.strip_prefix("iothread").and_then(|number| number.parse().ok());
        wanted.insert(thread.thread_id, number.and_then(|number| domain.cpus_of_iothread(number)));
    }
    for processor in &processors {
        wanted.insert(processor.thread_id, domain.cpus_of_vcpu(processor.cpu_index));
    }
    for (thread, cpus) in wanted.into_iter().filter_map(|(thread, cpus)| Some((thread, cpus?))) {
        keep_to(thread, cpus).map_err(|source| PinError::Affinity { pid: thread, source })?;
    }
    Ok(())
}

/// Why threads are not where they are to be. The second text is stock's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    /// QEMU does not say which thread is which.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The threads of the process cannot be listed.
    #[error("cannot list the threads of QEMU")]
    Threads(#[source] io::Error),
    /// The host has none of the processors, or may not be asked.
    #[error("cannot set CPU affinity on process {pid}")]
    Affinity {
        pid: i32,
        #[source]
        source: io::Error,
    },
}

/// Every thread of a process; where it may run is not known yet.
fn threads_of(pid: i32) -> io::Result<BTreeMap<i32, Option<&'static CpuSet>>> {
    let names = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(names.filter_map(|name| name.ok()?.file_name().to_str()?.parse().ok()).map(|id| (id, None)).collect())
}

fn keep_to(thread: i32, cpus: &CpuSet) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    let most = rustix::thread::CpuSet::MAX_CPU;
    for number in cpus.members().map(|number| number as usize).filter(|number| *number < most) {
        set.set(number);
    }
    let thread = rustix::process::Pid::from_raw(thread).ok_or(io::ErrorKind::InvalidInput)?;
    match rustix::thread::sched_setaffinity(Some(thread), &set) {
        // It has ended meanwhile.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// QEMU lists places from the last to the first.
fn free_places(places: Vec<CpuSocket>) -> Vec<Place> {
    let numbered = (0..).zip(places.into_iter().rev());
    let free = numbered.filter(|(_, socket)| socket.qom_path.is_none() && socket.vcpus_count == 1);
    free.map(|(number, socket)| Place { number, socket }).collect()
}

fn device(place: &Place) -> DeviceAdd {
    let mut properties = Map::new();
    properties.insert("driver".to_owned(), Value::from(place.socket.kind.as_str()));
    properties.insert("id".to_owned(), Value::from(format!("vcpu{}", place.number)));
    // Numbers by name; nothing of it can fail to be JSON.
    if let Ok(Value::Object(place)) = serde_json::to_value(place.socket.props) {
        properties.extend(place);
    }
    DeviceAdd(properties)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_free_place_has_the_number_of_its_processor() {
        let places = json!([
            {"props": {"core-id": 0, "thread-id": 0, "socket-id": 2}, "vcpus-count": 1, "type": "qemu64-x86_64-cpu"},
            {"props": {"core-id": 0, "thread-id": 0, "socket-id": 1}, "vcpus-count": 1, "type": "qemu64-x86_64-cpu"},
            {"props": {"core-id": 0, "thread-id": 0, "socket-id": 0}, "vcpus-count": 1, "qom-path": "/machine/unattached/device[0]",
             "type": "qemu64-x86_64-cpu"}
        ]);
        let free = free_places(serde_json::from_value(places).unwrap());
        assert_eq!(free.iter().map(|place| place.number).collect::<Vec<_>>(), [1, 2]);
        let expected = json!({"driver": "qemu64-x86_64-cpu", "id": "vcpu1", "socket-id": 1, "core-id": 0, "thread-id": 0});
        assert_eq!(serde_json::to_value(device(&free[0])).unwrap(), expected);
    }
}
