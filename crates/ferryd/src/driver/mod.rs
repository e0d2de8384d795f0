//! One task for each domain: the only one who changes it.
//!
//! ```text
//!   dispatch --Request--> mailbox ┐
//!   QEMU ------ Event -----------┼--> Driver::run --> perform (QEMU, files) ; store ; events
//!   pidfd ----- exit ------------┘         └--> View (published after every step; queries read it)
//! ```
//!
//! A request is carried out to its end or refused; nothing waits in here for minutes. A migration is a pure machine
//! of `ferry_migration` that this task feeds and whose effects it performs ([`migrate`]), so the mailbox stays
//! served while memory moves.

mod admission;
mod adopt;
pub(crate) mod blocks;
pub(crate) mod change;
mod definition;
mod devices;
mod guest;
mod job;
mod lifecycle;
mod memory;
mod metadata;
pub(crate) mod migrate;
mod qemu_event;
mod request;
mod snapshots;
mod tpm;
mod vcpus;
mod view;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ferry_domain::{Happening, Lifecycle, State};
use ferry_domxml::Domain;
use ferry_migration::message::Word;
use ferry_migration::stats::JobStats;
use ferry_migration::{Epoch, policy, source};
use ferry_qmp::Event;
use ferry_rpc::values::LifecycleEvent;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::events::DomainEvent;
use crate::handover::Peer;
use crate::host::Host;
use crate::perform::storage::Surveyor;

pub(crate) use guest::Guest;
pub(crate) use request::{DomainHandle, Leaving, Predicted, Reply, Request, Told, WhichJob};
pub(crate) use snapshots::unknown as unknown_snapshot;
pub(crate) use view::{Live, View};

/// Starts the driver of a domain that is neither defined nor running yet.
pub(crate) fn spawn(host: Arc<Host>, uuid: Uuid, name: String) -> DomainHandle {
    let (mailbox, requests) = mpsc::channel(request::MAILBOX);
    let (published, view) = watch::channel(Arc::new(View::vacant(uuid, name.clone())));
    let driver = Driver {
        host,
        uuid,
        name,
        me: mailbox.downgrade(),
        requests,
        published,
        config: None,
        autostart: false,
        snapshots: 0,
        life: Lifecycle::default(),
        guest: None,
        unplugs: Vec::new(),
        silent: None,
        surveyor: Surveyor::default(),
        migration: None,
        settling: Vec::new(),
        waiting: None,
        answering: None,
        has_heard: None,
        epoch: Epoch::default(),
        offered: None,
        offer_heard: false,
        offline: None,
        opening: Vec::new(),
        moved_to: None,
        completed_job: None,
        predicted: None,
        limits: Limits::default(),
    };
    tokio::spawn(driver.run());
    DomainHandle::new(mailbox, view)
}

/// The driver's own state. Nobody else sees it; see [`View`].
pub(crate) struct Driver {
    host: Arc<Host>,
    uuid: Uuid,
    name: String,
    /// For tasks of this driver's own making (connection watchers, the journal's writer) to report back.
    me: mpsc::WeakSender<Request>,
    requests: mpsc::Receiver<Request>,
    published: watch::Sender<Arc<View>>,
    config: Option<Arc<Domain>>,
    autostart: bool,
    /// Snapshots whose metadata the store has.
    snapshots: usize,
    life: Lifecycle,
    guest: Option<Guest>,
    /// Devices that the guest was asked to let go, with who waits for that.
    unplugs: Vec<devices::Unplug>,
    /// A QEMU that was found alive and does not answer.
    silent: Option<adopt::Silent>,
    surveyor: Surveyor,
    migration: Option<migrate::Migration>,
    /// Earlier ones that have ended here, and whose end the other side has not acknowledged.
    settling: Vec<migrate::Migration>,
    /// The present one, while one of those that settle is at work.
    waiting: Option<migrate::Migration>,
    /// While the other daemon is being answered: what the machine says goes into the answer.
    answering: Option<Vec<Word>>,
    /// While an answer of the other daemon is being heard: the word that it answers.
    has_heard: Option<Word>,
    /// Of the guest's last migration that this host knows.
    epoch: Epoch,
    /// Names that Begin gave out without opening a job.
    offered: Option<migrate::Names>,
    /// The destination has spoken of that offer.
    offer_heard: bool,
    /// A definition that is coming without its guest, and its name on the source.
    offline: Option<migrate::Offline>,
    /// What a machine that was just made wants done first.
    opening: Vec<source::Effect>,
    /// The host that the guest was migrated to, while a definition stays here.
    moved_to: Option<Peer>,
    /// What the last job did, until somebody reads it.
    completed_job: Option<JobStats>,
    /// What a plan has predicted last.
    predicted: Option<Box<Predicted>>,
    limits: Limits,
}

