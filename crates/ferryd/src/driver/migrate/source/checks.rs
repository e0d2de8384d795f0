//! What stands in the way of a guest that is to leave: the facts, gathered anew each time somebody asks.
//!
//! The rules are `ferry_migration::checks`'s. Called for Begin and once more for Perform, which may come much later,
//! or alone; and for a plan, which begins nothing.

use std::sync::Arc;

use ferry_domain::State;
use ferry_domxml::Domain;
use ferry_migration::checks::{self, Ask, Finding, allowed, safe, tpm};
use ferry_migration::overlay::Overlay;
use ferry_qmp::commands::block::QueryBlockJobs;
use ferry_qmp::commands::progress::QueryMigrate;
use ferry_rpc::error::Error;
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::values::PausedReason;

use crate::driver::Driver;
use crate::perform::storage;
use crate::refuse;

impl Driver {
    /// Refuses a migration with these flags if anything stands in its way, and names all of it.
    /// `overlays` are the guest's images that hold nothing but bitmaps, `there` what stands for them on the destination,
    /// once it was asked.
    pub(in crate::driver) async fn check_leaving(
        &mut self,
        flags: MigrateFlags,
        overlays: &[Overlay],
        there: Option<&[Overlay]>,
    ) -> Result<(), Error> {
        let found = self.obstacles(Ask::of(flags), overlays, there).await?;
        for Finding { text, remedy, .. } in &found {
            tracing::info!(domain = %self.name, finding = text, remedy, "the guest may not leave");
        }
        checks::refusal(&found).map_or(Ok(()), Err)
    }

    /// Everything that stands in the way. An error means that QEMU could not be asked.
    pub(super) async fn obstacles(
        &mut self,
        ask: Ask,
        overlays: &[Overlay],
        there: Option<&[Overlay]>,
    ) -> Result<Vec<Finding>, Error> {
        let domain = self.guest.as_ref().map(|guest| &guest.domain).or(self.config.as_ref());
        let Some(domain) = domain.map(Arc::clone) else { return Ok(Vec::new()) };
        let mut found = allowed::findings(&domain, &self.facts(ask).await?, ask);
        if !domain.devices.tpms.is_empty() {
            let place =
                storage::own_file_system(self.tpm_state().folder(), &self.host.config.shared_filesystems);
            found.extend(tpm::findings(Some(&place), ask));
        }
        if ask.trust_disks || ask.offline {
            return Ok(found);
        }
        let disks = self.surveyed(&domain, overlays, there).await;
        let drops_cache = self.guest.as_ref().is_some_and(|guest| guest.capabilities.drops_cache());
        found.extend(safe::findings(&disks, drops_cache || !self.host.config.check_disk_cache));
        Ok(found)
    }

    /// The guest's disks as they lie here.
    pub(super) async fn surveyed(
        &mut self,
        domain: &Domain,
        overlays: &[Overlay],
        there: Option<&[Overlay]>,
    ) -> Vec<safe::Disk> {
        let mut disks =
            self.surveyor.survey(&domain.devices.disks, &self.host.config.shared_filesystems).await;
        for disk in &mut disks {
            let overlay = overlays.iter().find(|overlay| overlay.disk == disk.target);
            disk.overlay = overlay.map(|overlay| safe::Overlay {
                travels: overlay.can_travel(self.sends_bitmaps()),
                is_there: there.map(|there| there.iter().any(|there| there.disk == overlay.disk)),
            });
        }
        disks
    }

    async fn facts(&self, ask: Ask) -> Result<allowed::Facts, Error> {
        let Some(guest) = &self.guest else {
            return Ok(allowed::Facts { snapshots: self.snapshots, ..allowed::Facts::default() });
        };
        let mut facts = allowed::Facts {
            autodestroy: guest.autodestroy.is_some(),
            snapshots: self.snapshots,
            io_error: self.state() == State::Paused(PausedReason::IOERROR),
            ..allowed::Facts::default()
        };
        if !ask.offline {
            let jobs = guest.monitor.execute(&QueryBlockJobs {}).await.map_err(refuse::monitor)?;
            facts.block_jobs = jobs.len();
            let status = guest.monitor.execute(&QueryMigrate).await.map_err(refuse::monitor)?;
            // One that never says it says nothing by its silence.
            facts.blockers = guest.capabilities.reports_blockers().then_some(status.blocked_reasons);
        }
        Ok(facts)
    }
}
