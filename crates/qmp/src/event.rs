//! What QEMU says unasked.
//!
//! [`crate::Session`] makes an [`Event`] of each event line; the daemon's driver of a domain acts on it. An event
//! that is not listed, or whose data does not fit, is kept as [`EventKind::Other`]: it never ends a session.

use crate::commands::migration::MigrationStatus;
use crate::commands::run::ErrorAction;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// When QEMU says that something happened, on its host's clock. `(0, 0)` when it could not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970; -1 when QEMU failed to read its clock.
    pub seconds: i64,
    /// Microseconds within the second; -1 when QEMU failed to read its clock.
    pub microseconds: i64,
}

/// Something happened in QEMU.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// As QEMU said it, for those who want its own words.
    pub said: Box<Said>,
}

/// An event in QEMU's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its name.
    pub name: String,
    /// Its data, JSON; `None` without.
    pub data: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The CPUs have stopped.
    Stop,
    /// The CPUs run.
    Resume,
    /// The guest or somebody else ended the machine. With `-no-shutdown` QEMU stays.
    Shutdown(ShutdownCause),
    /// The machine was reset.
    Reset(ShutdownCause),
    /// `system_powerdown` was passed on to the guest.
    Powerdown,
    /// The guest suspended to RAM.
    Suspend,
    /// The guest suspended to disk.
    SuspendDisk,
    /// The guest woke up.
    Wakeup,
    /// A migration went over to this status. Sent only with migration capability `events`.
    Migration(MigrationStatus),
    /// A pass over the guest's memory began; counts from 1. Sent only with migration capability `events`.
    MigrationPass(u64),
    /// A disk request failed.
    BlockIoError(BlockIoError),
    /// The guest wrote beyond the threshold of a block node, which is gone by that.
    BlockWriteThreshold(WriteThreshold),
    /// The guest reported that its kernel has crashed.
    GuestPanicked(GuestPanic),
    /// The guest reported that its kernel has crashed and that it is saving a dump itself.
    GuestCrashloaded(GuestPanic),
    /// A device is gone, after the guest let go of it.
    DeviceDeleted(DeviceGone),
    /// The guest refused to let a device go.
    DeviceUnplugGuestError(DeviceGone),
    /// The guest has set its clock.
    RtcChange(RtcChange),
    /// The guest's memory balloon moved: bytes that the guest has now.
    BalloonChange(u64),
    /// The guest's watchdog fired.
    Watchdog(WatchdogAction),
    /// A VNC client opened a connection.
    VncConnected(VncEvent),
    /// A VNC client passed authentication.
    VncInitialized(VncEvent),
    /// A VNC client is gone.
    VncDisconnected(VncEvent),
    /// The guest opened or closed a virtio-serial port.
    VserportChange(VserportChange),
    /// A removable medium's tray moved.
    DeviceTrayMoved(TrayMove),
    /// The guest changed its NIC's receive filter.
    NicRxFilterChanged(NicRxFilterChange),
    /// The guest changed how much of a virtio-mem device it uses.
    MemoryDeviceSizeChange(MemoryDeviceSizeChange),
    /// A job went over to this status.
    JobStatusChange(JobStatusChange),
    /// A block job ended, with or without success.
    BlockJobCompleted(BlockJob),
    /// A block job was cancelled.
    BlockJobCancelled(BlockJob),
    /// A block job met an error.
    BlockJobError(BlockJobError),
    /// A block job can be completed.
    BlockJobReady(BlockJob),
    /// An event that is not listed here, or that does not fit.
    Other {
        /// Its name on the wire.
        name: String,
        /// Its data; `Null` without.
        data: Value,
    },
}

lenient_enum! {
    /// Why a machine was shut down or reset.
    pub enum ShutdownReason {
        None = "none",
        HostError = "host-error",
        HostQmpQuit = "host-qmp-quit",
        HostQmpSystemReset = "host-qmp-system-reset",
        HostSignal = "host-signal",
        HostUi = "host-ui",
        GuestShutdown = "guest-shutdown",
        GuestReset = "guest-reset",
        GuestPanic = "guest-panic",
        SubsystemReset = "subsystem-reset",
        SnapshotLoad = "snapshot-load",
    }
}

/// Who ended the machine, and why.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ShutdownCause {
    /// The guest did it, not the host.
    pub guest: bool,
    /// Why.
    pub reason: ShutdownReason,
}

