//! Ports of USB controllers and of hubs.
//!
//! A new guest with more devices than ports gets hubs, as many as stock gives it. A device goes to the lowest port of its
//! controller that is free, then to the hubs there, each before the next.

use std::collections::BTreeMap;

use ferry_domxml::Domain;
use ferry_domxml::address::{Address, DeviceInfo, UsbAddress, UsbPort};
use ferry_domxml::chardev::SerialTargetType;
use ferry_domxml::controller::{ControllerKind, UsbModel};
use ferry_domxml::disk::DiskBus;
use ferry_domxml::input_device::InputBus;
use ferry_domxml::redirection::Hub;

use super::{CompleteError, Origin};

/// Why a device has no port. The texts are stock's.
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
        port: UsbPort,
    },
    /// The controller, or the hub, has fewer ports.
    #[error("XML error: requested USB port {port} not present on USB bus {bus}")]
    NoPort {
        /// Index of the controller.
        bus: u32,
        /// The port.
        port: UsbPort,
    },
    /// A port behind a hub that is not there.
    #[error("XML error: there is no hub at port {at} in USB address bus: {bus} port: {port}")]
    NoHub {
        /// Index of the controller.
        bus: u32,
        /// The number on the way that has no hub.
        at: u32,
        /// The port.
        port: UsbPort,
    },
    /// Every port is taken.
    #[error("internal error: No free USB ports")]
    Full,
}

/// Ports of a hub.
const HUB_PORTS: u32 = 8;

/// Hubs in a row, as far as USB allows them.
const HUBS_DEEP: usize = 3;

/// Gives every USB device a port: hubs, disks, inputs, serial ports, what comes over a channel.
pub(super) fn assign(domain: &mut Domain, origin: Origin) -> Result<(), CompleteError> {
    let count = devices(domain).len();
    if count == 0 {
        return Ok(());
    }
    let Some(buses) = buses(domain) else {
        let kind = devices(domain).first().map_or("", |(kind, _)| *kind);
        return Err(UsbError::Disabled(kind).into());
    };
    let hubs = u32::try_from(domain.devices.hubs.len()).unwrap_or(u32::MAX);
    let ports = buses.values().fold(hubs.saturating_mul(HUB_PORTS), |sum, ports| sum.saturating_add(*ports));
    let wanted = u32::try_from(count).unwrap_or(u32::MAX);
    // A hub takes one port and brings eight; stock always leaves one.
    if origin == Origin::Define && wanted > ports {
        let more = (wanted - ports) / (HUB_PORTS - 1) + 1;
        domain.devices.hubs.extend((0..more).map(|_| Hub::default()));
    }
    let hubs = domain.devices.hubs.len();
    let wishes: Vec<Option<UsbAddress>> = devices(domain)
        .into_iter()
        .map(|(_, info)| match &info.address {
            Some(Address::Usb(usb)) => Some(usb.clone()),
            _ => None,
        })
        .collect();
    let given = places(&buses, hubs, &wishes)?;
    for ((_, info), address) in devices(domain).into_iter().zip(given) {
        info.address = Some(Address::Usb(address));
    }
    Ok(())
}

/// What is plugged into a port.
enum Plugged {
    Device,
    Hub(Ports),
}

/// The ports of a controller or a hub.
struct Ports {
    count: u32,
    plugged: BTreeMap<u32, Plugged>,
}

impl Ports {
    fn new(count: u32) -> Self {
        Self { count, plugged: BTreeMap::new() }
    }

    /// Takes a port that is named.
    fn take(&mut self, bus: u32, port: &UsbPort, is_hub: bool) -> Result<(), UsbError> {
        let mut ports = self;
        let Some((last, way)) = port.0.split_last() else { return Err(no_port(bus, port)) };
        for step in way {
            ports = match ports.plugged.get_mut(step) {
                Some(Plugged::Hub(below)) => below,
                _ => return Err(UsbError::NoHub { bus, at: *step, port: port.clone() }),
            };
        }
        if *last == 0 || *last > ports.count {
            return Err(no_port(bus, port));
        }
        let plugged = if is_hub { Plugged::Hub(Ports::new(HUB_PORTS)) } else { Plugged::Device };
        match ports.plugged.insert(*last, plugged) {
            Some(_) => Err(UsbError::Taken { bus, port: port.clone() }),
            None => Ok(()),
        }
    }

    /// The first port that is free, here or behind the hubs.
    fn free(&self, deep: usize) -> Option<Vec<u32>> {
        if let Some(port) = (1..=self.count).find(|port| !self.plugged.contains_key(port)) {
            return Some(vec![port]);
        }
        if deep == 0 {
            return None;
        }
        self.plugged.iter().find_map(|(port, plugged)| match plugged {
            Plugged::Hub(below) => below.free(deep - 1).map(|mut way| {
                way.insert(0, *port);
                way
            }),
            Plugged::Device => None,
        })
    }
}

