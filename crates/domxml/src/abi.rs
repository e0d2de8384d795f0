//! Guest ABI: what a guest can notice, compared between the definition that runs and one that is to take over.
//!
//! The source calls it when a migration brings a definition of its own, the daemon when a saved state does. Both
//! definitions are complete: defaults, devices and addresses are filled in. What only the host notices is free
//! to differ: where a disk's bytes are, what a card is plugged into, what is behind a serial port, where VNC
//! listens, cache modes, placement, what happens on a crash.
//!
//! The texts are stock's where it compares the same thing (observed with 9.0). It lets some things differ that
//! would stop QEMU's stream or change the machine, and we do not: queue sizes, chassis numbers, USB ports.
//!
//! A table of rows per kind of element: what it is called in stock's error text, and how to show its value.

mod devices;
mod machine;

use std::fmt::Display;

use crate::Domain;

/// What differs. On the wire: code 67, `unsupported configuration: …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbiMismatch {
    /// A value.
    #[error("unsupported configuration: Target {what} {target} does not match source {origin}")]
    Value {
        /// What it is a value of.
        what: String,
        /// Its value in the definition that is to take over, quoted where stock quotes it.
        target: String,
        /// Its value in the definition that runs.
        origin: String,
    },
    /// A processor is plugged in on one side only.
    #[error(
        "unsupported configuration: State of vCPU '{number}' differs between source and destination definitions"
    )]
    Vcpu {
        /// The first such processor, from 0.
        number: u32,
    },
    /// One side has a time source more.
    #[error("unsupported configuration: Target domain timers do not match source")]
    Timers,
    /// A feature of the board.
    #[error(
        "unsupported configuration: State of feature '{feature}' differs: source: '{origin}', destination: '{target}'"
    )]
    Feature {
        /// Its name.
        feature: &'static str,
        /// Its state in the definition that is to take over.
        target: String,
        /// Its state in the definition that runs.
        origin: String,
    },
}

/// Compares the definition that runs with the one that is to take over: the first difference that the guest
/// could notice, in the order of the XML.
pub fn check(source: &Domain, target: &Domain) -> Result<(), AbiMismatch> {
    machine::check(source, target)?;
    devices::check(&source.devices, &target.devices)
}

/// One comparison: what it is called, and the value of it in a `T`.
struct Row<T: ?Sized> {
    what: &'static str,
    value: fn(&T) -> String,
}

/// Compares two of a kind, row by row.
fn rows<T: ?Sized>(rows: &[Row<T>], source: &T, target: &T) -> Result<(), AbiMismatch> {
    rows.iter().try_for_each(|row| same(row.what, (row.value)(source), (row.value)(target)))
}

/// Compares two lists: their lengths, then one by one.
fn lists<T>(
    count_what: &str,
    source: &[T],
    target: &[T],
    compare: impl Fn(&T, &T) -> Result<(), AbiMismatch>,
) -> Result<(), AbiMismatch> {
    same(count_what, source.len(), target.len())?;
    source.iter().zip(target).try_for_each(|(source, target)| compare(source, target))
}

fn same<T: PartialEq + Display>(what: &str, source: T, target: T) -> Result<(), AbiMismatch> {
    if source == target {
        return Ok(());
    }
    Err(AbiMismatch::Value { what: what.to_owned(), target: target.to_string(), origin: source.to_string() })
}

/// A value that may be absent, as it is shown.
fn shown<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn quoted(value: impl Display) -> String {
    format!("'{value}'")
}
