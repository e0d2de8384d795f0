//! The core of a migration, as pure state machines: who may run the guest, and when.
//!
//! Called by ferryd's driver, which performs the effects and feeds the results back, by the `ferry` tool
//! (coordinator) and by the tests, which run the same code against simulated hosts. Nothing here knows a
//! socket, a clock, a file or a process: time and events are arguments, effects are return values.
//!
//! Reading order: [`id`] and [`journal`] (what is written down), [`message`] (what the daemons tell each
//! other), [`source`] and [`destination`] (the rule), [`recovery`] (the rule after a restart),
//! [`coordinator`] (who calls what), [`checks`] (what stands in the way), [`predict`] (what it will take). [`params`], [`uri`], [`cookie`] and [`stats`] speak the wire's vocabulary.
//!
//! # Contract with the driver
//!
//! 1. Effects are performed in the order in which they are returned, and none of them twice.
//! 2. `Journal`, `Probe`, `QueryCopy` and `ProveAlive` are always the last of a step. Their result is the next input,
//!    before any other: the machine's state between the two is nobody else's to see.
//! 3. A record is written and synced before its result says `Written::Yes`. When it cannot be, `Written::No`: the
//!    machine then does what is safe without it.
//! 4. Every other effect is answered when it happens, through the inputs that its documentation names. QEMU's events
//!    are fed in QEMU's order; reports may be repeated, and states passed through may be left out.
//! 5. "Died" and `Seen::Gone` are said of the process (its pidfd), never of a monitor that does not answer.
//! 6. `Answer` answers the pending call of that kind; when none is pending it is dropped. A call that is denied is
//!    answered with the refusal, and the driver keeps its copy of the state.
//! 7. While `wants_retry()`, the driver feeds `Retry` from time to time. It feeds `Deadline` when a pending Confirm or
//!    Finish has waited long enough, when the source has been `HandedOver` for some seconds without an end, when its
//!    last state is seen to be stuck on its way (`is_switching`), and when a
//!    destination whose coordinator is gone has heard nothing from the source for long.
//! 8. A word is authenticated, and belongs to this migration by its id, before it is fed. One about a migration whose
//!    machine is gone is answered from its record ([`journal::SourceStatus::answer`]), one about an unknown migration by
//!    [`message::Word::of_stranger`].
//! 9. After a restart, the newest migration of each guest is recovered once QEMU's state is known, and every report
//!    after that is fed.
//!
//! Messages may be lost, late, repeated and reordered. None is trusted for more than it says.

pub mod id;
pub mod journal;
pub mod message;
pub mod plan;

pub mod coordinator;
pub mod destination;
pub mod recovery;
pub mod source;

pub mod checks;
pub mod cookie;
pub mod overlay;
pub mod params;
pub mod policy;
pub mod predict;
pub mod stats;
pub mod uri;
pub mod wire;

pub use id::{Epoch, MigrationId, Proof, Secret};
pub use plan::{Coordination, Doubt, Evidence, Guarantee, GuestIs, Peer, Plan, Standing, Why, Written};
