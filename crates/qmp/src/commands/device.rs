//! Devices, objects and back ends: add, remove, look at.
//!
//! What a device or object takes depends on its type, so arguments are JSON objects here; the room that knows
//! what a domain means to QEMU fills them.

use crate::Nothing;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Adding commands whose arguments are one JSON object.
macro_rules! add_commands {
    ($($(#[$meta:meta])* $name:ident = $wire:literal;)*) => {$(
        #[doc = concat!("`", $wire, "`.")]
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(transparent)]
        pub struct $name(
            /// The arguments, whole.
            pub Map<String, Value>,
        );
        command! { $name = $wire -> Nothing }
    )*};
}

/// Removing commands that take an id.
macro_rules! del_commands {
    ($($(#[$meta:meta])* $name:ident = $wire:literal;)*) => {$(
        #[doc = concat!("`", $wire, "`.")]
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        pub struct $name {
            /// What to remove.
            pub id: String,
        }
        command! { $name = $wire -> Nothing }
    )*};
}

add_commands! {
    /// With `driver`, `id`, `bus` and the device's properties.
    DeviceAdd = "device_add";
    /// With `type`, `id` and the back end's options.
    NetdevAdd = "netdev_add";
}

del_commands! {
    /// Answers once the guest was asked; [`crate::EventKind::DeviceDeleted`] says that it is gone.
    DeviceDel = "device_del";
    /// Refused while a device uses it.
    ObjectDel = "object-del";
    /// Only after its device is gone.
    NetdevDel = "netdev_del";
    /// Refused while a device uses it.
    ChardevRemove = "chardev-remove";
}

/// `object-add`. Debug output leaves the properties out, because they may be a secret.
#[derive(Clone, PartialEq, Serialize)]
pub struct ObjectAdd {
    /// The object's type: `secret`, `tls-creds-x509`, `memory-backend-ram`, ….
    #[serde(rename = "qom-type")]
    pub qom_type: String,
    /// Its id.
    pub id: String,
    /// Its properties.
    #[serde(flatten)]
    pub properties: Map<String, Value>,
}
command! { ObjectAdd = "object-add" -> Nothing }

impl std::fmt::Debug for ObjectAdd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectAdd")
            .field("qom_type", &self.qom_type)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// `chardev-add`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChardevAdd {
    /// Its id.
    pub id: String,
    /// QAPI's `ChardevBackend`: `{"type": …, "data": {…}}`.
    pub backend: Value,
}
command! { ChardevAdd = "chardev-add" -> ChardevAdded }

/// What came of a new character device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ChardevAdded {
    /// The path of the terminal, of a `pty`.
    pub pty: Option<String>,
}

plain_commands! {
    /// The character devices, with the terminals that were made for them.
    QueryChardev = "query-chardev" -> Vec<Chardev>;
    /// The I/O threads.
    QueryIothreads = "query-iothreads" -> Vec<Iothread>;
}

/// One character device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chardev {
    /// Its id.
    pub label: String,
    /// What it is connected to: `pty:/dev/pts/3`, `unix:/path,server=on`, `disconnected:…`.
    pub filename: String,
    /// The guest's end is open.
    #[serde(default)]
    pub frontend_open: bool,
}

impl Chardev {
    /// The path of the terminal that QEMU made, of a `pty`.
    pub fn pty_path(&self) -> Option<&str> {
        self.filename.strip_prefix("pty:")
    }
}

/// One I/O thread.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Iothread {
    /// Its id.
    pub id: String,
    /// The host thread.
    pub thread_id: i32,
    /// Nanoseconds for which it looks for work before it sleeps, at most.
    #[serde(default)]
    pub poll_max_ns: u64,
    /// By how much that time grows when it was too short; 0 is QEMU's choice.
    #[serde(default)]
    pub poll_grow: u32,
    /// By how much it shrinks when it was too long; 0 is QEMU's choice.
    #[serde(default)]
    pub poll_shrink: u32,
}

/// `qom-get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QomGet {
    /// The object's path, or the part of it that is unambiguous.
    pub path: String,
    /// The property.
    pub property: String,
}
command! { QomGet = "qom-get" -> Value }

/// `qom-set`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QomSet {
    /// The object's path, or the part of it that is unambiguous.
    pub path: String,
    /// The property.
    pub property: String,
    /// Its new value.
    pub value: Value,
}
command! { QomSet = "qom-set" -> Nothing }

/// `qom-list`: the properties of an object that exists, children included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QomList {
    /// The object's path.
    pub path: String,
}
command! { QomList = "qom-list" -> Vec<QomProperty> }

/// A property of an object that exists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QomProperty {
    /// Its name.
    pub name: String,
    /// Its type; `child<TYPE>` for a part of the object.
    #[serde(rename = "type")]
    pub kind: String,
}
