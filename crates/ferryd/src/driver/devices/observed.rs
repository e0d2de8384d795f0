//! What the guest and QEMU do with devices unasked: channels that are opened, trays that move; and what a daemon that comes
//! back finds changed.

use std::collections::BTreeSet;

use ferry_domxml::chardev::ChannelState;
use ferry_domxml::{DeviceInfo, Domain};
use ferry_qmp::commands::device::{Chardev, QomList, QomProperty, QueryChardev};
use ferry_qmp::{TrayMove, VserportChange};

use super::super::Driver;
use crate::dispatch::is_agents;
use crate::events::DomainEvent;
use crate::perform::memory;
use crate::perform::monitor::MonitorError;

/// Why the agent came or went: it opened or closed its channel (`VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_*`).
const REASON_CHANNEL: i32 = 2;

impl Driver {
    /// The guest opened or closed a channel.
    pub(in crate::driver) async fn handle_channel(&mut self, change: &VserportChange) {
        let Some(guest) = &self.guest else { return };
        let mut domain = Domain::clone(&guest.domain);
        let channels = &mut domain.devices.channels;
        let Some(channel) =
            channels.iter_mut().find(|channel| channel.info.alias.as_ref() == Some(&change.id))
        else {
            return;
        };
        let state = if change.open { ChannelState::Connected } else { ChannelState::Disconnected };
        if channel.target.state.replace(state) == Some(state) {
            return;
        }
        let agents = is_agents(channel);
        // The store has said why it could not.
        let _ = self.replace_live(domain).await;
        if agents {
            self.emit(DomainEvent::AgentLifecycle { connected: change.open, reason: REASON_CHANNEL });
        }
    }

    /// A tray moved. QEMU takes it along when the guest is migrated, so the definition does not follow it.
    pub(in crate::driver) fn handle_tray(&mut self, moved: &TrayMove) {
        self.emit(DomainEvent::TrayChange { alias: moved.id.clone(), open: moved.tray_open });
    }

    /// Takes over what happened to devices while no daemon watched.
    pub(in crate::driver) async fn adopt_devices(&mut self) {
        let Some(guest) = &self.guest else { return };
        let monitor = guest.monitor.clone();
        let looked = async {
            let chardevs = monitor.execute(&QueryChardev).await?;
            let devices = monitor.execute(&QomList { path: "/machine/peripheral".to_owned() }).await?;
            Ok::<_, MonitorError>((chardevs, devices))
        };
        let (chardevs, devices) = match looked.await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(domain = %self.name, %error, "cannot look at the devices of the guest");
                return;
            }
        };
        let mut domain = Domain::clone(&guest.domain);
        see_channels(&mut domain, &chardevs);
        let gone = forget_gone(&mut domain, &devices);
        if let Err(error) = memory::learn(&monitor, &mut domain).await {
            tracing::warn!(domain = %self.name, %error, "cannot ask for the guest's memory");
        }
        if domain != *guest.domain {
            let _ = self.replace_live(domain).await;
        }
        for alias in gone {
            self.emit(DomainEvent::DeviceRemoved { alias });
        }
    }
}

/// Which channels the guest has open.
pub(in crate::driver) fn see_channels(domain: &mut Domain, chardevs: &[Chardev]) {
    for channel in &mut domain.devices.channels {
        let label = format!("char{}", channel.info.alias.as_deref().unwrap_or_default());
        let open =
            chardevs.iter().find(|chardev| chardev.label == label).is_some_and(|found| found.frontend_open);
        channel.target.state = Some(if open { ChannelState::Connected } else { ChannelState::Disconnected });
    }
}

/// Takes out of a definition the devices that QEMU no longer has: disks, network cards and memory, the only ones that can go.
fn forget_gone(domain: &mut Domain, devices: &[QomProperty]) -> Vec<String> {
    let present: BTreeSet<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    let boot_kib = domain.memory_at_boot_kib();
    let mut gone = Vec::new();
    let mut stays = |info: &DeviceInfo| match &info.alias {
        Some(alias) if !present.contains(alias.as_str()) => {
            gone.push(alias.clone());
            false
        }
        Some(_) | None => true,
    };
    let found = &mut domain.devices;
    found.disks.retain(|disk| stays(&disk.info));
    found.interfaces.retain(|card| stays(&card.info));
    found.memories.retain(|memory| stays(&memory.info));
    domain.memory.kib = boot_kib.saturating_add(domain.devices.memory_kib());
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn domain() -> Domain {
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>\
            <disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>\
            <disk type='file'><source file='/b'/><target dev='vdb' bus='virtio'/><alias name='virtio-disk1'/></disk>\
            <interface type='user'><alias name='net0'/></interface>\
            <channel type='unix'><target type='virtio' name='a'/><alias name='channel0'/></channel>\
            <channel type='unix'><target type='virtio' name='b'/><alias name='channel1'/></channel></devices></domain>";
        Domain::parse(xml).unwrap()
    }

    #[test]
    fn devices_that_went_are_forgotten_and_no_others() {
        let mut domain = domain();
        let devices = json!([
            {"name": "type", "type": "string"}, {"name": "virtio-disk0", "type": "child<virtio-blk-pci>"},
            {"name": "net0", "type": "child<virtio-net-pci>"}
        ]);
        let devices: Vec<QomProperty> = serde_json::from_value(devices).unwrap();
        assert_eq!(forget_gone(&mut domain, &devices), ["virtio-disk1"]);
        assert_eq!((domain.devices.disks.len(), domain.devices.interfaces.len()), (1, 1));
    }

    #[test]
    fn a_channel_is_connected_when_the_guest_has_it_open() {
        let mut domain = domain();
        let chardevs = json!([
            {"label": "charchannel0", "filename": "unix:/x", "frontend-open": true},
            {"label": "charchannel1", "filename": "unix:/y", "frontend-open": false}
        ]);
        see_channels(&mut domain, &serde_json::from_value::<Vec<Chardev>>(chardevs).unwrap());
        let states: Vec<_> = domain.devices.channels.iter().map(|channel| channel.target.state).collect();
        assert_eq!(states, [Some(ChannelState::Connected), Some(ChannelState::Disconnected)]);
    }
}
