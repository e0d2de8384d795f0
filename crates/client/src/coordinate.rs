//! Coordinates one migration: makes the calls that [`ferry_migration::coordinator`] asks for, in its order.
//!
//! `ferry` and the tests run it between two [`Remote`] hosts (direct); `ferryd` runs it with a [`SourceSide`] of its
//! own (peer to peer). The machine decides what comes next and what may be believed; this loop turns answers into
//! what the machine knows as [`Reply`], carries cookies and parameters from call to call, and keeps the first error
//! for whoever asked. It refuses to know progress, aborts and deadlines: who runs it does that beside it.
//!
//! ```text
//! SourceSide: begin ──────────────────> perform ──────────────────> confirm
//!                  └> prepare ─────────┘       └> finish (─> look) ┘          DestinationSide
//! ```
//!
//! Two things are decided here because only the answers tell them apart:
//! - A destination that is asked to call off a copy whose Perform was lost may answer with an error because it *has*
//!   the guest. Only 93 (cleaned up as asked) says that it has not.
//! - A source that does not run Ferry obeys a Confirm instead of asking the destination. It gets none unless the
//!   destination itself has said where the guest is; without one it keeps the guest paused.

use std::future::Future;
use std::time::Duration;

use ferry_migration::cookie::{self, Expected};
use ferry_migration::coordinator::{Call, Carry, Coordinator, FinishOutcome, Kind, Next, Outcome, Reply};
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::proto::{Cookie, DomainRef, MigrateFinishReply, MigratePrepareReply};
use ferry_rpc::values::{DomainState, Feature, PausedReason};
use ferry_rpc::{Error, ErrorCode, Origin, TypedParam};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::connection::{CallError, Connection, OpenOptions};
use crate::uri::Uri;

/// How long a coordinator looks at a destination whose answer to Finish was lost.
pub const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// How long it waits between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What a migration is asked to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// The guest, as the source knows it.
    pub domain: DomainRef,
    /// The user's flags.
    pub flags: MigrateFlags,
    /// The user's parameters.
    pub params: Vec<TypedParam>,
}

/// The source's answer to Begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// For Prepare.
    pub cookie: Cookie,
    /// The definition for the destination.
    pub xml: String,
    /// The guest is paused now, and is to arrive paused.
    pub paused: bool,
}

/// The host that the guest leaves.
pub trait SourceSide: Send {
    /// Begin: opens the migration and gives what the destination needs.
    fn begin(
        &mut self,
        params: Vec<TypedParam>,
        flags: MigrateFlags,
    ) -> impl Future<Output = Result<Begun, CallError>> + Send;

    /// Perform: copies the guest. Minutes.
    fn perform(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> impl Future<Output = Result<Cookie, CallError>> + Send;

    /// Confirm: what the coordinator believes of the destination.
    fn confirm(
        &mut self,
        outcome: FinishOutcome,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> impl Future<Output = Result<(), CallError>> + Send;
}

/// The host that the guest goes to.
pub trait DestinationSide: Send {
    /// Prepare: makes ready to receive.
    fn prepare(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> impl Future<Output = Result<MigratePrepareReply, CallError>> + Send;

    /// Finish: starts the guest; or, `cancelled`, cleans up, which is answered with error 93.
    fn finish(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    ) -> impl Future<Output = Result<MigrateFinishReply, CallError>> + Send;

    /// Whether the guest is here, asked over a connection of its own, since the answer to Finish was lost with the
    /// other. Tries until it knows, or for [`LOOK_LIMIT`]; an error means that it is not known.
    fn look(&mut self, guest: Uuid) -> impl Future<Output = Result<bool, CallError>> + Send;
}

/// How a migration ended, as far as its coordinator knows.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where the guest is.
    pub outcome: Outcome,
    /// The guest as the destination knows it, when it said so.
    pub domain: Option<DomainRef>,
    /// The first call that failed. There is one unless the guest was moved.
    pub failure: Option<Failure>,
}

/// A call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// The call.
    pub call: Call,
    /// Its error.
    #[source]
    pub error: CallError,
}

/// Runs a migration to its end. `watch` hears of each call before it is made.
///
/// Dropping the future makes no further call; a host that waits for one decides by itself.
pub async fn coordinate<S: SourceSide, D: DestinationSide>(
    source: &mut S,
    destination: &mut D,
    request: Request,
    mut watch: impl FnMut(Call) + Send,
) -> Report {
    let Request { domain, flags, params } = request;
    let kind = if flags.contains(MigrateFlags::OFFLINE) { Kind::Offline } else { Kind::Live };
    let mut road = Road {
        source,
        destination,
        carry: Carry::new(flags, params),
        guest: domain.uuid,
        name: domain.name,
        paused: MigrateFlags::NONE,
        source_asks: false,
        perform_lost: false,
        arrived: None,
        failure: None,
    };
    let (mut coordinator, mut next) = Coordinator::new(kind);
    loop {
        match next {
            Next::Call(call) => {
                watch(call);
                let reply = road.make(call).await;
                (coordinator, next) = coordinator.step(reply);
            }
            Next::Over(outcome) => return Report { outcome, domain: road.arrived, failure: road.failure },
        }
    }
}

/// What is known on the way.
struct Road<'a, S, D> {
    source: &'a mut S,
    destination: &'a mut D,
    carry: Carry,
    guest: Uuid,
    name: String,
    /// PAUSED once the guest turned out to be paused, else nothing.
    paused: MigrateFlags,
    /// The source settles a doubt with the destination instead of obeying.
    source_asks: bool,
    perform_lost: bool,
    arrived: Option<DomainRef>,
    failure: Option<Failure>,
}

