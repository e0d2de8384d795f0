//! One guest as clients see it: its state and why, the events that tell of changes, and which operation may run
//! beside which.
//!
//! Called by ferryd's driver, one instance per domain. Pure: what happened comes in, state and events go out; no
//! QEMU, no clock, no connection.
//!
//! [`state`] has the numbers, [`lifecycle`] the machine over them, [`job`] the admission of operations.

pub mod job;
pub mod lifecycle;
pub mod state;

pub use job::{Admission, JobSlot, Operation, Refusal};
pub use lifecycle::{Happening, Lifecycle};
pub use state::{Event, State};
