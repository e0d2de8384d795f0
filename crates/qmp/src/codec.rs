//! Bytes to lines: QMP sends one JSON object per line, CR LF at its end.
//!
//! Used by [`crate::Session`] only. It refuses to know what is inside a line.

use thiserror::Error;

/// The longest line that is taken from QEMU: 64 MiB. The largest reply in use, `query-qmp-schema`, has a quarter
/// of a MiB; `query-named-block-nodes` of a guest with thousands of snapshots has a few MiB.
pub const LINE_MAX: usize = 64 << 20;

/// QEMU, or whoever sits in its place, sent a line without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("QMP line is longer than {limit} bytes")]
pub struct LineTooLong {
    /// The bound that was crossed, in bytes.
    pub limit: usize,
}

/// Cuts a stream of bytes into lines. The buffer grows with what has arrived, never ahead of it.
#[derive(Debug)]
pub struct LineDecoder {
    limit: usize,
    buffer: Vec<u8>,
    /// Start of the first line that was not handed out yet.
    start: usize,
    /// Everything before this was searched for a line end already.
    searched: usize,
}

impl Default for LineDecoder {
    fn default() -> Self {
        Self::with_limit(LINE_MAX)
    }
}

impl LineDecoder {
    /// A decoder that refuses lines of more than `limit` bytes, their end not counted.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, buffer: Vec::new(), start: 0, searched: 0 }
    }

    /// Takes bytes as they came from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.searched = 0;
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
        }
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is whole, without its end and surrounding blanks; empty lines are passed over.
    ///
    /// # Errors
    /// [`LineTooLong`] when the line at hand is longer than the bound; the stream cannot be used any further.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        loop {
            let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return if self.searched - self.start > self.limit { Err(self.too_long()) } else { Ok(None) };
            };
            let (start, end) = (self.start, self.searched + found);
            if end - start > self.limit {
                return Err(self.too_long());
            }
            self.start = end + 1;
            self.searched = end + 1;
            if !self.buffer[start..end].trim_ascii().is_empty() {
                return Ok(Some(self.buffer[start..end].trim_ascii()));
            }
        }
    }

    fn too_long(&self) -> LineTooLong {
        LineTooLong { limit: self.limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(decoder: &mut LineDecoder) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while let Some(line) = decoder.next_line().unwrap() {
            lines.push(line.to_vec());
        }
        lines
    }

    #[test]
    fn both_line_ends_and_blank_lines() {
        let mut decoder = LineDecoder::default();
        decoder.push(b"{}\r\n\n  \r\n{\"a\":1}\n{\"b\"");
        assert_eq!(lines(&mut decoder), [b"{}".to_vec(), b"{\"a\":1}".to_vec()]);
        decoder.push(b":2}\r\n");
        assert_eq!(lines(&mut decoder), [b"{\"b\":2}".to_vec()]);
    }

    #[test]
    fn a_line_at_the_bound_passes_and_one_beyond_does_not() {
        let mut decoder = LineDecoder::with_limit(8);
        decoder.push(b"12345678\n123456789\n");
        assert_eq!(decoder.next_line().unwrap(), Some(b"12345678".as_slice()));
        assert_eq!(decoder.next_line(), Err(LineTooLong { limit: 8 }));
    }

    #[test]
    fn a_line_without_end_is_refused_before_its_end_is_seen() {
        let mut decoder = LineDecoder::with_limit(8);
        decoder.push(b"12345678");
        assert_eq!(decoder.next_line(), Ok(None));
        decoder.push(b"9");
        assert_eq!(decoder.next_line(), Err(LineTooLong { limit: 8 }));
    }

    #[test]
    fn the_buffer_is_reused_once_it_was_emptied() {
        let mut decoder = LineDecoder::with_limit(1024);
        for _ in 0..10_000 {
            decoder.push(b"0123456789\n");
            assert_eq!(lines(&mut decoder).len(), 1);
        }
        assert!(decoder.buffer.capacity() < 4096, "{}", decoder.buffer.capacity());
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_makes_no_difference(
            texts in prop::collection::vec("[a-z{}]{1,20}", 0..20),
            cuts in prop::collection::vec(1usize..7, 1..50),
        ) {
            let stream = texts.iter().map(|text| format!("{text}\r\n")).collect::<String>().into_bytes();
            let (mut decoder, mut seen, mut rest, mut cuts) = (LineDecoder::default(), vec![], &stream[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                decoder.push(now);
                seen.extend(lines(&mut decoder));
                rest = later;
            }
            prop_assert_eq!(seen, texts.into_iter().map(String::into_bytes).collect::<Vec<_>>());
        }
    }
}
