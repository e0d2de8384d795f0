//! Disks: what the guest has read and written, and how much of the host their images take.
//!
//! QEMU counts by device what the guest does, and by block node what an image holds; the definition says which node is
//! which image. Images of a guest that does not run are looked at where they lie.

use std::collections::HashMap;

use ferry_domxml::disk::Disk;
use ferry_domxml::storage::{BackingStore, ImageFormat, Location, Source};
use ferry_qemu::blockgraph;
use ferry_qmp::commands::block::{BlockCounters, BlockStats, QueryBlockstats, QueryNamedBlockNodes};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{DomainGetBlockInfo, DomainGetBlockInfoReply};

use super::super::{Context, accept_flags};
use super::Values;
use crate::driver::{Live, View};
use crate::perform::images::{self, Measured};
use crate::perform::monitor::MonitorError;
use crate::refuse;

/// All that one QEMU says about its disks.
#[derive(Debug, Default)]
pub(super) struct Counters {
    devices: Vec<BlockStats>,
    nodes: HashMap<String, Node>,
}

/// An image that is open in QEMU, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    capacity: u64,
    /// What it takes on the host; `None` where that is not known.
    actual: Option<u64>,
    /// The highest byte that was ever written; `None` where QEMU does not keep count.
    highest_written: Option<u64>,
}

impl Counters {
    /// Asks QEMU.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn of(live: &Live) -> Result<Counters, MonitorError> {
        let devices = live.monitor.execute(&QueryBlockstats::default()).await?;
        let by_node = live.monitor.execute(&QueryBlockstats { query_nodes: Some(true) }).await?;
        let images = live.monitor.execute(&QueryNamedBlockNodes { flat: Some(true) }).await?;
        let mut nodes: HashMap<String, Node> = HashMap::new();
        for image in images {
            if let Some(name) = image.node_name {
                let (capacity, actual) = (image.image.virtual_size, image.image.actual_size);
                nodes.insert(name, Node { capacity, actual, highest_written: None });
            }
        }
        for stats in by_node {
            if let Some(node) = stats.node_name.as_ref().and_then(|name| nodes.get_mut(name)) {
                // What counts is how far the file is filled, not the guest's disk.
                let file = stats.parent.as_deref().unwrap_or(&stats);
                node.highest_written = Some(file.stats.wr_highest_offset);
            }
        }
        Ok(Counters { devices, nodes })
    }

    /// What the guest did to the device with this alias.
    pub(super) fn of_device(&self, alias: &str) -> Option<&BlockCounters> {
        let below = format!("/machine/peripheral/{alias}/");
        let is = |qdev: &str| qdev == alias || qdev.starts_with(&below);
        self.devices.iter().find(|device| device.qdev.as_deref().is_some_and(is)).map(|device| &device.stats)
    }

    fn image(&self, layer: &Layer<'_>) -> Option<Node> {
        let number = layer.index?;
        let has_format = layer.format != ImageFormat::Raw || layer.is_encrypted;
        self.nodes.get(&blockgraph::top_of_image(layer.source, number, has_format)).copied()
    }
}

/// One image of a disk.
#[derive(Debug, Clone, Copy)]
struct Layer<'a> {
    source: &'a Source,
    index: Option<u32>,
    format: ImageFormat,
    is_encrypted: bool,
}

/// The images of a disk, top first; none of an empty drive.
fn layers(disk: &Disk) -> Vec<Layer<'_>> {
    if disk.source.is_empty() {
        return Vec::new();
    }
    let mut layers = vec![Layer {
        source: &disk.source,
        index: disk.source.index,
        format: disk.format(),
        is_encrypted: disk.encryption().is_some(),
    }];
    let mut below = disk.backing_store.as_ref();
    while let Some(BackingStore::Image(image)) = below {
        let format = image.format.unwrap_or(ImageFormat::Raw);
        let (source, index) = (&image.source, image.index);
        layers.push(Layer { source, index, format, is_encrypted: false });
        below = image.backing_store.as_ref();
    }
    layers
}

