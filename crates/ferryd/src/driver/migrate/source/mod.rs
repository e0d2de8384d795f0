//! The source's hands: an outgoing migration, and the machine that decides about it.
//!
//! ```text
//!   calls ([`calls`], after [`checks`]), QMP events, journal results --Input--> Source::step --Effect--> [`effects`]
//! ```

mod calls;
mod checks;
mod effects;
mod plan;

use std::collections::VecDeque;

use ferry_domain::State;
use ferry_migration::params::Request as Parameters;
use ferry_migration::source::{Call, Denied, Effect, Input, Report, Source};
use ferry_migration::stats::JobStats;
use ferry_migration::wire::Context;
use ferry_migration::{MigrationId, Peer, Standing};
use ferry_qmp::commands::migration::MigrationStatus;
use ferry_rpc::error::Error;
use ferry_rpc::flags::MigrateFlags;
use tokio::time::Instant;

use super::overlays::Sent;
use super::{Begun, Conversation, DOUBT_AFTER, Migration, Names, Pending, Rest};
use crate::driver::guest::Ending;
use crate::driver::{Driver, now_ms};

/// An outgoing migration.
pub(crate) struct Outgoing {
    pub(in crate::driver) machine: Source,
    pub(in crate::driver) names: Names,
    pub(in crate::driver) conversation: Conversation,
    /// The start of QEMU that this migration is about.
    pub(in crate::driver) launch_id: String,
    /// The job slot is taken: from Begin (with change protection) or Perform until the end.
    pub(in crate::driver) job_open: bool,
    /// The connection that coordinates.
    pub(in crate::driver) client: Option<u64>,
    pub(in crate::driver) deadline: Option<Instant>,
    pub(in crate::driver) retry: Option<Instant>,
    pub(in crate::driver) standing_since_ms: u64,
    /// The user stopped the guest meanwhile: it stays stopped if it stays here.
    pub(in crate::driver) suspended: bool,
    /// The guest met an I/O error meanwhile, which has called the migration off.
    pub(in crate::driver) io_error: bool,
    /// What is yet to follow the guest in post-copy.
    pub(in crate::driver) rest: Rest,
    /// What the job has done so far; the totals once the copy is complete.
    pub(in crate::driver) stats: JobStats,
    pub(in crate::driver) parameters: Parameters,
    /// What Begin answers, until it does.
    pub(in crate::driver) begun: Option<Begun>,
    pub(in crate::driver) begin: Pending<Begun>,
    pub(in crate::driver) perform: Pending<Vec<u8>>,
    pub(in crate::driver) confirm: Pending<()>,
    pub(in crate::driver) confirm_cancelled: bool,
    pub(in crate::driver) abort: Pending<()>,
    pub(in crate::driver) destroy: Pending<()>,
    pub(in crate::driver) resolve: Pending<()>,
    pub(in crate::driver) postcopy: Pending<()>,
    /// Why QEMU said that the copy failed.
    pub(in crate::driver) words: Option<String>,
    /// The images whose bitmaps go along.
    pub(in crate::driver) bitmaps: Vec<Sent>,
}

impl Driver {
    pub(in crate::driver) async fn source_status(&mut self, status: MigrationStatus) {
        if let Some(report) = report(&status) {
            if report == Report::Failed {
                self.keep_words().await;
            }
            self.drive_source(Input::Qemu(report)).await;
        }
    }

    pub(in crate::driver) async fn source_resumed(&mut self) {
        if matches!(self.state(), State::Paused(_)) {
            self.note_resumed().await;
        }
        self.drive_source(Input::Qemu(Report::Resumed)).await;
    }

    pub(in crate::driver) async fn source_exit(&mut self) {
        if let Some(guest) = &mut self.guest {
            guest.ending.get_or_insert(Ending::Crashed);
        }
        self.drive_source(Input::Qemu(Report::Died)).await;
        self.settle_end().await;
    }

