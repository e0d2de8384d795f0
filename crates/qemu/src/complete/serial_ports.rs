//! Ports of virtio-serial controllers. Port 0 is kept for a console; channels count from 1.

use std::collections::BTreeSet;

use ferry_domxml::Domain;
use ferry_domxml::address::{Address, VirtioSerialAddress};
use ferry_domxml::chardev::{Channel, ChannelTargetType};
use ferry_domxml::controller::{Controller, ControllerKind, ControllerType};

use super::{CompleteError, controllers};

/// Ports of a controller that names no number.
const PORTS: u32 = 31;

/// Why a channel has no port. The texts are stock's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VirtioSerialError {
    /// Two channels name one port.
    #[error("XML error: virtio serial port {port} on controller {controller} is already occupied")]
    Taken {
        /// Index of the controller.
        controller: u32,
        /// Number of the port.
        port: u32,
    },
    /// The controller has fewer ports.
    #[error("XML error: virtio serial controller {controller} does not have port {port}")]
    NoPort {
        /// Index of the controller.
        controller: u32,
        /// Number of the port.
        port: u32,
    },
}

/// Gives every channel a port, adding a controller when the others are full.
pub(super) fn assign(domain: &mut Domain) -> Result<(), CompleteError> {
    let mut taken: BTreeSet<(u32, u32)> = BTreeSet::new();
    let consoles = domain.devices.consoles.iter().filter_map(|console| port_of(&console.info.address));
    let channels = domain.devices.channels.iter().filter_map(|channel| port_of(&channel.info.address));
    for (controller, port) in consoles.chain(channels).filter(|(_, port)| *port != 0) {
        if port >= ports(domain, controller) {
            return Err(VirtioSerialError::NoPort { controller, port }.into());
        }
        if !taken.insert((controller, port)) {
            return Err(VirtioSerialError::Taken { controller, port }.into());
        }
    }

    for at in 0..domain.devices.channels.len() {
        let channel = &domain.devices.channels[at];
        if channel.target.kind != ChannelTargetType::Virtio {
            continue;
        }
        let (controller, port) = match port_of(&channel.info.address) {
            Some((_, port)) if port != 0 => continue,
            wanted => free_port(domain, wanted.map(|(controller, _)| controller), &taken),
        };
        controllers::ensure(domain, ControllerKind::VirtioSerial(None), controller)?;
        taken.insert((controller, port));
        set(&mut domain.devices.channels[at], controller, port);
    }
    Ok(())
}

fn set(channel: &mut Channel, controller: u32, port: u32) {
    channel.info.address = Some(Address::VirtioSerial(VirtioSerialAddress { controller, bus: 0, port }));
}

fn port_of(address: &Option<Address>) -> Option<(u32, u32)> {
    match address {
        Some(Address::VirtioSerial(serial)) => Some((serial.controller, serial.port)),
        _ => None,
    }
}

/// The lowest free port of the wanted controller, else of any, else of a new one.
fn free_port(domain: &Domain, wanted: Option<u32>, taken: &BTreeSet<(u32, u32)>) -> (u32, u32) {
    let controllers = domain.devices.controllers.iter().filter(|controller| is_virtio_serial(controller));
    let all: BTreeSet<u32> = controllers.filter_map(|controller| controller.index).collect();
    let free = |controller: u32| {
        let port = (1..ports(domain, controller)).find(|port| !taken.contains(&(controller, *port)));
        port.map(|port| (controller, port))
    };
    let next = all.last().map_or(0, |last| last.saturating_add(1));
    wanted.into_iter().chain(all).find_map(free).unwrap_or((next, 1))
}

fn ports(domain: &Domain, index: u32) -> u32 {
    let kind = ControllerType::VirtioSerial;
    let controller =
        domain.devices.controllers.iter().find(|controller| controllers::is(controller, kind, index));
    controller.and_then(|controller| controller.ports).unwrap_or(PORTS)
}

fn is_virtio_serial(controller: &Controller) -> bool {
    controller.kind.controller_type() == ControllerType::VirtioSerial
}
