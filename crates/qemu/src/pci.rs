//! The PCI buses of one machine: which slots are taken, which are free, and when a bus must be added.
//!
//! [`mod@crate::complete`] plans on a [`Buses`] that may grow, then assigns on one that may not. The rules are
//! stock's, because an address is part of the guest ABI: first free slot of the first bus that takes the
//! device, root ports packed eight to a slot, a bridge where a conventional device meets a PCIe machine.
//! This file knows buses and what plugs into them; it knows no domain and no device by name.

use ferry_domxml::address::PciAddress;
use ferry_domxml::controller::PciModel;

/// What a device needs of a bus, or what a bus takes: a set of connection kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect(u16);

impl Connect {
    /// Needs no PCI slot.
    pub const NONE: Self = Self(0);
    /// A conventional PCI device.
    pub const PCI_DEVICE: Self = Self(1 << 0);
    /// A PCI Express device.
    pub const PCIE_DEVICE: Self = Self(1 << 1);
    /// `pcie-root-port`.
    pub const ROOT_PORT: Self = Self(1 << 2);
    /// `pcie-switch-upstream-port`.
    pub const SWITCH_UPSTREAM: Self = Self(1 << 3);
    /// `pcie-switch-downstream-port`.
    pub const SWITCH_DOWNSTREAM: Self = Self(1 << 4);
    /// `dmi-to-pci-bridge`.
    pub const DMI_TO_PCI: Self = Self(1 << 5);
    /// `pci-bridge`.
    pub const PCI_BRIDGE: Self = Self(1 << 6);
    /// `pcie-to-pci-bridge`.
    pub const PCIE_TO_PCI: Self = Self(1 << 7);
    /// Expander buses, which sit on a root bus only.
    pub const EXPANDER: Self = Self(1 << 8);
    /// Wants (device) or offers (bus) hot plug.
    pub const HOTPLUG: Self = Self(1 << 9);
    /// Shares a slot with its like: root ports, USB companions.
    pub const AGGREGATE: Self = Self(1 << 10);
    /// Sits on the root bus and nowhere else.
    pub const INTEGRATED: Self = Self(1 << 11);

    const KINDS: u16 = (1 << 9) - 1;
    const ENDPOINTS: u16 = Self::PCI_DEVICE.0 | Self::PCIE_DEVICE.0;

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any kind or wish of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn kinds(self) -> u16 {
        self.0 & Self::KINDS
    }
}

/// What a bus takes, and its first and last slot.
const fn takes(model: PciModel) -> (Connect, u32, u32) {
    let conventional = Connect::PCI_DEVICE.and(Connect::PCI_BRIDGE);
    let port =
        Connect::HOTPLUG.and(Connect::PCIE_DEVICE).and(Connect::SWITCH_UPSTREAM).and(Connect::PCIE_TO_PCI);
    let express_root = Connect::PCIE_DEVICE.and(Connect::ROOT_PORT).and(Connect::DMI_TO_PCI);
    match model {
        PciModel::PciRoot => (conventional.and(Connect::HOTPLUG).and(Connect::EXPANDER), 1, 31),
        PciModel::PciBridge | PciModel::PcieToPciBridge => (conventional.and(Connect::HOTPLUG), 1, 31),
        PciModel::PciExpanderBus => (conventional.and(Connect::HOTPLUG), 0, 31),
        PciModel::DmiToPciBridge => (conventional, 0, 31),
        PciModel::PcieRoot => (express_root.and(Connect::EXPANDER).and(Connect::INTEGRATED), 1, 31),
        PciModel::PcieExpanderBus => (Connect::ROOT_PORT.and(Connect::DMI_TO_PCI), 0, 31),
        PciModel::PcieRootPort | PciModel::PcieSwitchDownstreamPort => (port, 0, 0),
        PciModel::PcieSwitchUpstreamPort => (Connect::SWITCH_DOWNSTREAM, 0, 31),
    }
}

