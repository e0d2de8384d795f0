//! What the source's machine wants done: every effect, on QEMU, the journal and those who wait for an answer.

use std::collections::VecDeque;
use std::time::Duration;

use ferry_domain::{Happening, State};
use ferry_migration::Standing;
use ferry_migration::journal::SourceRecord;
use ferry_migration::policy;
use ferry_migration::source::{Answer, Call, Effect, Ended, Input, Report};
use ferry_migration::stats::Progress;
use ferry_migration::wire::Direction;
use ferry_qmp::commands::migration::{
    CapabilityState, Migrate, MigrateCancel, MigrateContinue, MigrateSetCapabilities, MigrateSetParameters,
    MigrationCapability, MigrationParameters, MigrationStatus,
};
use ferry_qmp::commands::progress::QueryMigrate;
use ferry_qmp::commands::run::{Cont, QueryStatus, Stop};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::values::{PausedReason, RunningReason};
use tokio::time::Instant;

use super::super::by_hand::broken_off;
use super::super::overlays::Sent;
use super::super::{Migration, cookies};
use super::report;
use crate::driver::guest::Ending;
use crate::driver::{Driver, now_ms};
use crate::fault;
use crate::perform::activate;
use crate::refuse;

/// How long `cont` is tried again while QEMU winds up a migration that did not happen.
const RESUME_PATIENCE: Duration = Duration::from_secs(10);

/// How long QEMU may be between two tries of `cont`: its main loop needs a turn, not more.
const RESUME_PAUSE: Duration = Duration::from_millis(5);

impl Driver {
    pub(in crate::driver) async fn perform_source_effects(
        &mut self,
        effects: Vec<Effect>,
    ) -> VecDeque<Input> {
        let mut follow = VecDeque::new();
        for effect in effects {
            if let Some(input) = self.perform_source_effect(effect).await {
                follow.push_back(input);
            }
        }
        follow
    }

