//! Post-copy: the guest runs on the destination while the source still holds some of its memory.
//!
//! The machines know when the switch is certain, and that the source's QEMU is needed until all has moved. Here is what
//! they refuse to know: how it is shown meanwhile, and how a broken channel is made anew. The destination listens where
//! it did and says so, and the source tries there until it is let in.
//!
//! ```text
//!             postcopy-active              postcopy-paused
//!   Ahead ──────────────────> Moving <────────────────────> Broken
//!     │                          │      postcopy-active
//!     └────── completed ─────────┴──> Whole
//! ```

use std::time::Duration;

use ferry_domain::Happening;
use ferry_migration::destination::{Input, Report};
use ferry_migration::message::Word;
use ferry_migration::{MigrationId, Standing};
use ferry_qmp::commands::migration::{Migrate, MigratePause, MigrateRecover, MigrationStatus};
use ferry_qmp::commands::run::{QueryStatus, RunState};
use ferry_rpc::error::Error;
use ferry_rpc::values::{PausedReason, RunningReason};
use tokio::time::Instant;

use super::Migration;
use crate::driver::{Driver, Request, now_ms};
use crate::refuse;

/// How long until a broken channel is tried again.
const RECONNECT: Duration = Duration::from_secs(1);

/// A cut after which the stream is not waited for: TCP would let the guest wait for about as long again.
const CUT: Duration = Duration::from_secs(3);

/// QEMU does not tell when it has loaded the package: how long until it is looked at again.
const LOOK: Duration = Duration::from_millis(2);

/// The guest's memory, as seen from either side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It goes ahead of the guest: no switch to post-copy was seen.
    #[default]
    Ahead,
    /// Past the switch: the rest of it follows the guest.
    Moving,
    /// Past the switch, and the channel is broken.
    Broken,
    /// All of it has moved.
    Whole,
}

/// What is yet to follow the guest.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(super) memory: Memory,
    /// Where the destination's QEMU listens, as this side's QEMU is told it.
    pub(super) uri: Option<String>,
    /// When the broken channel is to be tried again.
    pub(super) retry: Option<Instant>,
    /// The destination's QEMU listens for it.
    listens: bool,
}

impl Rest {
    /// What a restarted daemon finds.
    pub(super) fn found(uri: Option<String>, status: Option<&MigrationStatus>) -> Rest {
        let memory = status.and_then(memory).unwrap_or_default();
        Rest { memory, uri, retry: (memory == Memory::Broken).then(Instant::now), listens: false }
    }

    /// Whether the guest's memory is on two hosts.
    pub(super) fn is_split(&self) -> bool {
        matches!(self.memory, Memory::Moving | Memory::Broken)
    }

    /// Why the guest runs on the destination.
    pub(super) fn running_reason(&self) -> RunningReason {
        match self.memory {
            Memory::Moving => RunningReason::POSTCOPY,
            Memory::Broken => RunningReason::POSTCOPY_FAILED,
            Memory::Ahead | Memory::Whole => RunningReason::MIGRATED,
        }
    }
}

impl Driver {
    /// QEMU's copy went over to another status: what is shown of post-copy follows.
    pub(super) async fn note_memory(&mut self, status: &MigrationStatus) {
        let (Some(memory), Some(migration)) = (memory(status), &mut self.migration) else { return };
        let rest = migration.rest_mut();
        let before = std::mem::replace(&mut rest.memory, memory);
        rest.retry = (memory == Memory::Broken).then(Instant::now);
        rest.listens = false;
        if before == memory {
            return;
        }
        if memory == Memory::Broken {
            tracing::warn!(domain = %self.name, "post-copy: the channel is broken; it is made anew");
        }
        self.show_memory();
        if memory == Memory::Whole {
            self.close_arrival().await;
        }
    }

    /// Shows where the guest runs and why, and takes note of a package that is being loaded.
    pub(super) fn show_memory(&mut self) {
        let happening = match &self.migration {
            Some(Migration::Out(outgoing)) => match outgoing.rest.memory {
                Memory::Moving => Happening::Stopped(PausedReason::POSTCOPY),
                Memory::Broken => Happening::Stopped(PausedReason::POSTCOPY_FAILED),
                Memory::Ahead | Memory::Whole => return,
            },
            Some(Migration::In(incoming)) => match (incoming.machine.standing(), incoming.rest.memory) {
                (_, Memory::Ahead) => return,
                (Standing::Here, Memory::Moving | Memory::Broken | Memory::Whole) => {
                    Happening::Resumed(incoming.rest.running_reason())
                }
                (_, Memory::Moving | Memory::Broken) => return self.watch_package(),
                (_, Memory::Whole) => return,
            },
            None => return,
        };
        self.happen(happening);
    }

    /// All of the memory has followed: the job is over here too.
    async fn close_arrival(&mut self) {
        let Some(Migration::In(incoming)) = &mut self.migration else { return };
        if incoming.machine.standing() != Standing::Here || !incoming.job_open {
            return;
        }
        incoming.job_open = false;
        incoming.stats = incoming.stats.map(|stats| stats.arrived(now_ms()));
        let stats = incoming.stats;
        self.record_or_warn().await;
        if let Some(stats) = stats {
            self.complete_job(stats);
        }
    }