/// What a PCI controller itself needs of the bus that it sits on.
#[must_use]
pub const fn needs_of(model: PciModel) -> Connect {
    match model {
        PciModel::PciRoot | PciModel::PcieRoot => Connect::NONE,
        PciModel::PciBridge => Connect::PCI_BRIDGE.and(Connect::PCI_DEVICE),
        PciModel::PcieRootPort => Connect::ROOT_PORT.and(Connect::AGGREGATE),
        PciModel::PcieToPciBridge => Connect::PCIE_TO_PCI,
        PciModel::DmiToPciBridge => Connect::DMI_TO_PCI,
        PciModel::PcieSwitchUpstreamPort => Connect::SWITCH_UPSTREAM,
        PciModel::PcieSwitchDownstreamPort => Connect::SWITCH_DOWNSTREAM,
        PciModel::PciExpanderBus | PciModel::PcieExpanderBus => Connect::EXPANDER,
    }
}

/// Why a device has no place. The texts are stock's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PciError {
    /// Two devices name the same place.
    #[error("XML error: Attempted double use of PCI Address {0}")]
    Taken(PciAddress),
    /// The slot does not exist on that bus.
    #[error("XML error: Invalid PCI address {place}. slot must be {}", slot_bound(*.first, *.last, .place.slot))]
    Slot {
        /// The place asked for.
        place: PciAddress,
        /// First slot of the bus.
        first: u32,
        /// Last slot of the bus.
        last: u32,
    },
    /// An x86 machine has one PCI domain.
    #[error("XML error: Invalid PCI address {0}. Only PCI domain 0 is available")]
    Domain(PciAddress),
    /// The function number is above 7.
    #[error("XML error: Invalid PCI address {0}. function must be <= 7")]
    Function(PciAddress),
    /// The bus does not exist and cannot be made.
    #[error("XML error: Invalid PCI address {0}. bus must be <= {1}")]
    Bus(PciAddress, u32),
    /// The bus does not take this kind of device.
    #[error(
        "XML error: The device at PCI address {place} cannot be plugged into the PCI controller with index='{}'. It requires a controller that accepts a {wanted}.",
        .place.bus
    )]
    Unfit {
        /// The place asked for.
        place: PciAddress,
        /// The kind of device, in the word of the XML.
        wanted: &'static str,
    },
    /// Every slot that would do is taken, and no bus can be added.
    #[error("internal error: No more available PCI slots")]
    Full,
}

fn slot_bound(first: u32, last: u32, slot: u32) -> String {
    if slot > last { format!("<= {last}") } else { format!(">= {first}") }
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// One bit a function.
    functions: u8,
    aggregate: bool,
}

#[derive(Debug, Clone)]
struct Bus {
    model: Option<PciModel>,
    slots: [Slot; 32],
}

impl Bus {
    fn new(model: Option<PciModel>) -> Self {
        Self { model, slots: [Slot::default(); 32] }
    }

    /// A bus whose index no controller has takes nothing.
    fn takes(&self) -> (Connect, u32, u32) {
        self.model.map_or((Connect::NONE, 1, 0), takes)
    }

    fn free(&self, needs: Connect, function: u32) -> Option<(u32, u32)> {
        let (_, first, last) = self.takes();
        (first..=last).find_map(|number| {
            let slot = self.slots[number as usize];
            if slot.functions == 0 {
                return Some((number, function));
            }
            if needs.has(Connect::AGGREGATE) && slot.aggregate {
                return (0..8)
                    .find(|function| slot.functions & 1 << function == 0)
                    .map(|free| (number, free));
            }
            None
        })
    }
}

/// The buses of a machine, by the index of their controllers.
#[derive(Debug, Clone)]
pub struct Buses {
    buses: Vec<Bus>,
    grows: bool,
}

/// PCI bus numbers have eight bits.
const BUSES_MAX: u32 = 256;

impl Buses {
    /// The buses of the given controllers: `(index, model)`. With `grows`, a bus is added when a device
    /// finds no place, and an index between two controllers gets one; read the outcome from
    /// [`Buses::models`].
    #[must_use]
    pub fn new(controllers: impl IntoIterator<Item = (u32, PciModel)>, grows: bool) -> Self {
        let mut buses = Vec::new();
        for (index, model) in controllers.into_iter().filter(|(index, _)| *index < BUSES_MAX) {
            let index = index as usize;
            if buses.len() <= index {
                buses.resize(index + 1, Bus::new(None));
            }
            buses[index].model = Some(model);
        }
        if grows {
            let root = buses.first().and_then(|bus| bus.model);
            let filler =
                if root == Some(PciModel::PcieRoot) { PciModel::PcieRootPort } else { PciModel::PciBridge };
            for bus in &mut buses {
                bus.model.get_or_insert(filler);
            }
        }
        Self { buses, grows }
    }

