//! Taking over what a former daemon left of a domain: its definition, and its guest when QEMU still lives.

use std::sync::Arc;
use std::time::Duration;

use ferry_domain::{Lifecycle, State};
use ferry_domxml::Domain;
use ferry_qmp::Event;

use ferry_qmp::commands::progress::{MigrationInfo, QueryMigrate};
use ferry_qmp::commands::run::{QueryStatus, RunState, Status};
use ferry_rpc::error::Error;
use ferry_rpc::values::{CrashedReason, DomainState, PausedReason, RunningReason, ShutoffReason};
use ferry_store::GuestRecord;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Driver;
use super::guest::{Ending, Guest};
use crate::perform::monitor::Monitor;
use crate::perform::rundir::RunDir;
use crate::perform::tpm::Swtpm;
use crate::process::{Identity, Process};
use crate::refuse;
use crate::restart::Found;

/// Tells the monitor's answers of this daemon from those that an earlier one asked for.
fn generation() -> u64 {
    super::now_ms()
}

/// How long a QEMU found again may take to greet and to say what it is doing.
const REACH_DEADLINE: Duration = Duration::from_secs(3);

/// How long until one that was silent is tried again.
const REACH_PAUSE: Duration = Duration::from_secs(1);

/// What was found of a recorded QEMU.
enum Reached {
    /// The process is gone.
    Gone,
    /// It lives, and says what it is doing.
    Answers(Box<Guest>, Box<Doing>),
    /// It lives, and does not answer: nothing may be concluded from that.
    Silent(String),
}

/// What a QEMU says that it is doing, asked at one moment.
#[derive(Debug)]
pub(super) struct Doing {
    pub(super) status: Status,
    pub(super) copy: MigrationInfo,
}

/// A guest whose QEMU lives and does not answer; it is tried again, and until then nobody may start another.
pub(super) struct Silent {
    found: Found,
    pub(super) again: Instant,
}

impl Driver {
    pub(super) async fn adopt(&mut self, mut found: Found) -> Result<(), Error> {
        self.epoch = found.epoch;
        self.snapshots = found.snapshots;
        if let Some((config, autostart)) = found.config.take() {
            self.config = Some(Arc::new(config));
            self.autostart = autostart;
        }
        self.adopt_guest(found).await
    }

    /// Tries a QEMU again that did not answer.
    pub(super) async fn adopt_again(&mut self) {
        let Some(silent) = self.silent.take() else { return };
        if let Err(error) = self.adopt_guest(silent.found).await {
            tracing::error!(domain = %self.name, %error, "the guest could not be taken over");
        }
    }

    async fn adopt_guest(&mut self, found: Found) -> Result<(), Error> {
        let mut doing = None;
        if let Some(record) = &found.guest {
            self.host.registry.seen_id(record.id);
            match self.reach(record).await {
                Reached::Gone => self.settle_gone(record).await?,
                Reached::Answers(guest, says) => {
                    self.guest = Some(*guest);
                    if says.status.running {
                        // Whatever a former daemon had no time for.
                        self.accept_tpm();
                    }
                    self.adopt_devices().await;
                    let recorded = State::from_numbers(DomainState(record.state), record.reason);
                    self.adopt_state(&says.status, recorded).await;
                    doing = Some(*says);
                }
                Reached::Silent(why) => {
                    tracing::error!(domain = %self.name, pid = record.pid, why, "QEMU lives and does not answer; trying again");
                    self.life = Lifecycle::found(State::Paused(PausedReason::UNKNOWN));
                    self.silent = Some(Silent { found, again: Instant::now() + REACH_PAUSE });
                    return Ok(());
                }
            }
        }
        let user_stopped = found.guest.as_ref().is_some_and(|record| {
            DomainState(record.state) == DomainState::PAUSED && record.reason == PausedReason::USER.0
        });
        let mut migrations = found.migrations;
        let newest = migrations.pop();
        for earlier in migrations {
            self.adopt_earlier(earlier).await;
        }
        if let Some(newest) = newest {
            self.adopt_migration(newest, doing.as_ref(), user_stopped).await;
        }
        Ok(())
    }

