//! What one QEMU binary can do, as its own answers said it.
//!
//! Made by [`crate::probe`], kept by the daemon as JSON beside the binary's identity, read by everything that
//! builds a command line or a migration. It refuses to know how the answers were obtained.

use serde::{Deserialize, Serialize};

/// What one QEMU binary can do. Made by [`crate::probe::Probe`], stored as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capabilities {}
