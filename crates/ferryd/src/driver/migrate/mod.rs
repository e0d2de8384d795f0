//! Migrations as a domain's driver carries them out.
//!
//! The machines of `ferry_migration` decide. This room turns calls, QMP events and journal results into their
//! inputs, performs their effects in order, and keeps beside them what a machine refuses to know: definitions,
//! cookies, addresses, pending answers, QEMU's own words. One file for each side.

mod by_hand;
mod cookies;
mod destination;
mod fit;
mod journal;
mod overlays;
mod postcopy;
mod recover;
mod source;
mod talk;

use std::time::Duration;

use ferry_domxml::Domain;
use ferry_migration::message::Word;
use ferry_migration::params::Request as Parameters;
use ferry_migration::{Epoch, Evidence, MigrationId, Secret, Standing};
use ferry_qmp::commands::migration::MigrationStatus;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::DomainRef;
use tokio::time::Instant;

use super::{Driver, Reply, answer};
use crate::listen::Client;

pub(crate) use destination::Incoming;
pub(crate) use journal::Beside;
pub(crate) use source::Outgoing;

use postcopy::Rest;
use talk::Conversation;

/// How soon what is outstanding between two daemons is said again: first, and when nobody answers.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// See [`RETRY_FIRST`].
const RETRY_LAST: Duration = Duration::from_secs(1);

/// How long the other side may leave it open who runs the guest before that is called a doubt, and a waiting caller
/// is told so.
const DOUBT_AFTER: Duration = Duration::from_secs(3);

/// A phase of a migration, as a coordinator calls it.
pub(crate) enum MigrateRequest {
    /// Source: open it.
    Begin { parameters: Parameters, client: Client, reply: Reply<Begun> },
    /// Destination: make ready to receive. The definition was completed and checked.
    Prepare {
        parameters: Parameters,
        cookie: Vec<u8>,
        domain: Box<Domain>,
        client: Client,
        reply: Reply<Prepared>,
    },
    /// Source: send memory and state.
    Perform { parameters: Parameters, cookie: Vec<u8>, client: Client, reply: Reply<Vec<u8>> },
    /// Source: a Perform of this client was refused before it came here.
    NotPerformed { client: Client, reply: Reply<()> },
    /// Destination: start the guest, or clean up.
    Finish { parameters: Parameters, cookie: Vec<u8>, cancelled: bool, reply: Reply<Arrived> },
    /// Source: let the guest go, or keep it. `evidence` is the coordinator's own, when it is this daemon.
    Confirm { parameters: Parameters, cookie: Vec<u8>, cancelled: bool, evidence: Evidence, reply: Reply<()> },
}

/// Begin's answer.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) cookie: Vec<u8>,
    /// The definition for the destination.
    pub(crate) xml: String,
}

/// Prepare's answer.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) cookie: Vec<u8>,
    /// Where the source is to connect, when the caller does not know it already.
    pub(crate) uri: Option<String>,
}

/// Finish's answer.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) domain: DomainRef,
    pub(crate) cookie: Vec<u8>,
}

/// A definition that is coming without its guest.
#[derive(Debug)]
pub(crate) struct Offline {
    definition: Domain,
    /// The domain's name on the source.
    source_name: String,
    /// The connection that coordinates.
    client: u64,
}

/// What both daemons call one migration.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) id: MigrationId,
    pub(crate) epoch: Epoch,
    pub(crate) secret: Secret,
}

impl Names {
    /// Names for a new migration of a guest whose last one had `epoch`.
    fn new(epoch: Epoch) -> Names {
        let random = || *uuid::Uuid::new_v4().as_bytes();
        Names { id: MigrationId::from_bytes(random()), epoch, secret: Secret::from_bytes(random()) }
    }
}

/// The migration that a domain is in.
pub(crate) enum Migration {
    /// The guest is leaving.
    Out(Box<Outgoing>),
    /// The guest is arriving.
    In(Box<Incoming>),
}

