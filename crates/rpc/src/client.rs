//! The client's side of one connection: calls in, bytes out; bytes in, replies and events out.
//!
//! The `client` crate owns a [`Session`] and a socket and drives them as the daemon drives
//! [`server::Session`](crate::server::Session). Peer-to-peer migration uses it towards the other host.
//!
//! Serials begin at 0 and count up, as stock's do. Replies come in any order. What a server sends for a serial
//! that is not waiting is dropped, except a reply for another procedure than was called: the two sides no
//! longer talk about the same, and the session ends.
//!
//! A stream is open from the reply of the call that opens it until both sides finished, one aborted, or the
//! server reported an error.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ferry_xdr::{DecodeError, EncodeError};

pub use crate::link::{Closed, Keepalive};

use crate::error::{Error, ErrorCode, Origin};
use crate::header::{Header, Kind, PAYLOAD_MAX, Status, VERSION};
use crate::link::{Bounds, Link};
use crate::procedure::{Access, Procedure, Program, Stream};
use crate::proto::{Arguments, Message};

/// How a session behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Bytes of streams that may wait to be consumed before the session stops reading.
    pub stream_backlog_max: usize,
    /// Bytes that may wait to be written before the connection is ended.
    pub output_max: usize,
    /// How long a frame may take from its first byte to its last.
    pub frame_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { stream_backlog_max: 4 << 20, output_max: 64 << 20, frame_timeout: Duration::from_secs(60) }
    }
}

/// A call's number; replies and stream frames carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serial(pub u32);

/// What happened on the connection.
#[derive(Debug)]
pub enum Event {
    /// A call was answered, with its encoded result or an error of the server's.
    Reply(Serial, Result<Vec<u8>, Error>),
    /// The server told something unasked.
    Message(Received),
    /// The server did something to an open stream.
    Stream(Serial, StreamEvent),
    /// The session is over; no call will be answered any more.
    Closed(Closed),
}

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Which one.
    pub procedure: Procedure,
    /// Its encoded fields.
    pub payload: Vec<u8>,
}

impl Received {
    /// The fields, when it is a `T`.
    ///
    /// # Errors
    /// When the fields are not what they should be.
    pub fn decode<T: Message>(&self) -> Option<Result<T, DecodeError>> {
        (self.procedure == T::PROCEDURE).then(|| ferry_xdr::from_bytes(&self.payload))
    }
}

/// What the server did to a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// Bytes. Tell the session when they are used up: [`Session::stream_consumed`].
    Data(Vec<u8>),
    /// The server sends no more; answer with [`Session::stream_finish`].
    End,
    /// The server confirmed the end. The stream is gone.
    Finished,
    /// The server gave up. The stream is gone.
    Failed(Error),
}

#[derive(Debug)]
struct StreamState {
    procedure: Procedure,
    /// Received and not consumed.
    backlog: usize,
    /// We have said that we are done.
    finished: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    config: Config,
    link: Link,
    next_serial: u32,
    waiting: HashMap<Serial, Procedure>,
    streams: HashMap<Serial, StreamState>,
    /// Of all streams together.
    backlog: usize,
    closed_told: bool,
}