    pub(in crate::driver) async fn perform_source_effect(&mut self, effect: Effect) -> Option<Input> {
        let holds_its_guest = self.holds_its_guest();
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return None };
        match effect {
            // A record of an earlier start of this guest says nothing of the QEMU that runs now.
            Effect::StopCpus
            | Effect::StartCopy
            | Effect::Continue
            | Effect::SwitchToPostcopy
            | Effect::CancelCopy
            | Effect::QueryCopy
            | Effect::Resume
            | Effect::EndQemu
                if !holds_its_guest =>
            {
                None
            }
            Effect::Journal(record) => {
                let id = outgoing.names.id;
                let written = self.write_source_record(record).await;
                if record == SourceRecord::Granted {
                    self.close_figures().await;
                }
                if record == SourceRecord::Acknowledged {
                    self.purge_journal(id).await;
                }
                Some(Input::Journaled(written))
            }
            Effect::Probe => Some(Input::Probed(self.probe_journal().await)),
            Effect::StopCpus => {
                self.stop_for_migration().await;
                None
            }
            Effect::StartCopy => match self.start_copy().await {
                Ok(()) => None,
                Err(error) => self.copy_refused(&error).await,
            },
            Effect::Continue => {
                fault::point!("switchover");
                let command = MigrateContinue { state: MigrationStatus::PreSwitchover };
                match self.execute(&command).await {
                    Ok(_) => None,
                    Err(_) => self.query_copy().await.map(Input::Qemu),
                }
            }
            Effect::SwitchToPostcopy => {
                self.want_switch().await;
                None
            }
            Effect::CancelCopy => {
                if let Err(error) = self.execute(&MigrateCancel).await {
                    tracing::warn!(domain = %self.name, %error, "QEMU does not cancel the copy");
                }
                // It may have ended, or be past the switch, without another event to come.
                let found = self.execute(&QueryMigrate).await.ok();
                found.and_then(|copy| copy.status.as_ref().and_then(report)).map(Input::Qemu)
            }
            Effect::QueryCopy => self.query_copy().await.map(Input::QemuNow),
            Effect::Resume => {
                self.resume_after_migration().await;
                // Running, or stopped by its user's wish: the guest has been given back.
                let given_back = self.guest.is_some()
                    && (matches!(self.state(), State::Running(_)) || self.stays_stopped().is_some());
                given_back.then_some(Input::Qemu(Report::Resumed))
            }
            Effect::EndQemu if outgoing.machine.standing() == Standing::Here => {
                // Its user destroyed it on its way.
                self.end_guest(Ending::Destroyed).await;
                None
            }
            Effect::EndQemu => {
                self.let_go().await;
                None
            }
            Effect::Tell(word) => {
                fault::point!("telling-{word}");
                self.tell(word);
                None
            }
            Effect::Answer(reply) => {
                self.answer_source(reply).await;
                None
            }
            Effect::Finished(ended) => {
                self.finish_leaving(ended).await;
                None
            }
            Effect::Alarm => {
                tracing::error!(
                    domain = %self.uuid,
                    migration = %outgoing.names.id,
                    "THE GUEST RUNS ON THE DESTINATION although this host was told to keep it: one of the two must be destroyed by hand"
                );
                None
            }
        }
    }

    pub(in crate::driver) async fn execute<C: ferry_qmp::Command>(
        &self,
        command: &C,
    ) -> Result<C::Reply, Error> {
        self.running()?.monitor.execute(command).await.map_err(refuse::monitor)
    }

    pub(in crate::driver) async fn stop_for_migration(&mut self) {
        if !matches!(self.state(), State::Running(_)) {
            return;
        }
        if let Err(error) = self.execute(&Stop).await {
            tracing::warn!(domain = %self.name, %error, "QEMU does not stop the CPUs");
            return;
        }
        self.note_stopped();
        self.happen(Happening::Stopped(PausedReason::MIGRATION));
    }

    /// The pause begins.
    pub(in crate::driver) fn note_stopped(&mut self) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.stats = outgoing.stats.stopped(now_ms());
        }
    }

    pub(in crate::driver) async fn start_copy(&mut self) -> Result<(), Error> {
        let Some(Migration::Out(outgoing)) = &self.migration else { return Ok(()) };
        let parameters = &outgoing.parameters;
        let Some(uri) = parameters.data_uri()? else {
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, "no migration URI"));
        };
        let uri = uri.qemu_connect()?;
        let guest = self.running()?;
        if matches!(self.state(), State::Paused(_)) {
            let activated = activate::activate(&guest.monitor, &guest.capabilities, &guest.run_dir).await;
            activated.map_err(refuse::monitor)?;
        }
        let switched = [
            (MigrationCapability::Events, true),
            (MigrationCapability::PauseBeforeSwitchover, true),
            // `completed` then says that the destination has loaded it all, and a load that fails is seen here.
            (MigrationCapability::ReturnPath, true),
            (MigrationCapability::AutoConverge, parameters.flags.contains(MigrateFlags::AUTO_CONVERGE)),
            (MigrationCapability::PostcopyRam, parameters.flags.contains(MigrateFlags::POSTCOPY)),
            (MigrationCapability::DirtyBitmaps, !outgoing.bitmaps.is_empty()),
        ];
        let capabilities = switched.map(|(capability, state)| CapabilityState { capability, state });
        let postcopy_mib = parameters.postcopy_bandwidth_mib.or(self.limits.postcopy_speed_mib);
        let percent = |value: Option<i32>| value.and_then(|percent| u8::try_from(percent).ok());
        let tuning = MigrationParameters {
            downtime_limit: Some(policy::downtime_limit_ms(self.limits.downtime_ms, 1)),
            max_bandwidth: Some(policy::max_bandwidth_bytes(parameters.bandwidth_mib, self.limits.speed_mib)),
            max_postcopy_bandwidth: postcopy_mib.map(|mib| mib.saturating_mul(1 << 20)),
            cpu_throttle_initial: percent(parameters.auto_converge_initial),
            cpu_throttle_increment: percent(parameters.auto_converge_increment),
            block_bitmap_mapping: (!outgoing.bitmaps.is_empty())
                .then(|| outgoing.bitmaps.iter().map(Sent::mapping).collect()),
            ..MigrationParameters::default()
        };
        self.execute(&MigrateSetCapabilities { capabilities: capabilities.to_vec() }).await?;
        self.execute(&MigrateSetParameters(tuning)).await?;
        self.execute(&Migrate::to(uri)).await?;
        fault::point!("copying");
        Ok(())
    }

    /// QEMU did not even start the copy, or does not say that it did.
    pub(in crate::driver) async fn copy_refused(&mut self, error: &Error) -> Option<Input> {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.words = Some(error.message.clone());
        }
        // QEMU may have taken the command and not said so; what it takes next is to stop that.
        let _ = self.execute(&MigrateCancel).await;
        Some(Input::Qemu(Report::Failed))
    }

    /// Asks QEMU how the copy stands.
    pub(in crate::driver) async fn query_copy(&self) -> Option<Report> {
        match self.execute(&QueryMigrate).await {
            Ok(info) => Some(info.status.as_ref().and_then(report).unwrap_or(Report::Cancelled)),
            // A QEMU that does not answer is dying or stuck; its end is reported by its pidfd.
            Err(_) => None,
        }
    }

    /// Keeps what QEMU says about a copy that failed.
    pub(in crate::driver) async fn keep_words(&mut self) {
        let words = self.execute(&QueryMigrate).await.ok().and_then(|info| info.error_desc);
        let words = words.as_deref().map(refuse::copy_words);
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.words = outgoing.words.take().or(words);
        }
    }

    /// A pass over the guest's memory begins: one that does not converge is allowed a longer pause.
    pub(in crate::driver) async fn source_pass(&mut self, pass: u64) {
        let limit = policy::downtime_limit_ms(self.limits.downtime_ms, pass);
        if limit == policy::downtime_limit_ms(self.limits.downtime_ms, pass.saturating_sub(1)) {
            return;
        }
        let tuning = MigrationParameters { downtime_limit: Some(limit), ..MigrationParameters::default() };
        if let Err(error) = self.execute(&MigrateSetParameters(tuning)).await {
            tracing::warn!(domain = %self.name, %error, "the downtime limit could not be raised");
        }
    }

    /// Why the guest stays stopped if it stays here: its user, or an I/O error, has stopped it meanwhile.
    fn stays_stopped(&self) -> Option<PausedReason> {
        match &self.migration {
            Some(Migration::Out(outgoing)) if outgoing.suspended => {
                Some(if outgoing.io_error { PausedReason::IOERROR } else { PausedReason::USER })
            }
            Some(Migration::Out(_) | Migration::In(_)) | None => None,
        }
    }

    /// Makes the CPUs run again after a migration that did not happen.
    pub(in crate::driver) async fn resume_after_migration(&mut self) {
        let suspended = self.stays_stopped();
        if self.execute(&QueryStatus).await.is_ok_and(|status| status.running) {
            // It was never stopped, or QEMU has set it going itself; then RESUME says so.
            return;
        }
        if let Some(reason) = suspended {
            self.happen(Happening::Stopped(reason));
            return self.record_or_warn().await;
        }
        let patience = Instant::now() + RESUME_PATIENCE;
        while let Err(error) = self.execute(&Cont).await {
            // QEMU refuses while it still winds up the copy, and says so only in words.
            let dead = self.guest.as_ref().is_none_or(|guest| guest.process.has_ended());
            let is_past = self.query_copy().await.is_some_and(|report| report.is_past_the_switch());
            if Instant::now() > patience || dead || is_past {
                tracing::error!(domain = %self.name, %error, "the guest could not be resumed");
                let reason = if is_past { PausedReason::POSTCOPY_FAILED } else { PausedReason::API_ERROR };
                self.happen(Happening::Stopped(reason));
                return self.record_or_warn().await;
            }
            tokio::time::sleep(RESUME_PAUSE).await;
        }
        self.note_resumed().await;
    }

    pub(in crate::driver) async fn note_resumed(&mut self) {
        self.happen(Happening::Resumed(RunningReason::MIGRATION_CANCELED));
        self.record_or_warn().await;
    }

    /// The guest runs on the destination: its QEMU here ends, and nobody waits for that.
    pub(in crate::driver) async fn let_go(&mut self) {
        let Some(mut guest) = self.guest.take() else { return };
        guest.kill_tpm().await;
        self.settle_tpm(&guest.domain, Ending::Migrated);
        guest.bury();
        self.settle_state(Ending::Migrated).await;
    }

    pub(in crate::driver) async fn finish_leaving(&mut self, ended: Ended) {
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        outgoing.job_open = false;
        if outgoing.rest.by_hand.take().is_some() {
            // Nothing follows any more.
            outgoing.perform.answer(Err(broken_off(Direction::Out)));
        }
        let undefine = outgoing.parameters.flags.contains(MigrateFlags::UNDEFINE_SOURCE);
        match ended {
            Ended::Moved => {
                let stats = outgoing.stats;
                self.complete_job(stats);
                self.moved_to =
                    self.migration.as_ref().and_then(|migration| migration.conversation().peer.clone());
                if undefine && self.config.is_some() {
                    // The guest is the destination's already; a definition that stays is only untidy.
                    let state = self.tpm_state().folder().to_owned();
                    if let Err(error) = self.forget_definition(vec![state]).await {
                        tracing::warn!(domain = %self.name, %error, "the definition stays on the source");
                    }
                }
            }
            Ended::Stayed(why) => {
                tracing::info!(domain = %self.uuid, %why, "the guest stays");
                let sent = std::mem::take(&mut outgoing.bitmaps);
                self.renew_bitmaps(&sent).await;
                self.completed_job = None;
            }
        }
        self.write_history(&ended).await;
    }

    pub(in crate::driver) async fn answer_source(&mut self, reply: Answer) {
        self.publish();
        if let Answer::Ok(Call::Perform) = reply {
            let cookie = self.grant_cookie();
            if let Some(Migration::Out(outgoing)) = &mut self.migration {
                outgoing.perform.answer(Ok(cookie));
            }
            return;
        }
        let name = self.name.clone();
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        match reply {
            Answer::Ok(Call::Begin) => {
                let begun = outgoing.begun.take();
                outgoing.begin.answer(begun.ok_or_else(|| refuse::internal("Begin has no answer")));
            }
            Answer::Ok(call) => outgoing.answer(call, Ok(())),
            Answer::Failed(call, why) => {
                let error = outgoing.context(&name).failed(why);
                outgoing.answer(call, Err(error));
            }
            Answer::InDoubt(call, doubt) => {
                let error = outgoing.context(&name).in_doubt(doubt);
                outgoing.answer(call, Err(error));
            }
            Answer::Confirm(fate) => {
                let outcome = outgoing.context(&name).confirm(outgoing.confirm_cancelled, fate);
                outgoing.confirm.answer(outcome);
            }
        }
    }

    /// Closes the figures of the copy, before the grant: they travel with it.
    pub(in crate::driver) async fn close_figures(&mut self) {
        self.note_stopped();
        let info = self.execute(&QueryMigrate).await.ok();
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            let progress = info.as_ref().map(Progress::from).unwrap_or_default();
            outgoing.stats = outgoing.stats.sent(progress, now_ms());
        }
    }

    /// Perform's cookie; it travels in the coordinator's hands, and beside a grant that is told.
    pub(in crate::driver) fn grant_cookie(&self) -> Vec<u8> {
        cookies::performed(self)
    }
}
