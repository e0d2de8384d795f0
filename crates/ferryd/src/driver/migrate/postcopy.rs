//! Post-copy: the guest runs on the destination while the source still holds some of its memory.
//!
//! The machines know when the switch is certain, and that the source's QEMU is needed until all has moved. Here is what
//! they refuse to know: that the switch is made only while both ways to the other host are open, how it is shown
//! meanwhile, and how a broken channel is made anew. The destination listens where it did and says so, and the source
//! tries there until it is let in. What a cut has stopped is found out here for pre-copy too: the last of the state, stuck
//! on its way with the guest paused, is called back.
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
use ferry_qmp::commands::migration::{
    Migrate, MigratePause, MigrateRecover, MigrateStartPostcopy, MigrationStatus, SocketAddress,
};
use ferry_qmp::commands::progress::{MigrationInfo, QueryMigrate};
use ferry_qmp::commands::run::{QueryStatus, RunState};
use ferry_rpc::error::Error;
use ferry_rpc::values::{PausedReason, RunningReason};
use tokio::time::Instant;

use super::Migration;
use crate::driver::{Driver, Request, now_ms};
use crate::refuse;

/// How long until a broken channel is tried again.
const RECONNECT: Duration = Duration::from_millis(300);

/// A cut after which the stream is not waited for: TCP would let the guest wait for about as long again.
const CUT: Duration = Duration::from_secs(3);

/// How often the other daemon is asked whether it is there while the last of the state is on its way. Most of the time that is
/// over before the first of them.
const ASK: Duration = Duration::from_secs(1);

/// How long a stream must have stood still to be called stuck: longer than QEMU pauses to keep to a bandwidth.
const STALL: Duration = Duration::from_millis(200);

/// How long a switch waits for the other daemon to answer, if QEMU's own stream moves without it.
const ANSWER: Duration = Duration::from_secs(30);

/// How long until it is looked at again whether the ways to the other host are open.
const LOOK_BEFORE_SWITCH: Duration = Duration::from_millis(20);

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
    /// The destination's QEMU listens for it; on the source: it has said so since the last try.
    listens: bool,
    /// A user has broken the channel: nobody makes it anew but a user. Forgotten with the daemon.
    pub(super) held: bool,
    /// Source: a user goes on, and waits for the channel until then.
    pub(super) by_hand: Option<Instant>,
    /// Source: a stream that may be stuck.
    stall: Option<Stall>,
    /// Source: a switch that waits until the ways to the other host are seen to be open.
    switch: Option<Switch>,
    /// Source: when to ask again whether the other host is there, while the last of the state is on its way.
    ask: Option<Instant>,
}

/// A stream that has been standing still if no more than this has been sent when it is looked at again.
#[derive(Debug, Clone, Copy)]
struct Stall {
    look: Instant,
    sent: u64,
}

/// A switch to post-copy that is wanted and not made. Made into a cut, it would stop the guest until TCP tries again.
#[derive(Debug, Clone, Copy)]
struct Switch {
    since: Instant,
    /// When to look again.
    look: Instant,
    /// What QEMU had sent when the other daemon was first seen to answer.
    sent: Option<u64>,
}

impl Rest {
    /// What a restarted daemon finds: on record, and at QEMU, which tells where it listens.
    pub(super) fn found(uri: Option<String>, copy: Option<&MigrationInfo>) -> Rest {
        let memory = copy.and_then(|copy| copy.status.as_ref()).and_then(memory).unwrap_or_default();
        let uri = uri.or_else(|| copy.and_then(|copy| copy.socket_address.iter().find_map(listening)));
        Rest { memory, uri, retry: (memory == Memory::Broken).then(Instant::now), ..Rest::default() }
    }

    /// When something is to be done for it.
    pub(super) fn due(&self) -> Option<Instant> {
        let looks = [self.switch.map(|switch| switch.look), self.stall.map(|stall| stall.look)];
        looks.into_iter().chain([self.retry, self.ask, self.by_hand]).flatten().min()
    }