/// The block group of the bulk statistics: a record for each disk, with `backing` one for each image below it too.
pub(super) async fn disks(view: &View, backing: bool, values: &mut Values) {
    let Some(domain) = view.current() else { return };
    let counters = match &view.live {
        Some(live) => match Counters::of(live).await {
            Ok(counters) => Some(counters),
            Err(_) => return,
        },
        None => None,
    };
    let mut records = Values::default();
    let mut count: u32 = 0;
    for disk in &domain.devices.disks {
        let mut layers = layers(disk);
        if !backing {
            layers.truncate(1);
        }
        let alias = disk.info.alias.as_deref();
        let frontend = counters.as_ref().zip(alias).and_then(|(counters, alias)| counters.of_device(alias));
        let prefix = format!("block.{count}");
        records.put(format!("{prefix}.name"), disk.target.dev.as_str());
        if layers.is_empty() {
            put_frontend(&prefix, frontend, &mut records);
            count += 1;
        }
        for (depth, layer) in layers.iter().enumerate() {
            let prefix = format!("block.{count}");
            if depth > 0 {
                records.put(format!("{prefix}.name"), disk.target.dev.as_str());
            }
            records.put_some(format!("{prefix}.path"), layer.source.path());
            records.put_some(format!("{prefix}.backingIndex"), layer.index.filter(|_| counters.is_some()));
            if depth == 0 {
                put_frontend(&prefix, frontend, &mut records);
            }
            match &counters {
                Some(counters) => put_open_image(&prefix, counters, layer, &mut records).await,
                None => put_idle_image(&prefix, layer, &mut records).await,
            }
            count += 1;
        }
    }
    values.put("block.count", count);
    values.0.append(&mut records.0);
}

fn put_frontend(prefix: &str, counters: Option<&BlockCounters>, values: &mut Values) {
    let Some(counters) = counters else { return };
    for (name, value) in [
        ("rd.reqs", counters.rd_operations),
        ("rd.bytes", counters.rd_bytes),
        ("rd.times", counters.rd_total_time_ns),
        ("wr.reqs", counters.wr_operations),
        ("wr.bytes", counters.wr_bytes),
        ("wr.times", counters.wr_total_time_ns),
        ("fl.reqs", counters.flush_operations),
        ("fl.times", counters.flush_total_time_ns),
    ] {
        values.put(format!("{prefix}.{name}"), value);
    }
}

async fn put_open_image(prefix: &str, counters: &Counters, layer: &Layer<'_>, values: &mut Values) {
    let Some(node) = counters.image(layer) else { return };
    values.put_some(format!("{prefix}.allocation"), node.highest_written);
    values.put(format!("{prefix}.capacity"), node.capacity);
    let physical = match node.actual {
        Some(bytes) if bytes > 0 => Some(bytes),
        // An image that takes nothing yet is told by its length.
        Some(_) => measure(layer).await.map(|measured| measured.physical),
        None => Some(node.capacity),
    };
    values.put_some(format!("{prefix}.physical"), physical);
}

async fn put_idle_image(prefix: &str, layer: &Layer<'_>, values: &mut Values) {
    let Some(measured) = measure(layer).await else { return };
    for (name, bytes) in [
        ("allocation", measured.allocation),
        ("capacity", measured.capacity),
        ("physical", measured.physical),
    ] {
        values.put_some(format!("{prefix}.{name}"), Some(bytes).filter(|bytes| *bytes > 0));
    }
}

/// Looks at an image where it lies; `None` when it cannot be read.
async fn measure(layer: &Layer<'_>) -> Option<Measured> {
    let path = layer.source.path()?;
    images::measure(path, layer.format).await.ok()
}

