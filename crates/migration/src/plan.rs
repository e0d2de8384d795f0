//! What both machines know about one migration from its start, and the words for its possible ends.
//! Called by the machines and by whoever shows a migration to an operator. Refuses to know texts and blobs.

use serde::{Deserialize, Serialize};

/// The facts of one migration that do not change. Stored with the first record, so that a restarted daemon
/// has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// Who calls the phases.
    pub coordination: Coordination,
    /// The guest runs while its memory is copied (flag LIVE). Otherwise the source stops it first.
    pub live: bool,
    /// A later switch to post-copy was allowed (flag POSTCOPY).
    pub postcopy: bool,
    /// The guest is to stay paused on the destination (flag PAUSED).
    pub leave_paused: bool,
    /// The guest ran when the migration began, so it is to run again if it stays. The source's matter only.
    pub was_running: bool,
}

/// Who calls the phases of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Coordination {
    /// A client calls both daemons. When it is gone before the grant, the migration is called off.
    Direct,
    /// The source daemon calls the destination. The client only waits, and may go.
    PeerToPeer,
}

/// What the other side can prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A Ferry that at least one of the two can reach: the two settle who runs the guest.
    Ferry,
    /// Nobody to ask: the client's calls are all there is.
    Mute(BestEffort),
}

/// Why nothing can be proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum BestEffort {
    /// The other host does not run Ferry.
    #[error("the other host runs no ferryd")]
    Stock,
    /// It does, but neither daemon has an address at which the other could ask.
    #[error("neither daemon has an address at which the other could ask")]
    NoAddress,
    /// The client did not carry our cookie to the other side.
    #[error("the client lost the cookie that names the migration")]
    CookieLost,
}

/// Which promise holds for a migration; shown by `plan` and kept in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Guarantee {
    /// Both sides keep the rule: never two, never zero.
    Proven,
    /// As good as the other side allows.
    BestEffort(BestEffort),
}

impl Peer {
    /// The promise that holds with this peer.
    pub const fn guarantee(self) -> Guarantee {
        match self {
            Self::Ferry => Guarantee::Proven,
            Self::Mute(why) => Guarantee::BestEffort(why),
        }
    }
}

/// Whether a record reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// Written and synced.
    Yes,
    /// Not written: no room, or an I/O error. The step does not happen.
    No,
}

/// What a call brings along to prove its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Nothing: the call is a question.
    None,
    /// The source's Granted(id), in Finish's cookie.
    Granted,
    /// The destination's Running(id), in Confirm's cookie; or, from a stock destination, its own answer to
    /// Finish, read by this daemon (peer to peer).
    Running,
    /// The destination's Declined(id).
    Declined,
    /// A stock destination never started the guest: this daemon never sent Finish, or watched the
    /// destination's lifecycle events without a break since before Finish and saw no start.
    NeverStarted,
}

/// The operator's word, when the other host is gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestIs {
    /// On this host.
    Here,
    /// On the other host.
    There,
}

/// Why a migration ended without moving the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Why {
    /// Abort was called.
    #[error("the job was aborted")]
    Aborted,
    /// The coordinator called it off.
    #[error("the client called it off")]
    Cancelled,
    /// The coordinating client went away before the grant.
    #[error("the client that coordinated it is gone")]
    ClientGone,
    /// QEMU reported a failure of the copy.
    #[error("the copy failed")]
    CopyFailed,
    /// The guest's QEMU on this host died.
    #[error("QEMU died")]
    QemuDied,
    /// QEMU could not be started or prepared.
    #[error("QEMU could not be started")]
    LaunchFailed,
    /// The other side gave up.
    #[error("the destination declined")]
    Declined,
    /// The source kept the guest.
    #[error("the source kept the guest")]
    SourceKept,
    /// QEMU refused to start the CPUs.
    #[error("QEMU refused to start the CPUs")]
    StartRefused,
    /// The journal could not be written.
    #[error("the migration journal cannot be written")]
    JournalFull,
    /// A user destroyed the guest.
    #[error("the guest was destroyed")]
    Destroyed,
    /// The other side has not been heard of for too long.
    #[error("the other host has not been heard of")]
    Silence,
    /// The operator's word.
    #[error("resolved by the operator")]
    Operator,
}

/// Why it is not known who runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Doubt {
    /// No word from the other side since the grant.
    #[error("the destination has not said whether it started the guest")]
    NoWord,
    /// QEMU died on the destination between the start and its proof.
    #[error("QEMU died on the destination just as it started the guest")]
    MaybeRan,
    /// A peer that proves nothing; the client says that the guest does not run there.
    #[error("the client says that the destination did not start the guest, and nothing proves it")]
    NoEvidence,
    /// The source's QEMU died before it was seen complete; the destination may hold the whole guest.
    #[error("QEMU died on the source before its copy was seen complete")]
    SourceDied,
    /// The copy is complete, neither record can be written, the destination has been asked to decline.
    #[error("the migration journal cannot be written")]
    JournalFull,
    /// The destination cannot start the guest, and the source's QEMU is gone.
    #[error("the destination cannot start the guest")]
    CannotStart,
    /// The destination has the whole guest and waits for the source's word.
    #[error("the source has not said whether the guest may start here")]
    NoGrant,
}

/// Where the guest of one migration stands on this host: what other operations on it must respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The guest is this host's: the migration has not begun to matter, or has ended here.
    Here,
    /// It is leaving and still this host's.
    Leaving,
    /// The right was given away; the outcome is expected any moment.
    HandedOver,
    /// Nobody knows yet, and this is why.
    InDoubt(Doubt),
    /// It is arriving and not this host's yet.
    Arriving,
    /// It is the other host's.
    Away,
}