    /// Tells the driver when the package is loaded, i.e. QEMU no longer waits for it.
    fn watch_package(&self) {
        let (Some(migration), Some(guest)) = (&self.migration, &self.guest) else { return };
        let (id, monitor, me) = (migration.id(), guest.monitor.clone(), self.me.clone());
        tokio::spawn(async move {
            while let Ok(status) = monitor.execute(&QueryStatus).await {
                if status.status != RunState::Inmigrate {
                    if let Some(me) = me.upgrade() {
                        // A driver that has ended has nothing to hear.
                        let _ = me.send(Request::PackageLoaded { id }).await;
                    }
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    pub(in crate::driver) async fn package_loaded(&mut self, id: MigrationId) {
        if self.migration.as_ref().is_some_and(|migration| migration.id() == id) {
            self.drive_destination(Input::Qemu(Report::Complete)).await;
        }
    }

    /// The other host can be reached again. The guest may be waiting for memory on a stream that TCP tries ever more
    /// seldom: it is broken, so that both sides make it anew.
    pub(super) async fn end_silence(&mut self, id: MigrationId, silence: Duration) {
        let Some(Migration::In(incoming)) = &self.migration else { return };
        let is_stuck =
            incoming.machine.id() == id && incoming.rest.memory == Memory::Moving && silence >= CUT;
        if !is_stuck {
            return;
        }
        tracing::info!(domain = %self.name, ?silence, "post-copy: the channel is given up after a cut");
        self.give_up_channel().await;
    }

    /// The destination has given the channel up and waits for a new one.
    pub(super) async fn told_to_reconnect(&mut self) {
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        match outgoing.rest.memory {
            // Nothing has come of the break here: to this side's QEMU the stream is only slow.
            Memory::Moving => self.give_up_channel().await,
            Memory::Broken => outgoing.rest.retry = Some(Instant::now()),
            Memory::Ahead | Memory::Whole => {}
        }
    }

    async fn give_up_channel(&mut self) {
        if let Err(error) = self.break_channel().await {
            tracing::warn!(domain = %self.name, %error, "post-copy: QEMU does not give up the channel");
        }
    }

    async fn break_channel(&self) -> Result<(), Error> {
        self.running()?.monitor.execute(&MigratePause).await.map(drop).map_err(refuse::monitor)
    }

    /// Makes a broken channel anew, from this side. Whether it worked, QEMU's next status tells.
    pub(super) async fn reconnect(&mut self) {
        let Some(migration) = &mut self.migration else { return };
        let (is_source, rest) = (matches!(migration, Migration::Out(_)), migration.rest_mut());
        rest.retry = Some(Instant::now() + RECONNECT);
        let Some(uri) = rest.uri.clone() else {
            rest.retry = None;
            return tracing::error!(domain = %self.name, "post-copy: nobody knows any more where the channel led");
        };
        let tried = match (is_source, rest.listens) {
            (true, _) => self.resume_copy(uri).await,
            (false, false) => self.listen_again(uri).await,
            (false, true) => Ok(()),
        };
        match tried {
            Err(error) => {
                tracing::debug!(domain = %self.name, %error, "post-copy: the channel could not be made anew yet");
            }
            Ok(()) if is_source => {}
            Ok(()) => {
                if let Some(migration) = &mut self.migration {
                    migration.rest_mut().listens = true;
                }
                self.tell(Word::Reconnect);
            }
        }
    }

    async fn resume_copy(&self, uri: String) -> Result<(), Error> {
        let again = Migrate { resume: Some(true), ..Migrate::to(uri) };
        self.running()?.monitor.execute(&again).await.map(drop).map_err(refuse::monitor)
    }

    async fn listen_again(&self, uri: String) -> Result<(), Error> {
        self.running()?.monitor.execute(&MigrateRecover { uri }).await.map(drop).map_err(refuse::monitor)
    }
}

/// What a status of QEMU's copy says of the guest's memory; `None` for those that say nothing.
fn memory(status: &MigrationStatus) -> Option<Memory> {
    match status {
        MigrationStatus::PostcopyActive => Some(Memory::Moving),
        MigrationStatus::PostcopyPaused => Some(Memory::Broken),
        MigrationStatus::Completed => Some(Memory::Whole),
        MigrationStatus::None
        | MigrationStatus::Setup
        | MigrationStatus::Active
        | MigrationStatus::PreSwitchover
        | MigrationStatus::Device
        | MigrationStatus::PostcopyRecover
        | MigrationStatus::PostcopyRecoverSetup
        | MigrationStatus::Failed
        | MigrationStatus::Cancelling
        | MigrationStatus::Cancelled
        | MigrationStatus::Colo
        | MigrationStatus::WaitUnplug
        | MigrationStatus::Other(_) => None,
    }
}
