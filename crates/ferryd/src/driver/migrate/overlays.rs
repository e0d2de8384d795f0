//! Images that hold nothing but bitmaps, as both hosts find them in their QEMUs: the source says which it has, the
//! destination looks whether it has their like, and the bitmaps go along with the stream.
//!
//! What makes such an image, and what fits it, is `ferry_migration::overlay`'s.

use ferry_domxml::disk::Disk;
use ferry_domxml::storage::{BackingStore, ImageFormat};
use ferry_migration::checks::safe;
use ferry_migration::overlay::{NO_DATA_FILE, Overlay};
use ferry_qemu::blockgraph;
use ferry_qmp::commands::block::{
    BlockDirtyBitmapAdd, BlockDirtyBitmapMerge, BlockDirtyBitmapRemove, BlockNode, DirtyBitmap,
    QueryNamedBlockNodes, Transaction, TransactionAction,
};
use ferry_qmp::commands::migration::MigrationCapability;
use ferry_rpc::error::Error;
use ferry_rpc::flags::MigrateFlags;

use super::Migration;
use crate::driver::Driver;

impl Driver {
    /// The guest's own ones. QEMU is asked when there is a disk that could have one, and once.
    pub(super) async fn overlays(&self) -> Result<Vec<Overlay>, Error> {
        let Some(guest) = &self.guest else { return Ok(Vec::new()) };
        let disks: Vec<_> = guest.domain.devices.disks.iter().filter_map(candidate).collect();
        if disks.is_empty() {
            return Ok(Vec::new());
        }
        let nodes = self.block_nodes().await?;
        let overlay = |(disk, node, data): &(&Disk, String, &str)| {
            Overlay::of(&disk.target.dev, data, named(&nodes, node)?)
        };
        Ok(disks.iter().filter_map(overlay).take(ferry_migration::overlay::OVERLAYS_MAX).collect())
    }

    /// Whether this host's QEMU sends bitmaps along.
    pub(super) fn sends_bitmaps(&self) -> bool {
        let known = self.guest.as_ref().map(|guest| &guest.capabilities);
        known.is_some_and(|known| {
            known.has_migration_capability(&MigrationCapability::DirtyBitmaps)
                && known.has_migration_parameter("block-bitmap-mapping")
        })
    }

    /// Looks in the QEMU that waits for the guest whether it has the like of what the source offers.
    ///
    /// # Errors
    /// 81/10 when one does not fit, unless the user answers for the disks.
    pub(super) async fn meet_overlays(&self) -> Result<Vec<Overlay>, Error> {
        let (Some(Migration::In(incoming)), Some(guest)) = (&self.migration, &self.guest) else {
            return Ok(Vec::new());
        };
        if incoming.overlays.is_empty() {
            return Ok(Vec::new());
        }
        let is_trusted = incoming.parameters().flags.contains(MigrateFlags::UNSAFE);
        let nodes = self.block_nodes().await?;
        let mut met = Vec::new();
        for offered in &incoming.overlays {
            let disks = &guest.domain.devices.disks;
            let here = disks.iter().filter_map(candidate).find(|(disk, ..)| disk.target.dev == offered.disk);
            let wrong = match &here {
                None => Some(NO_DATA_FILE.to_owned()),
                Some((disk, node, data)) => match named(&nodes, node) {
                    None => Some("QEMU does not have it".to_owned()),
                    // Where the definition names the data file itself, the user has said where it is.
                    Some(found) => offered.misfit(found, is_detected(disk).then_some(*data)),
                },
            };
            match (wrong, here) {
                (None, Some((_, node, _))) => met.push(Overlay { node: Some(node), ..offered.clone() }),
                (Some(wrong), _) if !is_trusted => {
                    return Err(safe::unfit(&offered.disk, &wrong).error());
                }
                (Some(wrong), _) => {
                    tracing::warn!(domain = %self.name, disk = offered.disk, wrong, "an image does not fit the source's");
                }
                (None, None) => {}
            }
        }
        Ok(met)
    }

