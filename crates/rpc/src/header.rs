//! The 28 bytes in front of every payload, and the limits of a frame.
//!
//! ```text
//! 0 length | 4 program | 8 version | 12 procedure | 16 type | 20 serial | 24 status | 28 payload
//! ```
//!
//! Both sessions use it. It refuses to know what a procedure means.

use ferry_xdr::{Decode, DecodeError, Reader, Writer, xdr_struct};

/// The shortest frame: a header and no payload.
pub const FRAME_MIN: usize = 28;

/// The longest frame in bytes, its length word included: 32 MiB and 4. Longer ones end the connection.
pub const FRAME_MAX: usize = 33_554_436;

/// The longest payload in bytes.
pub const PAYLOAD_MAX: usize = FRAME_MAX - FRAME_MIN;

/// The version of every program.
pub const VERSION: u32 = 1;

/// The keepalive program's number; it is answered below the level of calls.
pub const KEEPALIVE: u32 = 0x6b65_6570;

/// What kind of frame it is. Other numbers exist on the wire and are ignored: see [`Header::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 0: a client asks.
    Call,
    /// 1: the server answers.
    Reply,
    /// 2: the server tells, or either side pings.
    Event,
    /// 3: bytes of a stream.
    Stream,
    /// 4: a call whose descriptors follow the frame.
    CallWithFds,
    /// 5: a reply whose descriptors follow the frame.
    ReplyWithFds,
    /// 6: a hole in a sparse stream.
    StreamHole,
}

impl Kind {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Call => 0,
            Self::Reply => 1,
            Self::Event => 2,
            Self::Stream => 3,
            Self::CallWithFds => 4,
            Self::ReplyWithFds => 5,
            Self::StreamHole => 6,
        }
    }
}

/// What a frame says about itself: `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 0: all is well; in a stream, the end.
    Ok,
    /// 1: the payload is an error; in a stream from a client, an abort.
    Error,
    /// 2: more of the stream.
    Continue,
}

impl Status {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Continue => 2,
        }
    }
}

xdr_struct! {
    /// A frame's header without its length word. Fields keep the numbers that arrived, known or not: a refusal
    /// has to repeat them.
    #[derive(Copy, Eq)]
    pub struct Header {
        /// See [`Program`](crate::procedure::Program) and [`KEEPALIVE`].
        pub program: u32,
        /// 1 for every program.
        pub version: u32,
        /// The procedure's number within its program.
        pub procedure: i32,
        /// The number of the [`Kind`].
        pub kind: i32,
        /// Chosen by the client for a call and repeated by all that belongs to it.
        pub serial: u32,
        /// The number of the [`Status`].
        pub status: i32,
    }
}

impl Header {
    /// What kind of frame it is; `None` for a number that nobody knows.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        match self.kind {
            0 => Some(Kind::Call),
            1 => Some(Kind::Reply),
            2 => Some(Kind::Event),
            3 => Some(Kind::Stream),
            4 => Some(Kind::CallWithFds),
            5 => Some(Kind::ReplyWithFds),
            6 => Some(Kind::StreamHole),
            _ => None,
        }
    }

    /// What the frame says about itself; `None` for a number that nobody knows.
    #[must_use]
    pub const fn status(&self) -> Option<Status> {
        match self.status {
            0 => Some(Status::Ok),
            1 => Some(Status::Error),
            2 => Some(Status::Continue),
            _ => None,
        }
    }

    /// The whole frame, length word included, or `None` when it would exceed [`FRAME_MAX`].
    #[must_use]
    pub fn frame(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let len = FRAME_MIN.checked_add(payload.len()).filter(|len| *len <= FRAME_MAX)?;
        let mut writer = Writer::after(Vec::with_capacity(len));
        writer.u32(u32::try_from(len).ok()?);
        writer.u32(self.program);
        writer.u32(self.version);
        writer.i32(self.procedure);
        writer.i32(self.kind);
        writer.u32(self.serial);
        writer.i32(self.status);
        let mut frame = writer.into_bytes();
        frame.extend_from_slice(payload);
        Some(frame)
    }

    /// Splits a whole frame into header and payload.
    ///
    /// # Errors
    /// When it is shorter than a header.
    pub fn split(frame: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(frame);
        reader.u32()?;
        Ok((Self::decode(&mut reader)?, reader.rest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Header =
        Header { program: 0x2000_8086, version: 1, procedure: 60, kind: 0, serial: 1, status: 0 };

    #[test]
    fn a_call_of_the_protocol_description() {
        // Feature 10 asked by a stock client: procedure 60, serial 1, one word.
        let frame = CALL.frame(&[0, 0, 0, 10]).unwrap();
        let golden = [
            [0, 0, 0, 32],
            [0x20, 0, 0x80, 0x86],
            [0, 0, 0, 1],
            [0, 0, 0, 60],
            [0, 0, 0, 0],
            [0, 0, 0, 1],
            [0, 0, 0, 0],
            [0, 0, 0, 10],
        ];
        assert_eq!(frame, golden.concat());
        assert_eq!(Header::split(&frame).unwrap(), (CALL, [0, 0, 0, 10].as_slice()));
    }

    #[test]
    fn the_largest_frame_is_32_mib_and_its_length_word() {
        assert_eq!(CALL.frame(&vec![0; PAYLOAD_MAX]).map(|frame| frame.len()), Some(FRAME_MAX));
        assert_eq!(CALL.frame(&vec![0; PAYLOAD_MAX + 1]), None);
    }

    #[test]
    fn numbers_and_names_agree() {
        for number in -1..9 {
            let header = Header { kind: number, status: number, ..CALL };
            assert!(header.kind().is_none_or(|kind| kind.number() == number));
            assert!(header.status().is_none_or(|status| status.number() == number));
        }
        assert_eq!((Header { kind: 7, ..CALL }).kind(), None);
        assert_eq!((Header { status: 3, ..CALL }).status(), None);
    }
}