impl Migration {
    /// The start of QEMU that it is about.
    fn launch_id(&self) -> &str {
        match self {
            Migration::Out(outgoing) => &outgoing.launch_id,
            Migration::In(incoming) => &incoming.launch_id,
        }
    }

    /// Which migration.
    pub(crate) fn id(&self) -> MigrationId {
        match self {
            Migration::Out(outgoing) => outgoing.machine.id(),
            Migration::In(incoming) => incoming.machine.id(),
        }
    }

    /// What both daemons call it; nothing when a stock host sends the guest.
    fn names(&self) -> Option<&Names> {
        match self {
            Migration::Out(outgoing) => Some(&outgoing.names),
            Migration::In(incoming) => incoming.shared_names(),
        }
    }

    fn conversation(&self) -> &Conversation {
        match self {
            Migration::Out(outgoing) => &outgoing.conversation,
            Migration::In(incoming) => &incoming.conversation,
        }
    }

    fn conversation_mut(&mut self) -> &mut Conversation {
        match self {
            Migration::Out(outgoing) => &mut outgoing.conversation,
            Migration::In(incoming) => &mut incoming.conversation,
        }
    }

    /// What this side keeps saying to the other.
    fn outstanding(&self) -> Option<Word> {
        match self {
            Migration::Out(outgoing) => outgoing.machine.outstanding(),
            Migration::In(incoming) => incoming.machine.outstanding(),
        }
    }

    /// Nobody coordinates it any more.
    fn forget_client(&mut self) {
        match self {
            Migration::Out(outgoing) => outgoing.client = None,
            Migration::In(incoming) => incoming.client = None,
        }
    }

    /// Whether both sides know the end.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Migration::Out(outgoing) => outgoing.machine.is_over(),
            Migration::In(incoming) => incoming.machine.is_over(),
        }
    }

    /// Where the guest stands on this host.
    pub(crate) fn standing(&self) -> Standing {
        match self {
            Migration::Out(outgoing) => outgoing.machine.standing(),
            Migration::In(incoming) => incoming.machine.standing(),
        }
    }

    fn rest_mut(&mut self) -> &mut Rest {
        match self {
            Migration::Out(outgoing) => &mut outgoing.rest,
            Migration::In(incoming) => &mut incoming.rest,
        }
    }

    /// Whether the job slot is taken: other jobs and most changes are refused.
    pub(crate) fn occupies(&self) -> bool {
        match self {
            Migration::Out(outgoing) => outgoing.job_open,
            Migration::In(incoming) => incoming.job_open,
        }
    }

    /// Why, and since when (Unix seconds), it is not known who runs the guest.
    pub(crate) fn doubt(&self) -> Option<(String, u64)> {
        let since_ms = match self {
            Migration::Out(outgoing) => outgoing.standing_since_ms,
            Migration::In(incoming) => incoming.standing_since_ms,
        };
        match self.standing() {
            Standing::InDoubt(doubt) => Some((doubt.to_string(), since_ms / 1000)),
            Standing::Here
            | Standing::Leaving
            | Standing::HandedOver
            | Standing::Arriving
            | Standing::Away => None,
        }
    }

    /// When the driver is to wake up for this migration by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        let (deadline, retry, rest) = match self {
            Migration::Out(outgoing) => (outgoing.deadline, outgoing.retry, &outgoing.rest),
            Migration::In(incoming) => (incoming.deadline, incoming.retry, &incoming.rest),
        };
        [deadline, retry, rest.due()].into_iter().flatten().min()
    }
}

impl Driver {
    /// Learns the epoch of the guest's last migration from the store, if this driver was made since. Without an answer
    /// the count starts anew: the ids tell migrations apart all the same.
    async fn recall_epoch(&mut self) {
        let uuid = self.uuid;
        if self.epoch == Epoch::default()
            && let Ok(last) = self.host.store(move |store| store.epoch(uuid)).await
        {
            self.epoch = Epoch(last);
        }
    }

