//! Peer to peer: this daemon coordinates a migration of its own guest.
//!
//! Called by dispatch for a Perform that names a destination. The road is `ferry_client::coordinate`'s, the same that
//! `ferry` takes; here the source side is the domain's driver, and the destination a host like any other. The
//! migration is a task of its own: a client that hangs up does not end it.

use std::sync::Arc;
use std::time::Duration;

use ferry_client::coordinate::{self, Begun, Remote, SourceSide};
use ferry_client::{CallError, Connection, Keepalive, OpenOptions, Subscription, Uri};
use ferry_migration::Evidence;
use ferry_migration::coordinator::{FinishOutcome, Outcome};
use ferry_migration::params::{Phase, Request as Parameters};
use ferry_rpc::TypedParam;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{ListFlags, MigrateFlags};
use ferry_rpc::proto::{Cookie, DomainEventCallbackLifecycle};
use ferry_rpc::values::{DomainState, EventId, Feature, LifecycleEvent, PausedReason};
use uuid::Uuid;

use crate::driver::migrate::MigrateRequest;
use crate::driver::{DomainHandle, Request};
use crate::host::Host;
use crate::listen::Client;
use crate::refuse;

/// How long a destination may take to answer the first calls.
const DIAL_DEADLINE: Duration = Duration::from_secs(15);

/// Migrates a guest of this host to the daemon at `destination`, and settles the source.
///
/// # Errors
/// The first call that failed, as the client is to see it; where the guest is then is in its text when nobody knows.
pub(crate) async fn migrate(
    host: &Arc<Host>,
    domain: DomainHandle,
    destination: &str,
    parameters: Parameters,
    given: Vec<TypedParam>,
) -> Result<(), Error> {
    let uri: Uri = destination.parse().map_err(|error: ferry_client::ParseUriError| error.to_wire())?;
    let host = Arc::clone(host);
    let migration = tokio::spawn(async move { run(&host, domain, uri, parameters, given).await });
    migration.await.map_err(|_| refuse::internal("the migration's task ended"))?
}

async fn run(
    host: &Arc<Host>,
    domain: DomainHandle,
    uri: Uri,
    parameters: Parameters,
    given: Vec<TypedParam>,
) -> Result<(), Error> {
    let keepalive = host.config.keepalive().map(|(interval, count)| Keepalive { interval, count });
    let options = OpenOptions { keepalive, ..OpenOptions::peer() };
    let dialled = tokio::time::timeout(DIAL_DEADLINE, Connection::open(&uri, options.clone())).await;
    let connection = match dialled {
        Err(_) => {
            let text = format!("unable to connect to server at '{uri}': Connection timed out");
            return Err(Error::new(ErrorCode::SYSTEM_ERROR, Origin::RPC, text));
        }
        Ok(connection) => connection.map_err(|error| error.to_wire())?,
    };
    refuse_features(&connection, parameters.flags).await.map_err(|error| error.to_wire())?;

    let (_present, client) = Client::arrive();
    let reference = domain.view().reference();
    let witness = Witness::of(&connection, reference.uuid).await;
    let mut source = Local { domain, client, witness };
    let mut destination = Remote::new(connection, uri, options, reference.clone());
    let request = coordinate::Request {
        domain: reference,
        flags: parameters.flags.with(MigrateFlags::CHANGE_PROTECTION),
        params: given,
    };
    let report = coordinate::coordinate(&mut source, &mut destination, request, |call| {
        tracing::debug!(?call, "coordinating");
    })
    .await;
    // Every answer has come; how the connection ends changes nothing.
    let _ = destination.into_connection().close().await;
    match (report.outcome, report.failure) {
        (Outcome::Moved, _) => Ok(()),
        (Outcome::Stayed, Some(failure)) => Err(failure.error.to_wire()),
        (Outcome::Stayed, None) => Err(refuse::internal("the guest stayed and no call failed")),
        (Outcome::InDoubt, Some(failure)) if source.is_decided() => Err(failure.error.to_wire()),
        (Outcome::InDoubt, failure) => {
            let why = failure.map(|failure| format!(": {}", failure.error)).unwrap_or_default();
            let text = format!("it is not known yet which host runs the guest{why}; see domjobinfo on both");
            Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text))
        }
    }
}

/// A destination without these cannot be migrated to by this daemon.
async fn refuse_features(connection: &Connection, flags: MigrateFlags) -> Result<(), CallError> {
    let mut needed = vec![(Feature::MIGRATION_PARAMS, "migration with typed parameters")];
    if flags.contains(MigrateFlags::OFFLINE) {
        needed.push((Feature::MIGRATION_OFFLINE, "offline migration"));
    }
    for (feature, what) in needed {
        if !connection.supports(feature).await? {
            let text = format!("{what} is not supported by the destination host");
            return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text).into());
        }
    }
    Ok(())
}