    /// With ABORT_ON_ERROR a guest that met an I/O error stays.
    pub(in crate::driver) async fn source_io_error(&mut self) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration
            && outgoing.parameters.flags.contains(MigrateFlags::ABORT_ON_ERROR)
        {
            outgoing.io_error = true;
            outgoing.suspended = true;
            self.drive_source(Input::Abort).await;
        }
    }

    /// Puts the machine in place; [`Driver::start_source`] makes it move.
    pub(in crate::driver) fn open(&mut self, names: Names, parameters: Parameters, client: Option<u64>) {
        self.make_room();
        let launch_id = self.guest.as_ref().map(|guest| guest.launch_id.clone()).unwrap_or_default();
        self.host.registry.enlist(names.id, self.uuid);
        let was_running = matches!(self.state(), State::Running(_));
        let (machine, effects) = Source::begin(names.id, parameters.plan(was_running));
        self.epoch = names.epoch;
        tracing::info!(domain = %self.uuid, migration = %names.id, epoch = names.epoch.0, "leaving");
        self.migration =
            Some(Migration::Out(Box::new(Outgoing::new(machine, names, parameters, (launch_id, client)))));
        self.opening = effects;
    }

    pub(in crate::driver) async fn start_source(&mut self) {
        let effects = std::mem::take(&mut self.opening);
        let follow = self.perform_source_effects(effects).await;
        self.run_source(follow).await;
    }

    /// Feeds a call; what the machine denies, the caller is told.
    pub(in crate::driver) async fn call_source(&mut self, input: Input) {
        if let Err(denied) = self.step_source(input).await {
            self.deny_source(input, denied);
        }
    }

    /// Feeds an event; a machine that has no use for it stays as it is.
    pub(in crate::driver) async fn drive_source(&mut self, input: Input) {
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
    pub(in crate::driver) async fn run_source(&mut self, mut inputs: VecDeque<Input>) {
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
        if let Some(ended) = self.after_source_steps() {
            self.purge_journal(ended).await;
        }
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

    /// Sets the timers, and lets go of a machine that is over. Yields one whose records nobody will ask for.
    fn after_source_steps(&mut self) -> Option<MigrationId> {
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return None };
        // Until the coordinator has gone it may still call, and is to be told what has become of the guest.
        if outgoing.machine.is_over() && outgoing.client.is_none() {
            let (id, stayed) = (outgoing.machine.id(), outgoing.machine.standing() == Standing::Here);
            let mute = matches!(outgoing.machine.peer(), Some(Peer::Mute(_)));
            self.host.registry.strike(id);
            self.migration = None;
            return (mute && stayed).then_some(id);
        }
        outgoing.rest.watch_switchover(outgoing.machine.is_switching());
        if !outgoing.machine.wants_retry() {
            outgoing.retry = None;
        } else if outgoing.retry.is_none() {
            outgoing.retry = Some(outgoing.conversation.next_retry());
        }
        // Nobody is left waiting for a peer that may be gone for good.
        let waits = outgoing.machine.standing() == Standing::HandedOver || outgoing.confirm.is_pending();
        if !waits {
            outgoing.deadline = None;
        } else if outgoing.deadline.is_none() {
            outgoing.deadline = Some(Instant::now() + DOUBT_AFTER);
        }
        None
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
            Input::Resolve(_) => outgoing.answer(Call::Resolve, Err(error)),
            _ => tracing::error!(%denied, ?input, "an event was denied"),
        }
    }
}

impl Outgoing {
    /// A migration that begins now; `client` coordinates it.
    pub(in crate::driver) fn new(
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
            io_error: false,
            rest: Rest::default(),
            stats: JobStats::started(now_ms()),
            parameters,
            begun: None,
            begin: Pending::default(),
            perform: Pending::default(),
            confirm: Pending::default(),
            confirm_cancelled: false,
            abort: Pending::default(),
            destroy: Pending::default(),
            resolve: Pending::default(),
            postcopy: Pending::default(),
            words: None,
            bitmaps: Vec::new(),
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
            (Call::Resolve, outcome) => self.resolve.answer(outcome),
        }
    }

    /// Perform was called.
    pub(in crate::driver) fn performs(&self) -> bool {
        self.machine.peer().is_some()
    }

    /// The connection whose end ends the job.
    pub(in crate::driver) fn coordinator(&self) -> Option<u64> {
        self.client
    }

    /// What the texts of errors need.
    fn context<'a>(&'a self, domain: &'a str) -> Context<'a> {
        Context { domain, qemu_error: self.words.as_deref(), io_error: self.io_error }
    }

    /// The whole request.
    pub(in crate::driver) fn parameters(&self) -> &Parameters {
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
