//! The destination's hands: Prepare and Finish, and every effect of `ferry_migration::destination`.
//!
//! ```text
//!   calls, QMP events, journal results --Input--> Destination::step --Effect--> QEMU, journal, answers
//! ```
//!
//! [`listen`] has QEMU wait for the source, [`offline`] is for a definition without a guest.

mod listen;
mod offline;

use std::collections::VecDeque;
use std::time::Duration;

use ferry_domain::{Happening, Operation};
use ferry_domxml::Domain;
use ferry_migration::cookie::Says;
use ferry_migration::destination::{Answer, Call, Denied, Destination, Effect, Ended, Fate, Input, Report};
use ferry_migration::journal::DestinationRecord;
use ferry_migration::message::Word;
use ferry_migration::overlay::Overlay;
use ferry_migration::params::Request as Parameters;
use ferry_migration::plan::BestEffort;
use ferry_migration::stats::JobStats;
use ferry_migration::wire::Context;
use ferry_migration::{MigrationId, Peer, Standing};
use ferry_qmp::commands::migration::MigrationStatus;
use ferry_qmp::commands::progress::QueryMigrate;
use ferry_qmp::commands::run::{Cont, QueryStatus, RunState};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::values::{DefinedDetail, LifecycleEvent, PausedReason, SuspendedDetail};
use tokio::time::Instant;

use super::postcopy::Memory;
use super::{Arrived, Conversation, DOUBT_AFTER, Migration, Names, Pending, Prepared, Rest, cookies};
use crate::driver::guest::Ending;
use crate::driver::{Driver, Reply, Request, answer, now_ms};
use crate::fault;
use crate::host::Port;
use crate::listen::Client;
use crate::perform::launch;
use crate::perform::words::{Words, is_end_of_stream};
use crate::refuse;

/// How long Finish waits for the last of the state, and an orphan for its source's word.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the last of the state may take once the source has given the guest away, before it is asked to take the
/// guest back. No more than a queue in the network should hold.
const STALL: Duration = Duration::from_secs(2);

/// An incoming migration.
pub(crate) struct Incoming {
    pub(super) machine: Destination,
    pub(super) names: Names,
    /// Whether the source calls it the same: a stock one has no name for it.
    names_are_shared: bool,
    /// Images of the guest on the source that hold nothing but bitmaps; from Prepare's end on, what stands for them here.
    pub(super) overlays: Vec<Overlay>,
    pub(super) conversation: Conversation,
    /// The start of QEMU that this migration is about; chosen before it is recorded.
    pub(super) launch_id: String,
    /// The job slot is taken: from Prepare until the guest runs or is gone.
    pub(in crate::driver) job_open: bool,
    /// The connection that coordinates.
    pub(super) client: Option<u64>,
    pub(super) deadline: Option<Instant>,
    pub(super) retry: Option<Instant>,
    pub(super) standing_since_ms: u64,
    /// The guest's name on the source.
    pub(super) source_name: String,
    /// Who sends it, for the history.
    pub(super) source_host: String,
    pub(super) stats: Option<JobStats>,
    /// What is yet to follow the guest in post-copy.
    pub(super) rest: Rest,
    pub(super) started_ms: u64,
    parameters: Parameters,
    /// What is to be launched, until it is.
    definition: Option<Domain>,
    /// The definition to keep, as the source sent it.
    persistent: Option<String>,
    port: Option<Port>,
    uri: Option<String>,
    prepare: Pending<Prepared>,
    pub(super) finish: Pending<Arrived>,
    finish_cancelled: bool,
    destroy: Pending<()>,
    pub(super) resolve: Pending<()>,
    /// Why QEMU could not be made ready.
    trouble: Option<Error>,
    /// What QEMU said when it would not take the guest.
    words: Option<String>,
}