    /// A user has broken the channel.
    pub(super) fn hold(&mut self) {
        self.held = true;
        self.retry = None;
    }

    /// A user goes on: the channel is tried at once, at another address if that is wished.
    pub(super) fn go_on(&mut self, uri: Option<String>, listens: bool, patience: Instant) {
        self.held = false;
        self.listens |= listens;
        self.uri = uri.or_else(|| self.uri.take());
        self.retry = Some(Instant::now());
        self.by_hand = Some(patience);
    }

    /// The destination's QEMU listens.
    pub(super) fn listens(&self) -> bool {
        self.listens
    }

    /// The destination's QEMU listens for a channel here, as a user wished.
    pub(super) fn listens_at(&mut self, uri: String) {
        self.listens = true;
        self.uri = Some(uri);
    }

    /// The last of the state is on its way, or is not any more: a cut in which it is stuck is noticed by asking.
    pub(super) fn watch_switchover(&mut self, is_switching: bool) {
        let next = || Instant::now() + ASK;
        self.ask = if is_switching { self.ask.or_else(|| Some(next())) } else { None };
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
        let is_source = matches!(migration, Migration::Out(_));
        let rest = migration.rest_mut();
        let before = std::mem::replace(&mut rest.memory, memory);
        rest.retry = (memory == Memory::Broken && !rest.held).then(Instant::now);
        rest.switch = None;
        rest.stall = None;
        rest.listens = false;
        let held = rest.held;
        // What the source said of an earlier channel.
        rest.held &= is_source || memory != Memory::Moving;
        self.answer_by_hand(memory);
        if before == memory {
            return;
        }
        match (memory, held) {
            (Memory::Broken, false) => {
                tracing::warn!(domain = %self.name, "post-copy: the channel is broken");
            }
            // A try that was under way when the user broke the channel.
            (Memory::Moving, true) if self.sends() => self.give_up_channel().await,
            (Memory::Broken | Memory::Moving | Memory::Ahead | Memory::Whole, _) => {}
        }
        self.show_memory();
        self.end_wait_for_rest();
        if memory == Memory::Whole {
            self.close_arrival().await;
        }
    }

    /// What is due of the rest.
    pub(super) async fn ring_rest(&mut self, now: Instant) {
        let Some(migration) = &mut self.migration else { return };
        if migration.rest_mut().retry.take_if(|due| *due <= now).is_some() {
            self.reconnect().await;
        }
        let Some(migration) = &mut self.migration else { return };
        if migration.rest_mut().by_hand.is_some_and(|until| until <= now) {
            self.answer_by_hand(Memory::Broken);
        }
        let Some(migration) = &mut self.migration else { return };
        if migration.rest_mut().ask.take_if(|due| *due <= now).is_some() {
            migration.rest_mut().ask = Some(now + ASK);
            self.tell(Word::Ask);
        }
        let Some(migration) = &mut self.migration else { return };
        if let Some(stall) = migration.rest_mut().stall.filter(|stall| stall.look <= now) {
            self.judge_stall(stall).await;
        }
        let Some(migration) = &mut self.migration else { return };
        if migration.rest_mut().switch.is_some_and(|switch| switch.look <= now) {
            self.try_switch().await;
        }
    }

    /// The switch to post-copy may be made: it is, once the other daemon answers and the stream moves.
    pub(super) async fn want_switch(&mut self) {
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        let now = Instant::now();
        outgoing.rest.switch = Some(Switch { since: now, look: now + LOOK_BEFORE_SWITCH, sent: None });
        self.tell(Word::Ask);
        if let Some(Migration::Out(outgoing)) = &self.migration
            && outgoing.conversation.answered_since(now).is_none()
        {
            self.try_switch().await;
        }
    }

