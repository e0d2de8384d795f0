//! Ports of USB controllers.
//!
//! Stock makes room with hubs when a bus is full. Hubs are not supported yet, so a full bus is refused here
//! by name instead of giving the guest another topology than stock's.

use std::collections::{BTreeMap, BTreeSet};

use ferry_domxml::Domain;
use ferry_domxml::address::{Address, DeviceInfo, UsbAddress, UsbPort};
use ferry_domxml::chardev::SerialTargetType;
use ferry_domxml::controller::{ControllerKind, UsbModel};
use ferry_domxml::disk::DiskBus;
use ferry_domxml::input_device::InputBus;

use super::CompleteError;

/// Why a device has no port. The first two texts are stock's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsbError {
    /// The definition says that there is no USB.
    #[error("unsupported configuration: Can't add USB {0} device. USB bus is disabled")]
    Disabled(&'static str),
    /// No controller has that index.
    #[error("XML error: Missing USB bus {0}")]
    NoBus(u32),
    /// Two devices name one port.
    #[error("XML error: Duplicate USB address bus {bus} port {port}")]
    Taken {
        /// Index of the controller.
        bus: u32,
        /// The port.
        port: u32,
    },
    /// The controller has fewer ports.
    #[error("XML error: requested USB port {port} not present on USB bus {bus}")]
    NoPort {
        /// Index of the controller.
        bus: u32,
        /// The port.
        port: u32,
    },
    /// A port behind a hub.
    #[error("unsupported configuration: USB port {0} lies behind a hub, and hubs are not supported")]
    Hub(UsbPort),
    /// Every port is taken.
    #[error("unsupported configuration: no free USB port, and hubs are not supported")]
    Full,
}

/// Gives every USB device a port: disks, then inputs, then serial ports.
pub(super) fn assign(domain: &mut Domain) -> Result<(), CompleteError> {
    let mut devices = devices(domain);
    if devices.is_empty() {
        return Ok(());
    }
    let kinds: Vec<&'static str> = devices.iter().map(|(kind, _)| *kind).collect();
    let mut wanted: Vec<Option<UsbAddress>> = Vec::new();
    for (_, info) in &mut devices {
        wanted.push(match &info.address {
            Some(Address::Usb(usb)) => Some(usb.clone()),
            _ => None,
        });
    }
    drop(devices);

    let buses = match buses(domain) {
        Some(buses) => buses,
        None => return Err(UsbError::Disabled(kinds[0]).into()),
    };
    let given = places(&buses, &wanted)?;
    for ((_, info), (bus, port)) in self::devices(domain).into_iter().zip(given) {
        info.address = Some(Address::Usb(UsbAddress { bus, port: Some(UsbPort(vec![port])) }));
    }
    Ok(())
}

/// A place for each wish: those that name a port first.
fn places(buses: &BTreeMap<u32, u32>, wanted: &[Option<UsbAddress>]) -> Result<Vec<(u32, u32)>, UsbError> {
    let mut taken = BTreeSet::new();
    let mut given = vec![None; wanted.len()];
    for (place, usb) in given.iter_mut().zip(wanted) {
        let Some(UsbAddress { bus, port: Some(path) }) = usb else { continue };
        let ports = *buses.get(bus).ok_or(UsbError::NoBus(*bus))?;
        let port = match path.0.as_slice() {
            [port] => *port,
            _ => return Err(UsbError::Hub(path.clone())),
        };
        if port == 0 || port > ports {
            return Err(UsbError::NoPort { bus: *bus, port });
        }
        if !taken.insert((*bus, port)) {
            return Err(UsbError::Taken { bus: *bus, port });
        }
        *place = Some((*bus, port));
    }
    for (place, usb) in given.iter_mut().zip(wanted).filter(|(place, _)| place.is_none()) {
        // A device that names a bus alone stays on it.
        let named = usb.as_ref().map(|usb| usb.bus);
        let candidates = buses.iter().filter(|(bus, _)| named.is_none_or(|named| named == **bus));
        let mut free = candidates.flat_map(|(bus, ports)| (1..=*ports).map(|port| (*bus, port)));
        let found = free.find(|place| !taken.contains(place)).ok_or(UsbError::Full)?;
        taken.insert(found);
        *place = Some(found);
    }
    Ok(given.into_iter().flatten().collect())
}

/// Every device on a USB bus, in the order in which ports are given, with stock's word for it.
fn devices(domain: &mut Domain) -> Vec<(&'static str, &mut DeviceInfo)> {
    let devices = &mut domain.devices;
    let disks = devices.disks.iter_mut().filter(|disk| disk.bus() == DiskBus::Usb);
    let inputs = devices.inputs.iter_mut().filter(|input| input.bus == Some(InputBus::Usb));
    let serials = devices.serials.iter_mut().filter(|serial| {
        serial.target.as_ref().is_some_and(|target| target.kind == Some(SerialTargetType::Usb))
    });
    let disks = disks.map(|disk| ("disk", &mut disk.info));
    let inputs = inputs.map(|input| ("input", &mut input.info));
    disks.chain(inputs).chain(serials.map(|serial| ("serial", &mut serial.info))).collect()
}

/// The ports of each bus. `None`: the definition wants no USB.
fn buses(domain: &Domain) -> Option<BTreeMap<u32, u32>> {
    let mut buses = BTreeMap::new();
    for controller in &domain.devices.controllers {
        let ControllerKind::Usb(Some(model)) = controller.kind else { continue };
        let ports = match model {
            UsbModel::None => return None,
            UsbModel::Piix3Uhci | UsbModel::Piix4Uhci => 2,
            UsbModel::Ehci | UsbModel::Ich9Ehci1 => 6,
            UsbModel::NecXhci | UsbModel::QemuXhci => controller.ports.unwrap_or(4).min(15),
            // Companions serve ports of their master.
            UsbModel::Ich9Uhci1 | UsbModel::Ich9Uhci2 | UsbModel::Ich9Uhci3 => continue,
        };
        buses.insert(controller.index.unwrap_or(0), ports);
    }
    (!buses.is_empty()).then_some(buses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(bus: u32, port: Option<u32>) -> Option<UsbAddress> {
        Some(UsbAddress { bus, port: port.map(|port| UsbPort(vec![port])) })
    }

    #[test]
    fn named_ports_come_first_and_the_rest_fill_up() {
        let buses = BTreeMap::from([(0, 2), (1, 4)]);
        let given = places(&buses, &[None, wish(0, Some(1)), wish(1, None), None]).unwrap();
        assert_eq!(given, [(0, 2), (0, 1), (1, 1), (1, 2)]);
    }

    #[test]
    fn what_cannot_be_placed_is_said() {
        let buses = BTreeMap::from([(0, 2)]);
        assert_eq!(places(&buses, &[None, None, None]), Err(UsbError::Full));
        assert_eq!(places(&buses, &[wish(1, Some(1))]), Err(UsbError::NoBus(1)));
        assert_eq!(places(&buses, &[wish(0, Some(3))]), Err(UsbError::NoPort { bus: 0, port: 3 }));
        let twice = [wish(0, Some(1)), wish(0, Some(1))];
        assert_eq!(places(&buses, &twice), Err(UsbError::Taken { bus: 0, port: 1 }));
        let nested = [Some(UsbAddress { bus: 0, port: Some(UsbPort(vec![1, 2])) })];
        assert_eq!(places(&buses, &nested), Err(UsbError::Hub(UsbPort(vec![1, 2]))));
    }
}