    /// Whether this host has had to do with a migration of this id.
    async fn knows(&self, id: MigrationId) -> Result<bool, Error> {
        if self.host.registry.by_migration(id).is_some() {
            return Ok(true);
        }
        let migration = u128::from_be_bytes(*id.as_bytes());
        // The journal forgets what both sides know the end of.
        let known = move |store: &ferry_store::Store| {
            Ok(!store.journal_of(migration)?.is_empty() || store.is_in_history(migration)?)
        };
        self.host.store(known).await
    }

    /// Whether a migration occupies the domain.
    pub(super) fn is_migrating(&self) -> bool {
        self.migration.as_ref().is_some_and(Migration::occupies)
    }

    /// Whether the QEMU that runs is the one that the present migration is about.
    pub(super) fn holds_its_guest(&self) -> bool {
        match (&self.migration, &self.guest) {
            (Some(migration), Some(guest)) => migration.launch_id() == guest.launch_id,
            (Some(_), None) | (None, _) => false,
        }
    }

    pub(super) async fn handle_migrate(&mut self, request: MigrateRequest) {
        match request {
            MigrateRequest::Begin { parameters, client, reply } if parameters.resumes() => {
                self.begin_again(parameters, client, reply).await;
            }
            MigrateRequest::Begin { parameters, client, reply } => {
                self.begin(parameters, client, reply).await
            }
            MigrateRequest::Prepare { parameters, cookie, domain: _, client, reply }
                if parameters.resumes() =>
            {
                self.prepare_again(parameters, cookie, client, reply).await;
            }
            MigrateRequest::Prepare { parameters, cookie, domain, client, reply } => {
                self.prepare(parameters, cookie, *domain, client, reply).await;
            }
            MigrateRequest::Perform { parameters, reply, .. } if parameters.resumes() => {
                self.perform_again(parameters, reply).await;
            }
            MigrateRequest::Perform { parameters, cookie, client, reply } => {
                self.perform(parameters, cookie, client, reply).await;
            }
            MigrateRequest::NotPerformed { client, reply } => {
                self.never_performed(&client).await;
                self.answer(reply, Ok(()));
            }
            MigrateRequest::Finish { parameters, cookie, cancelled, reply } => {
                self.finish(parameters, cookie, cancelled, reply).await;
            }
            MigrateRequest::Confirm { parameters, cookie, cancelled, evidence, reply } => {
                self.confirm(parameters, cookie, (cancelled, evidence), reply).await;
            }
        }
    }

    /// QEMU's copy went over to another status.
    pub(super) async fn handle_migration_status(&mut self, status: MigrationStatus) {
        self.note_memory(&status).await;
        match &self.migration {
            Some(Migration::Out(_)) => self.source_status(status).await,
            Some(Migration::In(_)) => self.destination_status(status).await,
            None => {}
        }
    }

    /// A pass over the guest's memory begins.
    pub(super) async fn handle_migration_pass(&mut self, pass: u64) {
        if let Some(Migration::Out(_)) = &self.migration {
            self.source_pass(pass).await;
        }
    }

    /// RESUME while a migration is under way.
    pub(super) async fn handle_migration_resume(&mut self) {
        match &self.migration {
            Some(Migration::Out(_)) => self.source_resumed().await,
            Some(Migration::In(_)) => self.destination_resumed().await,
            None => {}
        }
    }

    /// QEMU is gone while a migration is under way.
    pub(super) async fn handle_migration_exit(&mut self) {
        match &self.migration {
            Some(Migration::Out(_)) => self.source_exit().await,
            Some(Migration::In(_)) => self.destination_exit().await,
            None => {}
        }
    }

    /// The guest met an I/O error while a migration is under way.
    pub(super) async fn handle_migration_io_error(&mut self) {
        if let Some(Migration::Out(_)) = &self.migration {
            self.source_io_error().await;
        }
    }