impl<S: SourceSide, D: DestinationSide> Road<'_, S, D> {
    async fn make(&mut self, call: Call) -> Reply {
        let params = self.carry.params(call, &self.name);
        let cookie = Cookie(self.carry.cookie(call).to_vec());
        let flags = self.carry.flags(call) | self.paused;
        let result = match call {
            Call::Begin => self.source.begin(params, flags).await.map(|begun| self.begun(begun)),
            Call::Prepare => {
                let prepared = self.destination.prepare(params, cookie, flags).await;
                prepared.map(|reply| self.carry.prepared(reply.uri.as_deref(), reply.cookie.0))
            }
            Call::Perform => {
                let performed = self.source.perform(params, cookie, flags).await;
                self.perform_lost = performed.as_ref().is_err_and(CallError::is_unknown);
                performed.map(|cookie| self.carry.carried(cookie.0))
            }
            Call::Finish { cancelled } => {
                let finished = self.destination.finish(params, cookie, flags, cancelled).await;
                if cancelled {
                    self.hear_why(&finished);
                    return self.called_off(&finished);
                }
                finished.map(|reply| {
                    self.arrived = Some(reply.domain);
                    self.carry.carried(reply.cookie.0);
                })
            }
            Call::Look => return self.look().await,
            Call::Confirm(FinishOutcome::Unknown) if !self.source_asks => return Reply::Lost,
            Call::Confirm(outcome) => self.source.confirm(outcome, params, cookie, flags).await,
        };
        match result {
            Ok(()) => Reply::Ok,
            Err(error) => {
                let reply = if error.is_unknown() { Reply::Lost } else { Reply::Failed };
                self.failure.get_or_insert(Failure { call, error });
                reply
            }
        }
    }

    fn begun(&mut self, begun: Begun) {
        self.source_asks = is_ferrys(&begun.cookie);
        // What is torn between two hosts is paused here because it runs there.
        if begun.paused && !self.carry.flags(Call::Begin).contains(MigrateFlags::POSTCOPY_RESUME) {
            self.paused = MigrateFlags::PAUSED;
        }
        self.carry.begun(&begun.xml, begun.cookie.0);
    }

    /// A copy that failed is no more than a broken pipe to the source: the destination may know why.
    fn hear_why(&mut self, finished: &Result<MigrateFinishReply, CallError>) {
        let is_qemus =
            |error: &Error| (error.code, error.origin) == (ErrorCode::OPERATION_FAILED, Origin::QEMU);
        if let Err(CallError::Remote(theirs)) = finished
            && let Some(Failure { call: Call::Perform, error: CallError::Remote(ours) }) = &mut self.failure
            && is_qemus(theirs)
            && is_qemus(ours)
        {
            let (front, _) = theirs.code.template().split_once("%s").unwrap_or_default();
            let said = theirs.message.strip_prefix(front).unwrap_or(&theirs.message);
            ours.message = format!("{}; on the destination: {said}", ours.message);
        }
    }

    /// What a destination's answer to a cancelled Finish says.
    fn called_off(&self, finished: &Result<MigrateFinishReply, CallError>) -> Reply {
        match finished {
            Ok(_) => Reply::Ok,
            Err(CallError::Remote(error)) if error.code == ErrorCode::MIGRATE_FINISH_OK => Reply::Failed,
            // The source said itself that the copy failed; the destination may have cleaned up before it was asked.
            Err(CallError::Remote(_)) if !self.perform_lost => Reply::Failed,
            Err(_) => Reply::Lost,
        }
    }

    async fn look(&mut self) -> Reply {
        match self.destination.look(self.guest).await {
            Ok(true) => Reply::Ok,
            // The guest may have run and ended there: only a source that asks may be told.
            Ok(false) if self.source_asks => Reply::Failed,
            Ok(false) | Err(_) => Reply::Lost,
        }
    }
}

/// Whether a cookie was written by a Ferry.
fn is_ferrys(cookie: &Cookie) -> bool {
    let anyone = Expected { name: None, uuid: None, host_uuid: Uuid::nil() };
    let read = cookie::Cookie::parse(&cookie.0, cookie::Reader::Prepare, &anyone);
    matches!(read, Ok(Some(cookie)) if cookie.handover.is_some())
}

