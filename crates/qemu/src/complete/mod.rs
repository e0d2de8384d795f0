//! What a definition leaves open, filled in as stock does it at define.
//!
//! The daemon completes a definition once, when it is defined, and stores the result: from then on addresses
//! are read, never computed again, because a device that moves is another device to the guest. Completing a
//! completed domain changes nothing, and a device added to one takes a free place.
//!
//! The order matters and is the order of [`complete`]: scalars, then what is added without being asked
//! (`implicit`), then places: drives from their names, virtio-serial ports, USB ports, PCI last, because PCI
//! serves all controllers that the steps before may have added. Randomness and the capabilities of the
//! binary are arguments; the host, files and other domains are out of sight.

mod cells;
mod controllers;
mod defaults;
mod implicit;
mod memory_devices;
mod pci;
mod serial_ports;
mod storage;
mod usb;

use ferry_domxml::Domain;
use ferry_domxml::disk::DiskBus;

use crate::capabilities::Capabilities;
use crate::machine::{Family, MachineError};

pub use crate::pci::PciError;
pub(crate) use controllers::is_ich9;
pub use implicit::mirror_console;
pub use serial_ports::VirtioSerialError;
pub use usb::UsbError;

/// Where a definition comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client defines it: newest machine, spare root port, everything that stock adds to a new guest.
    Define,
    /// It describes a guest that runs elsewhere: nothing that the guest would notice is added.
    Migration,
}

/// Why a definition cannot be completed. The texts are stock's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompleteError {
    /// The machine type is not known.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A disk's name says no place and neither does an address.
    #[error("XML error: Unknown disk name '{0}' and no address specified")]
    DiskName(String),
    /// The chipset has no such bus.
    #[error(
        "unsupported configuration: IDE controllers are unsupported for this QEMU binary or machine type"
    )]
    NoIde,
    /// `pc` has one IDE controller.
    #[error("unsupported configuration: Only a single IDE controller is supported for this machine type")]
    IdeControllers,
    /// Two controllers of one type have one index.
    #[error("XML error: Multiple '{kind}' controllers with index '{index}'")]
    ControllerTwice {
        /// The `type`.
        kind: &'static str,
        /// The index.
        index: u32,
    },
    /// Controller 0 of type pci is not the machine's root.
    #[error(
        "XML error: The PCI controller with index='0' must be model='{wanted}' for this machine type, but model='{found}' was found instead"
    )]
    PciRoot {
        /// The machine's root.
        wanted: &'static str,
        /// What the definition has.
        found: &'static str,
    },
    /// A PCI controller without a model.
    #[error("XML error: controller type='pci' index='{0}' has no model")]
    PciModel(u32),
    /// A chipset device was given another place than the one it has.
    #[error("internal error: {device} must have PCI address {place}")]
    ChipsetPlace {
        /// The device.
        device: &'static str,
        /// Its place, in stock's short form.
        place: &'static str,
    },
    /// A console that is a serial port is not the first one.
    #[error("unsupported configuration: Only the first console can be a serial port")]
    SerialConsole,
    /// The binary has no SCSI controller that could be chosen.
    #[error("unsupported configuration: Unable to determine model for SCSI controller idx={0}")]
    ScsiModel(u32),
    /// An input device on a bus that does not have it.
    #[error("internal error: {bus} bus does not support {kind} input device")]
    InputBus {
        /// The bus.
        bus: &'static str,
        /// The device.
        kind: &'static str,
    },
    /// A bus or controller number that no machine has.
    #[error("XML error: {what} index '{index}' is too large")]
    Index {
        /// What was numbered.
        what: &'static str,
        /// The number.
        index: u32,
    },
    /// Every slot for memory has some.
    #[error("internal error: failed to find an empty memory slot")]
    MemorySlots,
    /// No PCI place.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// No USB port.
    #[error(transparent)]
    Usb(#[from] UsbError),
    /// No virtio-serial port.
    #[error(transparent)]
    VirtioSerial(#[from] VirtioSerialError),
}

/// Fills in what the definition leaves open.
///
/// `random` yields random bytes, for the hardware addresses of network cards.
///
/// # Errors
/// See [`CompleteError`]; the domain is then half done and to be thrown away.
pub fn complete(
    domain: &mut Domain,
    capabilities: &Capabilities,
    origin: Origin,
    random: &mut dyn FnMut() -> u8,
) -> Result<(), CompleteError> {
    let family = defaults::machine(domain, capabilities)?;
    domain.devices.arrange();
    cells::complete(domain, origin);
    memory_devices::complete(domain)?;
    defaults::scalars(domain, capabilities);
    storage::disks(domain)?;
    storage::file_systems(domain);
    defaults::interfaces(domain, capabilities, random);
    defaults::small_devices(domain, random);
    defaults::chardevs(domain)?;
    defaults::inputs(domain)?;
    defaults::display(domain, capabilities, origin);

    if family == Family::Q35 && domain.devices.disks.iter().any(|disk| disk.bus() == DiskBus::Ide) {
        return Err(CompleteError::NoIde);
    }
    controllers::indexes(domain)?;
    controllers::models(domain, family, capabilities)?;
    implicit::devices(domain, family, capabilities, origin)?;
    implicit::controllers_of_devices(domain, capabilities)?;
    serial_ports::assign(domain)?;
    usb::assign(domain, origin)?;
    pci::assign(domain, family, origin)?;
    mirror_console(domain);
    // Controllers that were added stand where the next reading would put them.
    domain.devices.arrange();
    Ok(())
}

/// The highest controller number that is taken at its word; each lower one is created with it.
const CONTROLLERS_MAX: u32 = 255;