    /// A connection closed that may coordinate the migration.
    pub(super) async fn client_gone_in_migration(&mut self, client: u64) {
        if self.offline.as_ref().is_some_and(|offline| offline.client == client) {
            self.offline = None;
        }
        match &mut self.migration {
            Some(Migration::Out(outgoing)) if outgoing.client == Some(client) => {
                outgoing.client = None;
                self.drive_source(ferry_migration::source::Input::ClientGone).await;
            }
            Some(Migration::In(incoming)) if incoming.client == Some(client) => {
                incoming.client = None;
                self.drive_destination(ferry_migration::destination::Input::ClientGone).await;
            }
            Some(Migration::Out(_) | Migration::In(_)) | None => {}
        }
    }

    /// Destroy in the middle of a migration.
    pub(super) async fn destroy_in_migration(&mut self, reply: Reply<()>) {
        match &self.migration {
            Some(Migration::Out(_)) => self.destroy_leaving(reply).await,
            Some(Migration::In(_)) => self.destroy_arriving(reply).await,
            None => answer(reply, Ok(())),
        }
    }

    /// The operator's word, when the other host is gone for good.
    pub(super) async fn resolve(&mut self, guest_is: ferry_migration::GuestIs, reply: Reply<()>) {
        match &mut self.migration {
            Some(Migration::Out(outgoing)) => {
                outgoing.resolve.set(reply);
                self.call_source(ferry_migration::source::Input::Resolve(guest_is)).await;
            }
            Some(Migration::In(incoming)) => {
                incoming.resolve.set(reply);
                self.call_destination(ferry_migration::destination::Input::Resolve(guest_is)).await;
            }
            None => {
                let text = format!("no migration of domain '{}' is in doubt", self.name);
                let error = Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text);
                answer(reply, Err(error));
            }
        }
    }

    /// A deadline or a retry is due, of the present migration or of one that settles.
    pub(super) async fn handle_migration_timer(&mut self) {
        let now = Instant::now();
        let is_due = |migration: &Migration| migration.due().is_some_and(|due| due <= now);
        if self.migration.as_ref().is_some_and(is_due) {
            self.ring(now).await;
        }
        while let Some(at) = self.settling.iter().position(is_due) {
            self.bring_forward(Some(at));
            self.ring(now).await;
            self.send_back(Some(at));
        }
    }

    async fn ring(&mut self, now: Instant) {
        self.ring_rest(now).await;
        match &mut self.migration {
            Some(Migration::Out(outgoing)) => {
                use ferry_migration::source::Input;
                if outgoing.deadline.take_if(|due| *due <= now).is_some() {
                    self.drive_source(Input::Deadline).await;
                } else if outgoing.retry.take_if(|due| *due <= now).is_some() {
                    self.drive_source(Input::Retry).await;
                }
            }
            Some(Migration::In(incoming)) => {
                use ferry_migration::destination::Input;
                if incoming.deadline.take_if(|due| *due <= now).is_some() {
                    self.drive_destination(Input::Deadline).await;
                } else if incoming.retry.take_if(|due| *due <= now).is_some() {
                    self.drive_destination(Input::Retry).await;
                }
            }
            None => {}
        }
    }

    /// The user stopped the CPUs: the guest stays stopped if it stays, and the reason for now is this.
    pub(super) fn note_suspended(&mut self) -> ferry_rpc::values::PausedReason {
        use ferry_rpc::values::PausedReason;
        match &mut self.migration {
            Some(Migration::Out(outgoing)) if outgoing.job_open => {
                outgoing.suspended = true;
                outgoing.stats = outgoing.stats.stopped(super::now_ms());
                PausedReason::MIGRATION
            }
            Some(Migration::Out(_) | Migration::In(_)) | None => PausedReason::USER,
        }
    }
}

/// The answer that a call still waits for; answered at most once.
#[derive(Debug)]
pub(crate) struct Pending<T>(Option<Reply<T>>);

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Pending(None)
    }
}

impl<T> Pending<T> {
    fn is_pending(&self) -> bool {
        self.0.is_some()
    }

    fn set(&mut self, reply: Reply<T>) {
        self.0 = Some(reply);
    }

    fn answer(&mut self, outcome: Result<T, Error>) {
        if let Some(reply) = self.0.take() {
            answer(reply, outcome);
        }
    }
}
