//! The core of a migration, as pure state machines.
