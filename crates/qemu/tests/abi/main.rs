//! The guest's ABI: definitions go in, completed definitions and command lines come out, and both are held
//! against our own fixtures, against stock's results, and against the QEMU that is installed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

mod accepted;
mod common;
mod corpus;
mod corpus_lines;
mod every_value;
mod fixtures;
mod live;
mod memory;
mod mutated;
mod refused;
mod samples;
