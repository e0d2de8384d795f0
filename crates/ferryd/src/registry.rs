//! Which domains there are: names and UUIDs to the drivers that own them.
//!
//! Called by dispatch (look-ups, lists), by define, create and an arriving migration (claims), and by a driver
//! that has become vacant. It holds handles only; what a domain is stands in the view behind each handle.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_migration::MigrationId;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use uuid::Uuid;

use crate::driver::{DomainHandle, View};

/// The domains of a host.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_uuid: BTreeMap<Uuid, Entry>,
    by_name: HashMap<String, Uuid>,
    /// Whose guest a migration moves.
    by_migration: HashMap<MigrationId, Uuid>,
    last_id: i32,
}

#[derive(Debug)]
struct Entry {
    name: String,
    handle: DomainHandle,
    /// Claims that are held: the domain may come into being any moment.
    claims: usize,
}

impl Entry {
    /// Whether its name is free for another domain.
    fn has_left(&self) -> bool {
        self.claims == 0 && self.handle.view().has_left()
    }
}

/// The right to bring a domain into being under a name; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    registry: Arc<Registry>,
    uuid: Uuid,
    handle: DomainHandle,
}

impl Claim {
    /// The driver.
    pub(crate) fn handle(&self) -> &DomainHandle {
        &self.handle
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(entry) = self.registry.lock().by_uuid.get_mut(&self.uuid) {
            entry.claims -= 1;
        }
        self.registry.forget_vacant(self.uuid);
    }
}

impl Registry {
    /// The domain with this name.
    pub(crate) fn by_name(&self, name: &str) -> Result<DomainHandle, Error> {
        let inner = self.lock();
        let found = inner.by_name.get(name).and_then(|uuid| inner.by_uuid.get(uuid));
        found
            .map(|entry| &entry.handle)
            .filter(|handle| handle.view().exists())
            .cloned()
            .ok_or_else(|| no_domain(format!("no domain with matching name '{name}'")))
    }

    /// The domain with this name, be it one that is only arriving.
    pub(crate) fn by_name_or_arriving(&self, name: &str) -> Result<DomainHandle, Error> {
        let inner = self.lock();
        let found = inner.by_name.get(name).and_then(|uuid| inner.by_uuid.get(uuid));
        let handle = found.map(|entry| entry.handle.clone());
        handle.ok_or_else(|| no_domain(format!("no domain with matching name '{name}'")))
    }

    /// The domain with this UUID, be it one whose guest has left and whose coordinator does not know it yet.
    pub(crate) fn by_uuid_or_gone(&self, uuid: Uuid, name: &str) -> Result<DomainHandle, Error> {
        let inner = self.lock();
        let handle = inner.by_uuid.get(&uuid).map(|entry| entry.handle.clone());
        handle.ok_or_else(|| no_domain(format!("no domain with matching uuid '{uuid}' ({name})")))
    }

    /// The domain with this UUID. `name` is what the caller believes, for the error's text only.
    pub(crate) fn by_uuid(&self, uuid: Uuid, name: Option<&str>) -> Result<DomainHandle, Error> {
        let inner = self.lock();
        let found = inner.by_uuid.get(&uuid).map(|entry| &entry.handle);
        found.filter(|handle| handle.view().exists()).cloned().ok_or_else(|| {
            no_domain(match name {
                Some(name) => format!("no domain with matching uuid '{uuid}' ({name})"),
                None => format!("no domain with matching uuid '{uuid}'"),
            })
        })
    }

    /// The running domain with this id.
    pub(crate) fn by_id(&self, id: i32) -> Result<DomainHandle, Error> {
        self.all()
            .into_iter()
            .find(|(_, view)| view.id() == Some(id))
            .map(|(handle, _)| handle)
            .ok_or_else(|| no_domain(format!("no domain with matching id {id}")))
    }

    /// Every domain with its present view, in the order of their UUIDs.
    pub(crate) fn all(&self) -> Vec<(DomainHandle, Arc<View>)> {
        let handles: Vec<_> = self.lock().by_uuid.values().map(|entry| entry.handle.clone()).collect();
        let with_views = handles.into_iter().map(|handle| {
            let view = handle.view();
            (handle, view)
        });
        with_views.filter(|(_, view)| view.exists()).collect()
    }

