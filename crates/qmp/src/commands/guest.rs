//! What touches the guest or its display: balloon, passwords, announcements, and the human monitor.

use crate::Nothing;
use serde::{Deserialize, Serialize};
use std::fmt;

plain_commands! {
    /// How much memory the balloon leaves the guest. Refused without a balloon device.
    QueryBalloon = "query-balloon" -> BalloonInfo;
    /// Memory that is plugged in.
    QueryMemoryDevices = "query-memory-devices" -> Vec<MemoryDeviceInfo>;
}

/// One memory device, as far as all kinds have it in common.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MemoryDeviceInfo {
    /// What kind it is: `dimm`, `nvdimm`, `virtio-mem`, `virtio-pmem`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The rest.
    pub data: MemoryDeviceData,
}

/// What is known of a memory device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MemoryDeviceData {
    /// Its id.
    pub id: Option<String>,
    /// Where it begins in the guest's address space: `addr` of a module, `memaddr` of a virtio device.
    #[serde(alias = "memaddr", default)]
    pub addr: u64,
    /// Bytes that the guest has of it.
    #[serde(default)]
    pub size: u64,
}

/// How much memory the balloon leaves the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct BalloonInfo {
    /// Bytes.
    pub actual: u64,
}

/// `balloon`: asks the guest to give memory back, or gives it more. The guest may take its time or refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Balloon {
    /// Bytes that the guest shall have; not 0.
    pub value: u64,
}
command! { Balloon = "balloon" -> Nothing }

lenient_enum! {
    /// Which display server.
    pub enum DisplayProtocol { Vnc = "vnc", Spice = "spice", }
}

/// `set_password`. Debug output leaves the password out.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct SetPassword {
    /// Of which server.
    pub protocol: DisplayProtocol,
    /// The password; VNC uses its first eight characters.
    pub password: String,
    /// What becomes of clients that are connected: `keep`, `fail`, `disconnect`; VNC has `keep` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<String>,
}
command! { SetPassword = "set_password" -> Nothing }

impl fmt::Debug for SetPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetPassword")
            .field("protocol", &self.protocol)
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

/// `expire_password`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpirePassword {
    /// Of which server.
    pub protocol: DisplayProtocol,
    /// `now`, `never`, `+SECONDS` from now, or `SECONDS` since 1970.
    pub time: String,
}
command! { ExpirePassword = "expire_password" -> Nothing }

/// `announce-self`: has the guest's NICs tell the network where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnnounceSelf {
    /// Milliseconds before the first, 1 to 100,000.
    pub initial: u32,
    /// Milliseconds between two, at most; 1 to 100,000.
    pub max: u32,
    /// How many, 1 to 1000.
    pub rounds: u32,
    /// Milliseconds by which the pause grows, 0 to 10,000.
    pub step: u32,
    /// NICs to announce; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<String>>,
}
command! { AnnounceSelf = "announce-self" -> Nothing }

/// `human-monitor-command`: a command of the human monitor; the answer is its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HumanMonitorCommand {
    /// The line as typed.
    pub command_line: String,
}
command! { HumanMonitorCommand = "human-monitor-command" -> String }
