//! Where a guest is after a migration that did not succeed, asked of the hosts themselves.
//!
//! Called when a migration has ended otherwise than moved. A doubt is never reported as a failure: "failed" is said only
//! when the source itself shows the guest as its own.

use std::time::Duration;

use ferry_client::coordinate::Report;
use ferry_client::{CallError, Connection, OpenOptions, Uri};
use ferry_migration::coordinator::{Call, Outcome};
use ferry_rpc::ErrorCode;
use ferry_rpc::flags::JobStatsFlags;
use ferry_rpc::proto::DomainRef;
use ferry_rpc::values::{DomainState, JobType, ShutoffReason};
use tokio::time::{Instant, sleep};

use super::figures::Figures;
use super::run::Way;
use crate::failure::{Cause, Exit, Failure};
use crate::host::Standing;

/// How long the guest may take to go on at the source after a migration was called off.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// How long it is between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How long a host may take to answer a look.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The two hosts of a migration, for questions afterwards.
pub(crate) struct Hosts {
    source: Uri,
    /// Not known when only the source can reach it.
    destination: Option<Uri>,
    domain: DomainRef,
    /// The guest ran, or was paused, when it began.
    was_active: bool,
    peer_to_peer: bool,
}

/// What a look at a host showed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// The guest stands like this there.
    Guest {
        standing: Standing,
        /// A job is under way.
        job: bool,
    },
    /// The host does not know it.
    Nothing,
    /// The host does not answer.
    Silence(String),
}

impl Seen {
    /// The guest is there for good, running or paused by somebody.
    fn has_guest(&self) -> bool {
        matches!(self, Self::Guest { standing, .. } if standing.is_active()) && !self.is_undecided()
    }

    /// The guest is not there, as far as a host can say so.
    fn lacks_guest(&self) -> bool {
        match self {
            Self::Guest { standing, .. } => !standing.is_active(),
            Self::Nothing => true,
            Self::Silence(_) => false,
        }
    }

    /// Another look may show more.
    fn is_undecided(&self) -> bool {
        match self {
            Self::Guest { standing, job } => standing.waits_for_migration() || *job && standing.is_active(),
            Self::Nothing => false,
            Self::Silence(_) => true,
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Guest { standing, job: false } => standing.fmt(f),
            Self::Guest { standing, job: true } => write!(f, "{standing}, with a job under way"),
            Self::Nothing => f.write_str("no such guest"),
            Self::Silence(why) => write!(f, "no answer ({why})"),
        }
    }
}

impl Hosts {
    pub(crate) fn new(source: &Uri, way: &Way, domain: DomainRef, was_active: bool) -> Self {
        let (destination, peer_to_peer) = match way {
            Way::Direct(_, uri) => (Some(uri.clone()), false),
            Way::PeerToPeer(uri) => (uri.parse().ok(), true),
        };
        Self { source: source.clone(), destination, domain, was_active, peer_to_peer }
    }

    /// The statistics that a host keeps of a migration that succeeded.
    pub(crate) async fn completed_figures(&self, arrived: Option<&DomainRef>) -> Option<Figures> {
        // Kept for whoever asks next.
        let flags = JobStatsFlags::COMPLETED | JobStatsFlags::KEEP_COMPLETED;
        let arrived = arrived.unwrap_or(&self.domain);
        let mut best: Option<Figures> = None;
        for (uri, domain) in [(Some(&self.source), &self.domain), (self.destination.as_ref(), arrived)] {
            let Some(uri) = uri else { continue };
            let Ok(connection) = connect(uri).await else { continue };
            let answer = connection.job_stats(domain, flags).await;
            crate::guests::close(connection).await;
            if let Ok((kind, params)) = answer
                && kind == JobType::COMPLETED
            {
                let figures = Figures::read(&params);
                // A source may know the times alone.
                if figures.total > 0 {
                    return Some(Figures {
                        pause_ms: best.map_or(figures.pause_ms, |best| best.pause_ms),
                        ..figures
                    });
                }
                best = best.or(Some(figures));
            }
        }
        best
    }

