//! What boots: boot indexes of devices, `-boot`, a kernel that QEMU loads itself, sleep states.

use std::collections::BTreeMap;

use ferry_domxml::disk::DiskDevice;
use ferry_domxml::os::BootDevice;
use ferry_domxml::{Domain, YesNo};

use super::Builder;
use crate::props::{KeyValue, on_off};

/// The boot index of each device that has one, by its position in its list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootIndexes {
    /// Of disks.
    pub disks: BTreeMap<usize, u32>,
    /// Of network cards.
    pub interfaces: BTreeMap<usize, u32>,
}

/// The boot order as QEMU takes it. `<boot dev=…>` names kinds: the first device of each kind counts.
#[must_use]
pub fn boot_indexes(domain: &Domain) -> BootIndexes {
    let mut indexes = BootIndexes::default();
    let devices = &domain.devices;
    for (at, order) in devices.disks.iter().enumerate().filter_map(|(at, disk)| Some((at, disk.boot_order?)))
    {
        indexes.disks.insert(at, order);
    }
    for (at, order) in
        devices.interfaces.iter().enumerate().filter_map(|(at, card)| Some((at, card.boot_order?)))
    {
        indexes.interfaces.insert(at, order);
    }
    for (order, kind) in (1..).zip(&domain.os.boot) {
        let disk = |wanted: fn(DiskDevice) -> bool| devices.disks.iter().position(|disk| wanted(disk.device));
        let found = match kind {
            BootDevice::Hd => disk(|device| matches!(device, DiskDevice::Disk | DiskDevice::Lun)),
            BootDevice::Cdrom => disk(|device| device == DiskDevice::Cdrom),
            BootDevice::Fd => disk(|device| device == DiskDevice::Floppy),
            BootDevice::Network => {
                if !devices.interfaces.is_empty() {
                    indexes.interfaces.entry(0).or_insert(order);
                }
                continue;
            }
        };
        if let Some(at) = found {
            indexes.disks.entry(at).or_insert(order);
        }
    }
    indexes
}

impl Builder<'_> {
    /// Sleep states, and that QEMU stays when the guest powers off: the daemon says what happens then.
    pub(super) fn power(&mut self) {
        self.flag("-no-shutdown");
        let Some(pm) = &self.domain.pm else { return };
        let device = self.family.power_management();
        for (state, enabled) in [("s3", pm.suspend_to_mem), ("s4", pm.suspend_to_disk)] {
            if let Some(enabled) = enabled {
                let disabled = u8::from(enabled == YesNo::No);
                self.option("-global", format!("{device}.disable_{state}={disabled}"));
            }
        }
    }

    pub(super) fn boot(&mut self) {
        let os = &self.domain.os;
        let menu = os.boot_menu.as_ref();
        let shown = menu.and_then(|menu| menu.enable);
        let splash_ms = menu.and_then(|menu| menu.timeout_ms).filter(|_| shown == Some(YesNo::Yes));
        let retry_ms = os.bios.as_ref().and_then(|bios| bios.reboot_timeout_ms);
        let option = KeyValue::new("")
            .with_some("menu", shown.map(|shown| on_off(shown.is_yes())))
            .with_some("splash-time", splash_ms)
            .with_some("reboot-timeout", retry_ms)
            .switch("strict", true);
        self.option("-boot", option);
        for (option, value) in [("-kernel", &os.kernel), ("-initrd", &os.initrd), ("-append", &os.cmdline)] {
            if let Some(value) = value {
                self.option(option, value);
            }
        }
    }
}