/// A disk request failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockIoError {
    /// Drive name; empty for devices that were attached to a block node by name.
    #[serde(default)]
    pub device: String,
    /// Object path of the device; absent before QEMU 9.2.
    pub qom_path: Option<String>,
    /// The block node.
    pub node_name: Option<String>,
    /// `read` or `write`.
    pub operation: String,
    /// What QEMU did about it.
    pub action: ErrorAction,
    /// The error was "no space left".
    pub nospace: Option<bool>,
    /// The error's text.
    pub reason: String,
}

/// The guest wrote beyond the threshold of a block node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WriteThreshold {
    /// The node.
    pub node_name: String,
    /// Bytes by which it was passed.
    pub amount_exceeded: u64,
    /// The threshold, in bytes.
    pub write_threshold: u64,
}

lenient_enum! {
    /// What QEMU did about a crashed guest.
    pub enum PanicAction { Pause = "pause", Poweroff = "poweroff", Run = "run", }
}

/// The guest's kernel has crashed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct GuestPanic {
    /// What QEMU did about it.
    pub action: PanicAction,
    /// What the guest said about it, when the panic device can carry that.
    pub info: Option<Value>,
}

/// A device is gone, or did not want to go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DeviceGone {
    /// The device's id; absent for devices that have none, such as a device's own parts.
    pub device: Option<String>,
    /// The device's object path.
    pub path: String,
}

/// The guest has set its clock.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RtcChange {
    /// Seconds between the guest's clock and its base on the host.
    pub offset: i64,
    /// The clock's object path.
    pub qom_path: Option<String>,
}

lenient_enum! {
    /// What QEMU did when the watchdog fired.
    pub enum WatchdogAction {
        Reset = "reset",
        Shutdown = "shutdown",
        Poweroff = "poweroff",
        Pause = "pause",
        Debug = "debug",
        None = "none",
        InjectNmi = "inject-nmi",
    }
}

/// A VNC client came or went.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VncEvent {
    /// Our end.
    pub server: VncServer,
    /// The other end.
    pub client: VncClient,
}

/// The server's end of a VNC connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VncServer {
    /// Address, or path.
    pub host: String,
    /// Port, or nothing.
    pub service: String,
    /// `ipv4`, `ipv6`, `unix`, `vsock` or `unknown`.
    pub family: String,
    /// Authentication method.
    pub auth: Option<String>,
}

/// The client's end of a VNC connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VncClient {
    /// Address, or path.
    pub host: String,
    /// Port, or nothing.
    pub service: String,
    /// `ipv4`, `ipv6`, `unix`, `vsock` or `unknown`.
    pub family: String,
    /// The distinguished name of its certificate.
    pub x509_dname: Option<String>,
    /// The name that it gave over SASL.
    pub sasl_username: Option<String>,
}

/// The guest opened or closed a virtio-serial port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VserportChange {
    /// The port's device id.
    pub id: String,
    /// It is open now.
    pub open: bool,
}

/// A removable medium's tray moved.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrayMove {
    /// Drive name; empty for devices that were attached to a block node by name.
    #[serde(default)]
    pub device: String,
    /// The device's id or object path.
    pub id: String,
    /// It is open now.
    pub tray_open: bool,
}

/// The guest changed its NIC's receive filter. No more of these come until `query-rx-filter` was asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NicRxFilterChange {
    /// The device's id.
    pub name: Option<String>,
    /// The device's object path.
    pub path: String,
}

/// The guest changed how much of a virtio-mem device it uses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryDeviceSizeChange {
    /// The device's id.
    pub id: Option<String>,
    /// Bytes in use.
    pub size: u64,
    /// The device's object path.
    pub qom_path: Option<String>,
}

lenient_enum! {
    /// What a job is at.
    pub enum JobStatus {
        Undefined = "undefined",
        Created = "created",
        Running = "running",
        Paused = "paused",
        Ready = "ready",
        Standby = "standby",
        Waiting = "waiting",
        Pending = "pending",
        Aborting = "aborting",
        Concluded = "concluded",
        Null = "null",
    }
}

/// A job went over to another status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct JobStatusChange {
    /// The job.
    pub id: String,
    /// Its status now.
    pub status: JobStatus,
}

