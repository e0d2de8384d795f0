//! Media of removable drives, and how fast a drive may be.
//!
//! A drive is named by its device's id or object path (`qdev` of [`super::block::BlockDevice`]), a medium by its
//! block node.

use crate::Nothing;
use serde::{Deserialize, Serialize};

/// Commands that take a drive's id and nothing else.
macro_rules! drive_commands {
    ($($(#[$meta:meta])* $name:ident = $wire:literal;)*) => {$(
        #[doc = concat!("`", $wire, "`.")]
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        pub struct $name {
            /// The device's id or object path.
            pub id: String,
        }
        command! { $name = $wire -> Nothing }
    )*};
}

drive_commands! {
    /// Pushes the tray in.
    BlockdevCloseTray = "blockdev-close-tray";
    /// Takes the medium out of an open tray.
    BlockdevRemoveMedium = "blockdev-remove-medium";
}

/// `blockdev-open-tray`. A guest that has locked its tray is asked first, unless forced; the command then fails and the
/// guest may open the tray itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockdevOpenTray {
    /// The device's id or object path.
    pub id: String,
    /// Open it whatever the guest wants.
    pub force: bool,
}
command! { BlockdevOpenTray = "blockdev-open-tray" -> Nothing }

/// `blockdev-insert-medium`: puts a node into an open tray.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevInsertMedium {
    /// The device's id or object path.
    pub id: String,
    /// The medium.
    pub node_name: String,
}
command! { BlockdevInsertMedium = "blockdev-insert-medium" -> Nothing }

/// `block_set_io_throttle`. 0 is without limit; all of a drive's limits are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockSetIoThrottle {
    /// The device's id or object path.
    pub id: String,
    /// Bytes per second, both ways.
    pub bps: u64,
    /// Bytes per second read.
    pub bps_rd: u64,
    /// Bytes per second written.
    pub bps_wr: u64,
    /// Requests per second, both ways.
    pub iops: u64,
    /// Reads per second.
    pub iops_rd: u64,
    /// Writes per second.
    pub iops_wr: u64,
    /// The same in a burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bps_max: Option<u64>,
    /// Bytes per second read in a burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bps_rd_max: Option<u64>,
    /// Bytes per second written in a burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bps_wr_max: Option<u64>,
    /// Requests per second in a burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_max: Option<u64>,
    /// Reads per second in a burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_rd_max: Option<u64>,
    /// Writes per second in a burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_wr_max: Option<u64>,
    /// Seconds that each burst may last, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bps_max_length: Option<u64>,
    /// As above, for reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bps_rd_max_length: Option<u64>,
    /// As above, for writing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bps_wr_max_length: Option<u64>,
    /// As above, for requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_max_length: Option<u64>,
    /// As above, for reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_rd_max_length: Option<u64>,
    /// As above, for writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_wr_max_length: Option<u64>,
    /// Bytes that count as one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_size: Option<u64>,
    /// Drives of one group share their limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}
command! { BlockSetIoThrottle = "block_set_io_throttle" -> Nothing }
