//! What can be asked of a domain's driver, and the handle through which it is asked.
//!
//! Dispatch makes requests out of calls; the driver answers each exactly once. A request whose asker has gone is
//! carried out all the same: a client that hangs up does not stop a guest half-way.

use std::sync::Arc;

use ferry_domxml::Domain;
use ferry_migration::checks::Finding;
use ferry_migration::checks::disks::Row;
use ferry_migration::cookie::Machine;
use ferry_migration::message::Word;
use ferry_migration::overlay::Overlay;
use ferry_migration::params::Request as Parameters;
use ferry_migration::predict::Prediction;
use ferry_migration::stats::JobStats;
use ferry_migration::{GuestIs, MigrationId};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{AffectFlags, DestroyFlags, ShutdownFlags, StartFlags, UndefineFlags};
use ferry_rpc::proto::{DomainRef, HandoverTell};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::View;
use super::change::Change;
use super::migrate::MigrateRequest;
use crate::handover::Answer;
use crate::listen::Client;
use crate::restart::Found;

/// Where the answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Requests that may wait for one driver before askers wait too.
pub(super) const MAILBOX: usize = 256;

/// One request.
pub(crate) enum Request {
    /// Keep this definition. It has been completed and checked.
    Define { domain: Box<Domain>, reply: Reply<DomainRef> },
    /// Forget the definition.
    Undefine { flags: UndefineFlags, reply: Reply<()> },
    /// Start a domain that need not be kept. It has been completed and checked.
    Create { domain: Box<Domain>, flags: StartFlags, client: Client, reply: Reply<DomainRef> },
    /// Start the kept definition.
    Start { flags: StartFlags, client: Client, reply: Reply<DomainRef> },
    /// End the guest now.
    Destroy { flags: DestroyFlags, reply: Reply<()> },
    /// Ask the guest to power off.
    Shutdown { flags: ShutdownFlags, reply: Reply<()> },
    /// Ask the guest to reboot.
    Reboot { flags: ShutdownFlags, reply: Reply<()> },
    /// Press the reset button.
    Reset { reply: Reply<()> },
    /// Stop the CPUs.
    Suspend { reply: Reply<()> },
    /// Let the CPUs run.
    Resume { reply: Reply<()> },
    /// Start, or no longer start, the domain with the host.
    SetAutostart { autostart: bool, reply: Reply<()> },
    /// Forget what is known of a snapshot; what lies in the images stays.
    ForgetSnapshot { name: String, reply: Reply<()> },
    /// Change the running guest, the kept definition, or both.
    Change { change: Change, affect: AffectFlags, reply: Reply<()> },
    /// Give the domain another name.
    Rename { name: String, reply: Reply<()> },
    /// What the present job has done so far, or what the last one did in all.
    JobStats { which: WhichJob, reply: Reply<Option<JobStats>> },
    /// Give up the present job.
    AbortJob { postcopy: bool, reply: Reply<()> },
    /// Longest pause of a migration, in milliseconds.
    SetMaxDowntime { downtime_ms: u64, reply: Reply<()> },
    /// Bandwidth limit of a migration, in MiB/s.
    SetMaxSpeed { mib_per_s: u64, postcopy: bool, reply: Reply<()> },
    /// Switch the present migration to post-copy.
    StartPostcopy { reply: Reply<()> },
    /// A phase of a migration.
    Migrate(MigrateRequest),
    /// The other daemon of a migration says something; the answer is what this side says to it.
    Told { told: Told, reply: Reply<Answer> },
    /// What the other daemon answered to something that this side said.
    Heard { id: MigrationId, said: Word, answer: Answer },
    /// What stands in the way of a migration; nothing is begun.
    PlanLeaving { parameters: Box<Parameters>, reply: Reply<Leaving> },
    /// Remember what was predicted, for the history of a migration that may follow.
    Predicted(Box<Predicted>),
    /// The operator's word on a migration that is in doubt.
    Resolve { guest_is: GuestIs, reply: Reply<()> },
    /// QEMU refused to start the arriving guest.
    StartRefused { id: MigrationId },
    /// The arriving guest of a post-copy can run.
    PackageLoaded { id: MigrationId },
    /// A connection on which something of this domain hangs has closed.
    ClientGone { client: u64 },
    /// Take over what a former daemon left: a definition, a running QEMU, a migration's journal.
    Adopt { found: Box<Found>, reply: Reply<()> },
}

/// A migration that is only thought of, on its source.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// What Begin would refuse before anything else is looked at.
    pub(crate) refused: Option<Error>,
    /// Everything else that stands in its way, or that the operator should know.
    pub(crate) findings: Vec<Finding>,
    /// The definition for the destination, when one could be made.
    pub(crate) xml: Option<String>,
    /// What the guest's machine is made of, while it runs.
    pub(crate) machine: Option<Machine>,
    /// Its disks, source by source.
    pub(crate) disks: Vec<Row>,
    /// Its images that hold nothing but bitmaps.
    pub(crate) overlays: Vec<Overlay>,
}

/// What was predicted of a migration that may follow.
#[derive(Debug, Clone)]
pub(crate) struct Predicted {
    /// The host that the guest would go to.
    pub(crate) destination: Uuid,
    pub(crate) prediction: Prediction,
    /// When, ms since 1970.
    pub(crate) at_ms: u64,
}

/// What the other daemon of a migration says, not yet believed.
pub(crate) struct Told {
    pub(crate) id: MigrationId,
    pub(crate) word: Word,
    /// All of it, with the proof of who says it.
    pub(crate) call: HandoverTell,
}

/// Which job's statistics are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhichJob {
    /// The one under way.
    Present,
    /// The one that ended last; kept for the next who asks, or not.
    Completed { keep: bool },
}

/// Asks one domain's driver. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DomainHandle {
    mailbox: mpsc::Sender<Request>,
    view: watch::Receiver<Arc<View>>,
}

impl DomainHandle {
    pub(super) fn new(mailbox: mpsc::Sender<Request>, view: watch::Receiver<Arc<View>>) -> DomainHandle {
        DomainHandle { mailbox, view }
    }

    /// The domain as it stands.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Waits until the domain stands so, or is no more.
    pub(crate) async fn until(&self, stands: impl Fn(&View) -> bool) {
        // An error is the driver's end.
        let _ = self.view.clone().wait_for(|view| stands(view)).await;
    }

    /// Says something that needs no answer. A driver that has ended has nothing to hear.
    pub(crate) async fn tell(&self, request: Request) {
        let _ = self.mailbox.send(request).await;
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The driver's refusal; or 42/10 when the domain went away before it could answer.
    pub(crate) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = || {
            let view = self.view();
            let text = format!("no domain with matching uuid '{}' ({})", view.uuid, view.name);
            Error::of(ErrorCode::NO_DOMAIN, Origin::QEMU, text)
        };
        self.mailbox.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
