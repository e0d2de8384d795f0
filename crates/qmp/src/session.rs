//! One connection to one QEMU: greeting, negotiation, commands and their replies, events.
//!
//! The daemon keeps one [`Session`] per monitor socket and drives it; the session does no IO.
//!
//! ```text
//!             greeting                 qmp_capabilities accepted
//!   Greeting -----------> Negotiating --------------------------> Command
//!                         (oob is taken when it is offered)        any number of commands, any order of replies
//! ```
//!
//! Commands submitted before the last state wait in the session. Any error ends the session for good: the daemon
//! closes the socket, connects again, and starts a new one with another generation.

use crate::codec::{LineDecoder, LineTooLong};
use crate::command::{Command, CommandError, Refusal, Request, decode};
use crate::event::{Event, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use thiserror::Error;

/// How many commands may be unanswered at a time, out-of-band ones aside. QEMU queues eight and then stops reading,
/// which would hold an out-of-band command up too; the QMP specification asks the client to stay below.
const UNANSWERED_MAX: usize = 7;

/// Names one request of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// What QEMU says when a client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Version and packager's text.
    pub version: crate::commands::introspect::Version,
    /// The protocol capabilities on offer; `oob` is the only one so far.
    pub capabilities: Vec<String>,
}

/// One message for QEMU. A file descriptor that belongs to `id` goes along with the first byte of `bytes`. Debug
/// output leaves the bytes out: some are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// The request inside; `None` for the session's own negotiation.
    pub id: Option<RequestId>,
    /// The whole message with its line end.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("id", &self.id).field("len", &self.bytes.len()).finish()
    }
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The request that is answered.
    pub id: RequestId,
    /// QEMU's return value as it came, or its refusal.
    pub outcome: Result<Box<RawValue>, Refusal>,
}

impl Reply {
    /// Reads the answer as the reply of `C`, the command that was asked.
    ///
    /// # Errors
    /// [`CommandError`] when QEMU refused, or answered something else.
    pub fn decode<C: Command>(&self) -> Result<C::Reply, CommandError> {
        decode::<C>(self.outcome.as_deref())
    }
}

/// What came from QEMU.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// Negotiation is over; commands flow.
    Ready(Greeting),
    /// A request was answered.
    Reply(Reply),
    /// Something happened in QEMU.
    Event(Event),
}

