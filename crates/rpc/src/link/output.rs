//! Bytes that wait to be written, in order.

use std::collections::VecDeque;

/// Small frames are joined up to this size, so that one write takes many.
const JOINED: usize = 64 * 1024;

/// Frames to write.
#[derive(Debug, Default)]
pub(crate) struct Output {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes at the front that have been written.
    written: usize,
    len: usize,
}

impl Output {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, frame: Vec<u8>) {
        self.len += frame.len();
        match self.chunks.back_mut() {
            Some(last) if last.len() + frame.len() <= JOINED => last.extend_from_slice(&frame),
            _ => self.chunks.push_back(frame),
        }
    }

    /// The bytes to write next; none when nothing waits.
    pub(crate) fn front(&self) -> &[u8] {
        self.chunks.front().and_then(|chunk| chunk.get(self.written..)).unwrap_or_default()
    }

    /// The first `bytes` of [`Output::front`] have been written.
    pub(crate) fn written(&mut self, bytes: usize) {
        let bytes = bytes.min(self.front().len());
        self.written += bytes;
        self.len -= bytes;
        if self.front().is_empty() {
            self.chunks.pop_front();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_however_little_is_written() {
        let mut output = Output::default();
        output.push(vec![1, 2, 3]);
        output.written(2);
        output.push(vec![4]);
        output.push(vec![5; JOINED]);
        assert_eq!((output.front(), output.len()), ([3, 4].as_slice(), 2 + JOINED));
        output.written(99);
        assert_eq!(output.front().len(), JOINED);
        output.written(JOINED);
        assert_eq!((output.front(), output.len()), ([].as_slice(), 0));
        output.written(1);
        assert_eq!(output.len(), 0);
    }
}
