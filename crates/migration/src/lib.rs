//! The core of a migration, as pure state machines: who may run the guest, and when.
//!
//! Called by ferryd's driver, which performs the effects and feeds the results back, by the `ferry` tool
//! (coordinator) and by the tests, which run the same code against simulated hosts. Nothing here knows a
//! socket, a clock, a file or a process: time and events are arguments, effects are return values.
//!
//! Reading order: [`id`] and [`journal`] (what is written down), [`message`] (what the daemons tell each
//! other), [`source`] and [`destination`] (the rule), [`recovery`] (the rule after a restart),
//! [`coordinator`] (who calls what). [`params`], [`uri`], [`cookie`] and [`stats`] speak the wire's vocabulary.
//!
//! # Contract with the driver
//!
//! 1. Effects are performed in the order in which they are returned.
//! 2. `Journal` and `Probe` are answered at once: their result is the next input, before any other.
//! 3. Everything else is answered when it happens, through the inputs that the effect names.
//! 4. `Answer` answers the pending call of that kind; when none is pending it is dropped.
//! 5. While `outstanding()` is some, the driver feeds `Retry` at an interval of its choice.
//! 6. Messages and reports may be repeated, late or lost. None is trusted for more than it says.

pub mod id;
pub mod journal;
pub mod message;
pub mod plan;

pub mod coordinator;
pub mod destination;
pub mod recovery;
pub mod source;

pub mod cookie;
pub mod params;
pub mod policy;
pub mod stats;
pub mod uri;
pub mod wire;

pub use id::{Epoch, MigrationId, Secret};
pub use plan::{Coordination, Doubt, Evidence, Guarantee, GuestIs, Peer, Plan, Standing, Why, Written};