impl Request {
    /// Asks both hosts for what this migration needs of them, and adds the flag by which a source keeps its job from
    /// Begin to Confirm.
    ///
    /// # Errors
    /// Code 3 names the side and what it lacks; else see [`CallError`].
    pub async fn fit(&mut self, source: &Connection, destination: &Connection) -> Result<(), CallError> {
        let mut needs = vec![(Feature::MIGRATION_PARAMS, "migration with typed parameters")];
        if self.flags.contains(MigrateFlags::OFFLINE) {
            needs.push((Feature::MIGRATION_OFFLINE, "offline migration"));
        }
        for (side, connection) in [("source", source), ("destination", destination)] {
            for (feature, what) in &needs {
                if !connection.supports(*feature).await? {
                    let text = format!("{what} is not supported by the {side} host");
                    return Err(Error::new(ErrorCode::NO_SUPPORT, Origin::NONE, text).into());
                }
            }
        }
        if source.supports(Feature::MIGRATE_CHANGE_PROTECTION).await? {
            self.flags = self.flags | MigrateFlags::CHANGE_PROTECTION;
        }
        Ok(())
    }
}

/// A host that is reached over a connection, on either side. A connection that broke is made anew for the calls that
/// settle where the guest is: Finish and Confirm.
#[derive(Debug)]
pub struct Remote {
    connection: Connection,
    uri: Uri,
    options: OpenOptions,
    domain: DomainRef,
}

impl Remote {
    /// A host behind `connection`, which was opened with `uri` and `options`; `domain` is the guest as the source
    /// knows it.
    #[must_use]
    pub const fn new(connection: Connection, uri: Uri, options: OpenOptions, domain: DomainRef) -> Self {
        Self { connection, uri, options, domain }
    }

    /// The connection; another one than before when it broke on the way.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection, to close it.
    #[must_use]
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    async fn reconnected(&mut self) -> Result<&Connection, CallError> {
        if !self.connection.is_alive() {
            let lost = self.connection.closed().await;
            self.connection =
                Connection::open(&self.uri, self.options.clone()).await.map_err(|_| CallError::Lost(lost))?;
        }
        Ok(&self.connection)
    }

    /// One look: `None` when the host has not decided yet.
    async fn look_once(&self, guest: Uuid) -> Option<bool> {
        let connection = Connection::open(&self.uri, self.options.clone()).await.ok()?;
        let seen = match connection.domain_lookup_by_uuid(guest).await {
            Ok(domain) => connection.domain_state(&domain).await.ok().and_then(has_guest),
            Err(CallError::Remote(error)) if error.code == ErrorCode::NO_DOMAIN => Some(false),
            Err(_) => None,
        };
        // What was asked is answered; how the connection ends changes nothing.
        let _ = connection.close().await;
        seen
    }
}

/// Whether a host in whose list a domain stands like this has its guest; `None` while it is still arriving.
fn has_guest((state, reason): (DomainState, i32)) -> Option<bool> {
    match (state, PausedReason(reason)) {
        (DomainState::SHUTOFF | DomainState::CRASHED | DomainState::NOSTATE, _) => Some(false),
        (DomainState::PAUSED, PausedReason::MIGRATION | PausedReason::STARTING_UP) => None,
        _ => Some(true),
    }
}

impl SourceSide for Remote {
    async fn begin(&mut self, params: Vec<TypedParam>, flags: MigrateFlags) -> Result<Begun, CallError> {
        let reply = self.connection.migrate_begin(&self.domain, params, flags).await?;
        let (state, _) = self.connection.domain_state(&self.domain).await?;
        Ok(Begun { cookie: reply.cookie, xml: reply.xml, paused: state == DomainState::PAUSED })
    }

    async fn perform(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<Cookie, CallError> {
        self.connection.migrate_perform(&self.domain, None, params, cookie, flags).await
    }

    async fn confirm(
        &mut self,
        outcome: FinishOutcome,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<(), CallError> {
        let domain = self.domain.clone();
        let cancelled = outcome != FinishOutcome::Running;
        self.reconnected().await?.migrate_confirm(&domain, params, cookie, flags, cancelled).await
    }
}

impl DestinationSide for Remote {
    async fn prepare(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<MigratePrepareReply, CallError> {
        self.connection.migrate_prepare(params, cookie, flags).await
    }

    async fn finish(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
        cancelled: bool,
    ) -> Result<MigrateFinishReply, CallError> {
        self.reconnected().await?.migrate_finish(params, cookie, flags, cancelled).await
    }

    async fn look(&mut self, guest: Uuid) -> Result<bool, CallError> {
        let deadline = Instant::now() + LOOK_LIMIT;
        let looking = async {
            loop {
                if let Some(seen) = self.look_once(guest).await {
                    return seen;
                }
                sleep(LOOK_PAUSE).await;
            }
        };
        timeout_at(deadline, looking).await.map_err(|_| CallError::Timeout(LOOK_LIMIT))
    }
}

#[cfg(test)]
mod tests;
