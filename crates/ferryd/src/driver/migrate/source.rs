//! The source's hands: Begin, Perform and Confirm, and every effect of `ferry_migration::source`.
//!
//! ```text
//!   calls, QMP events, journal results --Input--> Source::step --Effect--> QEMU, journal, answers
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use ferry_domxml::{Domain, FormatOptions};
use ferry_migration::journal::SourceRecord;
use ferry_migration::params::Request as Parameters;
use ferry_migration::plan::BestEffort;
use ferry_migration::policy;
use ferry_migration::source::{Answer, Call, Denied, Effect, Ended, Input, Report, Source};
use ferry_migration::stats::{JobStats, Progress};
use ferry_migration::wire::Context;
use ferry_migration::{Evidence, Peer, Standing};
use ferry_qmp::commands::migration::{
    CapabilityState, Migrate, MigrateCancel, MigrateContinue, MigrateSetCapabilities, MigrateSetParameters,
    MigrateStartPostcopy, MigrationCapability, MigrationParameters, MigrationStatus,
};
use ferry_qmp::commands::progress::QueryMigrate;
use ferry_qmp::commands::run::{Cont, QueryStatus, Stop};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::values::{
    DomainState, LifecycleEvent, PausedReason, ResumedDetail, RunningReason, ShutdownDetail,
};
use tokio::time::Instant;

use super::{Begun, Conversation, DOUBT_AFTER, Migration, Names, Pending, cookies};
use crate::driver::guest::Ending;
use crate::driver::migrate::cookies::Answered;
use crate::driver::{Driver, Reply, answer, now_ms};
use crate::listen::Client;
use crate::refuse;

/// How long `cont` is tried again while QEMU winds up a migration that did not happen.
const RESUME_PATIENCE: Duration = Duration::from_secs(10);

/// How long QEMU may be between two tries of `cont`: its main loop needs a turn, not more.
const RESUME_PAUSE: Duration = Duration::from_millis(5);

/// An outgoing migration.
pub(crate) struct Outgoing {
    pub(super) machine: Source,
    pub(super) names: Names,
    pub(super) conversation: Conversation,
    /// The start of QEMU that this migration is about.
    pub(super) launch_id: String,
    /// The job slot is taken: from Begin (with change protection) or Perform until the end.
    pub(in crate::driver) job_open: bool,
    /// The connection that coordinates.
    pub(super) client: Option<u64>,
    pub(super) deadline: Option<Instant>,
    pub(super) retry: Option<Instant>,
    pub(super) standing_since_ms: u64,
    /// The user stopped the guest meanwhile: it stays stopped if it stays here.
    pub(super) suspended: bool,
    /// What the job has done so far; the totals once the copy is complete.
    pub(in crate::driver) stats: JobStats,
    parameters: Parameters,
    /// What Begin answers, until it does.
    begun: Option<Begun>,
    begin: Pending<Begun>,
    perform: Pending<Vec<u8>>,
    confirm: Pending<()>,
    confirm_cancelled: bool,
    abort: Pending<()>,
    destroy: Pending<()>,
    postcopy: Pending<()>,
    /// Why QEMU said that the copy failed.
    words: Option<String>,
}

