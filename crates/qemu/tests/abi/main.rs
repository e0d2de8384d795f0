//! The guest's ABI: definitions go in, completed definitions and command lines come out, and both are held
//! against our own fixtures, against stock's results, and against the QEMU that is installed.

mod accepted;
mod common;
mod fixtures;
mod refused;
mod samples;
