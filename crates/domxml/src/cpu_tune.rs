//! `<cputune>`: which processors of the host the guest's threads run on. Shares and quotas of a control group are kept and
//! not looked into.

use std::collections::BTreeSet;

use crate::memory::CpuSet;
use crate::model::element;
use crate::{Domain, ParseError};

element! {
    /// `<cputune>`
    #[derive(Default)]
    pub struct CpuTune {
        /// Of single processors of the guest.
        vcpu_pins: Vec<VcpuPin> => Child("vcpupin"),
        /// Of QEMU's threads that are neither processors nor serve disks.
        emulator_pin: Option<EmulatorPin> => Child("emulatorpin"),
        /// Of single threads for disks.
        iothread_pins: Vec<IoThreadPin> => Child("iothreadpin"),
    }
    order [
        "shares", "period", "quota", "global_period", "global_quota", "emulator_period", "emulator_quota",
        "iothread_period", "iothread_quota", "vcpupin", "emulatorpin", "iothreadpin", "vcpusched", "iothreadsched",
        "emulatorsched", "cachetune", "memorytune",
    ]
}

element! {
    /// `<vcpupin>`
    pub struct VcpuPin {
        /// Number of the guest's processor.
        vcpu: u32 => Attr("vcpu"),
        /// Processors of the host.
        cpus: CpuSet => Attr("cpuset"),
    }
}

element! {
    /// `<emulatorpin>`
    pub struct EmulatorPin {
        /// Processors of the host.
        cpus: CpuSet => Attr("cpuset"),
    }
}

element! {
    /// `<iothreadpin>`
    pub struct IoThreadPin {
        /// Number of the thread.
        thread: u32 => Attr("iothread"),
        /// Processors of the host.
        cpus: CpuSet => Attr("cpuset"),
    }
}

impl Domain {
    /// Processors of the host that a processor of the guest may run on. `None`: all.
    pub fn cpus_of_vcpu(&self, vcpu: u32) -> Option<&CpuSet> {
        let pins = self.cpu_tune.as_ref().map_or(&[][..], |tune| &tune.vcpu_pins);
        let own = pins.iter().find(|pin| pin.vcpu == vcpu).map(|pin| &pin.cpus);
        own.or(self.vcpus.cpuset.as_ref())
    }

    /// Processors of the host that QEMU's other threads may run on. `None`: all.
    pub fn cpus_of_emulator(&self) -> Option<&CpuSet> {
        let own = self.cpu_tune.as_ref().and_then(|tune| tune.emulator_pin.as_ref()).map(|pin| &pin.cpus);
        own.or(self.vcpus.cpuset.as_ref())
    }

    /// Processors of the host that a thread for disks may run on. `None`: all.
    pub fn cpus_of_iothread(&self, thread: u32) -> Option<&CpuSet> {
        let pins = self.cpu_tune.as_ref().map_or(&[][..], |tune| &tune.iothread_pins);
        let own = pins.iter().find(|pin| pin.thread == thread).map(|pin| &pin.cpus);
        own.or(self.vcpus.cpuset.as_ref())
    }
}

/// Nothing is pinned twice.
pub(crate) fn check(tune: &CpuTune) -> Result<(), ParseError> {
    let refuse = |text: String| Err(ParseError::Contradiction(text));
    let mut seen = BTreeSet::new();
    if let Some(pin) = tune.vcpu_pins.iter().find(|pin| !seen.insert(pin.vcpu)) {
        return refuse(format!("duplicate vcpupin for vcpu '{}'", pin.vcpu));
    }
    seen.clear();
    match tune.iothread_pins.iter().find(|pin| !seen.insert(pin.thread)) {
        Some(pin) => refuse(format!("duplicate iothreadpin for same iothread '{}'", pin.thread)),
        None => Ok(()),
    }
}