impl Driver {
    /// Begin: checks whether the guest may leave, and says what the destination is to make ready for.
    pub(super) async fn begin(&mut self, parameters: Parameters, client: Client, reply: Reply<Begun>) {
        let begun = match self.offer(&parameters) {
            Ok(begun) => begun,
            Err(error) => return answer(reply, Err(error)),
        };
        let names = begun.1;
        if parameters.is_offline() || !parameters.flags.contains(MigrateFlags::CHANGE_PROTECTION) {
            // No job: the call may be repeated, and Perform opens the migration under these names.
            self.host.registry.enlist(names.id, self.uuid);
            self.offered = Some(names);
            self.offer_heard = false;
            return self.answer(reply, Ok(begun.0));
        }
        self.watch(client.clone());
        self.open(names, parameters, Some(client.id()));
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.begun = Some(begun.0);
            outgoing.begin.set(reply);
        }
        self.start_source().await;
    }

    /// Perform: copies memory and state to where the destination listens.
    pub(super) async fn perform(
        &mut self,
        parameters: Parameters,
        cookie: Vec<u8>,
        client: Client,
        reply: Reply<Vec<u8>>,
    ) {
        if let Err(error) = self.running() {
            return answer(reply, Err(error));
        }
        let prepared = match cookies::read_prepared(self, &cookie) {
            Ok(prepared) => prepared,
            Err(error) => return answer(reply, Err(error)),
        };
        if !matches!(self.migration, Some(Migration::Out(_))) {
            if let Err(error) = self.refuse_second_migration() {
                return answer(reply, Err(error));
            }
            let names = self.offered.take().unwrap_or_else(|| Names::new(self.epoch.next()));
            let heard = std::mem::take(&mut self.offer_heard);
            self.watch(client.clone());
            self.open(names, parameters.clone(), Some(client.id()));
            self.start_source().await;
            if let Some(Migration::Out(outgoing)) = &mut self.migration {
                outgoing.conversation.heard = heard;
            }
        }
        let peer = self.meet(prepared).await;
        let Some(Migration::Out(outgoing)) = &mut self.migration else {
            let text = "the migration could not be opened: its journal cannot be written";
            return answer(reply, Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text)));
        };
        outgoing.parameters = parameters;
        outgoing.job_open = true;
        outgoing.perform.set(reply);
        self.call_source(Input::Perform(peer)).await;
    }

    /// Confirm: the coordinator's word about the destination. It counts as a question unless it is proven.
    pub(super) async fn confirm(
        &mut self,
        parameters: Parameters,
        cookie: Vec<u8>,
        cancelled: bool,
        reply: Reply<()>,
    ) {
        if parameters.is_offline() {
            let outcome = self.confirm_offline(&parameters, cancelled).await;
            return self.answer(reply, outcome);
        }
        let (evidence, theirs) = match cookies::read_arrived(self, &cookie) {
            Ok(read) => read,
            // An unreadable cookie proves nothing; the call is still a question.
            Err(error) => {
                tracing::warn!(domain = %self.name, %error, "the confirm cookie is not readable");
                (Evidence::None, None)
            }
        };
        let Some(Migration::Out(outgoing)) = &mut self.migration else {
            let text = format!("domain '{}' is not being migrated", self.name);
            return answer(reply, Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)));
        };
        let undefine = if parameters.flags.contains(MigrateFlags::UNDEFINE_SOURCE) {
            MigrateFlags::UNDEFINE_SOURCE
        } else {
            MigrateFlags::NONE
        };
        outgoing.confirm.set(reply);
        outgoing.confirm_cancelled = cancelled;
        if let Some(theirs) = &theirs {
            outgoing.stats = outgoing.stats.completed_by(theirs);
        }
        outgoing.parameters.flags = outgoing.parameters.flags | undefine;
        self.call_source(Input::Confirm { cancelled, evidence }).await;
    }

    /// Switches the copy to post-copy.
    pub(in crate::driver) async fn start_postcopy(&mut self, reply: Reply<()>) {
        if let Err(error) = self.running() {
            return answer(reply, Err(error));
        }
        let Some(Migration::Out(outgoing)) = &mut self.migration else {
            let text = "post-copy can only be started while outgoing migration is in progress";
            return answer(reply, Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)));
        };
        outgoing.postcopy.set(reply);
        self.call_source(Input::StartPostcopy).await;
    }

    /// Abort while the guest is leaving.
    pub(in crate::driver) async fn abort_leaving(&mut self, reply: Reply<()>) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.abort.set(reply);
            self.call_source(Input::Abort).await;
        }
    }

    /// Destroy while the guest is leaving.
    pub(super) async fn destroy_leaving(&mut self, reply: Reply<()>) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.destroy.set(reply);
            self.call_source(Input::Destroy).await;
        }
    }

    pub(super) async fn source_status(&mut self, status: MigrationStatus) {
        if let Some(report) = report(&status) {
            if report == Report::Failed {
                self.keep_words().await;
            }
            self.drive_source(Input::Qemu(report)).await;
        }
    }

    pub(super) async fn source_resumed(&mut self) {
        if self.state == DomainState::PAUSED {
            self.note_resumed().await;
        }
        self.drive_source(Input::Qemu(Report::Resumed)).await;
    }

    pub(super) async fn source_exit(&mut self) {
        if let Some(guest) = &mut self.guest {
            guest.ending.get_or_insert(Ending::Crashed);
        }
        self.drive_source(Input::Qemu(Report::Died)).await;
        self.settle_end().await;
    }

    /// With ABORT_ON_ERROR a guest that met an I/O error stays.
    pub(super) async fn source_io_error(&mut self) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration
            && outgoing.parameters.flags.contains(MigrateFlags::ABORT_ON_ERROR)
        {
            outgoing.words = Some("I/O error of the guest".to_owned());
            outgoing.suspended = true;
            self.drive_source(Input::Abort).await;
        }
    }

    /// Makes an offer out of the running guest: cookie, definition and names.
    fn offer(&mut self, parameters: &Parameters) -> Result<(Begun, Names), Error> {
        self.refuse_second_migration()?;
        self.refuse_in_doubt("migrate")?;
        let current = match (&self.guest, &self.config) {
            (Some(guest), _) => &guest.domain,
            (None, Some(config)) if parameters.is_offline() => config,
            (None, _) => return Err(refuse::not_running()),
        };
        let definition = match (&parameters.destination_xml, parameters.is_offline(), &self.config) {
            (Some(xml), _, _) => {
                let wished = refuse::parse(xml)?;
                ferry_domxml::abi::check(current, &wished).map_err(refuse::abi)?;
                wished
            }
            (None, true, Some(config)) => Domain::clone(config),
            (None, _, _) => Domain::clone(current),
        };
        let stuck = (self.state, self.reason) == (DomainState::PAUSED, PausedReason::IOERROR.0);
        if stuck && parameters.flags.contains(MigrateFlags::ABORT_ON_ERROR) {
            let text = "cannot migrate domain with I/O error";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        let names = Names::new(self.epoch.next());
        let xml = definition.format(FormatOptions::MIGRATION);
        Ok((Begun { cookie: cookies::begin(self, &names, parameters), xml }, names))
    }

    fn refuse_second_migration(&self) -> Result<(), Error> {
        match &self.migration {
            Some(migration) if migration.occupies() => {
                let text = format!("another migration job is already running for domain '{}'", self.name);
                Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text))
            }
            Some(_) => self.refuse_in_doubt("migrate"),
            None => Ok(()),
        }
    }

    /// Puts the machine in place; [`Driver::start_source`] makes it move.
    fn open(&mut self, names: Names, parameters: Parameters, client: Option<u64>) {
        self.make_room();
        let launch_id = self.guest.as_ref().map(|guest| guest.launch_id.clone()).unwrap_or_default();
        self.host.registry.enlist(names.id, self.uuid);
        let was_running = self.state == DomainState::RUNNING;
        let (machine, effects) = Source::begin(names.id, parameters.plan(was_running));
        self.epoch = names.epoch;
        tracing::info!(domain = %self.uuid, migration = %names.id, epoch = names.epoch.0, "leaving");
        self.migration =
            Some(Migration::Out(Box::new(Outgoing::new(machine, names, parameters, (launch_id, client)))));
        self.opening = effects;
    }

    async fn start_source(&mut self) {
        let effects = std::mem::take(&mut self.opening);
        let follow = self.perform_source_effects(effects).await;
        self.run_source(follow).await;
    }

    /// Feeds a call; what the machine denies, the caller is told.
    async fn call_source(&mut self, input: Input) {
        if let Err(denied) = self.step_source(input).await {
            self.deny_source(input, denied);
        }
    }

    /// Feeds an event; a machine that has no use for it stays as it is.
    pub(super) async fn drive_source(&mut self, input: Input) {
        if let Err(denied) = self.step_source(input).await {
            tracing::debug!(domain = %self.name, %denied, ?input, "the source takes no such input now");
        }
    }

    async fn step_source(&mut self, input: Input) -> Result<(), Denied> {
        let effects = self.turn_source(input)?;
        let follow = self.perform_source_effects(effects).await;
        self.run_source(follow).await;
        Ok(())
    }

    /// Feeds what the effects brought about, until nothing is left.
    pub(super) async fn run_source(&mut self, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            match self.turn_source(input) {
                Ok(effects) => {
                    let mut follow = self.perform_source_effects(effects).await;
                    // What follows from this step comes before what was waiting.
                    follow.append(&mut inputs);
                    inputs = follow;
                }
                Err(denied) => tracing::error!(domain = %self.name, %denied, ?input, "out of turn"),
            }
        }
        self.after_source_steps();
    }

    /// One step of the machine.
    fn turn_source(&mut self, input: Input) -> Result<Vec<Effect>, Denied> {
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return Ok(Vec::new()) };
        let before = (outgoing.machine.phase_name(), outgoing.machine.standing());
        let (machine, effects) = outgoing.machine.clone().step(input)?;
        if machine.standing() != before.1 {
            outgoing.standing_since_ms = now_ms();
        }
        if machine.phase_name() != before.0 {
            outgoing.conversation.impatient();
            tracing::info!(
                domain = %self.uuid,
                migration = %outgoing.names.id,
                from = before.0,
                to = machine.phase_name(),
                "source"
            );
        }
        outgoing.machine = machine;
        Ok(effects)
    }

    /// Sets the timers, and lets go of a machine that is over.
    fn after_source_steps(&mut self) {
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        // Until the coordinator has gone it may still call, and is to be told what has become of the guest.
        if outgoing.machine.is_over() && outgoing.client.is_none() {
            self.host.registry.strike(outgoing.machine.id());
            self.migration = None;
            return;
        }
        if !outgoing.machine.wants_retry() {
            outgoing.retry = None;
        } else if outgoing.retry.is_none() {
            outgoing.retry = Some(outgoing.conversation.next_retry());
        }
        if outgoing.machine.standing() != Standing::HandedOver {
            outgoing.deadline = None;
        } else if outgoing.deadline.is_none() {
            outgoing.deadline = Some(Instant::now() + DOUBT_AFTER);
        }
    }

    pub(super) async fn perform_source_effects(&mut self, effects: Vec<Effect>) -> VecDeque<Input> {
        let mut follow = VecDeque::new();
        for effect in effects {
            if let Some(input) = self.perform_source_effect(effect).await {
                follow.push_back(input);
            }
        }
        follow
    }

    async fn perform_source_effect(&mut self, effect: Effect) -> Option<Input> {
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
                let written = self.write_source_record(record).await;
                if record == SourceRecord::Granted {
                    self.close_figures().await;
                }
                if record == SourceRecord::Acknowledged {
                    self.purge_journal().await;
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
                Err(error) => self.copy_refused(&error),
            },
            Effect::Continue => {
                let command = MigrateContinue { state: MigrationStatus::PreSwitchover };
                match self.execute(&command).await {
                    Ok(_) => None,
                    Err(_) => self.query_copy().await.map(Input::Qemu),
                }
            }
            Effect::SwitchToPostcopy => {
                if let Err(error) = self.execute(&MigrateStartPostcopy).await {
                    tracing::warn!(domain = %self.name, %error, "QEMU does not switch to post-copy");
                }
                None
            }
            Effect::CancelCopy => {
                if let Err(error) = self.execute(&MigrateCancel).await {
                    tracing::warn!(domain = %self.name, %error, "QEMU does not cancel the copy");
                }
                None
            }
            Effect::QueryCopy => self.query_copy().await.map(Input::QemuNow),
            Effect::Resume => {
                self.resume_after_migration().await;
                None
            }
            Effect::EndQemu => {
                self.let_go().await;
                None
            }
            Effect::Tell(word) => {
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

    async fn execute<C: ferry_qmp::Command>(&self, command: &C) -> Result<C::Reply, Error> {
        self.running()?.monitor.execute(command).await.map_err(refuse::monitor)
    }

    async fn stop_for_migration(&mut self) {
        if self.state != DomainState::RUNNING {
            return;
        }
        if let Err(error) = self.execute(&Stop).await {
            tracing::warn!(domain = %self.name, %error, "QEMU does not stop the CPUs");
            return;
        }
        self.set_state(DomainState::PAUSED, PausedReason::MIGRATION.0);
        self.note_stopped();
        self.emit_lifecycle(LifecycleEvent::SUSPENDED, ferry_rpc::values::SuspendedDetail::MIGRATED.0);
    }

    /// The pause begins.
    pub(super) fn note_stopped(&mut self) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.stats = outgoing.stats.stopped(now_ms());
        }
    }

    async fn start_copy(&mut self) -> Result<(), Error> {
        let Some(Migration::Out(outgoing)) = &self.migration else { return Ok(()) };
        let parameters = &outgoing.parameters;
        let Some(uri) = parameters.data_uri()? else {
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, "no migration URI"));
        };
        let uri = uri.qemu_connect()?;
        let switched = [
            (MigrationCapability::Events, true),
            (MigrationCapability::PauseBeforeSwitchover, true),
            (MigrationCapability::AutoConverge, parameters.flags.contains(MigrateFlags::AUTO_CONVERGE)),
            (MigrationCapability::PostcopyRam, parameters.flags.contains(MigrateFlags::POSTCOPY)),
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
            ..MigrationParameters::default()
        };
        self.execute(&MigrateSetCapabilities { capabilities: capabilities.to_vec() }).await?;
        self.execute(&MigrateSetParameters(tuning)).await?;
        self.execute(&Migrate::to(uri)).await?;
        Ok(())
    }

    /// QEMU did not even start the copy.
    fn copy_refused(&mut self, error: &Error) -> Option<Input> {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.words = Some(error.message.clone());
        }
        Some(Input::Qemu(Report::Failed))
    }

    /// Asks QEMU how the copy stands.
    async fn query_copy(&self) -> Option<Report> {
        match self.execute(&QueryMigrate).await {
            Ok(info) => Some(info.status.as_ref().and_then(report).unwrap_or(Report::Cancelled)),
            // A QEMU that does not answer is dying or stuck; its end is reported by its pidfd.
            Err(_) => None,
        }
    }

    /// Keeps what QEMU says about a copy that failed.
    async fn keep_words(&mut self) {
        let words = self.execute(&QueryMigrate).await.ok().and_then(|info| info.error_desc);
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.words = outgoing.words.take().or(words);
        }
    }

    /// A pass over the guest's memory begins: one that does not converge is allowed a longer pause.
    pub(super) async fn source_pass(&mut self, pass: u64) {
        let limit = policy::downtime_limit_ms(self.limits.downtime_ms, pass);
        if limit == policy::downtime_limit_ms(self.limits.downtime_ms, pass.saturating_sub(1)) {
            return;
        }
        let tuning = MigrationParameters { downtime_limit: Some(limit), ..MigrationParameters::default() };
        if let Err(error) = self.execute(&MigrateSetParameters(tuning)).await {
            tracing::warn!(domain = %self.name, %error, "the downtime limit could not be raised");
        }
    }

    /// Makes the CPUs run again after a migration that did not happen.
    async fn resume_after_migration(&mut self) {
        let suspended = match &self.migration {
            Some(Migration::Out(outgoing)) => outgoing.suspended,
            Some(Migration::In(_)) | None => false,
        };
        if self.execute(&QueryStatus).await.is_ok_and(|status| status.running) {
            // It was never stopped, or QEMU has set it going itself; then RESUME says so.
            return;
        }
        if suspended {
            self.set_state(DomainState::PAUSED, PausedReason::USER.0);
            return self.record_or_warn().await;
        }
        let patience = Instant::now() + RESUME_PATIENCE;
        while let Err(error) = self.execute(&Cont).await {
            // QEMU refuses while it still winds up the copy, and says so only in words.
            if Instant::now() > patience || self.guest.is_none() {
                tracing::error!(domain = %self.name, %error, "the guest could not be resumed");
                self.set_state(DomainState::PAUSED, PausedReason::API_ERROR.0);
                return self.record_or_warn().await;
            }
            tokio::time::sleep(RESUME_PAUSE).await;
        }
        self.note_resumed().await;
    }

    async fn note_resumed(&mut self) {
        if self.state == DomainState::RUNNING {
            return self.set_state(DomainState::RUNNING, RunningReason::MIGRATION_CANCELED.0);
        }
        self.set_state(DomainState::RUNNING, RunningReason::MIGRATION_CANCELED.0);
        self.record_or_warn().await;
        self.emit_lifecycle(LifecycleEvent::RESUMED, ResumedDetail::MIGRATED.0);
    }

    /// The guest runs on the destination: its QEMU here ends, and nobody waits for that.
    async fn let_go(&mut self) {
        let Some(guest) = self.guest.take() else { return };
        self.emit_lifecycle(LifecycleEvent::SHUTDOWN, ShutdownDetail::HOST.0);
        guest.bury();
        self.settle_state(Ending::Migrated).await;
    }

    async fn finish_leaving(&mut self, ended: Ended) {
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        outgoing.job_open = false;
        let undefine = outgoing.parameters.flags.contains(MigrateFlags::UNDEFINE_SOURCE);
        match ended {
            Ended::Moved => {
                let stats = outgoing.stats;
                self.complete_job(stats);
                if undefine && self.config.is_some() {
                    // The guest is the destination's already; a definition that stays is only untidy.
                    if let Err(error) = self.forget_definition().await {
                        tracing::warn!(domain = %self.name, %error, "the definition stays on the source");
                    }
                }
            }
            Ended::Stayed(why) => {
                tracing::info!(domain = %self.uuid, %why, "the guest stays");
                self.completed_job = None;
            }
        }
        self.write_history(&ended).await;
    }

    async fn confirm_offline(&mut self, parameters: &Parameters, cancelled: bool) -> Result<(), Error> {
        self.offered = None;
        let undefine = parameters.flags.contains(MigrateFlags::UNDEFINE_SOURCE);
        if !cancelled && undefine && self.config.is_some() && self.guest.is_none() {
            self.forget_definition().await?;
        }
        Ok(())
    }

    async fn answer_source(&mut self, reply: Answer) {
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
    async fn close_figures(&mut self) {
        self.note_stopped();
        let info = self.execute(&QueryMigrate).await.ok();
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            let progress = info.as_ref().map(Progress::from).unwrap_or_default();
            outgoing.stats = outgoing.stats.sent(progress, now_ms());
        }
    }

    /// Perform's cookie; it travels in the coordinator's hands, and beside a grant that is told.
    pub(super) fn grant_cookie(&self) -> Vec<u8> {
        cookies::performed(self)
    }

    /// Finds out who is at the other end, before anything depends on it.
    async fn meet(&mut self, prepared: Answered) -> Peer {
        let host = self.host.uuid;
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return prepared.without_address };
        let heard = outgoing.conversation.heard;
        outgoing.conversation = Conversation::with(prepared.peer, Some(&outgoing.names), host);
        outgoing.conversation.heard = heard;
        let is_ferry = prepared.without_address == Peer::Mute(BestEffort::NoAddress);
        if is_ferry && outgoing.conversation.reaches().await { Peer::Ferry } else { prepared.without_address }
    }

    fn deny_source(&mut self, input: Input, denied: Denied) {
        let name = self.name.clone();
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        let error = outgoing.context(&name).denied_by_source(denied.refusal);
        match input {
            Input::Perform(_) => outgoing.answer(Call::Perform, Err(error)),
            Input::Confirm { .. } => outgoing.answer(Call::Confirm, Err(error)),
            Input::Abort => outgoing.answer(Call::Abort, Err(error)),
            Input::Destroy => outgoing.answer(Call::Destroy, Err(error)),
            Input::StartPostcopy => outgoing.answer(Call::StartPostcopy, Err(error)),
            _ => tracing::error!(%denied, ?input, "an event was denied"),
        }
    }
}