impl Session {
    /// A connection that was made at `now`.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        Self {
            config,
            link: Link::new(now, Bounds { output: config.output_max, frame: config.frame_timeout }),
            next_serial: 0,
            waiting: HashMap::new(),
            streams: HashMap::new(),
            backlog: 0,
            closed_told: false,
        }
    }

    /// Begins to ping; to be called once the server has said that it knows feature 10.
    pub fn start_keepalive(&mut self, keepalive: Keepalive) {
        self.link.start_keepalive(keepalive);
    }

    /// Sends a call; the answer comes as [`Event::Reply`] with the same serial.
    ///
    /// # Errors
    /// When an argument breaks its bound; nothing is sent.
    pub fn call<T: Arguments>(&mut self, arguments: &T) -> Result<Serial, EncodeError> {
        self.call_encoded(T::PROCEDURE, &ferry_xdr::to_bytes(arguments)?)
    }

    /// As [`Session::call`], for arguments that have been encoded already.
    ///
    /// # Errors
    /// When they exceed the limit of a frame; nothing is sent.
    pub fn call_encoded(&mut self, procedure: Procedure, payload: &[u8]) -> Result<Serial, EncodeError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(EncodeError::TooLong { len: payload.len(), max: PAYLOAD_MAX });
        }
        let mut serial = Serial(self.next_serial);
        while self.waiting.contains_key(&serial) || self.streams.contains_key(&serial) {
            serial.0 = serial.0.wrapping_add(1);
        }
        self.next_serial = serial.0.wrapping_add(1);
        self.waiting.insert(serial, procedure);
        self.link.send(header(procedure, Kind::Call, serial, Status::Ok), payload);
        Ok(serial)
    }

    /// Whether bytes should be read from the socket now.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.link.closed().is_none() && self.backlog < self.config.stream_backlog_max
    }

    /// Takes bytes that were received.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.link.handle_bytes(now, bytes);
    }

    /// When [`Session::handle_timeout`] is to be called; asked anew after every other call.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.link.deadline(self.wants_read())
    }

    /// Does what is due at `now`; too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let reading = self.wants_read();
        self.link.handle_timeout(now, reading);
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        while self.wants_read() {
            let Some((header, payload)) = self.link.next_frame() else { break };
            if let Some(event) = self.handle_frame(header, payload) {
                return Some(event);
            }
        }
        let reason = self.link.closed().filter(|_| !self.closed_told)?;
        self.closed_told = true;
        Some(Event::Closed(reason))
    }

    /// Bytes to write to the socket; empty when there are none.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.link.output()
    }

    /// How many bytes wait in all. Who produces a stream waits while this is high.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.link.output_len()
    }

    /// The first `bytes` of [`Session::output`] have been written.
    pub fn output_written(&mut self, bytes: usize) {
        self.link.output_written(bytes);
    }

    /// Whether bytes can still be sent on a stream.
    #[must_use]
    pub fn stream_writable(&self, stream: Serial) -> bool {
        self.sending(stream).is_some()
    }

    /// Sends bytes of a stream.
    pub fn stream_data(&mut self, stream: Serial, bytes: &[u8]) {
        if let Some(procedure) = self.sending(stream) {
            self.link.send_data(header(procedure, Kind::Stream, stream, Status::Continue), bytes);
        }
    }

    /// Says that all is sent, or received; the server confirms with [`StreamEvent::Finished`].
    pub fn stream_finish(&mut self, stream: Serial) {
        if let Some(procedure) = self.sending(stream) {
            self.link.send(header(procedure, Kind::Stream, stream, Status::Ok), &[]);
            if let Some(state) = self.streams.get_mut(&stream) {
                state.finished = true;
            }
        }
    }

    /// Gives a stream up. What the server still sends for it is dropped.
    pub fn stream_abort(&mut self, stream: Serial) {
        if let Some(state) = self.drop_stream(stream) {
            self.link.send(header(state.procedure, Kind::Stream, stream, Status::Error), &[]);
        }
    }

    /// `bytes` of the received data of a stream are used up.
    pub fn stream_consumed(&mut self, stream: Serial, bytes: usize) {
        if let Some(state) = self.streams.get_mut(&stream) {
            let consumed = bytes.min(state.backlog);
            state.backlog -= consumed;
            self.backlog -= consumed;
        }
    }

    fn handle_frame(&mut self, header: Header, payload: Vec<u8>) -> Option<Event> {
        let program = Program::from_number(header.program).filter(|_| header.version == VERSION)?;
        match header.kind()? {
            Kind::Reply => self.handle_reply(header, payload),
            Kind::Event => {
                let procedure = Procedure::from_number(program, header.procedure)
                    .filter(|procedure| procedure.access() == Access::Event)?;
                Some(Event::Message(Received { procedure, payload }))
            }
            Kind::Stream => self.handle_stream(header, payload),
            Kind::StreamHole => self.contradiction("a hole in a stream that was not to be sparse"),
            Kind::ReplyWithFds => self.contradiction("file descriptors that nobody asked for"),
            Kind::Call | Kind::CallWithFds => self.contradiction("a call from a server"),
        }
    }

    fn handle_reply(&mut self, header: Header, payload: Vec<u8>) -> Option<Event> {
        let serial = Serial(header.serial);
        let called = *self.waiting.get(&serial)?;
        if (called.program().number(), called.number()) != (header.program, header.procedure) {
            return self.contradiction("a reply for another procedure than was called");
        }
        let result = match header.status() {
            Some(Status::Ok) => Ok(payload),
            Some(Status::Error) => Err(received_error(&payload)),
            Some(Status::Continue) | None => return self.contradiction("a reply without an outcome"),
        };
        self.waiting.remove(&serial);
        if result.is_ok() && called.stream() != Stream::None {
            self.streams.insert(serial, StreamState { procedure: called, backlog: 0, finished: false });
        }
        Some(Event::Reply(serial, result))
    }

    fn handle_stream(&mut self, header: Header, payload: Vec<u8>) -> Option<Event> {
        let serial = Serial(header.serial);
        let state =
            self.streams.get_mut(&serial).filter(|state| state.procedure.number() == header.procedure)?;
        let event = match header.status()? {
            Status::Continue if payload.is_empty() => StreamEvent::End,
            Status::Continue => {
                state.backlog += payload.len();
                self.backlog += payload.len();
                StreamEvent::Data(payload)
            }
            Status::Ok => {
                let finished = state.finished;
                if !finished {
                    // The server ended first: "the other side answers with the same frame".
                    self.stream_finish(serial);
                }
                self.drop_stream(serial);
                StreamEvent::Finished
            }
            Status::Error => {
                self.drop_stream(serial);
                StreamEvent::Failed(received_error(&payload))
            }
        };
        Some(Event::Stream(serial, event))
    }

    fn contradiction(&mut self, what: &'static str) -> Option<Event> {
        self.link.close(Closed::Contradiction(what));
        None
    }

    /// The procedure of a stream that we may still send on.
    fn sending(&self, stream: Serial) -> Option<Procedure> {
        self.streams.get(&stream).filter(|state| !state.finished).map(|state| state.procedure)
    }

    fn drop_stream(&mut self, stream: Serial) -> Option<StreamState> {
        let state = self.streams.remove(&stream)?;
        self.backlog -= state.backlog;
        Some(state)
    }
}

fn header(procedure: Procedure, kind: Kind, serial: Serial, status: Status) -> Header {
    Header {
        program: procedure.program().number(),
        version: VERSION,
        procedure: procedure.number(),
        kind: kind.number(),
        serial: serial.0,
        status: status.number(),
    }
}

/// The error of a reply or a stream. As in stock's client library, one that begins with `unknown procedure` is
/// turned into "not supported", so that callers need to know only one way in which a server lacks a call.
fn received_error(payload: &[u8]) -> Error {
    let Ok(mut error) = ferry_xdr::from_bytes::<Error>(payload) else {
        return Error::new(ErrorCode::RPC, Origin::RPC, "Unable to decode message payload");
    };
    let raised_by_wire = error.origin == Origin::RPC || error.origin == Origin::REMOTE;
    if error.code == ErrorCode::RPC && raised_by_wire && error.message.starts_with("unknown procedure") {
        error.code = ErrorCode::NO_SUPPORT;
    }
    error
}

#[cfg(test)]
mod tests;