fn no_port(bus: u32, port: &UsbPort) -> UsbError {
    UsbError::NoPort { bus, port: port.clone() }
}

/// A place for each wish, those that name a port first. The first `hubs` of them are hubs.
fn places(
    buses: &BTreeMap<u32, u32>,
    hubs: usize,
    wishes: &[Option<UsbAddress>],
) -> Result<Vec<UsbAddress>, UsbError> {
    let mut buses: BTreeMap<u32, Ports> =
        buses.iter().map(|(bus, ports)| (*bus, Ports::new(*ports))).collect();
    let mut given: Vec<Option<UsbAddress>> = vec![None; wishes.len()];
    for (at, wish) in wishes.iter().enumerate() {
        let Some(UsbAddress { bus, port: Some(port) }) = wish else { continue };
        buses.get_mut(bus).ok_or(UsbError::NoBus(*bus))?.take(*bus, port, at < hubs)?;
        given[at] = wish.clone();
    }
    for (at, wish) in wishes.iter().enumerate() {
        if given[at].is_some() {
            continue;
        }
        // A device that names a bus alone stays on it.
        let named = wish.as_ref().map(|usb| usb.bus);
        let mut candidates = buses.iter_mut().filter(|(bus, _)| named.is_none_or(|named| named == **bus));
        let found = candidates.find_map(|(bus, ports)| Some((*bus, ports.free(HUBS_DEEP)?, ports)));
        let (bus, way, ports) = found.ok_or(UsbError::Full)?;
        let port = UsbPort(way);
        ports.take(bus, &port, at < hubs)?;
        given[at] = Some(UsbAddress { bus, port: Some(port) });
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
    let hubs = devices.hubs.iter_mut().map(|hub| ("hub", &mut hub.info));
    let disks = disks.map(|disk| ("disk", &mut disk.info));
    let inputs = inputs.map(|input| ("input", &mut input.info));
    let serials = serials.map(|serial| ("serial", &mut serial.info));
    let redirected = devices.redirdevs.iter_mut().map(|redirdev| ("redirdev", &mut redirdev.info));
    hubs.chain(disks).chain(inputs).chain(serials).chain(redirected).collect()
}

/// The ports of each bus. `None`: the definition wants no USB.
fn buses(domain: &Domain) -> Option<BTreeMap<u32, u32>> {
    let mut buses = BTreeMap::new();
    for controller in &domain.devices.controllers {
        let ControllerKind::Usb(Some(model)) = controller.kind else { continue };
        let ports = match model {
            UsbModel::None => return None,
            UsbModel::Piix3Uhci | UsbModel::Piix4Uhci => 2,
            UsbModel::PciOhci => 3,
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

    fn wish(bus: u32, port: &[u32]) -> Option<UsbAddress> {
        let port = (!port.is_empty()).then(|| UsbPort(port.to_vec()));
        Some(UsbAddress { bus, port })
    }

    fn given(
        buses: &[(u32, u32)],
        hubs: usize,
        wishes: &[Option<UsbAddress>],
    ) -> Result<Vec<String>, UsbError> {
        let buses = buses.iter().copied().collect();
        let given = places(&buses, hubs, wishes)?;
        Ok(given.into_iter().map(|usb| Address::Usb(usb).to_string()).collect())
    }

    #[test]
    fn named_ports_come_first_and_the_rest_fill_up() {
        let wishes = [None, wish(0, &[1]), wish(1, &[]), None];
        assert_eq!(given(&[(0, 2), (1, 4)], 0, &wishes).unwrap(), ["0:2", "0:1", "1:1", "1:2"]);
        let behind = [wish(0, &[1]), wish(0, &[1, 1]), wish(0, &[1, 1, 3]), None, None];
        assert_eq!(given(&[(0, 2)], 2, &behind).unwrap(), ["0:1", "0:1.1", "0:1.1.3", "0:2", "0:1.2"]);
    }

    #[test]
    fn what_cannot_be_placed_is_said() {
        let refusal =
            |hubs, wishes: &[Option<UsbAddress>]| given(&[(0, 2)], hubs, wishes).unwrap_err().to_string();
        assert_eq!(refusal(0, &[None, None, None]), "internal error: No free USB ports");
        assert_eq!(refusal(0, &[wish(1, &[1])]), "XML error: Missing USB bus 1");
        assert_eq!(refusal(0, &[wish(0, &[3])]), "XML error: requested USB port 3 not present on USB bus 0");
        assert_eq!(
            refusal(1, &[wish(0, &[1]), wish(0, &[1, 9])]),
            "XML error: requested USB port 1.9 not present on USB bus 0"
        );
        assert_eq!(
            refusal(0, &[wish(0, &[1]), wish(0, &[1])]),
            "XML error: Duplicate USB address bus 0 port 1"
        );
        assert_eq!(
            refusal(0, &[wish(0, &[1, 2])]),
            "XML error: there is no hub at port 1 in USB address bus: 0 port: 1.2"
        );
    }
}