    /// Every bus with its index, those that were added included.
    pub fn models(&self) -> impl Iterator<Item = (u32, PciModel)> {
        (0..).zip(&self.buses).filter_map(|(index, bus)| Some((index, bus.model?)))
    }

    /// One more than the highest index.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.buses.len()).unwrap_or(BUSES_MAX)
    }

    /// Whether nothing sits in the slot.
    #[must_use]
    pub fn slot_is_free(&self, bus: u32, slot: u32) -> bool {
        self.slot(PciAddress::new(bus, slot, 0)).is_none_or(|slot| slot.functions == 0)
    }

    /// Whether more than function 0 of the slot is taken.
    #[must_use]
    pub fn slot_is_shared(&self, place: PciAddress) -> bool {
        self.slot(place).is_some_and(|slot| slot.functions > 1)
    }

    /// Whether no slot of any bus is left.
    #[must_use]
    pub fn are_full(&self) -> bool {
        self.buses.iter().all(|bus| {
            let (_, first, last) = bus.takes();
            (first..=last).all(|slot| bus.slots[slot as usize].functions != 0)
        })
    }

    fn slot(&self, place: PciAddress) -> Option<&Slot> {
        self.buses.get(place.bus as usize)?.slots.get(place.slot as usize)
    }

    /// Takes a place without asking what the bus is for: the chipset's own devices.
    pub fn occupy(&mut self, place: PciAddress) {
        let slot =
            self.buses.get_mut(place.bus as usize).and_then(|bus| bus.slots.get_mut(place.slot as usize));
        if let Some(slot) = slot {
            slot.functions |= 1 << (place.function & 7);
        }
    }

    /// Takes the place that the definition names.
    ///
    /// A definition may put a conventional device on a PCIe bus and the other way round; QEMU takes both.
    ///
    /// # Errors
    /// The place does not exist, is taken, or belongs to a bus for something else.
    pub fn reserve(&mut self, place: PciAddress, needs: Connect) -> Result<(), PciError> {
        if place.domain != 0 {
            return Err(PciError::Domain(place));
        }
        if place.function > 7 {
            return Err(PciError::Function(place));
        }
        self.grow_to(place, needs)?;
        let count = self.count();
        let Some(bus) = self.buses.get_mut(place.bus as usize) else {
            return Err(PciError::Bus(place, count.saturating_sub(1)));
        };
        let (takes, first, last) = bus.takes();
        let endpoint = |set: Connect| set.0 & Connect::ENDPOINTS != 0;
        let fits = takes.kinds() & needs.kinds() != 0 || endpoint(takes) && endpoint(needs);
        if !fits {
            return Err(PciError::Unfit { place, wanted: wanted(needs) });
        }
        if !(first..=last).contains(&place.slot) {
            return Err(PciError::Slot { place, first, last });
        }
        let slot = &mut bus.slots[place.slot as usize];
        if slot.functions & 1 << place.function != 0 {
            return Err(PciError::Taken(place));
        }
        if slot.functions == 0 {
            slot.aggregate = needs.has(Connect::AGGREGATE);
        } else if !needs.has(Connect::AGGREGATE) {
            slot.aggregate = false;
        }
        slot.functions |= 1 << place.function;
        Ok(())
    }

    /// Takes the first free place for a device, at `function` of a free slot.
    ///
    /// # Errors
    /// [`PciError::Full`] when there is none and the machine cannot grow.
    pub fn next(&mut self, needs: Connect, function: u32) -> Result<PciAddress, PciError> {
        for index in 0..self.count() {
            let bus = &self.buses[index as usize];
            let (takes, ..) = bus.takes();
            let missing = |wish: Connect| needs.has(wish) && !takes.has(wish);
            if takes.kinds() & needs.kinds() == 0 || missing(Connect::HOTPLUG) || missing(Connect::INTEGRATED)
            {
                continue;
            }
            if let Some((slot, function)) = bus.free(needs, function) {
                return self.take(PciAddress::new(index, slot, function), needs);
            }
        }
        if !self.grows {
            return Err(PciError::Full);
        }
        self.grow(needs)?;
        let index = self.count().saturating_sub(1);
        let (slot, function) = self.buses[index as usize].free(needs, function).ok_or(PciError::Full)?;
        self.take(PciAddress::new(index, slot, function), needs)
    }

    fn take(&mut self, place: PciAddress, needs: Connect) -> Result<PciAddress, PciError> {
        self.reserve(place, needs)?;
        Ok(place)
    }

    /// Adds what it takes for one more device of this kind.
    fn grow(&mut self, needs: Connect) -> Result<(), PciError> {
        let has_pcie_root = self.buses.first().is_some_and(|bus| bus.model == Some(PciModel::PcieRoot));
        if needs.has(Connect::PCI_DEVICE.and(Connect::PCI_BRIDGE)) {
            let has_conventional = self.buses.iter().any(|bus| bus.takes().0.has(Connect::PCI_BRIDGE));
            if has_conventional {
                return self.push(PciModel::PciBridge);
            }
            // The bridge comes with a port of its own.
            self.push(PciModel::PcieRootPort)?;
            self.occupy(PciAddress::new(self.count() - 1, 0, 0));
            return self.push(PciModel::PcieToPciBridge);
        }
        let ported = Connect::PCIE_DEVICE.and(Connect::SWITCH_UPSTREAM).and(Connect::PCIE_TO_PCI);
        if needs.has(ported) && has_pcie_root && !needs.has(Connect::INTEGRATED) {
            return self.push(PciModel::PcieRootPort);
        }
        Err(PciError::Full)
    }

    /// Adds buses until the one that an address names exists.
    fn grow_to(&mut self, place: PciAddress, needs: Connect) -> Result<(), PciError> {
        while self.grows && self.count() <= place.bus {
            if place.bus >= BUSES_MAX || self.buses.is_empty() {
                return Err(PciError::Bus(place, BUSES_MAX - 1));
            }
            self.grow(needs).map_err(|_| PciError::Bus(place, self.count() - 1))?;
        }
        Ok(())
    }

    fn push(&mut self, model: PciModel) -> Result<(), PciError> {
        if self.count() >= BUSES_MAX {
            return Err(PciError::Full);
        }
        self.buses.push(Bus::new(Some(model)));
        Ok(())
    }
}