/// A block job's progress, as its events tell it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BlockJob {
    /// The job's id.
    pub device: String,
    /// `mirror`, `commit`, `stream`, `backup`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes in all; moves while the job runs.
    pub len: u64,
    /// Bytes done.
    pub offset: u64,
    /// Bytes per second allowed; 0 is without limit.
    pub speed: u64,
    /// Why it failed; absent when it did not.
    pub error: Option<String>,
}

/// A block job met an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BlockJobError {
    /// The job's id.
    pub device: String,
    /// `read` or `write`.
    pub operation: String,
    /// What QEMU did about it.
    pub action: ErrorAction,
}

impl Event {
    /// Reads one event; `data` is its payload as it came.
    pub(crate) fn new(name: String, data: Option<&RawValue>, at: Timestamp) -> Self {
        let data = data.map(RawValue::get);
        let text = data.unwrap_or("{}");
        let kind = EventKind::parse(&name, text).unwrap_or_else(|| EventKind::Other {
            name: name.clone(),
            data: serde_json::from_str(text).unwrap_or(Value::Null),
        });
        Self { at, kind, said: Box::new(Said { name, data: data.map(str::to_owned) }) }
    }
}

impl EventKind {
    fn parse(name: &str, data: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Status {
            status: MigrationStatus,
        }
        #[derive(Deserialize)]
        struct Pass {
            pass: u64,
        }
        #[derive(Deserialize)]
        struct Actual {
            actual: u64,
        }
        #[derive(Deserialize)]
        struct Watchdog {
            action: WatchdogAction,
        }
        Some(match name {
            "STOP" => Self::Stop,
            "RESUME" => Self::Resume,
            "SHUTDOWN" => Self::Shutdown(read(data)?),
            "RESET" => Self::Reset(read(data)?),
            "POWERDOWN" => Self::Powerdown,
            "SUSPEND" => Self::Suspend,
            "SUSPEND_DISK" => Self::SuspendDisk,
            "WAKEUP" => Self::Wakeup,
            "MIGRATION" => Self::Migration(read::<Status>(data)?.status),
            "MIGRATION_PASS" => Self::MigrationPass(read::<Pass>(data)?.pass),
            "BLOCK_WRITE_THRESHOLD" => Self::BlockWriteThreshold(read(data)?),
            "BLOCK_IO_ERROR" => Self::BlockIoError(read(data)?),
            "GUEST_PANICKED" => Self::GuestPanicked(read(data)?),
            "GUEST_CRASHLOADED" => Self::GuestCrashloaded(read(data)?),
            "DEVICE_DELETED" => Self::DeviceDeleted(read(data)?),
            "DEVICE_UNPLUG_GUEST_ERROR" => Self::DeviceUnplugGuestError(read(data)?),
            "RTC_CHANGE" => Self::RtcChange(read(data)?),
            "BALLOON_CHANGE" => Self::BalloonChange(read::<Actual>(data)?.actual),
            "WATCHDOG" => Self::Watchdog(read::<Watchdog>(data)?.action),
            "VNC_CONNECTED" => Self::VncConnected(read(data)?),
            "VNC_INITIALIZED" => Self::VncInitialized(read(data)?),
            "VNC_DISCONNECTED" => Self::VncDisconnected(read(data)?),
            "VSERPORT_CHANGE" => Self::VserportChange(read(data)?),
            "DEVICE_TRAY_MOVED" => Self::DeviceTrayMoved(read(data)?),
            "NIC_RX_FILTER_CHANGED" => Self::NicRxFilterChanged(read(data)?),
            "MEMORY_DEVICE_SIZE_CHANGE" => Self::MemoryDeviceSizeChange(read(data)?),
            "JOB_STATUS_CHANGE" => Self::JobStatusChange(read(data)?),
            "BLOCK_JOB_COMPLETED" => Self::BlockJobCompleted(read(data)?),
            "BLOCK_JOB_CANCELLED" => Self::BlockJobCancelled(read(data)?),
            "BLOCK_JOB_ERROR" => Self::BlockJobError(read(data)?),
            "BLOCK_JOB_READY" => Self::BlockJobReady(read(data)?),
            _ => return None,
        })
    }
}

