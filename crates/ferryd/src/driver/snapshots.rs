//! What this host knows of a domain's snapshots. None is made here yet; what the store has of them can be forgotten.

use ferry_domain::Operation;
use ferry_rpc::error::{Error, ErrorCode, Origin};

use super::Driver;

impl Driver {
    /// Forgets the metadata of a snapshot. One that others are based on stays as long as they do.
    pub(super) async fn forget_snapshot(&mut self, name: String) -> Result<(), Error> {
        self.admit(Operation::Modify)?;
        let (uuid, wanted) = (self.uuid, name.clone());
        let snapshots = self.host.store(move |store| store.snapshots(uuid)).await?;
        if let Some(child) = snapshots.iter().find(|child| child.parent.as_deref() == Some(&*name)) {
            let text = format!("snapshot '{name}' has a child, '{}': forget that one first", child.name);
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN_SNAPSHOT, text));
        }
        if !self.host.store(move |store| store.remove_snapshot(uuid, &wanted)).await? {
            return Err(unknown(&name));
        }
        self.snapshots = snapshots.len().saturating_sub(1);
        Ok(())
    }
}

/// There is no snapshot of this name.
pub(crate) fn unknown(name: &str) -> Error {
    let text = format!("no domain snapshot with matching name '{name}'");
    Error::of(ErrorCode::NO_DOMAIN_SNAPSHOT, Origin::QEMU, text)
}
