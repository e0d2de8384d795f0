//! Carries one migration out: coordinates it or lets the source do so, watches it, aborts it, and finds out where the
//! guest is afterwards.
//!
//! Called by the `migrate` command and by the demonstration. What may be believed of a lost answer is decided by
//! `ferry_client::coordinate`; this module only asks the hosts when it is told that something went wrong.
//!
//! ```text
//!             ┌ direct: coordinate(source, destination) ┐
//! carry_out ──┤                                         ├──> Report ──> Moved, or a Failure that says where the guest is
//!             └ p2p: one Perform, and the source's word ┘
//!      beside it: figures every period, abort on the first interrupt, pause when the time is up
//! ```

use std::time::Duration;

use ferry_client::coordinate::{Remote, Report, Request, coordinate};
use ferry_client::{Connection, OpenOptions, Subscription, Uri};
use ferry_migration::coordinator::{Call, Outcome};
use ferry_rpc::flags::{AbortJobFlags, JobStatsFlags, MigrateFlags};
use ferry_rpc::proto::{Cookie, DomainEventCallbackJobCompleted, DomainRef};
use ferry_rpc::values::{EventId, JobType};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::figures::Figures;
use super::settle::{self, Hosts};
use super::show::Watcher;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupts;

/// How long the source's last word on the statistics may take to come.
const FIGURES_LIMIT: Duration = Duration::from_secs(1);

/// A migration that is to be carried out.
pub(crate) struct Order {
    /// The host that the guest leaves.
    pub(crate) source: Connection,
    /// Its address.
    pub(crate) source_uri: Uri,
    /// Who coordinates, and where the guest goes.
    pub(crate) way: Way,
    /// Guest, flags, parameters.
    pub(crate) request: Request,
    /// When the guest is to be paused if the copy has not ended; counted from the start of the copy.
    pub(crate) patience: Option<Duration>,
}

/// Who coordinates.
pub(crate) enum Way {
    /// This tool, over a connection to the destination.
    Direct(Connection, Uri),
    /// The source, which reaches the destination at this address.
    PeerToPeer(String),
}

impl Way {
    /// The destination's address.
    pub(crate) fn destination(&self) -> String {
        match self {
            Self::Direct(_, uri) => uri.to_string(),
            Self::PeerToPeer(uri) => uri.clone(),
        }
    }
}

/// A migration that succeeded.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    /// From the first call to the last answer.
    pub(crate) total: Duration,
    /// What the copy took, when a host told.
    pub(crate) figures: Option<Figures>,
}

/// What happens while a migration runs.
enum News {
    Phase(Call),
    Figures(Figures),
    Note(String),
}

/// Carries the migration out. Without `interrupts` nothing stops it.
pub(crate) async fn carry_out(
    order: Order,
    watcher: &mut dyn Watcher,
    mut interrupts: Option<&mut Interrupts>,
) -> Result<Moved, Failure> {
    let Order { source, source_uri, way, request, patience } = order;
    let (domain, destination) = (request.domain.clone(), way.destination());
    let mut last = LastFigures::listen(&source, &domain).await;
    let was_active = source.domain_is_active(&domain).await.unwrap_or(true);
    let hosts = Hosts::new(&source_uri, &way, domain.clone(), was_active);
    let offline = request.flags.contains(MigrateFlags::OFFLINE);

    let (tell, mut news) = mpsc::unbounded_channel();
    let started = Instant::now();
    let road = run(source.clone(), source_uri, way, request, tell.clone());
    tokio::pin!(road);
    let mut helpers = JoinSet::new();
    let mut deadline = None;
    let mut aborting = false;
    let report = loop {
        tokio::select! {
            report = &mut road => break report,
            Some(heard) = news.recv() => match heard {
                News::Phase(call) => {
                    watcher.phase(call);
                    if call == Call::Perform {
                        helpers.spawn(poll(source.clone(), domain.clone(), watcher.period(), tell.clone()));
                        deadline = patience.map(|patience| Instant::now() + patience);
                    }
                }
                News::Figures(figures) => watcher.figures(&figures),
                News::Note(text) => watcher.note(&text),
            },
            () = until(deadline) => {
                deadline = None;
                watcher.note("the time is up: pausing the guest, so that the copy ends");
                helpers.spawn(pause(source.clone(), domain.clone(), tell.clone()));
            }
            () = interrupted(&mut interrupts) => {
                if aborting {
                    return Err(left(&domain, &hosts));
                }
                aborting = true;
                watcher.note("calling the migration off; once more Ctrl-C leaves without waiting");
                helpers.spawn(abort(source.clone(), domain.clone(), tell.clone()));
            }
        }
    };
    let total = started.elapsed();
    helpers.abort_all();
    let arrived = report.domain.clone();
    if report.outcome == Outcome::Moved {
        if let Some(failure) = &report.failure {
            watcher.note(&format!("moved, although a call failed on the way: {failure}"));
        }
    } else {
        let failure = report.failure.clone();
        settle::settle(report, &hosts, &destination).await?;
        if let Some(failure) = failure {
            watcher.note(&format!("both hosts show the guest on the destination, although: {failure}"));
        }
    }
    let figures = if offline { None } else { last.read(&hosts, arrived.as_ref()).await };
    Ok(Moved { total, figures })
}

