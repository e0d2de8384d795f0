//! What only a running guest has, and how it is left out of the definition.

use crate::address::DeviceInfo;
use crate::chardev::{Backend, ChardevSource, SocketMode};
use crate::display::Graphics;
use crate::interface::Network;
use crate::misc::{WatchdogAction, WatchdogModel};
use crate::storage::{BackingStore, Source};
use crate::{Devices, Domain};

impl Domain {
    /// The definition without what only a running guest has: id, given-out aliases, detected chains, node
    /// indexes, pseudo terminals, chosen ports, tap devices that the daemon named.
    ///
    /// A definition from a client or a peer goes through here before it is kept.
    pub fn inactive(&self) -> Self {
        let mut domain = self.clone();
        domain.id = None;
        domain.devices.forget_live();
        domain
    }
}

impl Devices {
    fn forget_live(&mut self) {
        for info in self.infos_mut() {
            info.alias = info.alias.take().filter(|alias| alias.starts_with("ua-"));
        }
        for disk in &mut self.disks {
            forget_source(&mut disk.source);
            if std::mem::take(&mut disk.backing_detected) {
                disk.backing_store = None;
            }
            forget_detected(&mut disk.backing_store);
        }
        for interface in &mut self.interfaces {
            // The prefix under which the daemon names tap devices; such a name is not the user's.
            interface.target_dev = interface.target_dev.take().filter(|dev| !dev.starts_with("vnet"));
            if let Network::Network { portid, bridge, .. } = &mut interface.source.network {
                (*portid, *bridge) = (None, None);
            }
        }
        self.serials.iter_mut().for_each(|serial| forget_terminal(&mut serial.source));
        for console in &mut self.consoles {
            console.tty = None;
            forget_terminal(&mut console.source);
        }
        for channel in &mut self.channels {
            channel.target.state = None;
            forget_terminal(&mut channel.source);
            forget_own_socket(&mut channel.source, channel.target.name.as_deref());
        }
        self.redirdevs.iter_mut().for_each(|redirdev| forget_terminal(&mut redirdev.source));
        for memory in &mut self.memories {
            memory.target.current = None;
        }
        for graphics in &mut self.graphics {
            match graphics {
                Graphics::Vnc(vnc) => vnc.forget_live(),
            }
        }
    }

    /// Leaves out the watchdog that every q35 guest has. Stock libvirt before 9.1 does not know it, and whoever knows it
    /// adds it to a guest that arrives.
    pub(crate) fn forget_chipset_watchdog(&mut self) {
        let action = self.watchdog_action();
        self.watchdogs.retain(|watchdog| !watchdog.is_implied(action));
    }

    /// What all watchdogs of the guest do, as QEMU has one action for all: what the first one of the user's says.
    pub fn watchdog_action(&self) -> WatchdogAction {
        let own = self.watchdogs.iter().find(|watchdog| watchdog.model != WatchdogModel::Itco);
        own.and_then(|watchdog| watchdog.action).unwrap_or(WatchdogAction::Reset)
    }

    /// Alias and address of every modelled device, in the order of the XML.
    pub fn infos_mut(&mut self) -> Vec<&mut DeviceInfo> {
        let mut infos: Vec<&mut DeviceInfo> = Vec::new();
        infos.extend(self.disks.iter_mut().map(|device| &mut device.info));
        infos.extend(self.controllers.iter_mut().map(|device| &mut device.info));
        infos.extend(self.filesystems.iter_mut().map(|device| &mut device.info));
        infos.extend(self.interfaces.iter_mut().map(|device| &mut device.info));
        infos.extend(self.serials.iter_mut().map(|device| &mut device.info));
        infos.extend(self.consoles.iter_mut().map(|device| &mut device.info));
        infos.extend(self.channels.iter_mut().map(|device| &mut device.info));
        infos.extend(self.inputs.iter_mut().map(|device| &mut device.info));
        infos.extend(self.tpms.iter_mut().map(|device| &mut device.info));
        infos.extend(self.graphics.iter_mut().map(|device| match device {
            Graphics::Vnc(vnc) => &mut vnc.info,
        }));
        infos.extend(self.sounds.iter_mut().map(|device| &mut device.info));
        infos.extend(self.videos.iter_mut().map(|device| &mut device.info));
        infos.extend(self.redirdevs.iter_mut().map(|device| &mut device.info));
        infos.extend(self.hubs.iter_mut().map(|device| &mut device.info));
        infos.extend(self.watchdogs.iter_mut().map(|device| &mut device.info));
        infos.extend(self.memballoon.iter_mut().map(|device| &mut device.info));
        infos.extend(self.rngs.iter_mut().map(|device| &mut device.info));
        infos.extend(self.panics.iter_mut().map(|device| &mut device.info));
        infos.extend(self.memories.iter_mut().map(|device| &mut device.info));
        infos.extend(self.vsock.iter_mut().map(|device| &mut device.info));
        infos.extend(self.pstore.iter_mut().map(|device| &mut device.info));
        infos
    }
}

fn forget_source(source: &mut Source) {
    source.index = None;
    if source.data_store.as_ref().is_some_and(|data_store| data_store.detected) {
        source.data_store = None;
    }
    if let Some(data_store) = &mut source.data_store {
        forget_source(&mut data_store.source);
    }
}

fn forget_detected(backing_store: &mut Option<BackingStore>) {
    match backing_store {
        None | Some(BackingStore::End) => {}
        Some(BackingStore::Image(image)) if image.detected => *backing_store = None,
        Some(BackingStore::Image(image)) => {
            image.index = None;
            forget_source(&mut image.source);
            forget_detected(&mut image.backing_store);
        }
    }
}

fn forget_terminal(source: &mut ChardevSource) {
    if let Backend::Pty(path) = &mut source.backend {
        *path = None;
    }
}

/// Stock's daemon and ours name a channel's socket `…/channel/[target/domain-]ID-NAME/TARGET` when the
/// definition does not; such a path belongs to one run of the guest on one host.
fn forget_own_socket(source: &mut ChardevSource, target: Option<&str>) {
    let Backend::Unix { path: path @ Some(_), mode: SocketMode::Bind } = &mut source.backend else { return };
    let mut parts = path.as_deref().unwrap_or_default().rsplit('/');
    let (file, run, parent) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
    let numbered = |name: &str| name.split_once('-').is_some_and(|(id, _)| id.parse::<u32>().is_ok());
    let own_directory = match parent {
        Some("channel") => numbered(run),
        Some("target") => {
            run.strip_prefix("domain-").is_some_and(numbered) && parts.next() == Some("channel")
        }
        _ => false,
    };
    if file == target && own_directory {
        source.backend = Backend::Unix { path: None, mode: SocketMode::Bind };
    }
}
