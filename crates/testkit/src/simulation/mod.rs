//! Two simulated hosts with the daemons' own machines, and all that can go wrong between them.
//!
//! The machines are those that ferryd runs (`ferry_migration`), the policy that admits users' wishes is ferryd's
//! (`ferry_domain`); QEMU, disks, network, clients and clock are simulated, and the hands around the machines are
//! written anew after the machines' contract. Nothing real is touched, and a seed decides everything.
//!
//! | in order of need | |
//! |---|---|
//! | `world` | what there is, and what must never be |
//! | `qemu` | what QEMUs do by themselves |
//! | `hands` | the daemons |
//! | `people` | coordinators, users, operators |
//! | `steps` | all that can happen next |
//! | `schedule` | random schedules on a simulated clock |
//! | `judge` | what must not be left at its end |
//! | `story` | what happened in one of them: saved, read and told again |
//!
//! ```text
//! cargo test -p ferry-testkit --test simulation                        100,000 schedules
//! cargo run -p ferry-testkit --bin simulation -- --schedules 5000000   more of them
//! cargo run -p ferry-testkit --bin simulation -- --seed 123            one of them, event by event
//! cargo run -p ferry-testkit --bin simulation -- --replay FILE         one that was saved, whatever seeds mean by now
//! ```

mod hands;
mod judge;
mod people;
mod qemu;
mod schedule;
mod steps;
mod story;
mod world;

pub use schedule::{Ended, Failure, Rules, Tally, run, run_many};
pub use story::Story;
pub use world::{Broken, Violation};
