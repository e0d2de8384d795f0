//! What must survive a crash, in one SQLite file.
//!
//! The daemon opens one [`Store`] at start and writes to it before it acts or answers: **a writing call returns
//! only after its change is on the disk** (write-ahead log, `synchronous=FULL`, one fsync per call or per
//! [`Store::write`]). The file belongs to one process at a time; a second one is refused.
//!
//! ```text
//!   host         name -> value             the host's UUID and the like
//!   definition   uuid -> XML, autostart    what `virsh define` made
//!   snapshot     uuid, name -> XML         what is known of a domain's snapshots
//!   guest        uuid -> live XML, process what a running QEMU is, so that a restarted daemon finds it
//!   epoch        uuid -> number            the last migration epoch of a guest; survives its journal
//!   journal      append only               handover records of migrations that are not acknowledged
//!   secret       uuid -> XML, value       what `virsh secret-define` made
//!   history      migration id -> summary   one row for each migration, for people
//! ```
//!
//! The store refuses to know what a record means: kinds are text, bodies are JSON, times are the caller's.

mod definition;
mod error;
mod guest;
mod history;
mod host;
mod journal;
mod schema;
mod secret;
mod snapshot;
mod store;
mod value;

pub use definition::Definition;
pub use error::StoreError;
pub use guest::GuestRecord;
pub use history::{Direction, HistoryEntry};
pub use journal::{JournalEntry, Role};
pub use secret::StoredSecret;
pub use snapshot::Snapshot;
pub use store::{Store, Write};