    async fn try_switch(&mut self) {
        let copy = self.execute(&QueryMigrate).await;
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        let Some(mut switch) = outgoing.rest.switch.take() else { return };
        // The grant ahead is on record, and nothing has come of it; else there is nothing to switch any more.
        let is_wanted = outgoing.machine.standing() == Standing::HandedOver;
        let status = copy.as_ref().ok().and_then(|copy| copy.status.clone());
        let begins = matches!(status, Some(MigrationStatus::Setup | MigrationStatus::WaitUnplug));
        if !is_wanted || !(begins || status == Some(MigrationStatus::Active)) {
            return;
        }
        let answers = outgoing.conversation.answered_since(switch.since);
        // Only this host's words may be lost, and the destination can ask by itself.
        let answers = answers.map(|answers| answers || switch.since.elapsed() >= ANSWER);
        let sent = copy.ok().and_then(|copy| copy.ram).map_or(0, |ram| ram.transferred);
        let moves = !begins && switch.sent.is_some_and(|before| sent > before);
        if answers.is_none() || (answers == Some(true) && moves) {
            if let Err(error) = self.execute(&MigrateStartPostcopy).await {
                tracing::warn!(domain = %self.name, %error, "QEMU does not switch to post-copy");
            }
            return;
        }
        if answers == Some(true) {
            switch.sent.get_or_insert(sent);
        }
        switch.look = Instant::now() + LOOK_BEFORE_SWITCH;
        outgoing.rest.switch = Some(switch);
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
        self.answer_finish(ferry_migration::destination::Fate::Arrived);
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

    /// The other host can be reached again after a silence. The guest may be waiting for memory on a stream that TCP
    /// tries ever more seldom: one that does not move is broken, so that both sides make it anew. The source goes first:
    /// a QEMU that sees the stream end while it is stuck in sending closes it, and then only TCP gets it out of there.
    /// `was_cut`: words were lost meanwhile, and it is not only that the other side had nothing to say.
    pub(super) async fn end_silence(&mut self, silence: Duration, was_cut: bool) {
        if silence >= CUT && (self.sends() || was_cut && self.switches_over()) {
            tracing::info!(domain = %self.name, ?silence, "the other host is back after a cut");
            self.suspect_stall().await;
        }
    }

    /// Whether the rest of the guest's memory leaves from here, as far as is known.
    fn sends(&self) -> bool {
        matches!(&self.migration, Some(Migration::Out(outgoing)) if outgoing.rest.memory == Memory::Moving)
    }

    /// Whether the last of the guest's state leaves from here, with the guest stopped.
    fn switches_over(&self) -> bool {
        matches!(&self.migration, Some(Migration::Out(outgoing)) if outgoing.machine.is_switching())
    }

    async fn suspect_stall(&mut self) {
        let sent = self.sent().await;
        if let Some(Migration::Out(outgoing)) = &mut self.migration
            && outgoing.rest.stall.is_none()
        {
            outgoing.rest.stall = sent.map(|sent| Stall { look: Instant::now() + STALL, sent });
        }
    }

    async fn judge_stall(&mut self, stall: Stall) {
        if let Some(migration) = &mut self.migration {
            migration.rest_mut().stall = None;
        }
        let stands_still = self.sent().await == Some(stall.sent);
        if stands_still && self.switches_over() {
            return self.call_back().await;
        }
        if stands_still && self.sends() {
            tracing::info!(domain = %self.name, "post-copy: the channel is stuck, and is given up");
            self.give_up_channel().await;
            self.tell(Word::Reconnect);
        }
    }

    /// The guest has stood still for as long as the cut: it goes on here, and may be migrated again.
    async fn call_back(&mut self) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.words =
                Some("the network was cut while the last of the guest's state was on its way".to_owned());
        }
        self.drive_source(ferry_migration::source::Input::Deadline).await;
    }

    /// How much QEMU has sent so far.
    async fn sent(&self) -> Option<u64> {
        self.execute(&QueryMigrate).await.ok().and_then(|copy| copy.ram).map(|ram| ram.transferred)
    }

    /// The other side has given the channel up; said by the destination: and its QEMU listens for a new one.
    pub(super) async fn told_to_reconnect(&mut self) {
        match &mut self.migration {
            Some(Migration::Out(outgoing)) => match outgoing.rest.memory {
                // Nothing has come of the break here, or this was said before it was mended.
                Memory::Moving => self.suspect_stall().await,
                Memory::Broken => {
                    outgoing.rest.listens = true;
                    outgoing.rest.retry = Some(Instant::now());
                }
                Memory::Ahead | Memory::Whole => {}
            },
            Some(Migration::In(incoming)) => match incoming.rest.memory {
                Memory::Moving => self.give_up_channel().await,
                Memory::Broken if incoming.rest.listens => self.tell(Word::Reconnect),
                Memory::Broken => {
                    incoming.rest.held = false;
                    incoming.rest.retry.get_or_insert_with(Instant::now);
                }
                Memory::Ahead | Memory::Whole => {}
            },
            None => {}
        }
    }

    pub(super) async fn give_up_channel(&mut self) {
        if let Err(error) = self.break_channel().await {
            tracing::warn!(domain = %self.name, %error, "post-copy: QEMU does not give up the channel");
        }
    }

    pub(super) async fn break_channel(&self) -> Result<(), Error> {
        self.running()?.monitor.execute(&MigratePause).await.map(drop).map_err(refuse::monitor)
    }

    /// Makes a broken channel anew, from this side. Whether it worked, QEMU's next status tells. The source tries only
    /// when the destination has said that it listens: some QEMUs hang for good on a channel that nobody takes up.
    pub(super) async fn reconnect(&mut self) {
        let Some(migration) = &mut self.migration else { return };
        let (is_source, rest) = (matches!(migration, Migration::Out(_)), migration.rest_mut());
        if rest.held {
            // A restarted destination, say, does not know.
            rest.retry = None;
            if is_source {
                self.tell(Word::Held);
            }
            return;
        }
        rest.retry = Some(Instant::now() + RECONNECT);
        let Some(uri) = rest.uri.clone() else {
            rest.retry = None;
            return tracing::error!(domain = %self.name, "post-copy: nobody knows any more where the channel led");
        };
        let tried = match (is_source, rest.listens) {
            (true, false) => return self.tell(Word::Reconnect),
            (true, true) => {
                rest.listens = false;
                self.resume_copy(uri).await
            }
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

    pub(super) async fn listen_again(&self, uri: String) -> Result<(), Error> {
        self.running()?.monitor.execute(&MigrateRecover { uri }).await.map(drop).map_err(refuse::monitor)
    }
}

/// A socket on which QEMU listens, as it was told to.
fn listening(socket: &SocketAddress) -> Option<String> {
    match socket {
        SocketAddress::Inet { host, port } if host.contains(':') => Some(format!("tcp:[{host}]:{port}")),
        SocketAddress::Inet { host, port } => Some(format!("tcp:{host}:{port}")),
        SocketAddress::Unix { path, .. } => Some(format!("unix:{path}")),
        SocketAddress::Vsock { .. } | SocketAddress::Fd { .. } | SocketAddress::Other(_) => None,
    }
}

/// What a status of QEMU's copy says of the guest's memory; `None` for those that say nothing.
fn memory(status: &MigrationStatus) -> Option<Memory> {
    match status {
        MigrationStatus::PostcopyActive => Some(Memory::Moving),
        MigrationStatus::PostcopyPaused => Some(Memory::Broken),
        MigrationStatus::Completed => Some(Memory::Whole),
        // A switch that failed, and brought the guest back.
        MigrationStatus::Failed | MigrationStatus::Cancelled => Some(Memory::Ahead),
        MigrationStatus::None
        | MigrationStatus::Setup
        | MigrationStatus::Active
        | MigrationStatus::PreSwitchover
        | MigrationStatus::Device
        | MigrationStatus::PostcopyRecover
        | MigrationStatus::PostcopyRecoverSetup
        | MigrationStatus::Cancelling
        | MigrationStatus::Colo
        | MigrationStatus::WaitUnplug
        | MigrationStatus::Other(_) => None,
    }
}