    /// What the operator can do to see where the guest is.
    pub(crate) fn how_to_look(&self) -> String {
        let look = |uri: &Uri| format!("`ferry -c '{uri}' list --all`");
        match &self.destination {
            Some(destination) => format!("look with {} and {}", look(&self.source), look(destination)),
            None => format!("look with {}, and on the destination", look(&self.source)),
        }
    }

    /// Looks at the source until it is clear there whether the guest goes on, or for [`SETTLE_LIMIT`].
    async fn settled_source(&self) -> Seen {
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            let seen = self.look(&self.source).await;
            if !seen.is_undecided() || Instant::now() >= deadline {
                return seen;
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    async fn look(&self, uri: &Uri) -> Seen {
        let connection = match connect(uri).await {
            Ok(connection) => connection,
            Err(why) => return Seen::Silence(why),
        };
        let standing = Standing::ask(&connection, &self.domain).await;
        let job = connection.job_stats(&self.domain, JobStatsFlags::NONE).await;
        crate::guests::close(connection).await;
        match standing {
            Ok(Some(standing)) => {
                Seen::Guest { standing, job: job.is_ok_and(|(kind, _)| kind != JobType::NONE) }
            }
            Ok(None) => Seen::Nothing,
            Err(error) => Seen::Silence(error.to_string()),
        }
    }
}

async fn connect(uri: &Uri) -> Result<Connection, String> {
    let options = OpenOptions {
        connect_timeout: CONNECT_LIMIT,
        open_timeout: CONNECT_LIMIT,
        read_only: false,
        close_callback: false,
        ..OpenOptions::default()
    };
    Connection::open(uri, options).await.map_err(|error| error.to_string())
}

/// Finds out what became of a migration whose coordinator does not know that the guest was moved.
///
/// # Errors
/// Unless it was moved all the same: what to tell the operator.
pub(crate) async fn settle(report: Report, hosts: &Hosts, destination: &str) -> Result<(), Failure> {
    let doing = format!("cannot migrate '{}' to {destination}", hosts.domain.name);
    let refused = report.failure.as_ref().is_some_and(|failure| {
        matches!(failure.call, Call::Begin | Call::Prepare) && !failure.error.is_unknown()
    });
    let aborted = report.failure.as_ref().is_some_and(|failure| was_aborted(&failure.error));
    let cause = match report.failure {
        Some(failure) => cause(failure.call, failure.error),
        None => Cause::Here("the hosts do not say why".to_owned()),
    };
    if report.outcome == Outcome::Stayed && (refused || !hosts.was_active) {
        let exit = if refused || hosts.peer_to_peer { Exit::Refused } else { Exit::Failed };
        return Err(Failure::new(exit, doing, cause).guest("untouched on the source"));
    }
    let source = hosts.settled_source().await;
    let there = match &hosts.destination {
        Some(uri) => hosts.look(uri).await,
        None => Seen::Silence("only the source can reach it".to_owned()),
    };
    match verdict(report.outcome, &source, &there) {
        Verdict::AtDestination => Ok(()),
        Verdict::AtSource => {
            let failure = Failure::failed(doing, cause).guest(format!("on the source: {source}"));
            // Who called it off needs no advice.
            Err(if aborted { Failure { next: None, ..failure } } else { failure })
        }
        Verdict::Ended => Err(Failure::failed(doing, cause)
            .guest(format!("has ended on the source: {source}"))
            .next("its log on the source tells why; `ferry start` boots it again")),
        Verdict::InDoubt => Err(Failure::new(Exit::InDoubt, doing, cause)
            .guest(format!("IN DOUBT. Source: {source}. Destination: {there}"))
            .next(format!(
                "start it nowhere by hand. Two ferryds settle it by themselves as soon as they reach each other; {}",
                hosts.how_to_look()
            ))),
    }
}

/// Where the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    AtSource,
    AtDestination,
    /// It ended by itself before it was handed over.
    Ended,
    InDoubt,
}

/// What the coordinator believes, held against what the hosts show.
fn verdict(outcome: Outcome, source: &Seen, destination: &Seen) -> Verdict {
    let stayed = outcome == Outcome::Stayed;
    let handed_over = matches!(source, Seen::Guest { standing, .. }
        if standing.state == DomainState::SHUTOFF && ShutoffReason(standing.reason) == ShutoffReason::MIGRATED);
    if source.lacks_guest() && destination.has_guest() {
        Verdict::AtDestination
    } else if source.has_guest() && (stayed || destination.lacks_guest()) {
        Verdict::AtSource
    } else if stayed && source.lacks_guest() && destination.lacks_guest() && !handed_over {
        Verdict::Ended
    } else {
        Verdict::InDoubt
    }
}

fn was_aborted(error: &CallError) -> bool {
    matches!(error, CallError::Remote(error) if error.code == ErrorCode::OPERATION_ABORTED)
}

/// The error, with the phase in which it came in front of its text.
fn cause(call: Call, error: CallError) -> Cause {
    let phase = match call {
        Call::Begin => "the source does not begin",
        Call::Prepare => "the destination does not prepare",
        Call::Perform => "the source did not complete the copy",
        Call::Finish { .. } => "the destination did not finish",
        Call::Look => "the destination does not say where the guest is",
        Call::Confirm(_) => "the source did not confirm",
    };
    let mut error = error.to_wire();
    error.message = format!("{phase}: {}", error.message);
    Cause::Wire(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_rpc::values::PausedReason;

    fn seen(state: DomainState, reason: i32) -> Seen {
        Seen::Guest { standing: Standing { state, reason, doubt: None }, job: false }
    }

    fn silence() -> Seen {
        Seen::Silence("refused".to_owned())
    }

    #[test]
    fn failed_is_said_only_when_the_source_has_the_guest() {
        let running = seen(DomainState::RUNNING, 6);
        let users = seen(DomainState::PAUSED, PausedReason::USER.0);
        for there in [Seen::Nothing, silence(), seen(DomainState::SHUTOFF, 0)] {
            assert_eq!(verdict(Outcome::Stayed, &running, &there), Verdict::AtSource);
            assert_eq!(verdict(Outcome::Stayed, &users, &there), Verdict::AtSource);
        }
        for doubtful in [
            seen(DomainState::PAUSED, PausedReason::MIGRATION.0),
            seen(DomainState::SHUTOFF, ShutoffReason::MIGRATED.0),
            silence(),
        ] {
            assert_eq!(verdict(Outcome::Stayed, &doubtful, &Seen::Nothing), Verdict::InDoubt, "{doubtful}");
        }
        assert_eq!(verdict(Outcome::Stayed, &Seen::Nothing, &silence()), Verdict::InDoubt);
        assert_eq!(verdict(Outcome::Stayed, &seen(DomainState::SHUTOFF, 3), &Seen::Nothing), Verdict::Ended);
    }

    #[test]
    fn a_doubt_ends_when_both_hosts_say_the_same() {
        let (running, gone) = (seen(DomainState::RUNNING, 2), seen(DomainState::SHUTOFF, 4));
        let arriving = seen(DomainState::PAUSED, PausedReason::MIGRATION.0);
        assert_eq!(verdict(Outcome::InDoubt, &gone, &running), Verdict::AtDestination);
        assert_eq!(verdict(Outcome::InDoubt, &running, &Seen::Nothing), Verdict::AtSource);
        assert_eq!(verdict(Outcome::InDoubt, &running, &silence()), Verdict::InDoubt);
        assert_eq!(verdict(Outcome::InDoubt, &running, &running), Verdict::InDoubt);
        assert_eq!(verdict(Outcome::InDoubt, &gone, &arriving), Verdict::InDoubt);
        let copying = Seen::Guest {
            standing: Standing { state: DomainState::RUNNING, reason: 1, doubt: None },
            job: true,
        };
        assert_eq!(verdict(Outcome::InDoubt, &copying, &Seen::Nothing), Verdict::InDoubt);
    }

    #[test]
    fn the_phase_stands_before_the_hosts_own_words() {
        let error = ferry_rpc::Error::of(ErrorCode::OPERATION_FAILED, ferry_rpc::Origin::QEMU, "no");
        assert_eq!(
            cause(Call::Prepare, error.into()).to_string(),
            "the destination does not prepare: operation failed: no [9/10]"
        );
    }
}