/// The source side: a driver in this daemon.
struct Local {
    domain: DomainHandle,
    /// Stands for the client that coordinates: it never goes before the migration's task does.
    client: Client,
    /// What the destination was seen doing with the guest.
    witness: Option<Witness>,
}

impl Local {
    /// Whether this host knows who has the guest: in post-copy, say, it is the destination's though a call failed.
    fn is_decided(&self) -> bool {
        let view = self.domain.view();
        let waits = view.state == DomainState::PAUSED && view.reason == PausedReason::MIGRATION.0;
        view.doubt.is_none() && !waits
    }

    fn parse(phase: Phase, params: &[TypedParam], flags: MigrateFlags) -> Result<Parameters, CallError> {
        Parameters::parse(phase, params, flags).map_err(CallError::Remote)
    }
}

impl SourceSide for Local {
    async fn begin(&mut self, params: Vec<TypedParam>, flags: MigrateFlags) -> Result<Begun, CallError> {
        let parameters = Local::parse(Phase::Begin, &params, flags)?;
        let client = self.client.clone();
        let begun = self
            .domain
            .ask(|reply| Request::Migrate(MigrateRequest::Begin { parameters, client, reply }))
            .await
            .map_err(CallError::Remote)?;
        let paused = self.domain.view().state == DomainState::PAUSED;
        Ok(Begun { cookie: Cookie(begun.cookie), xml: begun.xml, paused })
    }

    async fn perform(
        &mut self,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<Cookie, CallError> {
        let client = self.client.clone();
        let parameters = match Local::parse(Phase::Perform, &params, flags) {
            Ok(parameters) => parameters,
            Err(refusal) => {
                let client = self.client.clone();
                let ask = |reply| Request::Migrate(MigrateRequest::NotPerformed { client, reply });
                self.domain.ask(ask).await.map_err(CallError::Remote)?;
                return Err(refusal);
            }
        };
        let cookie = cookie.0;
        let performed = self
            .domain
            .ask(|reply| Request::Migrate(MigrateRequest::Perform { parameters, cookie, client, reply }))
            .await;
        performed.map(Cookie).map_err(CallError::Remote)
    }

    async fn confirm(
        &mut self,
        outcome: FinishOutcome,
        params: Vec<TypedParam>,
        cookie: Cookie,
        flags: MigrateFlags,
    ) -> Result<(), CallError> {
        let parameters = Local::parse(Phase::Confirm, &params, flags)?;
        let (cancelled, cookie) = (outcome != FinishOutcome::Running, cookie.0);
        let evidence = match (outcome, &mut self.witness) {
            (FinishOutcome::NotRunning, Some(witness)) => witness.testify().await,
            (FinishOutcome::NotRunning | FinishOutcome::Running | FinishOutcome::Unknown, _) => {
                Evidence::None
            }
        };
        self.domain
            .ask(|reply| {
                Request::Migrate(MigrateRequest::Confirm { parameters, cookie, cancelled, evidence, reply })
            })
            .await
            .map_err(CallError::Remote)
    }
}

/// Watches from before Finish whether the destination starts the guest.
///
/// For a destination that proves nothing by itself: that the guest is not there is no proof, for it may have run and
/// ended. That it was never started is one, if its lifecycle was watched without a gap.
struct Witness {
    guest: Uuid,
    connection: Connection,
    lifecycle: Subscription,
    seen: Evidence,
}

/// How long an event of the guest's start may come after the answer to Finish.
const LATE_EVENT: Duration = Duration::from_millis(300);

impl Witness {
    /// Begins to watch; `None` when the destination cannot be watched.
    async fn of(connection: &Connection, guest: Uuid) -> Option<Witness> {
        let lifecycle = connection.subscribe();
        connection.register_event(EventId::LIFECYCLE, None).await.ok()?;
        Some(Witness { guest, connection: connection.clone(), lifecycle, seen: Evidence::NeverStarted })
    }

    /// What was seen since.
    async fn testify(&mut self) -> Evidence {
        // Whatever happened before this answer has been reported when the pause is over.
        if self.connection.domains(ListFlags::ACTIVE).await.is_err() {
            return Evidence::None;
        }
        while let Ok(message) = tokio::time::timeout(LATE_EVENT, self.lifecycle.next()).await {
            let Ok(message) = message else {
                // A gap: what was not seen may have happened.
                return Evidence::None;
            };
            let Some(Ok(lifecycle)) = message.decode::<DomainEventCallbackLifecycle>() else { continue };
            let of_guest = lifecycle.domain.uuid == self.guest;
            if of_guest && matches!(lifecycle.event, LifecycleEvent::RESUMED) {
                self.seen = Evidence::None;
            }
        }
        self.seen
    }
}
