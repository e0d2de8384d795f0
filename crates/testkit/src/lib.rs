//! Real hosts, real guests and real clients for tests: everything that an end-to-end test or a benchmark needs around
//! the daemons. The packages `tests`, `bench` and `xtask` call it; nothing that is shipped does.
//!
//! It refuses to know how a migration works. It starts what an operator would start, from outside, and judges by
//! what the guest itself says on its serial port, never by a daemon's word.
//!
//! | in order of need | |
//! |---|---|
//! | [`cache`], [`packages`], [`programs`] | what is unpacked or built once and shared by all test processes |
//! | [`kernel`], [`initramfs`], [`boot_sector`], [`guest`] | the guests: a Linux one, and one of a single sector |
//! | [`tree`] | processes that cannot be left behind |
//! | [`tools`], [`lab`], [`ferryd`], [`stock`], [`virsh`] | hosts in namespaces, daemons on them, clients against them |
//! | [`uml`] | another kernel, with file systems that the machine does not have |
//! | [`serial`] | what the guests say, and the verdict |
//! | [`qmp`], [`floor`] | two bare QEMUs, for comparison |
//! | [`simulation`] | two hosts that are not real, with faults and a clock |
//!
//! Nothing here sleeps and hopes: every wait has a condition and a deadline ([`deadline`]).

pub mod boot_sector;
pub mod cache;
pub mod command;
pub mod deadline;
pub mod error;
pub mod ferryd;
pub mod floor;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod lab;
pub mod packages;
pub mod programs;
pub mod qmp;
pub mod serial;
pub mod simulation;
pub mod stock;
pub mod tools;
pub mod tree;
pub mod uml;
pub mod virsh;

pub use error::{Error, Result};