/// Why a session has ended.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A line without end.
    #[error(transparent)]
    LineTooLong(#[from] LineTooLong),
    /// A line that is not a QMP message.
    #[error("QEMU sent a line that is not QMP")]
    Malformed(#[source] serde_json::Error),
    /// A message out of turn.
    #[error("QEMU sent {what} where {expected} was due")]
    OutOfTurn {
        /// What came.
        what: &'static str,
        /// What the protocol has here.
        expected: &'static str,
    },
    /// QEMU refused `qmp_capabilities`.
    #[error("QEMU refused to negotiate")]
    Negotiation(#[source] Refusal),
    /// QEMU could not read what was sent, so it answered without an id and no answer can be matched any more.
    #[error("QEMU could not read a message")]
    Unreadable(#[source] Refusal),
    /// The session has ended with an earlier error.
    #[error("the QMP session has ended")]
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Negotiating,
    Command,
    Ended,
}

/// One connection to one QEMU.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    generation: u64,
    next_id: u64,
    out_of_band: bool,
    greeting: Option<Greeting>,
    decoder: LineDecoder,
    /// Messages of the session itself.
    control: VecDeque<Output>,
    /// Requests that were not handed out yet.
    waiting: VecDeque<(RequestId, Request)>,
    /// Requests that were handed out and not answered, with whether they went out of band.
    asked: HashMap<RequestId, bool>,
    /// A request with a descriptor that was not answered. QEMU keeps only the descriptor that came last, so the
    /// next one must wait until this one was taken.
    fd_in_flight: Option<RequestId>,
    incoming: VecDeque<Incoming>,
}

impl Session {
    /// A session for a connection that was just made. `generation` must differ from that of every earlier
    /// connection to the same QEMU: QEMU may still answer what an earlier one asked, and such an answer is told
    /// by it and passed over.
    pub fn new(generation: u64) -> Self {
        Self {
            phase: Phase::Greeting,
            generation,
            next_id: 1,
            out_of_band: false,
            greeting: None,
            decoder: LineDecoder::default(),
            control: VecDeque::new(),
            waiting: VecDeque::new(),
            asked: HashMap::new(),
            fd_in_flight: None,
            incoming: VecDeque::new(),
        }
    }

    /// Whether out-of-band execution was negotiated.
    pub fn has_out_of_band(&self) -> bool {
        self.out_of_band
    }

    /// Queues a command. The id comes back in its [`Reply`] and in its [`Output`].
    pub fn submit(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back((id, request));
        id
    }

    /// Queues a typed command: [`Request::new`] and [`Session::submit`] in one.
    ///
    /// # Errors
    /// [`crate::EncodeError`] when the arguments have no JSON form; nothing is queued then.
    pub fn execute<C: Command>(&mut self, command: &C) -> Result<RequestId, crate::EncodeError> {
        Ok(self.submit(Request::new(command)?))
    }

    /// The next message for QEMU, one at a time, so that a descriptor can travel with its own. Ask again whenever
    /// something was submitted or has arrived: commands wait here while QEMU has enough to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.control.pop_front() {
            return Some(output);
        }
        if self.phase != Phase::Command {
            return None;
        }
        // Out-of-band commands overtake: they are for the moments when nothing else moves.
        let overtaking = self.waiting.iter().position(|(_, request)| self.out_of_band && request.out_of_band);
        let index = overtaking.unwrap_or(0);
        let (id, request) = self.waiting.get(index)?;
        let unanswered = self.asked.values().filter(|out_of_band| !**out_of_band).count();
        let queue_is_full = overtaking.is_none() && unanswered >= UNANSWERED_MAX;
        if queue_is_full || (request.carries_fd && self.fd_in_flight.is_some()) {
            return None;
        }
        let id = *id;
        let bytes = self.encode(id, request);
        if request.carries_fd {
            self.fd_in_flight = Some(id);
        }
        self.waiting.remove(index);
        self.asked.insert(id, overtaking.is_some());
        Some(Output { id: Some(id), bytes })
    }

    /// What came from QEMU, oldest first.
    pub fn poll_event(&mut self) -> Option<Incoming> {
        self.incoming.pop_front()
    }

    /// Takes bytes as they came from the socket.
    ///
    /// # Errors
    /// [`SessionError`] when they are not QMP. What was understood before the error can still be polled; the
    /// session takes nothing more.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        if self.phase == Phase::Ended {
            return Err(SessionError::Ended);
        }
        let outcome = self.handle_lines(bytes);
        if outcome.is_err() {
            self.phase = Phase::Ended;
        }
        outcome
    }

    fn handle_lines(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.decoder.push(bytes);
        while let Some(line) = self.decoder.next_line()? {
            let message = serde_json::from_slice(line).map_err(SessionError::Malformed)?;
            self.handle_message(message)?;
        }
        Ok(())
    }

    fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        let what = message.what();
        let out_of_turn = |expected| Err(SessionError::OutOfTurn { what, expected });
        match (self.phase, message) {
            (Phase::Greeting, Message { greeting: Some(greeting), .. }) => {
                self.handle_greeting(greeting);
                Ok(())
            }
            (Phase::Greeting, _) => out_of_turn("the greeting"),
            (Phase::Negotiating, Message { body: Some(_), id: None, .. }) => {
                self.phase = Phase::Command;
                self.incoming.extend(self.greeting.take().map(Incoming::Ready));
                Ok(())
            }
            (Phase::Negotiating, Message { error: Some(refusal), id: None, .. }) => {
                Err(SessionError::Negotiation(refusal))
            }
            // An answer with an id is one that an earlier connection asked for.
            (Phase::Negotiating, Message { id: Some(_), .. }) => Ok(()),
            (Phase::Negotiating, _) => out_of_turn("the answer to qmp_capabilities"),
            (Phase::Command, Message { event: Some(name), data, timestamp, .. }) => {
                let event = Event::new(name, data.as_deref(), timestamp.unwrap_or_default());
                self.incoming.push_back(Incoming::Event(event));
                Ok(())
            }
            (Phase::Command, Message { body: Some(body), id, .. }) => {
                self.handle_reply(id, Ok(body));
                Ok(())
            }
            (Phase::Command, Message { error: Some(refusal), id: None, .. }) => {
                Err(SessionError::Unreadable(refusal))
            }
            (Phase::Command, Message { error: Some(refusal), id, .. }) => {
                self.handle_reply(id, Err(refusal));
                Ok(())
            }
            (Phase::Command, _) => out_of_turn("a reply or an event"),
            (Phase::Ended, _) => Err(SessionError::Ended),
        }
    }

    fn handle_greeting(&mut self, greeting: WireGreeting) {
        self.out_of_band = greeting.capabilities.iter().any(|offered| offered == "oob");
        let enable: &[u8] = if self.out_of_band { b"\"oob\"" } else { b"" };
        let bytes =
            [b"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[", enable, b"]}}\r\n"].concat();
        self.control.push_back(Output { id: None, bytes });
        self.greeting = Some(Greeting { version: greeting.version, capabilities: greeting.capabilities });
        self.phase = Phase::Negotiating;
    }

    fn handle_reply(&mut self, id: Option<String>, outcome: Result<Box<RawValue>, Refusal>) {
        let Some(id) = id.and_then(|text| self.parse_id(&text)) else { return };
        if self.asked.remove(&id).is_none() {
            return;
        }
        if self.fd_in_flight == Some(id) {
            self.fd_in_flight = None;
        }
        self.incoming.push_back(Incoming::Reply(Reply { id, outcome }));
    }

    /// `GENERATION-NUMBER`, the id on the wire.
    fn format_id(&self, id: RequestId) -> String {
        format!("{}-{}", self.generation, id.0)
    }

    fn parse_id(&self, text: &str) -> Option<RequestId> {
        let (generation, number) = text.split_once('-')?;
        (generation.parse() == Ok(self.generation)).then_some(RequestId(number.parse().ok()?))
    }

    fn encode(&self, id: RequestId, request: &Request) -> Vec<u8> {
        let key = if self.out_of_band && request.out_of_band { "exec-oob" } else { "execute" };
        // A name may be an operator's text, so it is escaped like any other string.
        let name = serde_json::Value::from(&*request.name);
        let (arguments, id) = (request.arguments.get(), self.format_id(id));
        format!("{{\"{key}\":{name},\"arguments\":{arguments},\"id\":\"{id}\"}}\r\n").into_bytes()
    }
}