/// What the operator set for migrations of this domain, until the daemon ends.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    downtime_ms: Option<u64>,
    speed_mib: Option<u64>,
    postcopy_speed_mib: Option<u64>,
}

/// What a driver wakes up for.
enum Wake {
    Asked(Request),
    Qemu(Event),
    /// The monitor's connection ended while QEMU may still live.
    MonitorClosed,
    Exited,
    /// A deadline or a retry of the migration is due.
    Migration,
    /// A QEMU that did not answer is to be tried again.
    Silent,
    /// Somebody has waited long enough for a device to go.
    Unplug,
    /// The last handle is gone: nobody can ask any more.
    Forgotten,
}

impl Driver {
    async fn run(mut self) {
        loop {
            match self.wake().await {
                Wake::Asked(request) => self.handle_request(request).await,
                Wake::Qemu(event) => self.handle_qemu_event(event).await,
                Wake::MonitorClosed => self.handle_monitor_closed().await,
                Wake::Exited => self.handle_exit().await,
                Wake::Silent => self.adopt_again().await,
                Wake::Unplug => self.handle_unplug_timer().await,
                Wake::Migration => self.handle_migration_timer().await,
                Wake::Forgotten => return,
            }
            self.publish();
        }
    }

    async fn wake(&mut self) -> Wake {
        let migrations = self.migration.iter().chain(&self.settling);
        let due = migrations.filter_map(migrate::Migration::due).min();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let again = self.silent.as_ref().map(|silent| silent.again);
        let silence = async {
            match again {
                Some(again) => tokio::time::sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        let Some(guest) = &mut self.guest else {
            return tokio::select! {
                request = self.requests.recv() => request.map_or(Wake::Forgotten, Wake::Asked),
                () = timer => Wake::Migration,
                () = silence => Wake::Silent,
            };
        };
        let patience = self.unplugs.iter().map(devices::Unplug::due).min();
        let unplug = async {
            match patience {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let exited = guest.process.exited();
        tokio::select! {
            // What QEMU said before it ended counts, so its events come before its end.
            biased;
            event = guest.events.recv(), if guest.monitored => event.map_or(Wake::MonitorClosed, Wake::Qemu),
            () = exited => Wake::Exited,
            request = self.requests.recv() => request.map_or(Wake::Forgotten, Wake::Asked),
            () = timer => Wake::Migration,
            () = unplug => Wake::Unplug,
        }
    }

    async fn handle_request(&mut self, request: Request) {
        match request {
            Request::Define { domain, reply } => {
                let outcome = self.define(domain).await;
                self.answer(reply, outcome);
            }
            Request::Undefine { flags, reply } => {
                let outcome = self.undefine(flags).await;
                self.answer(reply, outcome);
            }
            Request::Create { domain, flags, client, reply } => {
                let outcome = self.create(domain, flags, client).await;
                self.answer(reply, outcome);
            }
            Request::Start { flags, client, reply } => {
                let outcome = self.start(flags, client).await;
                self.answer(reply, outcome);
            }
            Request::Destroy { flags, reply } => self.destroy(flags, reply).await,
            Request::Shutdown { flags, reply } => {
                let outcome = self.shutdown(flags).await;
                self.answer(reply, outcome);
            }
            Request::Reboot { flags, reply } => {
                let outcome = self.reboot(flags).await;
                self.answer(reply, outcome);
            }
            Request::Reset { reply } => {
                let outcome = self.reset().await;
                self.answer(reply, outcome);
            }
            Request::Suspend { reply } => {
                let outcome = self.suspend().await;
                self.answer(reply, outcome);
            }
            Request::Resume { reply } => {
                let outcome = self.resume().await;
                self.answer(reply, outcome);
            }
            Request::SetAutostart { autostart, reply } => {
                let outcome = self.set_autostart(autostart).await;
                self.answer(reply, outcome);
            }
            Request::ForgetSnapshot { name, reply } => {
                let outcome = self.forget_snapshot(name).await;
                self.answer(reply, outcome);
            }
            Request::Change { change, affect, reply } => self.change(change, affect, reply).await,
            Request::Rename { name, reply } => {
                let outcome = self.rename(name).await;
                self.answer(reply, outcome);
            }
            Request::JobStats { which, reply } => {
                let outcome = self.job_stats(which).await;
                self.answer(reply, outcome);
            }
            Request::AbortJob { postcopy, reply } => self.abort_job(postcopy, reply).await,
            Request::SetMaxDowntime { downtime_ms, reply } => {
                let outcome = self.set_max_downtime(downtime_ms).await;
                self.answer(reply, outcome);
            }
            Request::SetMaxSpeed { mib_per_s, postcopy, reply } => {
                let outcome = self.set_max_speed(mib_per_s, postcopy).await;
                self.answer(reply, outcome);
            }
            Request::StartPostcopy { reply } => self.start_postcopy(reply).await,
            Request::Migrate(request) => self.handle_migrate(request).await,
            Request::Told { told, reply } => {
                let said = self.told(told).await;
                self.answer(reply, Ok(said));
            }
            Request::Heard { id, said, answer } => self.heard(id, said, answer).await,
            Request::PlanLeaving { parameters, reply } => {
                let leaving = self.plan_leaving(&parameters).await;
                self.answer(reply, leaving);
            }
            Request::Predicted(predicted) => self.predicted = Some(predicted),
            Request::Resolve { guest_is, reply } => self.resolve(guest_is, reply).await,
            Request::StartRefused { id } => self.start_refused(id).await,
            Request::PackageLoaded { id } => self.package_loaded(id).await,
            Request::ClientGone { client } => self.handle_client_gone(client).await,
            Request::Adopt { found, reply } => {
                let outcome = self.adopt(*found).await;
                self.answer(reply, outcome);
            }
        }
    }

    /// Shows the world how the domain stands now.
    fn publish(&mut self) {
        let doubt = self.migration.as_ref().and_then(migrate::Migration::doubt);
        let (state, reason) = self.life.state().numbers();
        let view = View {
            uuid: self.uuid,
            name: self.name.clone(),
            state,
            reason,
            config: self.config.clone(),
            live: self.guest.as_ref().map(Guest::live),
            autostart: self.autostart,
            snapshots: self.snapshots,
            silent: self.silent.is_some(),
            busy: self.migration.is_some() || self.offline.is_some() || !self.settling.is_empty(),
            settled: self.offline.is_none()
                && self.migration.iter().chain(&self.settling).all(migrate::Migration::is_over),
            doubt,
            downtime_ms_max: self.limits.downtime_ms.unwrap_or(policy::DOWNTIME_MS_LAST),
            speed_mib_max: self.limits.speed_mib.unwrap_or(policy::UNLIMITED_MIB),
            postcopy_speed_mib_max: self.limits.postcopy_speed_mib.unwrap_or(0),
        };
        let vacant = view.is_vacant();
        self.published.send_replace(Arc::new(view));
        if vacant {
            self.host.registry.forget_vacant(self.uuid);
        }
    }

    /// Gives an asker its answer. The view comes first: who is answered finds the domain as the answer says.
    fn answer<T>(&mut self, reply: Reply<T>, outcome: Result<T, ferry_rpc::Error>) {
        self.publish();
        answer(reply, outcome);
    }

    /// Tells the clients that listen. The view comes first: who acts on an event finds the domain as it says.
    fn emit(&mut self, event: DomainEvent) {
        self.publish();
        let reference = self.published.borrow().reference();
        self.host.events.emit(&reference, event);
    }

    /// Something happened to the guest: its state changes, and those who listen are told.
    fn happen(&mut self, happening: Happening) {
        let before = self.life.state();
        let (life, events) = self.life.step(happening);
        self.life = life;
        if life.state() != before {
            tracing::info!(domain = %self.name, from = ?before, to = ?life.state(), "state");
        }
        for event in events {
            let (event, detail) = event.numbers();
            self.emit_lifecycle(event, detail);
        }
    }

    /// What the guest is doing, and why.
    fn state(&self) -> State {
        self.life.state()
    }

    fn emit_lifecycle(&mut self, event: LifecycleEvent, detail: i32) {
        self.emit(DomainEvent::Lifecycle { event, detail });
    }
}

/// Gives the asker its answer. An asker that has gone does not undo what was done.
fn answer<T>(reply: Reply<T>, outcome: Result<T, ferry_rpc::Error>) {
    let _ = reply.send(outcome);
}

/// Milliseconds since 1970, as cookies and records have them.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