impl Driver {
    /// Prepare: starts a QEMU that listens.
    pub(super) async fn prepare(
        &mut self,
        parameters: Parameters,
        cookie: Vec<u8>,
        definition: Domain,
        client: Client,
        reply: Reply<Prepared>,
    ) {
        if let Err(error) = self.came_back(&cookie).await {
            return answer(reply, Err(error));
        }
        // First whose guest it is: this host's own is not merely "active".
        let offer = match cookies::read_begun(self, &cookie) {
            Ok(offer) => offer,
            Err(error) => return answer(reply, Err(error)),
        };
        if self.guest.is_some() || self.migration.as_ref().is_some_and(Migration::occupies) {
            let text = format!("domain '{}' is already active", self.name);
            return answer(reply, Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN, text)));
        }
        if let Err(error) = self.admit(Operation::MigrateIn) {
            return answer(reply, Err(error));
        }
        let source_name = offer.source_name.unwrap_or_else(|| self.name.clone());
        if parameters.is_offline() {
            let prepared = self.prepare_offline(&parameters, definition, source_name, offer.names, &client);
            return self.answer(reply, prepared);
        }
        if let Err(error) = parameters.data_uri() {
            return answer(reply, Err(error));
        }
        if let Err(error) = self.check_fit(&definition, offer.machine).await {
            return answer(reply, Err(error));
        }
        if let Some(names) = &offer.names {
            // A late word about the first must never be taken for one about the second.
            match self.knows(names.id).await {
                Ok(false) => {}
                Ok(true) => {
                    let text = format!("this migration of domain '{}' was prepared before", self.name);
                    return answer(reply, Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)));
                }
                Err(error) => return answer(reply, Err(error)),
            }
        }
        self.recall_epoch().await;
        self.watch(client.clone());
        let names_are_shared = offer.names.is_some();
        let names = offer.names.unwrap_or_else(|| Names::new(self.epoch.next()));
        self.epoch = self.epoch.max(names.epoch);
        self.make_room();
        let launch_id = launch::new_launch_id();
        self.host.registry.enlist(names.id, self.uuid);
        let mut conversation = Conversation::with(offer.peer, Some(&names), self.host.uuid);
        let is_ferry = offer.without_address == Peer::Mute(BestEffort::NoAddress);
        let peer = if is_ferry && conversation.reaches().await { Peer::Ferry } else { offer.without_address };
        let was_running = !parameters.flags.contains(MigrateFlags::PAUSED);
        let (machine, effects) = Destination::prepare(names.id, parameters.plan(was_running), peer);
        tracing::info!(domain = %self.uuid, migration = %names.id, epoch = names.epoch.0, "arriving");
        let mut incoming = Incoming::new(
            machine,
            (names, names_are_shared),
            conversation,
            parameters,
            source_name,
            (launch_id, Some(client.id())),
        );
        incoming.source_host = offer.hostname.unwrap_or_default();
        incoming.overlays = offer.overlays;
        incoming.definition = Some(definition);
        incoming.prepare.set(reply);
        self.migration = Some(Migration::In(Box::new(incoming)));
        let follow = self.perform_destination_effects(effects).await;
        self.run_destination(follow).await;
    }

    /// Finish: starts the guest, or cleans up; the machine decides which.
    pub(super) async fn finish(
        &mut self,
        parameters: Parameters,
        cookie: Vec<u8>,
        cancelled: bool,
        reply: Reply<Arrived>,
    ) {
        if parameters.is_offline() {
            let outcome = self.finish_offline(cancelled).await;
            return self.answer(reply, outcome);
        }
        if !matches!(self.migration, Some(Migration::In(_))) {
            return answer(reply, Err(self.nothing_to_finish(cancelled)));
        }
        let delivery = match cookies::read_performed(self, &cookie) {
            Ok(delivery) => delivery,
            Err(error) if cancelled => {
                tracing::warn!(domain = %self.name, %error, "the finish cookie is not readable");
                cookies::Delivery::nothing()
            }
            Err(error) => return answer(reply, Err(error)),
        };
        let Some(Migration::In(incoming)) = &mut self.migration else { return };
        incoming.finish.set(reply);
        incoming.finish_cancelled = cancelled;
        if !parameters.resumes() {
            incoming.parameters.flags = incoming.parameters.flags | parameters.flags;
        }
        incoming.deliver(delivery.persistent, delivery.stats);
        incoming.deadline = Some(Instant::now() + PATIENCE);
        let input = Input::Finish { cancelled, evidence: delivery.evidence };
        self.call_destination(input).await;
        if cancelled && self.is_unconnected().await {
            self.drive_destination(Input::Qemu(Report::Unconnected)).await;
        }
    }

    /// Whether QEMU says that no source has ever connected.
    async fn is_unconnected(&self) -> bool {
        let copy = self.execute(&QueryMigrate).await;
        self.holds_its_guest()
            && copy.is_ok_and(|copy| {
                matches!(copy.status, None | Some(MigrationStatus::None | MigrationStatus::Setup))
            })
    }

    /// The cookie that came beside a grant.
    pub(super) fn take_delivery(&mut self, cookie: &[u8]) {
        let delivery = match cookies::read_performed(self, cookie) {
            Ok(delivery) => delivery,
            Err(error) => {
                tracing::warn!(domain = %self.name, %error, "the cookie beside the grant is not readable");
                return;
            }
        };
        if let Some(Migration::In(incoming)) = &mut self.migration {
            incoming.deliver(delivery.persistent, delivery.stats);
        }
    }

    /// Destroy while the guest is arriving.
    pub(super) async fn destroy_arriving(&mut self, reply: Reply<()>) {
        let Some(Migration::In(incoming)) = &mut self.migration else { return };
        incoming.destroy.set(reply);
        self.call_destination(Input::Destroy).await;
    }

    pub(super) async fn destination_status(&mut self, status: MigrationStatus) {
        let report = match status {
            MigrationStatus::Completed => Report::Complete,
            MigrationStatus::Failed => {
                self.keep_arriving_words();
                Report::Failed
            }
            _ => return,
        };
        self.drive_destination(Input::Qemu(report)).await;
    }

    /// Keeps what QEMU has said of a guest that it does not take. That the stream has ended says nothing: the source knows
    /// why.
    fn keep_arriving_words(&mut self) {
        let said = self.guest.as_ref().and_then(|guest| guest.words.as_ref()).and_then(Words::last);
        let said = said.filter(|said| !is_end_of_stream(said));
        if let Some(Migration::In(incoming)) = &mut self.migration {
            incoming.words = said.or_else(|| incoming.words.take());
        }
    }

    pub(super) async fn destination_resumed(&mut self) {
        // It runs with the state that it brought, whatever becomes of it: that one is not given up any more.
        self.accept_tpm();
        self.drive_destination(Input::Qemu(Report::Resumed)).await;
    }

    pub(super) async fn destination_exit(&mut self) {
        // A guest that has arrived dies like any other.
        let arriving = self.is_migrating();
        self.keep_arriving_words();
        if let Some(guest) = &mut self.guest {
            guest.ending.get_or_insert(if arriving { Ending::Failed } else { Ending::Crashed });
        }
        self.settle_end().await;
        self.drive_destination(Input::Qemu(Report::Died)).await;
        // In post-copy the machine has answered long ago, and Finish waits for the rest.
        let error = self.arriving_context().failed(ferry_migration::Why::QemuDied);
        if let Some(Migration::In(incoming)) = &mut self.migration
            && incoming.machine.standing() == Standing::Here
        {
            incoming.finish.answer(Err(error));
        }
    }

    /// Feeds a call; what the machine denies, the caller is told.
    pub(super) async fn call_destination(&mut self, input: Input) {
        let Err(denied) = self.step_destination(input).await else { return };
        let error = self.arriving_context().denied_by_destination(denied.refusal);
        let Some(Migration::In(incoming)) = &mut self.migration else { return };
        match input {
            Input::Finish { .. } => incoming.finish.answer(Err(error)),
            Input::Destroy => incoming.destroy.answer(Err(error)),
            Input::Resolve(_) => incoming.resolve.answer(Err(error)),
            _ => tracing::error!(%denied, ?input, "an event was denied"),
        }
    }

    /// Feeds an event; a machine that has no use for it stays as it is.
    pub(super) async fn drive_destination(&mut self, input: Input) {
        if let Err(denied) = self.step_destination(input).await {
            tracing::debug!(domain = %self.name, %denied, ?input, "the destination takes no such input now");
        }
    }

    async fn step_destination(&mut self, input: Input) -> Result<(), Denied> {
        let effects = self.turn_destination(input)?;
        let follow = self.perform_destination_effects(effects).await;
        self.run_destination(follow).await;
        Ok(())
    }

    pub(super) async fn run_destination(&mut self, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            match self.turn_destination(input) {
                Ok(effects) => {
                    let mut follow = self.perform_destination_effects(effects).await;
                    // What follows from this step comes before what was waiting.
                    follow.append(&mut inputs);
                    inputs = follow;
                }
                Err(denied) => tracing::error!(domain = %self.name, %denied, ?input, "out of turn"),
            }
        }
        if let Some(ended) = self.after_destination_steps() {
            self.purge_journal(ended).await;
        }
    }

    fn turn_destination(&mut self, input: Input) -> Result<Vec<Effect>, Denied> {
        let Some(Migration::In(incoming)) = &mut self.migration else { return Ok(Vec::new()) };
        let before = (incoming.machine.phase_name(), incoming.machine.standing());
        let (machine, effects) = incoming.machine.clone().step(input)?;
        if machine.standing() != before.1 {
            incoming.standing_since_ms = now_ms();
        }
        if machine.phase_name() != before.0 {
            incoming.conversation.impatient();
            tracing::info!(
                domain = %self.uuid,
                migration = %machine.id(),
                from = before.0,
                to = machine.phase_name(),
                "destination"
            );
        }
        incoming.machine = machine;
        Ok(effects)
    }

    /// Sets the timers, and lets go of a machine that is over. Yields one whose records nobody will ask for.
    fn after_destination_steps(&mut self) -> Option<MigrationId> {
        self.end_wait_for_rest();
        let lives = self.holds_its_guest();
        let Some(Migration::In(incoming)) = &mut self.migration else { return None };
        // Until the coordinator has gone it may still call Finish, and is to be told what has become of the guest.
        let may_come = match incoming.machine.peer() {
            // A source that knows the end needs nothing more, and has nothing more.
            Peer::Ferry => false,
            Peer::Mute(_) => lives,
        };
        let follows = match incoming.rest.memory {
            Memory::Moving => true,
            Memory::Broken => may_come,
            Memory::Ahead | Memory::Whole => false,
        };
        if incoming.machine.is_over() && incoming.client.is_none() && !follows {
            if incoming.rest.memory == Memory::Broken {
                tracing::error!(domain = %self.name, "the source is gone, and the rest of the guest's memory with it");
            }
            let (id, mute) = (incoming.machine.id(), matches!(incoming.machine.peer(), Peer::Mute(_)));
            self.host.registry.strike(id);
            self.migration = None;
            return mute.then_some(id);
        }
        if !incoming.machine.wants_retry() {
            incoming.retry = None;
        } else if incoming.retry.is_none() {
            let stalled = incoming.machine.outstanding().is_none();
            incoming.retry =
                Some(if stalled { Instant::now() + STALL } else { incoming.conversation.next_retry() });
        }
        let waits = incoming.machine.outstanding() == Some(Word::Complete);
        if waits && incoming.machine.standing() == Standing::Arriving && incoming.deadline.is_none() {
            incoming.deadline = Some(Instant::now() + DOUBT_AFTER);
        }
        // An orphan that hears nothing gives up what it cannot complete.
        if incoming.client.is_none() && incoming.job_open && incoming.deadline.is_none() {
            incoming.deadline = Some(Instant::now() + PATIENCE);
        }
        None
    }

    /// The source lives and copies on: patience starts anew.
    pub(super) fn be_patient(&mut self) {
        if let Some(Migration::In(incoming)) = &mut self.migration {
            incoming.deadline = incoming.deadline.map(|_| Instant::now() + PATIENCE);
        }
    }

    pub(super) async fn perform_destination_effects(&mut self, effects: Vec<Effect>) -> VecDeque<Input> {
        let mut follow = VecDeque::new();
        for effect in effects {
            if let Some(input) = self.perform_destination_effect(effect).await {
                follow.push_back(input);
            }
        }
        follow
    }

    async fn perform_destination_effect(&mut self, effect: Effect) -> Option<Input> {
        let holds_its_guest = self.holds_its_guest();
        let Some(Migration::In(incoming)) = &mut self.migration else { return None };
        match effect {
            Effect::Journal(record) => {
                let id = incoming.names.id;
                let written = self.write_destination_record(record).await;
                if record == DestinationRecord::Acknowledged {
                    self.purge_journal(id).await;
                }
                Some(Input::Journaled(written))
            }
            Effect::Launch => match self.launch_incoming().await {
                Ok(()) => Some(Input::Qemu(Report::Listening)),
                Err(error) => {
                    if let Some(Migration::In(incoming)) = &mut self.migration {
                        incoming.trouble = Some(error);
                    }
                    self.end_guest(Ending::Failed).await;
                    Some(Input::Qemu(Report::Died))
                }
            },
            Effect::StartCpus | Effect::ProveAlive | Effect::EndQemu if !holds_its_guest => {
                Some(Input::Qemu(Report::Died))
            }
            Effect::StartCpus => self.start_cpus(),
            Effect::ProveAlive => Some(Input::Qemu(self.prove_alive().await)),
            Effect::EndQemu => {
                // The source may have heard of its failure before we did.
                if self.guest.as_ref().is_some_and(|guest| guest.process.has_ended()) {
                    self.keep_arriving_words();
                }
                self.end_guest(Ending::Failed).await;
                Some(Input::Qemu(Report::Died))
            }
            Effect::Tell(word) => {
                fault::point!("telling-{word}");
                self.tell(word);
                None
            }
            Effect::Answer(reply) => {
                self.answer_destination(reply);
                None
            }
            Effect::Finished(ended) => {
                self.finish_arriving(ended).await;
                None
            }
            Effect::Alarm => {
                tracing::error!(
                    domain = %self.uuid,
                    migration = %incoming.machine.id(),
                    "THE SOURCE KEEPS THE GUEST although it runs here: one of the two must be destroyed by hand"
                );
                None
            }
        }
    }

    /// Whether QEMU lives and has the whole state, asked now.
    async fn prove_alive(&self) -> Report {
        let Some(guest) = &self.guest else { return Report::Died };
        match guest.monitor.execute(&QueryStatus).await {
            Ok(status) if status.status != RunState::Inmigrate => Report::Complete,
            Ok(_) | Err(_) if guest.process.has_ended() => Report::Died,
            // It lives and does not say so: it is asked again.
            Ok(_) | Err(_) => Report::StartRefused,
        }
    }

    /// Has QEMU start the CPUs, and does not wait for its answer: past the switch to post-copy QEMU may need memory for
    /// it that is still on its way. RESUME is the proof, and a refusal comes as [`Request::StartRefused`].
    fn start_cpus(&self) -> Option<Input> {
        let (Some(guest), Some(migration)) = (&self.guest, &self.migration) else { return None };
        if guest.process.has_ended() {
            // What ended before it was told to start has not run.
            return Some(Input::Qemu(Report::StartRefused));
        }
        let (id, monitor, me) = (migration.id(), guest.monitor.clone(), self.me.clone());
        tokio::spawn(async move {
            // No answer proves nothing: QEMU is gone, and its pidfd will tell, or it is busy.
            if let Err(error) = monitor.execute(&Cont).await
                && error.refusal().is_some()
            {
                tracing::error!(migration = %id, error = refuse::chain(&error), "QEMU refuses to start the guest");
                if let Some(me) = me.upgrade() {
                    // A driver that has ended has nothing to hear.
                    let _ = me.send(Request::StartRefused { id }).await;
                }
            }
        });
        None
    }

    pub(in crate::driver) async fn start_refused(&mut self, id: MigrationId) {
        if self.migration.as_ref().is_some_and(|migration| migration.id() == id) {
            self.drive_destination(Input::Qemu(Report::StartRefused)).await;
        }
    }

    fn answer_destination(&mut self, reply: Answer) {
        self.publish();
        match reply {
            Answer::Ok(Call::Prepare) => {
                let Some(Migration::In(incoming)) = &self.migration else { return };
                let (name, overlays) = (&incoming.source_name, Some(&*incoming.overlays));
                let cookie = cookies::prepared(self, name, incoming.shared_names(), overlays);
                let prepared = Prepared { cookie, uri: incoming.uri.clone() };
                if let Some(Migration::In(incoming)) = &mut self.migration {
                    incoming.prepare.answer(Ok(prepared));
                }
            }
            Answer::Finish(fate) => self.answer_finish(fate),
            Answer::Ok(call) => self.answer_arriving(call, Ok(())),
            Answer::Failed(call, why) => {
                let trouble = match &mut self.migration {
                    Some(Migration::In(incoming)) => incoming.trouble.take(),
                    Some(Migration::Out(_)) | None => None,
                };
                let error = trouble.unwrap_or_else(|| self.arriving_context().failed(why));
                self.answer_arriving(call, Err(error));
            }
            Answer::InDoubt(call, doubt) => {
                let error = self.arriving_context().in_doubt(doubt);
                self.answer_arriving(call, Err(error));
            }
        }
    }

    fn answer_arriving(&mut self, call: Call, outcome: Result<(), Error>) {
        let Some(Migration::In(incoming)) = &mut self.migration else { return };
        match (call, outcome) {
            (Call::Prepare, Err(error)) => incoming.prepare.answer(Err(error)),
            (Call::Finish, Err(error)) => incoming.finish.answer(Err(error)),
            (Call::Prepare | Call::Finish, Ok(())) => {}
            (Call::Destroy, outcome) => incoming.destroy.answer(outcome),
            (Call::Resolve, outcome) => incoming.resolve.answer(outcome),
        }
    }

    /// Finish is told the guest's fate. Called with `cancelled` it must hear an error either way. In post-copy it is kept
    /// waiting for the rest of the memory, for whoever called it is to hear of a channel that breaks meanwhile.
    pub(super) fn answer_finish(&mut self, fate: Fate) {
        let domain = self.published.borrow().reference();
        let Some(Migration::In(incoming)) = &self.migration else { return };
        if fate == Fate::Arrived && !incoming.finish_cancelled && incoming.rest.is_split() {
            return;
        }
        let outcome = self.arriving_context().finish(incoming.finish_cancelled, fate);
        let outcome = outcome.map(|()| Arrived { domain, cookie: cookies::arrived(self, Says::Running) });
        if let Some(Migration::In(incoming)) = &mut self.migration {
            incoming.finish.answer(outcome);
        }
    }

    async fn finish_arriving(&mut self, ended: Ended) {
        let Some(Migration::In(incoming)) = &mut self.migration else { return };
        // In post-copy the job, and the port, are needed until all has followed.
        incoming.job_open = ended == Ended::Arrived && incoming.rest.is_split();
        if !incoming.job_open {
            incoming.port = None;
        }
        incoming.deadline = None;
        match ended {
            Ended::Arrived => self.settle_arrival().await,
            Ended::Declined(why) => {
                tracing::info!(domain = %self.uuid, %why, "the guest does not come");
                self.completed_job = None;
            }
        }
        self.write_arrival(&ended).await;
    }

    async fn settle_arrival(&mut self) {
        self.forget_departures().await;
        self.accept_tpm();
        let Some(Migration::In(incoming)) = &mut self.migration else { return };
        let persist = incoming.parameters.flags.contains(MigrateFlags::PERSIST_DEST);
        let paused = incoming.parameters.flags.contains(MigrateFlags::PAUSED);
        let persistent = incoming.persistent.take();
        let (running_reason, is_split) = (incoming.rest.running_reason(), incoming.rest.is_split());
        let stats = incoming.stats.map(|stats| stats.arrived(now_ms()));
        incoming.stats = stats;
        if paused {
            self.happen(Happening::Stopped(PausedReason::USER));
            self.emit_lifecycle(LifecycleEvent::SUSPENDED, SuspendedDetail::PAUSED.0);
        } else {
            self.happen(Happening::Resumed(running_reason));
        }
        if persist {
            self.keep_arrived(persistent).await;
        }
        self.record_or_warn().await;
        if let Some(stats) = stats
            && !is_split
        {
            self.complete_job(stats);
        }
    }

    /// Keeps the definition that came with the guest, or the guest's own.
    async fn keep_arrived(&mut self, persistent: Option<String>) {
        let detail = if self.config.is_some() { DefinedDetail::UPDATED } else { DefinedDetail::ADDED };
        let running = self.guest.as_ref().map(|guest| guest.domain.inactive());
        let sent = match persistent {
            None => None,
            Some(xml) => match self.host.complete_arriving(&xml).await {
                Ok(domain) => Some(domain),
                Err(error) => {
                    tracing::warn!(domain = %self.name, %error, "the definition that was sent is not usable; the running one is kept");
                    None
                }
            },
        };
        let Some(mut domain) = sent.or(running) else { return };
        domain.name.clone_from(&self.name);
        match self.keep(domain).await {
            Ok(()) => self.emit_lifecycle(LifecycleEvent::DEFINED, detail.0),
            // The guest runs; that it is transient now is bad, and no reason to lose it.
            Err(error) => {
                tracing::error!(domain = %self.name, %error, "the definition could not be kept: the guest is transient");
            }
        }
    }

    /// What the texts of errors need.
    fn arriving_context(&self) -> Context<'_> {
        let words = match &self.migration {
            Some(Migration::In(incoming)) => incoming.words.as_deref(),
            Some(Migration::Out(_)) | None => None,
        };
        Context { domain: &self.name, qemu_error: words, io_error: false }
    }

    /// Finish for a guest that is not arriving (any more).
    fn nothing_to_finish(&self, cancelled: bool) -> Error {
        let text = format!("no domain with matching name '{}'", self.name);
        if cancelled && self.guest.is_none() {
            self.arriving_context().cleaned_up()
        } else {
            Error::of(ErrorCode::NO_DOMAIN, Origin::QEMU, text)
        }
    }
}

