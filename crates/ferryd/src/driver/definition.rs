//! The kept definition of a domain: define, undefine, autostart.

use std::path::PathBuf;
use std::sync::Arc;

use ferry_domxml::Domain;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::UndefineFlags;
use ferry_rpc::proto::DomainRef;
use ferry_rpc::values::{DefinedDetail, LifecycleEvent, UndefinedDetail};

use super::Driver;
use crate::perform::discard::Discarded;
use crate::refuse;

impl Driver {
    /// Keeps a definition that was completed and checked. A running guest goes on with its own.
    pub(super) async fn define(&mut self, domain: Box<Domain>) -> Result<DomainRef, Error> {
        let detail = if self.config.is_some() { DefinedDetail::UPDATED } else { DefinedDetail::ADDED };
        self.keep(*domain).await?;
        self.emit_lifecycle(LifecycleEvent::DEFINED, detail.0);
        Ok(self.published.borrow().reference())
    }

    /// Writes the definition down, then holds it.
    pub(super) async fn keep(&mut self, domain: Domain) -> Result<(), Error> {
        let record = refuse::definition_record(self.uuid, &domain, self.autostart);
        self.host.store(move |store| store.save_definition(&record)).await?;
        self.config = Some(Arc::new(domain));
        Ok(())
    }

    /// Forgets the definition. A running guest goes on as a transient one.
    pub(super) async fn undefine(&mut self, flags: UndefineFlags) -> Result<(), Error> {
        let Some(config) = &self.config else {
            let text = "cannot undefine transient domain";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        };
        if self.snapshots > 0 && !flags.contains(UndefineFlags::SNAPSHOTS_METADATA) {
            let text = format!("cannot delete inactive domain with {} snapshots", self.snapshots);
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        let nvram = config.os.nvram.as_ref().and_then(|nvram| nvram.path.clone());
        let nvram = nvram.map(PathBuf::from).filter(|path| path.exists());
        if nvram.is_some() && !flags.intersects(UndefineFlags::NVRAM | UndefineFlags::KEEP_NVRAM) {
            let text = "cannot undefine domain with nvram";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        let mut files = Vec::new();
        if let Some(path) = nvram.filter(|_| flags.contains(UndefineFlags::NVRAM)) {
            if self.guest.is_some() {
                let text = "the guest runs with its nvram, which cannot be deleted now";
                return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
            }
            files.push(path);
        }
        if self.tpm_goes(config, flags)? {
            files.push(self.tpm_state().folder().to_owned());
        }
        self.keep_tpm_of_guest(flags).await?;
        self.forget_definition(files).await?;
        self.emit_lifecycle(LifecycleEvent::UNDEFINED, UndefinedDetail::REMOVED.0);
        Ok(())
    }

    /// Removes the record and `files` that go with it, then the definition.
    ///
    /// # Errors
    /// Nothing was removed: the store does not take it, or a file cannot be had.
    pub(super) async fn forget_definition(&mut self, files: Vec<PathBuf>) -> Result<(), Error> {
        let mut discarded: Vec<Discarded> = Vec::new();
        let mut outcome = Ok(());
        for path in files {
            match Discarded::set_aside(path.clone()) {
                Ok(one) => discarded.extend(one),
                Err(error) => {
                    outcome = Err(refuse::system(&format!("failed to remove '{}'", path.display()), &error));
                    break;
                }
            }
        }
        let uuid = self.uuid;
        let forget = move |write: &mut ferry_store::Write<'_>| {
            write.remove_snapshots(uuid)?;
            write.remove_definition(uuid)
        };
        if outcome.is_ok() {
            outcome = self.host.store(move |store| store.write(forget)).await.map(drop);
        }
        let is_forgotten = outcome.is_ok();
        for one in discarded {
            let settled = if is_forgotten { one.remove() } else { one.put_back() };
            if let Err(error) = settled {
                tracing::warn!(domain = %self.name, %error, "a file of the definition waits for the next start of the daemon");
            }
        }
        outcome?;
        self.snapshots = 0;
        self.config = None;
        self.autostart = false;
        Ok(())
    }

    /// Whether the host starts the domain when it boots.
    pub(super) async fn set_autostart(&mut self, autostart: bool) -> Result<(), Error> {
        if self.config.is_none() {
            let text = "cannot set autostart for transient domain";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        let uuid = self.uuid;
        self.host.store(move |store| store.set_autostart(uuid, autostart)).await?;
        self.autostart = autostart;
        Ok(())
    }
}
