//! Secrets that the nodes of a disk refer to: by which name QEMU has each, and where its value is from.
//!
//! The daemon brings the values, encrypted with a key that is QEMU's alone ([`MASTER_KEY`]); no value is in a definition
//! or passes through here, but for the cookies, which a definition does hold.

use ferry_domxml::Uuid;
use ferry_domxml::disk::Disk;
use ferry_domxml::network_source::NetworkSource;
use ferry_domxml::secret::{Auth, AuthKind, SecretUsage};
use ferry_domxml::storage::{BackingStore, Source};

use super::nodes::storage_node;

/// The object that holds the key of all others.
pub const MASTER_KEY: &str = "masterKey0";

/// A secret that a disk's nodes refer to.
#[derive(Clone, PartialEq, Eq)]
pub struct NeededSecret {
    /// The object's name in QEMU.
    pub object: String,
    /// Where its value is from.
    pub source: SecretSource,
}

/// Where the value of a secret is from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// One that was defined.
    Defined {
        /// What it must have been defined for.
        usage: SecretUsage,
        /// Its number, or else what it is used for.
        uuid: Option<Uuid>,
        /// What it is used for, when its number is not said.
        usage_id: String,
    },
    /// The value itself: cookies.
    Value(String),
}

/// Values are not for logs.
impl std::fmt::Debug for NeededSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NeededSecret").field("object", &self.object).finish_non_exhaustive()
    }
}

/// The secrets of a numbered disk, in the order of its images from the top.
#[must_use]
pub fn needed(disk: &Disk) -> Vec<NeededSecret> {
    let mut found = Vec::new();
    if disk.source.is_empty() {
        return found;
    }
    image(&disk.source, disk.source.index, disk.auth(), &mut found);
    if let Some((encryption, number)) = disk.encryption().zip(disk.source.index) {
        let secret = &encryption.secret;
        found.push(NeededSecret {
            object: encryption_object(number),
            source: SecretSource::Defined {
                usage: SecretUsage::Volume,
                uuid: secret.uuid,
                usage_id: secret.usage.clone().unwrap_or_default(),
            },
        });
    }
    let mut below = disk.backing_store.as_ref();
    while let Some(BackingStore::Image(backing)) = below {
        image(&backing.source, backing.index, backing.source.auth.as_deref(), &mut found);
        below = backing.backing_store.as_ref();
    }
    found
}

fn image(source: &Source, index: Option<u32>, auth: Option<&Auth>, out: &mut Vec<NeededSecret>) {
    let (Some(network), Some(number)) = (source.network(), index) else { return };
    let node = storage_node(number);
    if let Some(auth) = auth {
        let usage = match auth.secret.kind {
            AuthKind::Ceph => SecretUsage::Ceph,
            AuthKind::Iscsi => SecretUsage::Iscsi,
        };
        let usage_id = auth.secret.usage.clone().unwrap_or_default();
        let source = SecretSource::Defined { usage, uuid: auth.secret.uuid, usage_id };
        out.push(NeededSecret { object: auth_object(&node), source });
    }
    if let Some(value) = header(network) {
        out.push(NeededSecret { object: cookie_object(&node), source: SecretSource::Value(value) });
    }
}

/// The cookies as they are sent.
fn header(network: &NetworkSource) -> Option<String> {
    let cookies = network.cookies.as_ref()?;
    let pairs: Vec<String> =
        cookies.0.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    Some(pairs.join("; "))
}

pub(super) fn auth_object(node: &str) -> String {
    format!("{node}-auth-secret0")
}

pub(super) fn cookie_object(node: &str) -> String {
    format!("{node}-httpcookie-secret0")
}

pub(super) fn encryption_object(number: u32) -> String {
    format!("libvirt-{number}-format-encryption-secret0")
}
