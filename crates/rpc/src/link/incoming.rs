//! Cuts received bytes into frames.
//!
//! Memory grows with what has arrived, never with what a length word announces, and a length word out of its
//! range is refused as soon as it is there.

use crate::header::{FRAME_MAX, FRAME_MIN, Header};

/// Capacity that an empty buffer may keep.
const KEPT: usize = 64 * 1024;

/// What may be held: one whole frame, and as much again that a read brought along.
const HELD_MAX: usize = 2 * FRAME_MAX;

/// Received bytes that are not frames yet.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that have been taken.
    taken: usize,
    /// Bytes to pass by before the next frame begins.
    skip: usize,
}

impl Incoming {
    /// Appends bytes; `false` when nobody takes the frames out and too much piles up.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> bool {
        if self.left().len() + bytes.len() > HELD_MAX {
            return false;
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
        self.pass_by();
        true
    }

    /// Bytes that have not been taken.
    pub(crate) fn len(&self) -> usize {
        self.left().len()
    }

    /// Whether every byte has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.left().is_empty()
    }

    /// Whether a whole frame waits.
    pub(crate) fn has_frame(&self) -> bool {
        matches!(self.frame_len(), Ok(Some(len)) if len <= self.left().len())
    }

    /// Takes the next whole frame. The error is a length word out of its range.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(Header, Vec<u8>)>, u32> {
        let Some(frame) = self.frame_len()?.and_then(|len| self.left().get(..len)) else { return Ok(None) };
        // The length is that of a header at least, so the split cannot fail.
        let Ok((header, payload)) = Header::split(frame) else { return Ok(None) };
        let (payload, len) = (payload.to_vec(), frame.len());
        self.taken += len;
        if self.is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT);
            self.taken = 0;
        }
        Ok(Some((header, payload)))
    }

    /// Passes by `bytes` bytes that are, or will be, next.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.skip += bytes;
        self.pass_by();
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    fn pass_by(&mut self) {
        let passed = self.skip.min(self.left().len());
        self.taken += passed;
        self.skip -= passed;
    }

    fn left(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// The length of the frame at the front, once its word is there.
    fn frame_len(&self) -> Result<Option<usize>, u32> {
        let Some(word) = self.left().first_chunk::<4>() else { return Ok(None) };
        let word = u32::from_be_bytes(*word);
        let len = usize::try_from(word).map_err(|_| word)?;
        if (FRAME_MIN..=FRAME_MAX).contains(&len) { Ok(Some(len)) } else { Err(word) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(serial: u32, payload: &[u8]) -> Vec<u8> {
        header(serial).frame(payload).unwrap()
    }

    fn header(serial: u32) -> Header {
        Header { program: 1, version: 1, procedure: 1, kind: 0, serial, status: 0 }
    }

    #[test]
    fn a_length_out_of_range_is_refused_as_soon_as_it_is_there() {
        for bad in [0, 27, 33_554_437, u32::MAX] {
            let mut incoming = Incoming::default();
            incoming.extend(&bad.to_be_bytes()[..3]);
            assert_eq!(incoming.next_frame(), Ok(None));
            incoming.extend(&bad.to_be_bytes()[3..]);
            assert_eq!(incoming.next_frame(), Err(bad));
        }
    }

    #[test]
    fn an_announced_frame_reserves_nothing() {
        let mut incoming = Incoming::default();
        incoming.extend(&33_554_436_u32.to_be_bytes());
        assert_eq!(incoming.next_frame(), Ok(None));
        assert!(incoming.held() < 1024);
    }

    #[test]
    fn the_largest_frame_passes_and_its_memory_goes() {
        let mut incoming = Incoming::default();
        for chunk in frame(1, &vec![7; FRAME_MAX - FRAME_MIN]).chunks(1 << 20) {
            assert!(incoming.extend(chunk));
        }
        let (_, payload) = incoming.next_frame().unwrap().unwrap();
        assert_eq!(payload.len(), FRAME_MAX - FRAME_MIN);
        drop(payload);
        assert!(incoming.held() <= KEPT);
    }

    #[test]
    fn what_nobody_takes_does_not_pile_up() {
        let mut incoming = Incoming::default();
        let megabyte = frame(1, &vec![0; (1 << 20) - FRAME_MIN]);
        let accepted = (0..100).take_while(|_| incoming.extend(&megabyte)).count();
        assert_eq!(accepted, 64);
    }

    #[test]
    fn skipped_bytes_may_come_before_or_after_the_word() {
        let mut incoming = Incoming::default();
        incoming.extend(&[frame(1, &[]), vec![0, 0]].concat());
        assert!(incoming.next_frame().unwrap().is_some());
        incoming.skip(3);
        incoming.extend(&[vec![0], frame(2, b"abcd")].concat());
        assert_eq!(incoming.next_frame(), Ok(Some((header(2), b"abcd".to_vec()))));
    }

    proptest! {
        #[test]
        fn frames_come_out_however_the_bytes_are_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..8),
            cuts in proptest::collection::vec(1_usize..60, 1..8),
        ) {
            let bytes: Vec<u8> = payloads.iter().zip(0..).flat_map(|(payload, serial)| frame(serial, payload)).collect();
            let (mut incoming, mut seen, mut left) = (Incoming::default(), Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                let (now, later) = left.split_at((*cut).min(left.len()));
                prop_assert!(incoming.extend(now));
                while let Some((_, payload)) = incoming.next_frame().unwrap() {
                    seen.push(payload);
                }
                left = later;
                if left.is_empty() { break }
            }
            prop_assert_eq!(seen, payloads);
            prop_assert!(incoming.is_empty());
        }
    }
}
