//! Handing file descriptors to QEMU over the monitor socket.
//!
//! The descriptor itself travels as ancillary data of the command's first byte; see [`crate::Output`].

use crate::Nothing;
use serde::{Deserialize, Serialize};

/// `getfd`: QEMU keeps the descriptor that comes along under this name, in place of an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Getfd {
    /// Its name; must not begin with a digit.
    pub fdname: String,
}
command! { Getfd = "getfd" -> Nothing, carries_fd }

/// `closefd`: lets go of a named descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Closefd {
    /// Its name.
    pub fdname: String,
}
command! { Closefd = "closefd" -> Nothing }

/// `add-fd`: puts the descriptor that comes along into a set, which is opened as `/dev/fdset/N`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddFd {
    /// The set; a new one if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdset_id: Option<u32>,
    /// A text to find it by later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opaque: Option<String>,
}
command! { AddFd = "add-fd" -> AddedFd, carries_fd }

/// Where a descriptor went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddedFd {
    /// Its set.
    pub fdset_id: u32,
    /// Its number in QEMU.
    pub fd: i32,
}

/// `remove-fd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RemoveFd {
    /// The set.
    pub fdset_id: u32,
    /// One descriptor of it; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd: Option<i32>,
}
command! { RemoveFd = "remove-fd" -> Nothing }