fn read<T: DeserializeOwned>(data: &str) -> Option<T> {
    serde_json::from_str(data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(name: &str, data: Value) -> EventKind {
        let text = RawValue::from_string(data.to_string()).unwrap();
        Event::new(name.to_owned(), Some(&text), Timestamp::default()).kind
    }

    #[test]
    fn events_carry_their_data() {
        let (device, path) = (Some("net1".to_owned()), "/machine/peripheral/net1".to_owned());
        let job = json!({"type": "mirror", "device": "j", "len": 9, "offset": 9, "speed": 0});
        let cases = [
            (
                "RTC_CHANGE",
                json!({"offset": -3600}),
                EventKind::RtcChange(RtcChange { offset: -3600, qom_path: None }),
            ),
            (
                "BLOCK_WRITE_THRESHOLD",
                json!({"node-name": "libvirt-1-storage", "amount-exceeded": 512, "write-threshold": 100_000}),
                EventKind::BlockWriteThreshold(WriteThreshold {
                    node_name: "libvirt-1-storage".to_owned(),
                    amount_exceeded: 512,
                    write_threshold: 100_000,
                }),
            ),
            ("BALLOON_CHANGE", json!({"actual": 1 << 30}), EventKind::BalloonChange(1 << 30)),
            ("WATCHDOG", json!({"action": "inject-nmi"}), EventKind::Watchdog(WatchdogAction::InjectNmi)),
            (
                "MIGRATION",
                json!({"status": "wait-unplug"}),
                EventKind::Migration(MigrationStatus::WaitUnplug),
            ),
            (
                "DEVICE_DELETED",
                json!({"device": device, "path": path}),
                EventKind::DeviceDeleted(DeviceGone { device, path }),
            ),
            (
                "GUEST_PANICKED",
                json!({"action": "pause", "info": {"type": "hyper-v", "arg1": 1}}),
                EventKind::GuestPanicked(GuestPanic {
                    action: PanicAction::Pause,
                    info: Some(json!({"type": "hyper-v", "arg1": 1})),
                }),
            ),
            (
                "VSERPORT_CHANGE",
                json!({"id": "channel0", "open": true}),
                EventKind::VserportChange(VserportChange { id: "channel0".to_owned(), open: true }),
            ),
            (
                "JOB_STATUS_CHANGE",
                json!({"id": "j", "status": "concluded"}),
                EventKind::JobStatusChange(JobStatusChange {
                    id: "j".to_owned(),
                    status: JobStatus::Concluded,
                }),
            ),
            (
                "BLOCK_JOB_READY",
                job,
                EventKind::BlockJobReady(BlockJob {
                    device: "j".to_owned(),
                    kind: "mirror".to_owned(),
                    len: 9,
                    offset: 9,
                    speed: 0,
                    error: None,
                }),
            ),
            (
                "BLOCK_IO_ERROR",
                json!({"device": "", "node-name": "libvirt-1-format", "operation": "write", "action": "stop",
                       "nospace": true, "reason": "No space left on device"}),
                EventKind::BlockIoError(BlockIoError {
                    device: String::new(),
                    qom_path: None,
                    node_name: Some("libvirt-1-format".to_owned()),
                    operation: "write".to_owned(),
                    action: ErrorAction::Stop,
                    nospace: Some(true),
                    reason: "No space left on device".to_owned(),
                }),
            ),
        ];
        for (name, data, expected) in cases {
            assert_eq!(kind(name, data), expected);
        }
    }

    #[test]
    fn what_qemu_said_is_kept_beside_what_it_means() {
        let data = RawValue::from_string("{\"actual\": 1}".to_owned()).unwrap();
        let event = Event::new("BALLOON_CHANGE".to_owned(), Some(&data), Timestamp::default());
        assert_eq!(event.said.data.as_deref(), Some("{\"actual\": 1}"));
        let event = Event::new("STOP".to_owned(), None, Timestamp::default());
        assert_eq!(*event.said, Said { name: "STOP".to_owned(), data: None });
    }

    #[test]
    fn what_is_not_known_or_does_not_fit_is_kept() {
        for (name, data) in [
            ("CPU_CAUGHT_FIRE", json!({"cpu": 3})),
            ("SHUTDOWN", json!({"guest": "perhaps"})),
            ("MIGRATION", json!({})),
            ("MIGRATION_PASS", json!({"pass": -1})),
        ] {
            assert_eq!(kind(name, data.clone()), EventKind::Other { name: name.to_owned(), data });
        }
        let reason = ShutdownReason::Other("moon-phase".to_owned());
        assert_eq!(
            kind("SHUTDOWN", json!({"guest": true, "reason": "moon-phase", "more": 1})),
            EventKind::Shutdown(ShutdownCause { guest: true, reason })
        );
    }
}
