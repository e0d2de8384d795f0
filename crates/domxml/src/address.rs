//! `<address>`, `<alias>` and what else every device carries.

use crate::model::{Child, ChildAttr, Flatten, Input, Model, Output, Refusal, Value, ValueError, element};
use crate::model::{OnOff, YesNo, parse_integer, values};

/// What every device may carry: its name and its place in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// QEMU's id of the device. Given out at start, or by the user when it begins with `ua-`.
    pub alias: Option<String>,
    /// Where the guest sees the device. `None`: not given and not yet assigned, or needs none.
    pub address: Option<Address>,
}

impl DeviceInfo {
    /// The alias, when the user chose it.
    pub fn user_alias(&self) -> Option<&str> {
        self.alias.as_deref().filter(|alias| alias.starts_with("ua-"))
    }

    /// The PCI address, when there is one and it is assigned.
    pub fn pci(&self) -> Option<PciAddress> {
        match self.address {
            Some(Address::Pci(pci)) if pci.is_assigned() => Some(pci),
            _ => None,
        }
    }
}

impl Flatten for DeviceInfo {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(Self { alias: ChildAttr::take(input, "alias", "name")?, address: Child::take(input, "address")? })
    }

    fn put(&self, out: &mut Output) {
        ChildAttr::put(&self.alias, out, "alias", "name");
        Child::put(&self.address, out, "address");
    }
}

/// A device's place in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `type='pci'`
    Pci(PciAddress),
    /// `type='drive'`: a disk on an ide, sata, scsi or fdc controller.
    Drive(DriveAddress),
    /// `type='virtio-serial'`
    VirtioSerial(VirtioSerialAddress),
    /// `type='usb'`
    Usb(UsbAddress),
    /// `type='isa'`
    Isa(IsaAddress),
    /// `type='ccid'`
    Ccid(CcidAddress),
    /// `type='dimm'`
    Dimm(DimmAddress),
}

/// A PCI function. All zero means "PCI, to be assigned".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// 0..=0xffff
    pub domain: u32,
    /// 0..=0xff; the index of the controller that provides the bus.
    pub bus: u32,
    /// 0..=0x1f
    pub slot: u32,
    /// 0..=7
    pub function: u32,
    /// Written on function 0 of a slot whose other functions are in use.
    pub multifunction: Option<OnOff>,
}

impl PciAddress {
    /// The address `domain 0, bus:slot.function`, without `multifunction`.
    pub fn new(bus: u32, slot: u32, function: u32) -> Self {
        Self { domain: 0, bus, slot, function, multifunction: None }
    }

    /// `false` for `<address type='pci'/>`, which only says what kind of address is wanted.
    pub fn is_assigned(self) -> bool {
        (self.domain, self.bus, self.slot, self.function) != (0, 0, 0, 0)
    }
}

impl std::fmt::Display for PciAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}

/// A place on a drive controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DriveAddress {
    /// Index of the controller.
    pub controller: u32,
    /// Channel on it.
    pub bus: u32,
    /// SCSI target.
    pub target: u32,
    /// Unit, or LUN.
    pub unit: u32,
}

/// A port of a virtio-serial controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtioSerialAddress {
    /// Index of the controller.
    pub controller: u32,
    /// Always 0 with QEMU.
    pub bus: u32,
    /// Port number, from 1 (0 is kept for a console). 0 means "to be assigned" for a channel.
    pub port: u32,
}

/// A port of a USB bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UsbAddress {
    /// Index of the USB controller.
    pub bus: u32,
    /// Ports from the root to the device, one number per hub: `1.4`. `None`: to be assigned.
    pub port: Option<UsbPort>,
}

/// A dotted USB port path of one to four numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UsbPort(pub Vec<u32>);

/// An ISA device's resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IsaAddress {
    /// First I/O port.
    pub iobase: Option<u32>,
    /// Interrupt line.
    pub irq: Option<u32>,
}

/// A slot of a smartcard controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CcidAddress {
    /// Index of the controller.
    pub controller: u32,
    /// Slot on it.
    pub slot: u32,
}

/// A memory device's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DimmAddress {
    /// DIMM slot.
    pub slot: u32,
    /// Guest physical address, bytes.
    pub base: Option<u64>,
}

values! {
    /// The `type` of an address.
    pub enum AddressKind {
        /// PCI function
        Pci = "pci",
        /// place on a drive controller
        Drive = "drive",
        /// virtio-serial port
        VirtioSerial = "virtio-serial",
        /// USB port
        Usb = "usb",
        /// ISA resources
        Isa = "isa",
        /// smartcard slot
        Ccid = "ccid",
        /// memory slot
        Dimm = "dimm",
    }
}

impl Address {
    /// Which kind of address it is.
    pub fn kind(&self) -> AddressKind {
        match self {
            Self::Pci(_) => AddressKind::Pci,
            Self::Drive(_) => AddressKind::Drive,
            Self::VirtioSerial(_) => AddressKind::VirtioSerial,
            Self::Usb(_) => AddressKind::Usb,
            Self::Isa(_) => AddressKind::Isa,
            Self::Ccid(_) => AddressKind::Ccid,
            Self::Dimm(_) => AddressKind::Dimm,
        }
    }
}