fn wanted(needs: Connect) -> &'static str {
    const WORDS: [(Connect, &str); 9] = [
        (Connect::PCI_DEVICE, "standard PCI device"),
        (Connect::PCIE_DEVICE, "PCI Express device"),
        (Connect::ROOT_PORT, "pcie-root-port"),
        (Connect::SWITCH_UPSTREAM, "pcie-switch-upstream-port"),
        (Connect::SWITCH_DOWNSTREAM, "pcie-switch-downstream-port"),
        (Connect::DMI_TO_PCI, "dmi-to-pci-bridge"),
        (Connect::PCI_BRIDGE, "pci-bridge"),
        (Connect::PCIE_TO_PCI, "pcie-to-pci-bridge"),
        (Connect::EXPANDER, "pci-expander-bus"),
    ];
    WORDS.into_iter().find(|(kind, _)| needs.has(*kind)).map_or("device", |(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVENTIONAL: Connect = Connect::PCI_DEVICE.and(Connect::HOTPLUG);
    const EXPRESS: Connect = Connect::PCIE_DEVICE.and(Connect::HOTPLUG);

    fn grown(root: PciModel) -> Buses {
        Buses::new([(0, root)], true)
    }

    fn names(buses: &Buses) -> Vec<&'static str> {
        buses.models().map(|(_, model)| model.as_str()).collect()
    }

    #[test]
    fn root_ports_share_a_slot_until_it_is_full() {
        let mut buses = Buses::new([(0, PciModel::PcieRoot)], false);
        buses.reserve(PciAddress::new(0, 1, 0), Connect::PCI_DEVICE).unwrap();
        let ports: Vec<_> =
            (0..9).map(|_| buses.next(needs_of(PciModel::PcieRootPort), 0).unwrap()).collect();
        assert_eq!(ports[0], PciAddress::new(0, 2, 0));
        assert_eq!(ports[7], PciAddress::new(0, 2, 7));
        assert_eq!(ports[8], PciAddress::new(0, 3, 0));
        assert!(buses.slot_is_shared(ports[0]) && !buses.slot_is_shared(ports[8]));
    }

    #[test]
    fn a_hotpluggable_express_device_brings_its_port() {
        let mut buses = grown(PciModel::PcieRoot);
        assert_eq!(buses.next(EXPRESS, 0), Ok(PciAddress::new(1, 0, 0)));
        assert_eq!(buses.next(EXPRESS, 0), Ok(PciAddress::new(2, 0, 0)));
        assert_eq!(names(&buses), ["pcie-root", "pcie-root-port", "pcie-root-port"]);
    }

    #[test]
    fn a_conventional_device_brings_a_bridge_and_the_bridges_port() {
        let mut buses = grown(PciModel::PcieRoot);
        assert_eq!(buses.next(CONVENTIONAL, 0), Ok(PciAddress::new(2, 1, 0)));
        assert_eq!(buses.next(EXPRESS, 0), Ok(PciAddress::new(3, 0, 0)), "the bridge's port is taken");
        assert_eq!(buses.next(CONVENTIONAL, 0), Ok(PciAddress::new(2, 2, 0)));
        assert_eq!(names(&buses), ["pcie-root", "pcie-root-port", "pcie-to-pci-bridge", "pcie-root-port"]);
    }

    #[test]
    fn a_full_conventional_bus_brings_a_bridge() {
        let mut buses = grown(PciModel::PciRoot);
        let last = (0..32).map(|_| buses.next(CONVENTIONAL, 0).unwrap()).last();
        assert_eq!(last, Some(PciAddress::new(1, 1, 0)));
        assert_eq!(names(&buses), ["pci-root", "pci-bridge"]);
    }

    #[test]
    fn an_address_brings_the_buses_below_it() {
        let mut buses = grown(PciModel::PciRoot);
        buses.reserve(PciAddress::new(3, 4, 0), CONVENTIONAL).unwrap();
        assert_eq!(names(&buses), ["pci-root", "pci-bridge", "pci-bridge", "pci-bridge"]);
        let far = PciAddress::new(300, 0, 0);
        assert_eq!(buses.reserve(far, CONVENTIONAL), Err(PciError::Bus(far, 255)));
    }

    #[test]
    fn a_place_is_given_once() {
        let mut buses = Buses::new([(0, PciModel::PciRoot)], false);
        let place = PciAddress::new(0, 1, 0);
        buses.reserve(place, CONVENTIONAL).unwrap();
        let error = buses.reserve(place, CONVENTIONAL).unwrap_err();
        assert_eq!(error.to_string(), "XML error: Attempted double use of PCI Address 0000:00:01.0");
        assert_eq!(buses.next(CONVENTIONAL, 0), Ok(PciAddress::new(0, 2, 0)));
    }

    #[test]
    fn slots_outside_the_bus_are_refused() {
        let mut buses = Buses::new([(0, PciModel::PcieRoot), (1, PciModel::PcieRootPort)], false);
        let error = buses.reserve(PciAddress::new(1, 1, 0), EXPRESS).unwrap_err();
        assert_eq!(error.to_string(), "XML error: Invalid PCI address 0000:01:01.0. slot must be <= 0");
        let error = buses.reserve(PciAddress::new(2, 1, 0), EXPRESS).unwrap_err();
        assert_eq!(error, PciError::Bus(PciAddress::new(2, 1, 0), 1));
        let error = buses.reserve(PciAddress::new(1, 0, 0), needs_of(PciModel::PcieRootPort)).unwrap_err();
        assert_eq!(error, PciError::Unfit { place: PciAddress::new(1, 0, 0), wanted: "pcie-root-port" });
    }

    #[test]
    fn a_machine_that_may_not_grow_says_that_it_is_full() {
        let mut buses = Buses::new([(0, PciModel::PcieRoot)], false);
        assert_eq!(buses.next(EXPRESS, 0), Err(PciError::Full));
    }
}
