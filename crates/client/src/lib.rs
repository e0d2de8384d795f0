//! Async typed client of the wire.