/// How large a disk is for the guest, and how much of the host it takes.
pub(in crate::dispatch) async fn info(
    context: Context,
    call: DomainGetBlockInfo,
) -> Result<DomainGetBlockInfoReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainGetBlockInfo")?;
    let view = context.view(&call.domain)?;
    let invalid = |text: String| Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text);
    let disk = view.current().and_then(|domain| find(&domain.devices.disks, &call.path));
    let disk = disk.ok_or_else(|| invalid(format!("invalid path {} not assigned to domain", call.path)))?;
    let layers = layers(disk);
    let top = layers.first().ok_or_else(|| {
        invalid(format!("disk '{}' does not currently have a source assigned", disk.target.dev))
    })?;
    let measured = || async {
        if let Some(network) = top.source.network() {
            let protocol = network.protocol;
            let text = format!("missing storage backend for network files using {protocol} protocol");
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text));
        }
        let path = top.source.path().unwrap_or_default();
        images::measure(path, top.format).await.map_err(|error| {
            Error::new(ErrorCode::SYSTEM_ERROR, Origin::QEMU, format!("cannot stat file '{path}': {error}"))
        })
    };
    let reply =
        |allocation, capacity, physical| Ok(DomainGetBlockInfoReply { allocation, capacity, physical });
    let Some(live) = &view.live else {
        let Measured { allocation, capacity, physical } = measured().await?;
        return reply(allocation, capacity, physical);
    };
    let counters = Counters::of(live).await.map_err(refuse::monitor)?;
    let node = counters.image(top).ok_or_else(|| {
        let text = format!("failed to gather stats for disk '{}'", disk.target.dev);
        Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text)
    })?;
    let actual = node.actual.unwrap_or(node.capacity);
    let written = node.highest_written.filter(|bytes| *bytes > 0);
    let in_file = matches!(top.source.location, Location::File(_)) && top.format != ImageFormat::Raw;
    match written {
        // Of an image with a format of its own, in a file, the file's size says more than how far it was written.
        Some(written) if !in_file => reply(written, node.capacity, actual),
        _ => reply(actual, node.capacity, measured().await.map_or(actual, |measured| measured.physical)),
    }
}

/// The disk that a path means: its name in the guest, or the path of its image.
pub(in crate::dispatch) fn find<'a>(disks: &'a [Disk], path: &str) -> Option<&'a Disk> {
    if !path.starts_with('/') {
        return disks.iter().find(|disk| disk.target.dev == path);
    }
    let mut found = disks.iter().filter(|disk| disk.source.path() == Some(path));
    // Two disks with one image: the path means neither.
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::Domain;
    use serde_json::json;

    fn disks() -> Vec<Disk> {
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>\
            <disk type='file'><driver name='qemu' type='qcow2'/><source file='/top' index='2'/><backingStore index='3' type='file'>\
            <format type='raw'/><source file='/base'/><backingStore/></backingStore><target dev='vda' bus='virtio'/></disk>\
            <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>\
            <disk type='file'><source file='/twice'/><target dev='vdb'/></disk>\
            <disk type='file'><source file='/twice'/><target dev='vdc'/></disk></devices></domain>";
        Domain::parse(xml).unwrap().devices.disks
    }

    #[test]
    fn a_disk_is_meant_by_its_name_or_by_an_image_that_is_its_alone() {
        let disks = disks();
        assert_eq!(find(&disks, "vda").unwrap().target.dev, "vda");
        assert_eq!(find(&disks, "/top").unwrap().target.dev, "vda");
        assert!(find(&disks, "/twice").is_none());
        assert!(find(&disks, "vdx").is_none() && find(&disks, "").is_none());
    }

    #[test]
    fn the_images_of_a_disk_are_its_nodes() {
        let disks = disks();
        let images = layers(&disks[0]);
        assert_eq!(images.len(), 2);
        let node = |capacity| Node { capacity, ..Node::default() };
        let nodes =
            [("libvirt-2-format", node(7)), ("libvirt-2-storage", node(8)), ("libvirt-3-storage", node(9))];
        let nodes = nodes.map(|(name, node)| (name.to_owned(), node)).into();
        let counters = Counters { devices: Vec::new(), nodes };
        let capacities: Vec<_> = images.iter().map(|layer| counters.image(layer).unwrap().capacity).collect();
        assert_eq!(capacities, [7, 9]);
        assert!(layers(&disks[3]).is_empty(), "an empty drive has none");
    }

    #[test]
    fn a_device_is_found_by_its_id_and_by_its_path() {
        let device = |qdev: &str, reads: u64| {
            serde_json::from_value(json!({"qdev": qdev, "stats": {"rd_operations": reads}})).unwrap()
        };
        let devices =
            vec![device("/machine/peripheral/virtio-disk0/virtio-backend", 1), device("scsi0-0-0-1", 2)];
        let counters = Counters { devices, nodes: HashMap::new() };
        assert_eq!(counters.of_device("virtio-disk0").unwrap().rd_operations, 1);
        assert_eq!(counters.of_device("scsi0-0-0-1").unwrap().rd_operations, 2);
        assert!(counters.of_device("virtio-disk").is_none());
    }
}
