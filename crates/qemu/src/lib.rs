//! What a domain means to QEMU: capabilities, aliases and addresses, command line, block graph.
//!
//! The daemon asks this crate what to ask a QEMU binary ([`probe`]), what that binary can do
//! ([`capabilities`]), and what to start for a domain. Nothing here starts a process, opens a file or a
//! socket, or reads a clock: answers come in as arguments, and commands go out as values.
//!
//! The way of a definition: [`complete()`] once, when it is defined; [`validate()`] there and at every start.
//! At a start its live copy is settled ([`host_model`]), its disks get their chains and node
//! numbers ([`blockgraph`]), its devices their names ([`aliases`]), and [`command_line()`] says it to QEMU.

pub mod capabilities;
pub mod cpu_match;
pub mod domain_caps;
pub mod host_caps;
pub mod probe;
mod tree;

pub mod machine;
pub mod pci;

pub mod complete;
pub mod validate;

pub mod aliases;
pub mod blockgraph;
pub mod firmware;
pub mod host_model;
pub mod qcow2;

pub mod command_line;
pub mod inventory;
pub mod props;

pub use command_line::{CommandLine, CommandLineError, Launch, command_line};
pub use complete::{CompleteError, Origin, complete};
pub use validate::{ValidateError, validate};
