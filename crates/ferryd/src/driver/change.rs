//! Changing a domain: the guest that runs, the kept definition, or both, in one request.
//!
//! ```text
//!   Change + AffectFlags ──admit──▶ which of the two is meant ──▶ both judged ──▶ guest changed ──▶ definition kept
//! ```
//!
//! Both definitions are judged before the guest is touched, so that a change that cannot be kept is not made half. The
//! families of changes have files of their own; this one says what there is and finds out what is meant.

use std::sync::Arc;

use ferry_domain::Operation;
use ferry_domxml::{Device, Domain};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::AffectFlags;
use ferry_rpc::values::MetadataKind;

use super::blocks::WantedLimits;
use super::{Driver, Reply};
use crate::refuse;

/// What is to become different.
#[derive(Debug)]
pub(crate) enum Change {
    /// What the balloon leaves the guest, in KiB.
    Memory { kib: u64 },
    /// What the guest has at boot, in KiB.
    MemoryMax { kib: u64 },
    /// Seconds between two statistics of the guest's memory; 0 is never.
    StatsPeriod { seconds: u32 },
    /// How many processors are plugged in.
    Vcpus { count: u32 },
    /// How many processors there can be.
    VcpusMax { count: u32 },
    /// Title, description, or another program's data; `None` removes it.
    Metadata(Metadata),
    /// What happens when the guest powers off, reboots or crashes.
    Lifecycle(LifecycleAction),
    /// How fast a disk is at most.
    IoTune(Box<WantedLimits>),
    /// How large a running guest's disk is, in bytes.
    BlockResize { disk: String, bytes: u64 },
    /// A device more.
    Attach(Device),
    /// A device less.
    Detach(Device),
    /// A device less, by the name that it has in the guest. The asker does not wait for the guest.
    DetachAlias(String),
    /// A device in another form. `force` takes out a medium that the guest has locked in.
    Update { device: Device, force: bool },
}

/// A piece of metadata.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    pub(crate) kind: MetadataKind,
    /// Its new text, an XML element in the case of [`MetadataKind::ELEMENT`].
    pub(crate) text: Option<String>,
    /// Prefix and name of the namespace of another program's data.
    pub(crate) key: Option<String>,
    pub(crate) uri: Option<String>,
}

/// What is done when the guest ends a life of its own accord.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LifecycleAction {
    Poweroff(ferry_domxml::OnEvent),
    Reboot(ferry_domxml::OnEvent),
    Crash(ferry_domxml::OnCrash),
}

/// Which definitions a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Affected {
    pub(super) live: bool,
    pub(super) config: bool,
}

impl Driver {
    /// Makes a change.
    pub(super) async fn change(&mut self, change: Change, affect: AffectFlags, reply: Reply<()>) {
        let outcome = match self.affected(affect) {
            Err(error) => Err(error),
            Ok(affected) => match change {
                Change::Memory { kib } => self.set_memory(kib, affected).await,
                Change::MemoryMax { kib } => self.set_memory_max(kib, affected).await,
                Change::StatsPeriod { seconds } => self.set_stats_period(seconds, affected).await,
                Change::Vcpus { count } => self.set_vcpus(count, affected).await,
                Change::VcpusMax { count } => self.set_vcpus_max(count, affected).await,
                Change::Metadata(metadata) => self.set_metadata(metadata, affected).await,
                Change::Lifecycle(action) => self.set_lifecycle(action, affected).await,
                Change::IoTune(wanted) => self.set_limits(*wanted, affected).await,
                Change::BlockResize { disk, bytes } => self.resize_disk(&disk, bytes).await,
                Change::Attach(device) => self.attach(device, affected).await,
                Change::Update { device, force } => self.update(device, force, affected).await,
                // The guest has a word in it, and so this one is answered later.
                Change::Detach(device) => return self.detach(device, affected, reply).await,
                Change::DetachAlias(alias) => self.detach_alias(&alias, affected).await,
            },
        };
        self.answer(reply, outcome);
    }

    /// Which definitions are meant; without a word, the running one, else the kept one.
    ///
    /// # Errors
    /// A migration bears no change (68/0), or what is meant does not exist (55/20).
    fn affected(&self, affect: AffectFlags) -> Result<Affected, Error> {
        self.admit(Operation::Modify)?;
        let running = self.guest.is_some();
        let affected = match affect {
            AffectFlags::NONE => Affected { live: running, config: !running },
            _ => Affected {
                live: affect.contains(AffectFlags::LIVE),
                config: affect.contains(AffectFlags::CONFIG),
            },
        };
        if affected.live && !running {
            return Err(refuse::not_running());
        }
        if affected.config && self.config.is_none() {
            let text = "transient domains do not have any persistent config";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN, text));
        }
        Ok(affected)
    }

    /// A copy of the running definition, when it is meant.
    pub(super) fn live_copy(&self, affected: Affected) -> Option<Domain> {
        self.guest.as_ref().filter(|_| affected.live).map(|guest| Domain::clone(&guest.domain))
    }

    /// A copy of the kept definition, when it is meant.
    pub(super) fn config_copy(&self, affected: Affected) -> Option<Domain> {
        self.config.as_ref().filter(|_| affected.config).map(|config| Domain::clone(config))
    }

    /// Writes down the guest with another running definition.
    pub(super) async fn replace_live(&mut self, domain: Domain) -> Result<(), Error> {
        if let Some(guest) = &mut self.guest {
            guest.domain = Arc::new(domain);
        }
        self.record_guest().await
    }

    /// Keeps what has changed: first the running definition, then the stored one.
    pub(super) async fn keep_changed(
        &mut self,
        live: Option<Domain>,
        config: Option<Domain>,
    ) -> Result<(), Error> {
        if let Some(live) = live {
            self.replace_live(live).await?;
        }
        match config {
            Some(config) => self.keep(config).await,
            None => Ok(()),
        }
    }
}

/// Whether a definition that was put together here can be read: no two devices of one name, no contradiction,
/// and not too long to be shown.
///
/// # Errors
/// As for the same definition from a client.
pub(super) fn check(domain: &Domain) -> Result<(), Error> {
    let read = refuse::parse(&refuse::showable(domain)?)?;
    read.check_supported().map_err(refuse::unsupported)
}
