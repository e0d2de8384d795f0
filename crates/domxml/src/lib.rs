//! Domain XML: typed model, a round trip that loses nothing, refusal of what is not supported, guest-ABI
//! comparison.
//!
//! `ferryd` parses what clients and peers send, `qemu` completes and turns it into a command line, `migration`
//! compares the two ends. This crate knows the language only: no host, no QEMU, no file, no clock.
//!
//! One module per family of elements; [`model`] is the small language in which they are declared.

pub mod address;
pub mod chardev;
pub mod clock;
pub mod controller;
pub mod cpu;
pub mod devices;
pub mod disk;
pub mod display;
mod domain;
mod element;
mod error;
pub mod features;
pub mod input_device;
pub mod interface;
pub mod memory;
pub mod metadata;
pub mod misc;
pub mod model;
pub mod os;
pub mod storage;

pub use devices::Devices;
pub use domain::{Domain, DomainKind, FormatOptions, OnCrash, OnEvent};
pub use element::{Element, Node};
pub use error::{NameError, ParseError, WireCode};
pub use model::{Mac, OnOff, Rest, YesNo};
pub use uuid::Uuid;