    async fn settle_gone(&mut self, record: &GuestRecord) -> Result<(), Error> {
        tracing::info!(domain = %self.name, pid = record.pid, "QEMU ended while no daemon watched");
        let run_dir = RunDir::existing(record.run_dir.clone());
        if let Some(mut swtpm) = Swtpm::found(&run_dir) {
            swtpm.end().await;
        }
        run_dir.remove();
        if let Ok(domain) = Domain::parse(&record.xml) {
            self.settle_tpm(&domain, Ending::Crashed);
        }
        let uuid = self.uuid;
        // A record that stays behind is found to be without a process again.
        let _ = self.host.store(move |store| store.remove_guest(uuid)).await;
        self.life = Lifecycle::found(State::ShutOff(ShutoffReason::CRASHED));
        Ok(())
    }

    /// Whatever stands in the way of asking, a process that may live is not given up.
    async fn reach(&self, record: &GuestRecord) -> Reached {
        let identity =
            Identity { pid: record.pid, start_ticks: record.start_ticks, boot_id: record.boot_id.clone() };
        let process = match Process::find(&identity) {
            Ok(Some(process)) => process,
            Ok(None) => return Reached::Gone,
            Err(error) => return Reached::Silent(format!("its process cannot be looked for: {error}")),
        };
        let domain = match Domain::parse(&record.xml) {
            Ok(domain) => domain,
            Err(error) => return Reached::Silent(format!("its stored live XML cannot be read: {error}")),
        };
        let capabilities = match self.host.capabilities(domain.devices.emulator.as_deref()).await {
            Ok(capabilities) => capabilities,
            Err(error) => return Reached::Silent(format!("its emulator cannot be probed: {error}")),
        };
        let run_dir = RunDir::existing(record.run_dir.clone());
        let asked = tokio::time::timeout(REACH_DEADLINE, ask(&run_dir)).await;
        let (monitor, events, doing) = match asked {
            Ok(Ok(answered)) => answered,
            Ok(Err(why)) => return Reached::Silent(why),
            Err(_) => return Reached::Silent("its monitor is silent".to_owned()),
        };
        let swtpm = Swtpm::found(&run_dir);
        let guest = Guest {
            id: record.id,
            launch_id: record.launch_id.clone(),
            domain: Arc::new(domain),
            capabilities,
            process,
            child: None,
            monitor,
            agent: Arc::default(),
            events,
            monitored: true,
            run_dir,
            words: None,
            swtpm,
            new_variables: None,
            next_node: record.next_node,
            autodestroy: None,
            reboot: false,
            ending: None,
        };
        Reached::Answers(Box::new(guest), Box::new(doing))
    }

    /// QEMU says what the guest does; the record says why, when the two agree.
    async fn adopt_state(&mut self, status: &Status, recorded: Option<State>) {
        let state = match (&status.status, recorded) {
            (_, Some(State::Running(reason))) if status.running => State::Running(reason),
            _ if status.running => State::Running(RunningReason::UNKNOWN),
            (RunState::IoError, _) => State::Paused(PausedReason::IOERROR),
            (RunState::Watchdog, _) => State::Paused(PausedReason::WATCHDOG),
            (RunState::GuestPanicked, _) => State::Crashed(CrashedReason::PANICKED),
            (_, Some(State::Paused(reason))) if reason != PausedReason::STARTING_UP => State::Paused(reason),
            _ => State::Paused(PausedReason::UNKNOWN),
        };
        self.life = Lifecycle::found(state);
        if status.status == RunState::Shutdown {
            // The guest powered off while no daemon watched.
            self.end_guest(Ending::Shutdown).await;
        }
    }
}

/// Connects to the monitor and asks what QEMU is doing.
async fn ask(run_dir: &RunDir) -> Result<(Monitor, mpsc::Receiver<Event>, Doing), String> {
    let connected = Monitor::connect(&run_dir.monitor(), generation()).await;
    let (monitor, events) = connected.map_err(|error| refuse::chain(&error))?;
    // A copy that is complete stays so; whether the guest has run since is asked after it.
    let copy = monitor.execute(&QueryMigrate).await.map_err(|error| refuse::chain(&error))?;
    let status = monitor.execute(&QueryStatus).await.map_err(|error| refuse::chain(&error))?;
    Ok((monitor, events, Doing { status, copy }))
}
