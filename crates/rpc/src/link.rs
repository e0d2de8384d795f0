//! What both ends of a connection do below calls: frames in, frames out, keepalive, limits.
//!
//! ```text
//!  bytes ─▶ Incoming ─▶ next_frame ─▶ session        ping/pong never get that far
//!  bytes ◀─ Output   ◀─ send       ◀─ session
//! ```
//!
//! [`server::Session`](crate::server::Session) and [`client::Session`](crate::client::Session) are built on it.
//! It knows no procedure and no serial, reads no clock and touches no socket.

mod incoming;
mod keepalive;
mod output;

use std::time::{Duration, Instant};

use thiserror::Error;

pub use keepalive::Keepalive;

use crate::header::{Header, KEEPALIVE, Kind, PAYLOAD_MAX, Status, VERSION};
use incoming::Incoming;
use keepalive::{Timer, Verdict};
use output::Output;

/// Why a session ended. The socket is to be closed once the output is written, or at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Closed {
    /// A length word below 28 or above 33554436: the stream of bytes makes no sense any more.
    #[error("frame of {0} bytes announced")]
    BadLength(u32),
    /// The peer was silent for interval x (count + 1).
    #[error("the peer did not answer keepalive messages")]
    Silent,
    /// A frame was begun and not completed in time.
    #[error("a frame was begun and not completed")]
    Unfinished,
    /// The peer does not read what it is sent.
    #[error("the peer does not read: {0} bytes are waiting for it")]
    NotReading(usize),
    /// More came in than was asked for.
    #[error("more was received than had been asked for")]
    Flooded,
    /// A frame that contradicts the conversation.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// How much a link may hold and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes that may wait to be written.
    pub(crate) output: usize,
    /// How long a frame may take from its first byte to its last.
    pub(crate) frame: Duration,
}

/// One end of a connection, below calls.
#[derive(Debug)]
pub(crate) struct Link {
    incoming: Incoming,
    output: Output,
    bounds: Bounds,
    keepalive: Option<Timer>,
    /// When the frame that is being received began, as far as that is known.
    frame_began: Instant,
    /// The latest time that we were told.
    now: Instant,
    closed: Option<Closed>,
}

impl Link {
    pub(crate) fn new(now: Instant, bounds: Bounds) -> Self {
        Self {
            incoming: Incoming::default(),
            output: Output::default(),
            bounds,
            keepalive: None,
            frame_began: now,
            now,
            closed: None,
        }
    }

    pub(crate) fn closed(&self) -> Option<Closed> {
        self.closed
    }

    /// Ends the link. The first reason stays.
    pub(crate) fn close(&mut self, reason: Closed) {
        self.closed.get_or_insert(reason);
        self.incoming = Incoming::default();
    }

    /// From now on silence is noticed.
    pub(crate) fn start_keepalive(&mut self, keepalive: Keepalive) {
        if self.keepalive.is_none() {
            self.keepalive = Some(Timer::new(self.now, keepalive));
        }
    }

    pub(crate) fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.now = now;
        if self.closed.is_some() {
            return;
        }
        if self.incoming.is_empty() {
            self.frame_began = now;
        }
        if !self.incoming.extend(bytes) {
            return self.close(Closed::Flooded);
        }
        if self.incoming.has_frame() {
            self.frame_began = now;
            if let Some(timer) = &mut self.keepalive {
                timer.heard(now);
            }
        }
    }

    /// Takes the next frame that is for the session.
    pub(crate) fn next_frame(&mut self) -> Option<(Header, Vec<u8>)> {
        while self.closed.is_none() {
            match self.incoming.next_frame() {
                Ok(Some((header, payload))) => {
                    let ping_pong = header.program == KEEPALIVE && header.kind() == Some(Kind::Event);
                    if !ping_pong {
                        return Some((header, payload));
                    }
                    if header.version == VERSION && header.procedure == PING {
                        self.send(keepalive_header(PONG), &[]);
                    }
                }
                Ok(None) => return None,
                Err(length) => self.close(Closed::BadLength(length)),
            }
        }
        None
    }

    /// Passes by this many bytes that follow the last frame and belong to none: those that carried descriptors.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.incoming.skip(bytes);
    }

    /// Queues a frame. One above the limit is the caller's bug and ends the link, as does one too many.
    pub(crate) fn send(&mut self, header: Header, payload: &[u8]) {
        if self.closed.is_some() {
            return;
        }
        match header.frame(payload) {
            Some(frame) if self.output.len() + frame.len() <= self.bounds.output => self.output.push(frame),
            Some(_) => self.close(Closed::NotReading(self.output.len())),
            None => self.close(Closed::Contradiction("a frame above the limit was to be sent")),
        }
    }

    /// Queues bytes of a stream in frames of the size that stock sends.
    pub(crate) fn send_data(&mut self, header: Header, bytes: &[u8]) {
        for chunk in bytes.chunks(STREAM_CHUNK) {
            self.send(header, chunk);
        }
    }

    /// Bytes that were received and are no frame yet.
    pub(crate) fn received_len(&self) -> usize {
        self.incoming.len()
    }

    pub(crate) fn output(&self) -> &[u8] {
        self.output.front()
    }

    pub(crate) fn output_len(&self) -> usize {
        self.output.len()
    }

    pub(crate) fn output_written(&mut self, bytes: usize) {
        self.output.written(bytes);
    }

    /// When [`Link::handle_timeout`] has something to do. `reading` is whether the session wants bytes.
    pub(crate) fn deadline(&self, reading: bool) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        let silent = self.keepalive.as_ref().map(Timer::deadline);
        silent.into_iter().chain(self.frame_deadline(reading)).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, reading: bool) {
        self.now = now;
        if self.closed.is_some() {
            return;
        }
        if self.frame_deadline(reading).is_some_and(|deadline| deadline <= now) {
            return self.close(Closed::Unfinished);
        }
        let Some(timer) = &mut self.keepalive else { return };
        if !reading {
            // We do not listen, so silence means nothing.
            return timer.heard(now);
        }
        match timer.handle_timeout(now) {
            Verdict::Wait => {}
            Verdict::Ping => self.send(keepalive_header(PING), &[]),
            Verdict::Dead => self.close(Closed::Silent),
        }
    }

    fn frame_deadline(&self, reading: bool) -> Option<Instant> {
        (reading && !self.incoming.is_empty()).then(|| self.frame_began + self.bounds.frame)
    }

    /// Bytes of memory that received bytes occupy before they are frames.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.incoming.held()
    }
}