impl Incoming {
    /// A migration that begins now; `client` coordinates it.
    pub(super) fn new(
        machine: Destination,
        (names, names_are_shared): (Names, bool),
        conversation: Conversation,
        parameters: Parameters,
        source_name: String,
        (launch_id, client): (String, Option<u64>),
    ) -> Incoming {
        Incoming {
            machine,
            names,
            names_are_shared,
            overlays: Vec::new(),
            conversation,
            launch_id,
            job_open: true,
            client,
            deadline: None,
            retry: None,
            standing_since_ms: now_ms(),
            source_name,
            source_host: String::new(),
            stats: None,
            rest: Rest::default(),
            started_ms: now_ms(),
            parameters,
            definition: None,
            persistent: None,
            port: None,
            uri: None,
            prepare: Pending::default(),
            finish: Pending::default(),
            finish_cancelled: false,
            destroy: Pending::default(),
            resolve: Pending::default(),
            trouble: None,
            words: None,
        }
    }

    /// What both daemons call it; nothing when a stock host sends the guest.
    pub(super) fn shared_names(&self) -> Option<&Names> {
        self.names_are_shared.then_some(&self.names)
    }

    /// The whole request.
    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What came with the grant. A second delivery of the same changes nothing.
    fn deliver(&mut self, persistent: Option<String>, stats: Option<JobStats>) {
        if self.persistent.is_none() {
            self.persistent = persistent;
        }
        if self.stats.is_none() {
            self.stats = stats.map(|stats| stats.received(now_ms()));
        }
    }
}