impl Outgoing {
    /// A migration that begins now; `client` coordinates it.
    pub(super) fn new(
        machine: Source,
        names: Names,
        parameters: Parameters,
        (launch_id, client): (String, Option<u64>),
    ) -> Outgoing {
        Outgoing {
            machine,
            names,
            launch_id,
            conversation: Conversation::default(),
            job_open: true,
            client,
            deadline: None,
            retry: None,
            standing_since_ms: now_ms(),
            suspended: false,
            stats: JobStats::started(now_ms()),
            parameters,
            begun: None,
            begin: Pending::default(),
            perform: Pending::default(),
            confirm: Pending::default(),
            confirm_cancelled: false,
            abort: Pending::default(),
            destroy: Pending::default(),
            postcopy: Pending::default(),
            words: None,
        }
    }

    /// Answers a call whose success carries nothing; Begin's and Perform's do only when they fail.
    fn answer(&mut self, call: Call, outcome: Result<(), Error>) {
        match (call, outcome) {
            (Call::Begin, Err(error)) => self.begin.answer(Err(error)),
            (Call::Perform, Err(error)) => self.perform.answer(Err(error)),
            (Call::Begin | Call::Perform, Ok(())) => {}
            (Call::Confirm, outcome) => self.confirm.answer(outcome),
            (Call::Abort, outcome) => self.abort.answer(outcome),
            (Call::Destroy, outcome) => self.destroy.answer(outcome),
            (Call::StartPostcopy, outcome) => self.postcopy.answer(outcome),
            (Call::Resolve, _) => {}
        }
    }

    /// What the texts of errors need.
    fn context<'a>(&'a self, domain: &'a str) -> Context<'a> {
        Context { domain, qemu_error: self.words.as_deref() }
    }

    /// The whole request.
    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}

/// What a status of QEMU's copy means to the source; `None` for those that mean nothing.
fn report(status: &MigrationStatus) -> Option<Report> {
    match status {
        MigrationStatus::Setup | MigrationStatus::Active => Some(Report::Active),
        MigrationStatus::PreSwitchover => Some(Report::PreSwitchover),
        MigrationStatus::Device => Some(Report::Device),
        MigrationStatus::PostcopyActive => Some(Report::PostcopyActive),
        MigrationStatus::PostcopyPaused
        | MigrationStatus::PostcopyRecover
        | MigrationStatus::PostcopyRecoverSetup => Some(Report::PostcopyPaused),
        MigrationStatus::Completed => Some(Report::Completed),
        MigrationStatus::Failed => Some(Report::Failed),
        MigrationStatus::Cancelled | MigrationStatus::None => Some(Report::Cancelled),
        MigrationStatus::Cancelling
        | MigrationStatus::Colo
        | MigrationStatus::WaitUnplug
        | MigrationStatus::Other(_) => None,
    }
}