/// The largest piece of a stream in one frame; what stock sends.
pub(crate) const STREAM_CHUNK: usize = 262_120;
const _: () = assert!(STREAM_CHUNK <= PAYLOAD_MAX);

const PING: i32 = 1;
const PONG: i32 = 2;

/// The header of a keepalive message, which is all of it.
const fn keepalive_header(procedure: i32) -> Header {
    Header {
        program: KEEPALIVE,
        version: VERSION,
        procedure,
        kind: Kind::Event.number(),
        serial: 0,
        status: Status::Ok.number(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { output: 100, frame: Duration::from_secs(60) };

    fn link() -> (Instant, Link) {
        let now = Instant::now();
        (now, Link::new(now, BOUNDS))
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// What is waiting to be written, taken.
    fn written(link: &mut Link) -> Vec<u8> {
        let mut all = Vec::new();
        while !link.output().is_empty() {
            all.extend_from_slice(link.output());
            link.output_written(link.output().len());
        }
        all
    }

    /// A keepalive frame by hand.
    fn keepalive(procedure: u8) -> Vec<u8> {
        let words: [[u8; 4]; 7] =
            [[0, 0, 0, 28], *b"keep", [0, 0, 0, 1], [0, 0, 0, procedure], [0, 0, 0, 2], [0; 4], [0; 4]];
        words.concat()
    }

    #[test]
    fn a_ping_is_answered_without_anyone_noticing() {
        let (now, mut link) = link();
        link.handle_bytes(now, &keepalive(1));
        assert_eq!(link.next_frame(), None);
        assert_eq!(written(&mut link), keepalive(2));
        link.handle_bytes(now, &[keepalive(2), keepalive(7)].concat());
        assert_eq!((link.next_frame(), link.closed()), (None, None));
        assert!(written(&mut link).is_empty(), "neither a pong nor an unknown message is answered");
    }

    #[test]
    fn silence_is_pinged_count_times_and_then_the_end() {
        let (start, mut link) = link();
        assert_eq!(link.deadline(true), None, "nobody is pinged unasked");
        link.start_keepalive(Keepalive { interval: seconds(5), count: 2 });
        for n in 1..=2 {
            assert_eq!(link.deadline(true), Some(start + seconds(5 * n)));
            link.handle_timeout(start + seconds(5 * n), true);
            assert_eq!(written(&mut link), keepalive(1));
        }
        link.handle_timeout(start + seconds(14), true);
        assert_eq!(link.closed(), None);
        link.handle_timeout(start + seconds(15), true);
        assert_eq!(link.closed(), Some(Closed::Silent), "interval x (count + 1)");
        assert_eq!(link.deadline(true), None);
    }

    #[test]
    fn any_frame_is_life_and_half_a_frame_is_not() {
        let (start, mut link) = link();
        link.start_keepalive(Keepalive { interval: seconds(5), count: 0 });
        link.handle_bytes(start + seconds(4), &keepalive(2)[..27]);
        assert_eq!(link.deadline(true), Some(start + seconds(5)));
        link.handle_bytes(start + seconds(4), &keepalive(2)[27..]);
        assert_eq!(link.deadline(true), Some(start + seconds(9)));
    }

    #[test]
    fn silence_means_nothing_while_we_do_not_read() {
        let (start, mut link) = link();
        link.start_keepalive(Keepalive { interval: seconds(5), count: 0 });
        link.handle_timeout(start + seconds(5), false);
        assert_eq!(link.closed(), None);
        link.handle_timeout(start + seconds(10), true);
        assert_eq!(link.closed(), Some(Closed::Silent));
    }

    #[test]
    fn half_a_frame_does_not_stay() {
        let (start, mut link) = link();
        link.handle_bytes(start, &keepalive(1)[..5]);
        assert_eq!(link.next_frame(), None);
        assert_eq!(link.deadline(true), Some(start + seconds(60)));
        link.handle_bytes(start + seconds(59), &[0]);
        assert_eq!(link.deadline(true), Some(start + seconds(60)), "a byte now and then does not help");
        link.handle_timeout(start + seconds(60), true);
        assert_eq!(link.closed(), Some(Closed::Unfinished));
    }

    #[test]
    fn a_peer_that_does_not_read_is_let_go() {
        let (now, mut link) = link();
        for _ in 0..3 {
            link.handle_bytes(now, &keepalive(1));
            assert_eq!((link.next_frame(), link.closed()), (None, None));
        }
        link.handle_bytes(now, &keepalive(1));
        assert_eq!(link.next_frame(), None);
        assert_eq!(link.closed(), Some(Closed::NotReading(84)));
    }
}