/// Any message from QEMU, before it is known which.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<WireGreeting>,
    /// `null` is a value here, absence is not.
    #[serde(rename = "return", default, deserialize_with = "present")]
    body: Option<Box<RawValue>>,
    error: Option<Refusal>,
    #[serde(default, deserialize_with = "text_or_foreign")]
    id: Option<String>,
    event: Option<String>,
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    timestamp: Option<Timestamp>,
}

impl Message {
    fn what(&self) -> &'static str {
        match self {
            Self { greeting: Some(_), .. } => "a greeting",
            Self { event: Some(_), .. } => "an event",
            Self { body: Some(_), .. } => "a reply",
            Self { error: Some(_), .. } => "an error",
            _ => "an unknown message",
        }
    }
}

#[derive(Deserialize, Serialize)]
struct WireGreeting {
    version: crate::commands::introspect::Version,
    #[serde(default)]
    capabilities: Vec<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Ids of ours are strings that are not empty; any other value is somebody else's and becomes the empty one.
fn text_or_foreign<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(serde_json::Value::deserialize(deserializer)?.as_str().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::device::QomGet;
    use crate::commands::fd::{AddFd, Getfd};
    use crate::commands::migration::MigratePause;
    use crate::commands::run::{Cont, QueryStatus};
    use proptest::prelude::*;

    const GREETING: &str = r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10},"package":""},"capabilities":["oob"]}}"#;
    const PLAIN_GREETING: &str =
        r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10}},"capabilities":[]}}"#;

    fn feed(session: &mut Session, line: &str) -> Result<(), SessionError> {
        session.handle_bytes(format!("{line}\r\n").as_bytes())
    }

    fn sent(session: &mut Session) -> Option<String> {
        session.poll_output().map(|output| String::from_utf8(output.bytes).unwrap())
    }

    fn ready(greeting: &str) -> Session {
        let mut session = Session::new(7);
        feed(&mut session, greeting).unwrap();
        assert!(sent(&mut session).unwrap().contains("qmp_capabilities"));
        feed(&mut session, r#"{"return":{}}"#).unwrap();
        assert!(matches!(session.poll_event(), Some(Incoming::Ready(_))));
        session
    }

    fn reply(session: &mut Session) -> Reply {
        match session.poll_event() {
            Some(Incoming::Reply(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn commands_wait_for_the_negotiation() {
        let mut session = Session::new(7);
        session.execute(&Cont).unwrap();
        assert_eq!(sent(&mut session), None);
        feed(&mut session, GREETING).unwrap();
        let hello = "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\r\n";
        assert_eq!(sent(&mut session).as_deref(), Some(hello));
        assert_eq!(sent(&mut session), None);
        feed(&mut session, r#"{"return":{}}"#).unwrap();
        assert!(session.has_out_of_band());
        let cont = "{\"execute\":\"cont\",\"arguments\":{},\"id\":\"7-1\"}\r\n";
        assert_eq!(sent(&mut session).as_deref(), Some(cont));
        assert_eq!(sent(&mut session), None);
    }

    #[test]
    fn out_of_band_is_taken_only_when_offered_and_overtakes() {
        let mut session = ready(PLAIN_GREETING);
        session.execute(&Cont).unwrap();
        session.execute(&MigratePause).unwrap();
        assert!(sent(&mut session).unwrap().contains("cont"));
        assert!(sent(&mut session).unwrap().starts_with(r#"{"execute":"migrate-pause""#));

        let mut session = ready(GREETING);
        session.execute(&Cont).unwrap();
        session.execute(&MigratePause).unwrap();
        assert!(sent(&mut session).unwrap().starts_with(r#"{"exec-oob":"migrate-pause""#));
        assert!(sent(&mut session).unwrap().contains("cont"));
    }

    #[test]
    fn replies_find_their_requests_in_any_order() {
        let mut session = ready(GREETING);
        let (first, second) = (session.execute(&QueryStatus).unwrap(), session.execute(&Cont).unwrap());
        while session.poll_output().is_some() {}
        feed(&mut session, r#"{"return":{},"id":"7-2"}"#).unwrap();
        feed(&mut session, r#"{"id":"7-1","return":{"running":true,"status":"running"}}"#).unwrap();
        assert_eq!(reply(&mut session).id, second);
        let status = reply(&mut session);
        assert_eq!(status.id, first);
        assert!(status.decode::<QueryStatus>().unwrap().running);
    }

    #[test]
    fn an_answer_to_nobody_is_passed_over() {
        let mut session = ready(GREETING);
        session.execute(&Cont).unwrap();
        // Not sent yet, another connection's, twice, no id of ours at all.
        for line in [
            r#"{"return":{},"id":"7-1"}"#,
            r#"{"return":{},"id":"6-1"}"#,
            r#"{"return":{},"id":"7-99"}"#,
            r#"{"return":{},"id":"7-"}"#,
            r#"{"return":{},"id":{"a":1}}"#,
            r#"{"return":{},"id":5}"#,
            r#"{"return":{}}"#,
            r#"{"error":{"class":"GenericError","desc":""},"id":"libvirt-4"}"#,
        ] {
            feed(&mut session, line).unwrap();
            assert!(session.poll_event().is_none(), "{line}");
        }
        session.poll_output().unwrap();
        feed(&mut session, r#"{"return":{},"id":"7-1"}"#).unwrap();
        reply(&mut session);
        feed(&mut session, r#"{"return":{},"id":"7-1"}"#).unwrap();
        assert!(session.poll_event().is_none());
    }

    #[test]
    fn an_answer_to_an_earlier_connection_does_not_end_the_negotiation() {
        let mut session = Session::new(7);
        feed(&mut session, GREETING).unwrap();
        feed(&mut session, r#"{"return":{},"id":"6-31"}"#).unwrap();
        assert!(session.poll_event().is_none());
        feed(&mut session, r#"{"return":{}}"#).unwrap();
        assert!(matches!(session.poll_event(), Some(Incoming::Ready(_))));
    }

    #[test]
    fn qemus_queue_is_never_filled_so_that_out_of_band_gets_through() {
        let mut session = ready(GREETING);
        for _ in 0..20 {
            session.execute(&Cont).unwrap();
        }
        assert_eq!(std::iter::from_fn(|| session.poll_output()).count(), UNANSWERED_MAX);
        session.execute(&MigratePause).unwrap();
        assert!(sent(&mut session).unwrap().contains("migrate-pause"));
        assert_eq!(sent(&mut session), None);
        feed(&mut session, r#"{"return":{},"id":"7-21"}"#).unwrap();
        assert_eq!(sent(&mut session), None, "the out-of-band answer frees nothing");
        feed(&mut session, r#"{"return":{},"id":"7-1"}"#).unwrap();
        assert!(sent(&mut session).unwrap().contains("\"7-8\""));
        assert_eq!(sent(&mut session), None);
    }

    #[test]
    fn descriptors_travel_one_at_a_time() {
        let mut session = ready(GREETING);
        let first = session.execute(&Getfd { fdname: "a".to_owned() }).unwrap();
        let second = session.execute(&AddFd::default()).unwrap();
        let last = session.execute(&Cont).unwrap();
        assert_eq!(session.poll_output().unwrap().id, Some(first));
        assert_eq!(session.poll_output(), None, "commands after a descriptor keep their order");
        feed(&mut session, r#"{"error":{"class":"GenericError","desc":"no"},"id":"7-1"}"#).unwrap();
        assert_eq!(session.poll_output().unwrap().id, Some(second));
        assert_eq!(session.poll_output().unwrap().id, Some(last));
    }

    #[test]
    fn null_is_a_reply() {
        let mut session = ready(GREETING);
        session.execute(&QomGet { path: "/machine".to_owned(), property: "x".to_owned() }).unwrap();
        session.poll_output().unwrap();
        feed(&mut session, r#"{"return":null,"id":"7-1"}"#).unwrap();
        assert_eq!(reply(&mut session).decode::<QomGet>().unwrap(), serde_json::Value::Null);
    }

    #[test]
    fn a_reply_of_another_form_fails_its_command_and_not_the_session() {
        let mut session = ready(GREETING);
        session.execute(&QueryStatus).unwrap();
        session.poll_output().unwrap();
        feed(&mut session, r#"{"return":[1,2],"id":"7-1"}"#).unwrap();
        let error = reply(&mut session).decode::<QueryStatus>().unwrap_err();
        assert!(matches!(error, CommandError::Malformed { command: "query-status", .. }), "{error}");
        feed(&mut session, r#"{"event":"STOP","timestamp":{"seconds":1,"microseconds":2}}"#).unwrap();
        assert!(matches!(session.poll_event(), Some(Incoming::Event(_))));
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_session() {
        let cases: [(&[&str], &str); 7] = [
            (&["{"], "not QMP"),
            (&["[]"], "not QMP"),
            (&[r#"{"return":{}}"#], "a reply where the greeting was due"),
            (&[GREETING, GREETING], "a greeting where the answer to qmp_capabilities was due"),
            (&[GREETING, r#"{"error":{"class":"GenericError","desc":"x"}}"#], "refused to negotiate"),
            (
                &[GREETING, r#"{"return":{}}"#, r#"{"x":1}"#],
                "an unknown message where a reply or an event was due",
            ),
            (
                &[
                    GREETING,
                    r#"{"return":{}}"#,
                    r#"{"error":{"class":"GenericError","desc":"JSON parse error"}}"#,
                ],
                "could not read",
            ),
        ];
        for (lines, text) in cases {
            let mut session = Session::new(7);
            let (last, before) = lines.split_last().unwrap();
            for line in before {
                feed(&mut session, line).unwrap();
            }
            let error = feed(&mut session, last).unwrap_err();
            assert!(error.to_string().contains(text), "{lines:?}: {error}");
            assert!(matches!(feed(&mut session, GREETING), Err(SessionError::Ended)), "{lines:?}");
            assert!(session.poll_output().is_none_or(|output| output.id.is_none()));
        }
    }

    #[test]
    fn a_name_typed_by_an_operator_cannot_break_out_of_its_string() {
        let mut session = ready(GREETING);
        let name = r#"stop","arguments":{},"id":"7-1"}{"execute":"quit"#;
        session.submit(Request::raw(name, &serde_json::Map::new()).unwrap());
        let line = sent(&mut session).unwrap();
        let message: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["execute"], name);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), negotiated: bool) {
            let mut session = if negotiated { ready(GREETING) } else { Session::new(7) };
            let _ = session.handle_bytes(&bytes);
            let _ = session.handle_bytes(b"\n");
        }

        #[test]
        fn no_message_panics(
            key in "(QMP|return|error|event|data|id|timestamp|class)",
            value in "(null|1|-1|1e999|\"\"|\\{\\}|\\[\\]|true|\\{\"class\":1\\}|\\{\"seconds\":-1\\})",
            name in "(STOP|SHUTDOWN|MIGRATION|BLOCK_JOB_READY|X)",
        ) {
            let mut session = ready(GREETING);
            let _ = feed(&mut session, &format!("{{\"event\":\"{name}\",\"{key}\":{value}}}"));
            let _ = feed(&mut session, &format!("{{\"{key}\":{value}}}"));
        }
    }
}
