//! Block nodes and the devices in front of them.

use crate::Nothing;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `query-named-block-nodes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueryNamedBlockNodes {
    /// Leave the backing images inside each node's image out; every node is listed by itself anyway, and a long
    /// chain makes the full answer grow with its square.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flat: Option<bool>,
}
command! { QueryNamedBlockNodes = "query-named-block-nodes" -> Vec<BlockNode> }

/// `block_resize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockResize {
    /// The node: that of the image, not of a filter over it.
    pub node_name: String,
    /// Bytes that the guest is to see.
    pub size: u64,
}
command! { BlockResize = "block_resize" -> Nothing }

/// `block-set-write-threshold`: says once when the guest writes beyond this byte of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockSetWriteThreshold {
    /// The node.
    pub node_name: String,
    /// Bytes; 0 takes the threshold away.
    pub write_threshold: u64,
}
command! { BlockSetWriteThreshold = "block-set-write-threshold" -> Nothing }

/// `query-block-jobs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueryBlockJobs {}
command! { QueryBlockJobs = "query-block-jobs" -> Vec<BlockJob> }

/// A job that works on a block node: copies, commits, mirrors.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BlockJob {
    /// Its name.
    pub device: String,
    /// What it does: `stream`, `commit`, `mirror`, `backup`, ….
    #[serde(rename = "type")]
    pub kind: String,
}

/// One node of the block graph.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BlockNode {
    /// Its name.
    #[serde(rename = "node-name")]
    pub node_name: Option<String>,
    /// Its driver: `file`, `qcow2`, ….
    pub drv: String,
    /// The file, or a `json:` text for what has no file name.
    pub file: String,
    /// It cannot be written.
    pub ro: bool,
    /// It holds locks and may be written; a node is inactive after it was migrated away. Since QEMU 10.0.
    pub active: Option<bool>,
    /// How it caches.
    pub cache: Option<NodeCache>,
    /// What the image says about itself.
    pub image: ImageInfo,
    /// Its dirty bitmaps.
    #[serde(rename = "dirty-bitmaps", default)]
    pub dirty_bitmaps: Vec<DirtyBitmap>,
}

/// How a node caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeCache {
    /// The device is told of a write cache.
    pub writeback: bool,
    /// Around the host's page cache, O_DIRECT.
    pub direct: bool,
    /// Flushes are dropped.
    pub no_flush: bool,
}

/// What an image says about itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageInfo {
    /// The file, or a `json:` text.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
    /// Bytes on the host, where that can be told.
    pub actual_size: Option<u64>,
    /// Bytes of a cluster.
    pub cluster_size: Option<u64>,
    /// It was not closed properly.
    #[serde(default)]
    pub dirty_flag: bool,
    /// The backing file as the image names it.
    pub backing_filename: Option<String>,
    /// The same made absolute.
    pub full_backing_filename: Option<String>,
    /// The backing file's format as the image names it.
    pub backing_filename_format: Option<String>,
    /// What only this format has.
    pub format_specific: Option<FormatSpecific>,
    /// The backing image; left out of a flat answer.
    pub backing_image: Option<Box<ImageInfo>>,
}

/// What only one format has.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FormatSpecific {
    /// The format.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its own facts: for qcow2 `compat`, `data-file`, `data-file-raw`, `bitmaps`, `corrupt`, ….
    #[serde(default)]
    pub data: Map<String, Value>,
}

/// A dirty bitmap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DirtyBitmap {
    /// Its name; jobs have bitmaps without.
    pub name: Option<String>,
    /// Bytes that are dirty.
    pub count: u64,
    /// Bytes that one bit stands for.
    pub granularity: u64,
    /// Writes are recorded.
    pub recording: bool,
    /// Somebody uses it, so it cannot be changed.
    pub busy: bool,
    /// It is stored in the image.
    pub persistent: bool,
    /// It was not stored properly and is of no use.
    #[serde(default)]
    pub inconsistent: bool,
}

/// `block-dirty-bitmap-add`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockDirtyBitmapAdd {
    /// The node.
    pub node: String,
    /// The bitmap's name; unique on the node.
    pub name: String,
    /// Bytes that one bit stands for.
    pub granularity: u64,
    /// It is stored in the image when the node is closed.
    pub persistent: bool,
    /// Writes are not recorded.
    pub disabled: bool,
}

