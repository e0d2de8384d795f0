//! The server's side of one connection: bytes in, calls out; replies in, bytes out.
//!
//! The daemon's connection task owns a [`Session`] and a socket, and does for ever:
//!
//! ```text
//!   socket readable and wants_read()  ─▶ handle_bytes, then poll_event until None
//!   deadline() reached                ─▶ handle_timeout, then poll_event until None
//!   a call was done                   ─▶ reply / reply_error / reply_stream
//!   output() not empty                ─▶ write it, output_written
//!   Event::Closed                     ─▶ the end
//! ```
//!
//! After a reply more calls may be there already: `poll_event` until `None` then, too.
//!
//! The session answers by itself what needs no knowledge of domains: pings, unknown programs and procedures,
//! senseless statuses, calls with descriptors. It does not know who may call what; [`gate`] does. Calls of one
//! connection may be answered in any order, and a serial that is used twice gets two replies.
//!
//! Bounded are: the frame that is being received, the calls that wait for an answer, the stream bytes that
//! were not consumed, and the bytes that the client does not read. Beyond the last one the connection ends;
//! at the others the session stops to want bytes.
//!
//! A stream, from the call that opens it to its end:
//!
//! ```text
//!                        ┌──────────── data both ways ───────────┐
//!   reply_stream ──▶ open ──stream_end──▶ ended (client may still send)
//!                      │ client finishes: Event Finish ─▶ stream_finish, or stream_error ──▶ gone
//!                      │ client aborts:   answered here, Event Abort ─────────────────────▶ gone
//!                      └ stream_error ────────────────────────────────────────────────────▶ gone
//! ```
//! Frames for a stream that is gone are dropped.

pub mod gate;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ferry_xdr::Encode;

pub use crate::link::{Closed, Keepalive};

use crate::error::{Error, ErrorCode, Origin};
use crate::header::{Header, Kind, Status, VERSION};
use crate::link::{Bounds, Link};
use crate::procedure::{Access, Procedure, Program};
use crate::proto::{Arguments, ConnectSupportsFeature, Message};
use crate::values::Feature;

/// How a session behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Pings to clients that asked for feature 10; `None` to never ping.
    pub keepalive: Option<Keepalive>,
    /// Calls of one connection that may wait for their answers; at this many the session stops reading.
    pub unanswered_max: usize,
    /// Streams that one connection may have open.
    pub streams_max: usize,
    /// Bytes of streams that may wait to be consumed before the session stops reading.
    pub stream_backlog_max: usize,
    /// Bytes that may wait to be written before the connection is ended. At least one largest frame.
    pub output_max: usize,
    /// How long a frame may take from its first byte to its last.
    pub frame_timeout: Duration,
}

impl Default for Config {
    /// Stock's keepalive (5 s, 5 pings). Stock stops reading at 5 unanswered calls, because each occupies one of
    /// its few workers; a call here is a task that waits, so a client may have 64.
    fn default() -> Self {
        Self {
            keepalive: Some(Keepalive::DAEMON),
            unanswered_max: 64,
            streams_max: 64,
            stream_backlog_max: 4 << 20,
            output_max: 64 << 20,
            frame_timeout: Duration::from_secs(60),
        }
    }
}

/// What happened on the connection.
#[derive(Debug)]
pub enum Event {
    /// A call that wants an answer, exactly one.
    Call(Call),
    /// The client did something to an open stream.
    Stream(StreamId, StreamEvent),
    /// The session is over. Nothing comes after it.
    Closed(Closed),
}

/// A call of a procedure that exists.
#[derive(Debug)]
pub struct Call {
    /// What to answer to.
    pub id: CallId,
    /// What is called.
    pub procedure: Procedure,
    /// The encoded arguments.
    pub payload: Vec<u8>,
}

impl Call {
    /// The arguments.
    ///
    /// # Errors
    /// 39/7, ready to be sent, when they are too short, break a bound, or are no value of their type.
    pub fn decode<T: Arguments>(&self) -> Result<T, Error> {
        ferry_xdr::from_bytes(&self.payload)
            .map_err(|_| Error::new(ErrorCode::RPC, Origin::RPC, "Unable to decode message payload"))
    }
}

/// One call among those that wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

/// One open stream: the call that opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId {
    program: u32,
    procedure: i32,
    serial: u32,
}

impl StreamId {
    const fn of(header: &Header) -> Self {
        Self { program: header.program, procedure: header.procedure, serial: header.serial }
    }

    const fn header(self, status: Status) -> Header {
        Header {
            program: self.program,
            version: VERSION,
            procedure: self.procedure,
            kind: Kind::Stream.number(),
            serial: self.serial,
            status: status.number(),
        }
    }
}

/// What a client did to a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// Bytes. Tell the session when they are used up: [`Session::stream_consumed`].
    Data(Vec<u8>),
    /// The client has sent, or received, all. Answer with [`Session::stream_finish`] or
    /// [`Session::stream_error`].
    Finish,
    /// The client gave the stream up. It has been answered and is gone.
    Abort,
}

