//! QMP, QEMU's control protocol: line codec, pure session, the commands and events in use.
//!
//! The daemon owns the socket; it feeds the bytes that arrive to a [`Session`] and writes what the session
//! hands out. Nothing here reads a clock, a socket or a file, and nothing here knows what a domain is.
//!
//! ```text
//!   socket --bytes--> Session::handle_bytes      Session::poll_event  --> Ready | Reply | Event
//!   socket <--bytes-- Session::poll_output       Session::submit(Request) <-- any Command
//! ```
//!
//! The types are lenient on purpose: one build of this crate speaks to every QEMU from 7.2 on. An enum value
//! that it does not know becomes `Other`, a field that a version does not send is `None`, a field that a newer
//! version adds is ignored. Commands and fields are named as in QEMU's QAPI schema, which documents them:
//! <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html>.

#[macro_use]
mod lenient;
mod codec;
mod command;
pub mod commands;
mod event;
mod session;

pub use codec::{LINE_MAX, LineDecoder, LineTooLong};
pub use command::{Command, CommandError, EncodeError, ErrorClass, Nothing, Refusal, Request};
pub use event::{
    BlockIoError, BlockJob, BlockJobError, DeviceGone, Event, EventKind, GuestPanic, JobStatus,
    JobStatusChange, MemoryDeviceSizeChange, NicRxFilterChange, PanicAction, RtcChange, Said, ShutdownCause,
    ShutdownReason, Timestamp, TrayMove, VncClient, VncEvent, VncServer, VserportChange, WatchdogAction,
    WriteThreshold,
};
pub use session::{Greeting, Incoming, Output, Reply, RequestId, Session, SessionError};