// An address has no room for kept parts: with anything unknown in it, it stays whole in its parent's rest.
impl Model for Address {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let address = match input.required("type")? {
            AddressKind::Pci => Self::Pci(PciAddress {
                domain: number(input, "domain", 0xffff)?.unwrap_or(0),
                bus: number(input, "bus", 0xff)?.unwrap_or(0),
                slot: number(input, "slot", 0x1f)?.unwrap_or(0),
                function: number(input, "function", 7)?.unwrap_or(0),
                multifunction: input.attribute("multifunction")?,
            }),
            AddressKind::Drive => Self::Drive(DriveAddress {
                controller: input.attribute("controller")?.unwrap_or(0),
                bus: input.attribute("bus")?.unwrap_or(0),
                target: input.attribute("target")?.unwrap_or(0),
                unit: input.attribute("unit")?.unwrap_or(0),
            }),
            AddressKind::VirtioSerial => Self::VirtioSerial(VirtioSerialAddress {
                controller: input.attribute("controller")?.unwrap_or(0),
                bus: input.attribute("bus")?.unwrap_or(0),
                port: input.attribute("port")?.unwrap_or(0),
            }),
            AddressKind::Usb => Self::Usb(UsbAddress {
                bus: input.attribute("bus")?.unwrap_or(0),
                port: input.attribute("port")?,
            }),
            AddressKind::Isa => Self::Isa(IsaAddress {
                iobase: number(input, "iobase", 0xffff)?,
                irq: number(input, "irq", MAX)?,
            }),
            AddressKind::Ccid => Self::Ccid(CcidAddress {
                controller: input.attribute("controller")?.unwrap_or(0),
                slot: input.attribute("slot")?.unwrap_or(0),
            }),
            AddressKind::Dimm => Self::Dimm(DimmAddress {
                slot: input.attribute("slot")?.ok_or_else(|| input.missing("slot"))?,
                base: long(input, "base", u64::MAX)?,
            }),
        };
        input.finish()?;
        Ok(address)
    }

    fn write(&self, out: &mut Output) {
        out.attribute("type", &self.kind());
        match self {
            Self::Pci(pci) if !pci.is_assigned() => out.optional("multifunction", &pci.multifunction),
            Self::Pci(pci) => {
                out.attribute("domain", &format!("0x{:04x}", pci.domain));
                out.attribute("bus", &format!("0x{:02x}", pci.bus));
                out.attribute("slot", &format!("0x{:02x}", pci.slot));
                out.attribute("function", &format!("0x{:x}", pci.function));
                out.optional("multifunction", &pci.multifunction);
            }
            Self::Drive(drive) => {
                out.attribute("controller", &drive.controller);
                out.attribute("bus", &drive.bus);
                out.attribute("target", &drive.target);
                out.attribute("unit", &drive.unit);
            }
            Self::VirtioSerial(serial) => {
                out.attribute("controller", &serial.controller);
                out.attribute("bus", &serial.bus);
                out.attribute("port", &serial.port);
            }
            Self::Usb(usb) => {
                out.attribute("bus", &usb.bus);
                out.optional("port", &usb.port);
            }
            Self::Isa(isa) => {
                out.optional("iobase", &isa.iobase.map(|iobase| format!("0x{iobase:x}")));
                out.optional("irq", &isa.irq.map(|irq| format!("0x{irq:x}")));
            }
            Self::Ccid(ccid) => {
                out.attribute("controller", &ccid.controller);
                out.attribute("slot", &ccid.slot);
            }
            Self::Dimm(dimm) => {
                out.attribute("slot", &dimm.slot);
                out.optional("base", &dimm.base.map(|base| format!("0x{base:x}")));
            }
        }
    }
}

/// As it is shown in errors: `0000:00:1f.2`, `0:0:1`. Without a drive's SCSI target, as stock has it.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex =
            |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |number| format!("0x{number:x}"));
        match self {
            Self::Pci(pci) => pci.fmt(f),
            Self::Drive(drive) => {
                write!(f, "{}:{}:{}", drive.controller, drive.bus, drive.unit)
            }
            Self::VirtioSerial(serial) => write!(f, "{}:{}:{}", serial.controller, serial.bus, serial.port),
            Self::Usb(usb) => match &usb.port {
                Some(port) => write!(f, "{}:{port}", usb.bus),
                None => write!(f, "{}", usb.bus),
            },
            Self::Isa(isa) => {
                write!(f, "{}:{}", hex(isa.iobase.map(u64::from)), hex(isa.irq.map(u64::from)))
            }
            Self::Ccid(ccid) => write!(f, "{}:{}", ccid.controller, ccid.slot),
            Self::Dimm(dimm) => write!(f, "{}:{}", dimm.slot, hex(dimm.base)),
        }
    }
}

impl std::fmt::Display for UsbPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

impl Value for UsbPort {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        match numbers {
            Ok(numbers) if numbers.len() <= 4 => Ok(Self(numbers)),
            _ => Err(ValueError::Invalid),
        }
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

element! {
    /// `<rom>`: the expansion ROM of a PCI device.
    pub struct Rom {
        /// Whether the device has one at all.
        enabled: Option<YesNo> => Attr("enabled"),
        /// Whether the guest sees it in the device's memory.
        bar: Option<OnOff> => Attr("bar"),
        /// Path of an image to use instead.
        file: Option<String> => Attr("file"),
    }
}

const MAX: u64 = u32::MAX as u64;

/// Takes an attribute that may be decimal or hexadecimal and is at most `max`.
fn long(input: &mut Input<'_>, name: &str, max: u64) -> Result<Option<u64>, Refusal> {
    let Some(text) = input.attribute::<String>(name)? else { return Ok(None) };
    match parse_integer(&text) {
        Ok(value) if value <= max => Ok(Some(value)),
        _ => Err(input.invalid_attribute(name, &text)),
    }
}

fn number(input: &mut Input<'_>, name: &str, max: u64) -> Result<Option<u32>, Refusal> {
    Ok(long(input, name, max.min(MAX))?.map(|value| value as u32))
}
