//! Domain XML: typed model, a round trip that loses nothing, refusal of what is not supported, guest-ABI
//! comparison.
//!
//! `ferryd` parses what clients and peers send, `qemu` completes and turns it into a command line, `migration`
//! compares the two ends. This crate knows the language only: no host, no QEMU, no file, no clock.
//!
//! One module per family of elements; [`model`] is the small language in which they are declared.

pub mod abi;
pub mod address;
pub mod chardev;
pub mod clock;
mod consistency;
pub mod controller;
pub mod cpu;
pub mod cpu_tune;
pub mod device;
pub mod devices;
pub mod disk;
pub mod display;
mod domain;
mod element;
mod error;
pub mod features;
pub mod filesystem;
pub mod firmware;
pub mod input_device;
pub mod interface;
pub mod iothreads;
mod live;
pub mod memory;
pub mod memory_backing;
pub mod memory_device;
pub mod metadata;
pub mod misc;
pub mod model;
pub mod network_source;
pub mod numa;
pub mod os;
pub mod passthrough;
pub mod reader;
pub mod redirection;
pub mod secret;
pub mod small_devices;
pub mod sound;
pub mod storage;
mod support;
pub mod sysinfo;
pub mod throttle;
pub mod tpm;
pub mod virtio;
mod writer;

pub use address::*;
pub use chardev::*;
pub use clock::*;
pub use controller::*;
pub use cpu::*;
pub use cpu_tune::*;
pub use device::Device;
pub use devices::Devices;
pub use disk::*;
pub use display::*;
pub use domain::{Domain, DomainKind, FormatOptions, GenId, OnCrash, OnEvent};
pub use element::{Element, Node};
pub use error::{ParseError, WireCode};
pub use features::*;
pub use filesystem::*;
pub use firmware::*;
pub use input_device::*;
pub use interface::*;
pub use iothreads::*;
pub use memory::*;
pub use memory_backing::*;
pub use memory_device::*;
pub use metadata::Metadata;
pub use misc::*;
pub use model::{Mac, OnOff, Rest, Value, YesNo};
pub use network_source::*;
pub use numa::*;
pub use os::*;
pub use passthrough::*;
pub use redirection::*;
pub use secret::*;
pub use small_devices::*;
pub use sound::*;
pub use storage::*;
pub use support::{Unsupported, What};
pub use sysinfo::*;
pub use throttle::*;
pub use tpm::*;
pub use uuid::Uuid;
pub use virtio::*;
