//! Running, stopping and ending the machine.

use crate::Nothing;
use serde::{Deserialize, Serialize};

plain_commands! {
    /// Whether the CPUs run, and why not.
    QueryStatus = "query-status" -> Status;
    /// Starts the CPUs. While a migration comes in it only sets that they start at its end; see
    /// [`RunState::Inmigrate`].
    Cont = "cont" -> Nothing;
    /// Stops the CPUs.
    Stop = "stop" -> Nothing;
    /// Ends QEMU. The answer comes before the process is gone.
    Quit = "quit" -> Nothing;
    /// Presses the power button.
    SystemPowerdown = "system_powerdown" -> Nothing;
    /// Presses the reset button.
    SystemReset = "system_reset" -> Nothing;
    /// Wakes a guest that suspended to RAM.
    SystemWakeup = "system_wakeup" -> Nothing;
    /// Raises a non-maskable interrupt.
    InjectNmi = "inject-nmi" -> Nothing;
    /// Ticks that the guest has missed are not made up for.
    RtcResetReinjection = "rtc-reset-reinjection" -> Nothing;
    /// The CPUs and their host threads, without disturbing them.
    QueryCpusFast = "query-cpus-fast" -> Vec<Cpu>;
    /// The places for CPUs, used or free.
    QueryHotpluggableCpus = "query-hotpluggable-cpus" -> Vec<CpuSocket>;
}

/// A place for CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CpuSocket {
    /// The device that fits.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many CPUs that is.
    pub vcpus_count: u32,
    /// Where it is: the device's properties.
    pub props: CpuPlace,
    /// The CPU that is there.
    pub qom_path: Option<String>,
}

lenient_enum! {
    /// Why the CPUs run or do not.
    pub enum RunState {
        Debug = "debug",
        Inmigrate = "inmigrate",
        InternalError = "internal-error",
        IoError = "io-error",
        Paused = "paused",
        Postmigrate = "postmigrate",
        Prelaunch = "prelaunch",
        FinishMigrate = "finish-migrate",
        RestoreVm = "restore-vm",
        Running = "running",
        SaveVm = "save-vm",
        Shutdown = "shutdown",
        Suspended = "suspended",
        Watchdog = "watchdog",
        GuestPanicked = "guest-panicked",
        Colo = "colo",
    }
}

/// Whether the CPUs run, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// The CPUs run.
    pub running: bool,
    /// More exactly.
    pub status: RunState,
}

/// One CPU.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cpu {
    /// Its number, from 0.
    pub cpu_index: u32,
    /// Its object path.
    pub qom_path: String,
    /// The host thread that runs it. With TCG and one thread for all, the same for each.
    pub thread_id: i32,
    /// Where it sits.
    pub props: Option<CpuPlace>,
}

/// Where a CPU sits in the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CpuPlace {
    /// NUMA node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<u32>,
    /// Socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_id: Option<u32>,
    /// Die within the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub die_id: Option<u32>,
    /// Core within the die.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_id: Option<u32>,
    /// Thread within the core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<u32>,
}

lenient_enum! {
    /// What QEMU did about a disk error.
    pub enum ErrorAction { Ignore = "ignore", Report = "report", Stop = "stop", }
}
