//! One device by itself: what a client wants to plug in, take out, or have changed.

use crate::disk::Disk;
use crate::interface::Interface;
use crate::memory_device::MemoryDevice;
use crate::model::{Refusal, read};
use crate::reader::{read_document, shorten};
use crate::{Element, ParseError};

/// A device that is not in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A drive.
    Disk(Box<Disk>),
    /// A network card.
    Interface(Box<Interface>),
    /// Memory.
    Memory(Box<MemoryDevice>),
    /// A kind of device, by the name of its element, that only a whole definition can bring or take.
    Other(String),
}

/// The elements that are devices in some definition.
const OTHERS: [&str; 26] = [
    "audio",
    "channel",
    "console",
    "controller",
    "crypto",
    "filesystem",
    "graphics",
    "hostdev",
    "hub",
    "input",
    "iommu",
    "lease",
    "memballoon",
    "panic",
    "parallel",
    "pstore",
    "redirdev",
    "rng",
    "serial",
    "shmem",
    "smartcard",
    "sound",
    "tpm",
    "video",
    "vsock",
    "watchdog",
];

impl Device {
    /// Reads one device. Whatever is not modelled in it is kept, for [`crate::Domain::check_supported`] to refuse once the
    /// device is in a domain.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let element = read_document(text)?;
        let unmodelled = || {
            let element = shorten(&element.name);
            ParseError::Unsupported(format!("this form of <{element}> is not supported"))
        };
        match element.name.as_str() {
            "disk" => model(&element, unmodelled).map(|disk| Self::Disk(Box::new(disk))),
            "interface" => model(&element, unmodelled).map(|card| Self::Interface(Box::new(card))),
            "memory" => model(&element, unmodelled).map(|memory| Self::Memory(Box::new(memory))),
            other if OTHERS.contains(&other) => Ok(Self::Other(other.to_owned())),
            other => Err(ParseError::Unsupported(format!("unknown device type '{}'", shorten(other)))),
        }
    }
}

fn model<T: crate::model::Model>(
    element: &Element,
    unmodelled: impl FnOnce() -> ParseError,
) -> Result<T, ParseError> {
    read(element).map_err(|refusal| match refusal {
        Refusal::Invalid(error) => error,
        Refusal::Unmodelled => unmodelled(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Device::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn disks_and_cards_are_read_and_other_devices_are_known_by_name() {
        let Device::Disk(disk) =
            Device::parse("<disk type='file'><source file='/x'/><target dev='vdb'/></disk>").unwrap()
        else {
            panic!("no disk")
        };
        assert_eq!((disk.target.dev.as_str(), disk.source.path()), ("vdb", Some("/x")));
        assert!(matches!(Device::parse("<interface type='user'/>"), Ok(Device::Interface(_))));
        let memory = "<memory model='dimm'><target><size>9</size></target></memory>";
        assert!(matches!(Device::parse(memory), Ok(Device::Memory(_))));
        assert_eq!(Device::parse("<rng model='virtio'/>").unwrap(), Device::Other("rng".to_owned()));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert_eq!(refusal("<foo/>"), "unsupported configuration: unknown device type 'foo'");
        assert_eq!(
            refusal("<interface type='mcast'/>"),
            "unsupported configuration: this form of <interface> is not supported"
        );
        assert!(refusal("<disk").contains("1"));
        assert!(refusal("<disk type='file'><source file='/x'/></disk>").contains("target"));
    }
}