    /// The driver for `uuid` and `name`: the one that there is, or a new one made by `spawn`. The claim keeps
    /// the name and the driver while the claimant defines, creates or prepares a domain with it.
    ///
    /// # Errors
    /// The name belongs to another UUID, or the UUID to another name (9/20, stock's texts).
    pub(crate) fn claim(
        self: &Arc<Self>,
        uuid: Uuid,
        name: &str,
        spawn: impl FnOnce() -> DomainHandle,
    ) -> Result<Claim, Error> {
        let mut inner = self.lock();
        let clash = |text: String| Error::of(ErrorCode::OPERATION_FAILED, Origin::DOMAIN, text);
        if let Some(holder) = inner.by_name.get(name)
            && *holder != uuid
            && !inner.by_uuid.get(holder).is_none_or(Entry::has_left)
        {
            return Err(clash(format!("domain '{name}' already exists with uuid {holder}")));
        }
        if let Some(entry) = inner.by_uuid.get(&uuid)
            && entry.name != name
        {
            return Err(clash(format!("domain '{}' is already defined with uuid {uuid}", entry.name)));
        }
        inner.by_name.insert(name.to_owned(), uuid);
        let entry = inner.by_uuid.entry(uuid).or_insert_with(|| Entry {
            name: name.to_owned(),
            handle: spawn(),
            claims: 0,
        });
        entry.claims += 1;
        let handle = entry.handle.clone();
        Ok(Claim { registry: Arc::clone(self), uuid, handle })
    }

    /// Gives a domain another name.
    ///
    /// # Errors
    /// Another domain has it (55/10, stock's text).
    pub(crate) fn rename(&self, uuid: Uuid, name: &str) -> Result<(), Error> {
        let mut inner = self.lock();
        if inner.by_name.get(name).is_some_and(|holder| *holder != uuid) {
            let text = format!("domain with name '{name}' already exists");
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        if let Some(entry) = inner.by_uuid.get_mut(&uuid) {
            let former = std::mem::replace(&mut entry.name, name.to_owned());
            inner.by_name.remove(&former);
            inner.by_name.insert(name.to_owned(), uuid);
        }
        Ok(())
    }

    /// The domain that this migration moves, as far as its driver still has to do with it.
    pub(crate) fn by_migration(&self, id: MigrationId) -> Option<DomainHandle> {
        let inner = self.lock();
        let uuid = inner.by_migration.get(&id)?;
        inner.by_uuid.get(uuid).map(|entry| entry.handle.clone())
    }

    /// The other daemon of migration `id` may ask for the domain `uuid` from now on.
    pub(crate) fn enlist(&self, id: MigrationId, uuid: Uuid) {
        self.lock().by_migration.insert(id, uuid);
    }

    /// Both daemons know the end of migration `id`.
    pub(crate) fn strike(&self, id: MigrationId) {
        self.lock().by_migration.remove(&id);
    }

    /// Forgets the domain if it is neither defined nor running nor claimed. A driver calls this when its guest
    /// has ended; it ends itself when the last handle is gone.
    pub(crate) fn forget_vacant(&self, uuid: Uuid) {
        let mut inner = self.lock();
        if let Some(entry) = inner.by_uuid.get(&uuid)
            && entry.claims == 0
            && entry.handle.view().is_vacant()
        {
            let name = entry.name.clone();
            inner.by_uuid.remove(&uuid);
            // Another may have taken it already.
            if inner.by_name.get(&name) == Some(&uuid) {
                inner.by_name.remove(&name);
            }
        }
    }

    /// The id of the next guest. Ids are never used twice by one daemon, and a restarted one goes on after the
    /// highest that it finds.
    pub(crate) fn next_id(&self) -> i32 {
        let mut inner = self.lock();
        inner.last_id += 1;
        inner.last_id
    }

    /// A guest was found that has this id.
    pub(crate) fn seen_id(&self, id: i32) {
        let mut inner = self.lock();
        inner.last_id = inner.last_id.max(id);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held cannot leave the maps half changed in a way that matters.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_domain(text: String) -> Error {
    Error::of(ErrorCode::NO_DOMAIN, Origin::QEMU, text)
}