/// `block-dirty-bitmap-merge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockDirtyBitmapMerge {
    /// The node.
    pub node: String,
    /// The bitmap that gets what the others have.
    pub target: String,
    /// The others.
    pub bitmaps: Vec<String>,
}

/// `block-dirty-bitmap-remove`: from the image too, when it is stored there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockDirtyBitmapRemove {
    /// The node.
    pub node: String,
    /// The bitmap.
    pub name: String,
}
command! { BlockDirtyBitmapRemove = "block-dirty-bitmap-remove" -> Nothing }

/// One part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub enum TransactionAction {
    /// See [`BlockDirtyBitmapAdd`].
    BlockDirtyBitmapAdd(BlockDirtyBitmapAdd),
    /// See [`BlockDirtyBitmapMerge`].
    BlockDirtyBitmapMerge(BlockDirtyBitmapMerge),
}

/// `transaction`: all of it or nothing, with no write of the guest in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transaction {
    /// In this order.
    pub actions: Vec<TransactionAction>,
}
command! { Transaction = "transaction" -> Nothing }

plain_commands! {
    /// The devices that have a medium, or could.
    QueryBlock = "query-block" -> Vec<BlockDevice>;
}

/// A device that has a medium, or could.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BlockDevice {
    /// Drive name; empty for devices that were attached to a node by name.
    pub device: String,
    /// The device's id or object path.
    pub qdev: Option<String>,
    /// The medium can be taken out.
    pub removable: bool,
    /// The guest has locked it in.
    pub locked: bool,
    /// What it holds.
    pub inserted: Option<BlockNode>,
    /// Its tray is open.
    pub tray_open: Option<bool>,
    /// `ok`, `failed`, or `nospace` once the guest was stopped for an error.
    #[serde(rename = "io-status")]
    pub io_status: Option<String>,
}

/// `query-blockstats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct QueryBlockstats {
    /// Nodes instead of devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_nodes: Option<bool>,
}
command! { QueryBlockstats = "query-blockstats" -> Vec<BlockStats> }

/// What a device or node has done.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockStats {
    /// Drive name; empty for devices that were attached to a node by name.
    pub device: Option<String>,
    /// The device's object path.
    pub qdev: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// The counters.
    pub stats: BlockCounters,
    /// The node below.
    pub parent: Option<Box<BlockStats>>,
    /// The backing node.
    pub backing: Option<Box<BlockStats>>,
}

/// Counters since QEMU's start. Bytes, requests, and nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BlockCounters {
    /// Bytes read.
    pub rd_bytes: u64,
    /// Bytes written.
    pub wr_bytes: u64,
    /// Reads.
    pub rd_operations: u64,
    /// Writes.
    pub wr_operations: u64,
    /// Flushes.
    pub flush_operations: u64,
    /// Nanoseconds in reads.
    pub rd_total_time_ns: u64,
    /// Nanoseconds in writes.
    pub wr_total_time_ns: u64,
    /// Nanoseconds in flushes.
    pub flush_total_time_ns: u64,
    /// The highest byte that was ever written.
    pub wr_highest_offset: u64,
}

/// `blockdev-add`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct BlockdevAdd(
    /// QAPI's `BlockdevOptions`, with `driver` and `node-name`.
    pub Map<String, Value>,
);
command! { BlockdevAdd = "blockdev-add" -> Nothing }

/// `blockdev-del`. Refused while the node is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevDel {
    /// The node.
    pub node_name: String,
}
command! { BlockdevDel = "blockdev-del" -> Nothing }

/// `nbd-server-start` on a UNIX socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdServerStart {
    /// The socket's path.
    pub path: String,
}
command! { NbdServerStart = "nbd-server-start" -> Nothing }

impl Serialize for NbdServerStart {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = serde_json::json!({ "type": "unix", "data": { "path": self.path } });
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("addr", &address)?;
        map.end()
    }
}

/// `block-export-add` to the NBD server. A node that is exported is active from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "nbd")]
pub struct BlockExportAdd {
    /// The export's id.
    pub id: String,
    /// The node.
    pub node_name: String,
    /// Clients may write.
    pub writable: bool,
}
command! { BlockExportAdd = "block-export-add" -> Nothing }

plain_commands! {
    /// Its exports go with it.
    NbdServerStop = "nbd-server-stop" -> Nothing;
}