/// A call that waits for its answer.
#[derive(Debug)]
struct Unanswered {
    header: Header,
    /// Bytes of its arguments.
    payload: usize,
}

#[derive(Debug, Default)]
struct StreamState {
    /// Received and not consumed.
    backlog: usize,
    /// The client will send no more.
    finished: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    config: Config,
    link: Link,
    /// The calls that wait, by the order of their arrival.
    unanswered: BTreeMap<CallId, Unanswered>,
    /// Bytes of their arguments together.
    payloads: usize,
    next_call: u64,
    streams: HashMap<StreamId, StreamState>,
    /// Of all streams together.
    backlog: usize,
    closed_told: bool,
}

impl Session {
    /// A connection that was accepted at `now`.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        Self {
            config,
            link: Link::new(now, Bounds { output: config.output_max, frame: config.frame_timeout }),
            unanswered: BTreeMap::new(),
            payloads: 0,
            next_call: 0,
            streams: HashMap::new(),
            backlog: 0,
            closed_told: false,
        }
    }

    /// Whether bytes should be read from the socket now.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.link.closed().is_none()
            && self.unanswered.len() < self.config.unanswered_max
            && self.backlog < self.config.stream_backlog_max
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

    /// Calls that wait for their answers.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Bytes that this connection occupies: what was received and not made a call, the arguments of calls that wait for
    /// their answers, what streams have not consumed, and what the client has not read.
    #[must_use]
    pub fn held(&self) -> usize {
        self.link.received_len() + self.payloads + self.backlog + self.link.output_len()
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

    /// Answers a call. A result that breaks a bound of the wire is answered as 39/7 instead.
    ///
    /// A call that was answered before is not answered again.
    pub fn reply<T: Encode>(&mut self, call: CallId, result: &T) {
        let Some(header) = self.answered(call) else { return };
        self.send_reply(header, ferry_xdr::to_bytes(result));
    }

    /// Refuses a call.
    pub fn reply_error(&mut self, call: CallId, error: &Error) {
        let Some(header) = self.answered(call) else { return };
        self.send_error(header, error);
    }

    /// Answers a call that opens a stream, and opens it. `None` when the call was refused instead: the client has
    /// too many streams, or one with this serial already, or is gone.
    pub fn reply_stream<T: Encode>(&mut self, call: CallId, result: &T) -> Option<StreamId> {
        let header = self.answered(call)?;
        let id = StreamId::of(&header);
        if self.streams.len() >= self.config.streams_max || self.streams.contains_key(&id) {
            let text = "too many active streams";
            self.send_error(header, &Error::of(ErrorCode::INTERNAL_ERROR, Origin::STREAMS, text));
            return None;
        }
        let payload = ferry_xdr::to_bytes(result);
        let opens = payload.is_ok();
        self.send_reply(header, payload);
        if !opens || self.link.closed().is_some() {
            return None;
        }
        self.streams.insert(id, StreamState::default());
        Some(id)
    }

    /// Sends an event. Stock numbers all of them 1; clients do not look.
    pub fn event<T: Message>(&mut self, message: &T) {
        // A message that breaks a bound is not worth a connection.
        let Ok(payload) = ferry_xdr::to_bytes(message) else { return };
        let header = Header {
            program: T::PROCEDURE.program().number(),
            version: VERSION,
            procedure: T::PROCEDURE.number(),
            kind: Kind::Event.number(),
            serial: 1,
            status: Status::Ok.number(),
        };
        self.link.send(header, &payload);
    }

    /// Sends bytes of a stream. Wait while [`Session::output_len`] is high.
    pub fn stream_data(&mut self, stream: StreamId, bytes: &[u8]) {
        if self.streams.contains_key(&stream) {
            self.link.send_data(stream.header(Status::Continue), bytes);
        }
    }

    /// Tells the client that no more bytes come; it answers by finishing.
    pub fn stream_end(&mut self, stream: StreamId) {
        if self.streams.contains_key(&stream) {
            self.link.send(stream.header(Status::Continue), &[]);
        }
    }

    /// Confirms that a stream ended well.
    pub fn stream_finish(&mut self, stream: StreamId) {
        if self.drop_stream(stream) {
            self.link.send(stream.header(Status::Ok), &[]);
        }
    }

    /// Ends a stream with an error.
    pub fn stream_error(&mut self, stream: StreamId, error: &Error) {
        if self.drop_stream(stream) {
            let payload = ferry_xdr::to_bytes(error).unwrap_or_default();
            self.link.send(stream.header(Status::Error), &payload);
        }
    }

    /// `bytes` of the received data of a stream are used up.
    pub fn stream_consumed(&mut self, stream: StreamId, bytes: usize) {
        if let Some(state) = self.streams.get_mut(&stream) {
            let consumed = bytes.min(state.backlog);
            state.backlog -= consumed;
            self.backlog -= consumed;
        }
    }

    fn handle_frame(&mut self, header: Header, payload: Vec<u8>) -> Option<Event> {
        match header.kind()? {
            Kind::Call => self.handle_call(header, payload),
            Kind::CallWithFds => {
                self.handle_call_with_fds(header, &payload);
                None
            }
            Kind::Stream => self.handle_stream(header, payload),
            Kind::StreamHole => {
                let text = "sparse streams are not supported";
                let error = Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::STREAMS, text);
                self.stream_error(StreamId::of(&header), &error);
                None
            }
            // A client has nothing to answer and nothing to tell.
            Kind::Reply | Kind::ReplyWithFds | Kind::Event => None,
        }
    }

    fn handle_call(&mut self, header: Header, payload: Vec<u8>) -> Option<Event> {
        let program = Program::from_number(header.program).filter(|_| header.version == VERSION);
        let refusal = match program {
            None => format!("Cannot find program {} version {}", header.program, header.version),
            Some(_) if header.status() != Some(Status::Ok) => {
                format!("Unexpected message status {}", header.status as u32)
            }
            Some(program) => match Procedure::from_number(program, header.procedure) {
                Some(procedure) if procedure.access() != Access::Event => {
                    return Some(Event::Call(self.admit(header, procedure, payload)));
                }
                // Clients look for the first two words.
                _ => format!("unknown procedure: {}", header.procedure),
            },
        };
        self.send_error(header, &Error::new(ErrorCode::RPC, Origin::RPC, refusal));
        None
    }

    fn admit(&mut self, header: Header, procedure: Procedure, payload: Vec<u8>) -> Call {
        let call = Call { id: CallId(self.next_call), procedure, payload };
        self.next_call += 1;
        self.payloads += call.payload.len();
        self.unanswered.insert(call.id, Unanswered { header, payload: call.payload.len() });
        let asked = (procedure == Procedure::ConnectSupportsFeature)
            .then(|| call.decode::<ConnectSupportsFeature>().ok())
            .flatten();
        if asked.is_some_and(|asked| asked.feature == Feature::KEEPALIVE) {
            // Only a client that asked knows how to answer a ping.
            if let Some(keepalive) = self.config.keepalive {
                self.link.start_keepalive(keepalive);
            }
        }
        call
    }

    /// Descriptors are not taken, which the answer to feature 8 says. A client that sends some all the same is
    /// refused, and the bytes that carry them are passed by, so that the next frame is found.
    fn handle_call_with_fds(&mut self, header: Header, payload: &[u8]) {
        let count = ferry_xdr::from_bytes::<u32>(payload).ok().and_then(|count| usize::try_from(count).ok());
        match count {
            Some(count) if count <= FDS_MAX => self.link.skip(count),
            _ => {
                return self
                    .link
                    .close(Closed::Contradiction("more file descriptors than a message may have"));
            }
        }
        let text = "file descriptors in calls";
        self.send_error(header, &Error::of(ErrorCode::NO_SUPPORT, Origin::RPC, text));
    }

    fn handle_stream(&mut self, header: Header, payload: Vec<u8>) -> Option<Event> {
        let id = StreamId::of(&header);
        let state = self.streams.get_mut(&id)?;
        let event = match header.status()? {
            Status::Continue if state.finished || payload.is_empty() => return None,
            Status::Continue => {
                state.backlog += payload.len();
                self.backlog += payload.len();
                StreamEvent::Data(payload)
            }
            Status::Ok if state.finished => return None,
            Status::Ok => {
                state.finished = true;
                StreamEvent::Finish
            }
            Status::Error => {
                self.stream_finish(id);
                StreamEvent::Abort
            }
        };
        Some(Event::Stream(id, event))
    }

    /// Forgets a stream; `false` when it was not there.
    fn drop_stream(&mut self, stream: StreamId) -> bool {
        let Some(state) = self.streams.remove(&stream) else { return false };
        self.backlog -= state.backlog;
        true
    }

    fn answered(&mut self, call: CallId) -> Option<Header> {
        let Unanswered { header, payload } = self.unanswered.remove(&call)?;
        self.payloads -= payload;
        Some(header)
    }

    fn send_reply(&mut self, call: Header, payload: Result<Vec<u8>, ferry_xdr::EncodeError>) {
        let header = Header { kind: Kind::Reply.number(), status: Status::Ok.number(), ..call };
        match payload {
            Ok(payload) if payload.len() <= crate::header::PAYLOAD_MAX => self.link.send(header, &payload),
            Ok(_) | Err(_) => {
                let text = "Unable to encode message payload";
                self.send_error(call, &Error::new(ErrorCode::RPC, Origin::RPC, text));
            }
        }
    }

    fn send_error(&mut self, call: Header, error: &Error) {
        let header = Header { kind: Kind::Reply.number(), status: Status::Error.number(), ..call };
        let payload = ferry_xdr::to_bytes(error).unwrap_or_default();
        self.link.send(header, &payload);
    }
}

/// Descriptors that one message may have.
const FDS_MAX: usize = 32;

#[cfg(test)]
mod tests;