/// The migration itself, to its end.
async fn run(
    source: Connection,
    source_uri: Uri,
    way: Way,
    request: Request,
    tell: mpsc::UnboundedSender<News>,
) -> Report {
    let watch = move |call| {
        let _ = tell.send(News::Phase(call));
    };
    match way {
        Way::Direct(destination, destination_uri) => {
            let options = OpenOptions { close_callback: false, ..OpenOptions::default() };
            let side =
                |connection, uri| Remote::new(connection, uri, options.clone(), request.domain.clone());
            let (mut source, mut destination) =
                (side(source, source_uri), side(destination, destination_uri));
            coordinate(&mut source, &mut destination, request, watch).await
        }
        Way::PeerToPeer(uri) => peer_to_peer(&source, uri, request, watch).await,
    }
}

/// One call, in which the source does it all.
async fn peer_to_peer(source: &Connection, uri: String, request: Request, watch: impl Fn(Call)) -> Report {
    let Request { domain, flags, params } = request;
    watch(Call::Perform);
    let performed = source.migrate_perform(&domain, Some(uri), params, Cookie::default(), flags).await;
    let (outcome, failure) = match performed {
        Ok(_) => (Outcome::Moved, None),
        // Its answer was lost, or it says that it does not know itself: the hosts are asked next.
        Err(error) => {
            let outcome = if error.is_unknown() { Outcome::InDoubt } else { Outcome::Stayed };
            (outcome, Some(ferry_client::coordinate::Failure { call: Call::Perform, error }))
        }
    };
    Report { outcome, domain: None, failure }
}

/// Asks for the figures every `period`, as long as there is a copy.
async fn poll(source: Connection, domain: DomainRef, period: Duration, tell: mpsc::UnboundedSender<News>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while source.is_alive() {
        ticks.tick().await;
        if let Ok((kind, params)) = source.job_stats(&domain, JobStatsFlags::NONE).await
            && kind != JobType::NONE
        {
            let figures = Figures::read(&params);
            // Before QEMU has counted the memory there is nothing to see.
            if figures.total > 0 && tell.send(News::Figures(figures)).is_err() {
                return;
            }
        }
    }
}

async fn pause(source: Connection, domain: DomainRef, tell: mpsc::UnboundedSender<News>) {
    if let Err(error) = source.suspend(&domain).await {
        let _ = tell.send(News::Note(format!("the guest could not be paused: {error}")));
    }
}

async fn abort(source: Connection, domain: DomainRef, tell: mpsc::UnboundedSender<News>) {
    if let Err(error) = source.abort_job(&domain, AbortJobFlags::NONE).await {
        let _ = tell.send(News::Note(format!("it cannot be called off any more: {error}")));
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn interrupted(interrupts: &mut Option<&mut Interrupts>) {
    match interrupts {
        Some(interrupts) => interrupts.next().await,
        None => std::future::pending().await,
    }
}

/// The operator did not want to wait for the end.
fn left(domain: &DomainRef, hosts: &Hosts) -> Failure {
    Failure::new(Exit::InDoubt, format!("left the migration of '{}'", domain.name), "interrupted twice")
        .guest("was asked to stay at the source; nobody waited to see it")
        .next(hosts.how_to_look())
}

/// The statistics of a migration that has ended. The source tells them by an event, which also comes for a guest that
/// it forgets with the migration; else both hosts keep them for a while.
struct LastFigures(Option<(Subscription, DomainRef)>);

impl LastFigures {
    async fn listen(source: &Connection, domain: &DomainRef) -> Self {
        let events = source.subscribe();
        let registered = source.register_event(EventId::JOB_COMPLETED, Some(domain)).await;
        Self(registered.ok().map(|_| (events, domain.clone())))
    }

    async fn read(&mut self, hosts: &Hosts, arrived: Option<&DomainRef>) -> Option<Figures> {
        if let Some(figures) = hosts.completed_figures(arrived).await {
            return Some(figures);
        }
        let (events, domain) = self.0.as_mut()?;
        let heard = async {
            loop {
                let received = events.next().await.ok()?;
                if let Some(Ok(event)) = received.decode::<DomainEventCallbackJobCompleted>()
                    && event.domain.uuid == domain.uuid
                {
                    return Some(Figures::read(&event.params));
                }
            }
        };
        timeout(FIGURES_LIMIT, heard).await.ok().flatten()
    }
}