    /// After a copy that took bitmaps along and has failed: QEMU would not store them any more, as if they had left. Each
    /// is made anew, while another one keeps what is written meanwhile.
    pub(super) async fn renew_bitmaps(&self, sent: &[Sent]) {
        let nodes = if sent.is_empty() { Ok(Vec::new()) } else { self.block_nodes().await };
        for Sent { overlay, .. } in sent {
            let node = overlay.node.as_deref().and_then(|name| named(nodes.as_deref().ok()?, name));
            let Some((node, name)) = node.and_then(|node| Some((node, node.node_name.as_deref()?))) else {
                continue;
            };
            for bitmap in node.dirty_bitmaps.iter().filter(|bitmap| bitmap.persistent && !bitmap.inconsistent)
            {
                if let Err(error) = self.renew_bitmap(name, bitmap).await {
                    tracing::warn!(
                        domain = %self.name,
                        node = name,
                        bitmap = bitmap.name,
                        %error,
                        "a bitmap could not be made anew: it will not be stored, and the next backup has to be a full one"
                    );
                }
            }
        }
    }

    async fn renew_bitmap(&self, node: &str, bitmap: &DirtyBitmap) -> Result<(), Error> {
        let Some(name) = &bitmap.name else { return Ok(()) };
        let meanwhile = format!("ferry-{}", uuid::Uuid::new_v4().simple());
        // In one transaction: no write of the guest is in neither of the two.
        let copy = |from: &str, to: &str, persistent| {
            let (node, to) = (node.to_owned(), to.to_owned());
            let add = BlockDirtyBitmapAdd {
                node: node.clone(),
                name: to.clone(),
                granularity: bitmap.granularity,
                persistent,
                disabled: !bitmap.recording,
            };
            let merge = BlockDirtyBitmapMerge { node, target: to, bitmaps: vec![from.to_owned()] };
            Transaction {
                actions: vec![
                    TransactionAction::BlockDirtyBitmapAdd(add),
                    TransactionAction::BlockDirtyBitmapMerge(merge),
                ],
            }
        };
        let remove = |name: &str| BlockDirtyBitmapRemove { node: node.to_owned(), name: name.to_owned() };
        self.execute(&copy(name, &meanwhile, false)).await?;
        self.execute(&remove(name)).await?;
        self.execute(&copy(&meanwhile, name, true)).await?;
        self.execute(&remove(&meanwhile)).await.map(drop)
    }

    async fn block_nodes(&self) -> Result<Vec<BlockNode>, Error> {
        self.execute(&QueryNamedBlockNodes { flat: Some(true) }).await
    }
}

/// An image whose bitmaps go along.
#[derive(Debug, Clone)]
pub(in crate::driver) struct Sent {
    overlay: Overlay,
    /// The node that stands for it on the destination.
    there: String,
}

impl Sent {
    /// As QEMU is told it.
    pub(super) fn mapping(&self) -> serde_json::Value {
        self.overlay.mapping(&self.there)
    }
}

/// Which bitmaps the source's QEMU is to send, and where to: those that have a node waiting for them.
pub(super) fn to_send(overlays: Vec<Overlay>, there: &[Overlay]) -> Vec<Sent> {
    let sent = |overlay: Overlay| {
        let there = there.iter().find(|there| there.disk == overlay.disk)?.node.clone()?;
        (!overlay.bitmaps.is_empty()).then_some(Sent { overlay, there })
    };
    overlays.into_iter().filter_map(sent).collect()
}

/// A disk that may have such an image, with the image's node and the data file's path.
fn candidate(disk: &Disk) -> Option<(&Disk, String, &str)> {
    let data = disk.source.data_store.as_ref()?.source.path()?;
    let is_alone = !matches!(disk.backing_store, Some(BackingStore::Image(_)));
    let node = blockgraph::format_node(disk.source.index?);
    (is_alone && disk.format() == ImageFormat::Qcow2).then_some((disk, node, data))
}

fn is_detected(disk: &Disk) -> bool {
    disk.source.data_store.as_ref().is_some_and(|data| data.detected)
}

fn named<'a>(nodes: &'a [BlockNode], name: &str) -> Option<&'a BlockNode> {
    nodes.iter().find(|node| node.node_name.as_deref() == Some(name))
}
