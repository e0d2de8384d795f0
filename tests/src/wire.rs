//! The wire by hand: calls and frames as a test writes them, right or wrong, on a connection of its own.
//!
//! It blocks, asks for no keepalive and sends nothing that it was not told to send.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use ferry_rpc::error::Error;
use ferry_rpc::flags::OpenFlags;
use ferry_rpc::header::{FRAME_MIN, Header, Kind, Status, VERSION};
use ferry_rpc::procedure::Procedure;
use ferry_rpc::proto::{Arguments, AuthList, ConnectOpen, Message};
use ferry_testkit::ferryd::Ferryd;
use ferry_testkit::{Error as TestError, Result};

use crate::SOON;

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The encoded result.
    Reply(Vec<u8>),
    /// Code and origin.
    Refused(i32, i32),
    /// The daemon ended the connection.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: UnixStream,
    serial: u32,
    messages: VecDeque<(Header, Vec<u8>)>,
}

impl Wire {
    /// A connection on which nothing was said yet.
    ///
    /// # Errors
    /// [`TestError::Io`].
    pub fn connect(daemon: &Ferryd) -> Result<Self> {
        Self::connect_to(&daemon.host().seen(daemon.socket()))
    }

    /// As [`connect`](Self::connect), to the socket at `path` as this process sees it.
    ///
    /// # Errors
    /// [`TestError::Io`].
    pub fn connect_to(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).map_err(TestError::io(format!("{path:?}")))?;
        let limited = stream.set_read_timeout(Some(SOON)).and(stream.set_write_timeout(Some(SOON)));
        limited.map_err(TestError::io("a time limit"))?;
        Ok(Self { stream, serial: 0, messages: VecDeque::new() })
    }

    /// A connection that is open, as a stock client opens it.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub fn open(daemon: &Ferryd) -> Self {
        let mut wire = Self::connect(daemon).expect("a connection");
        wire.greet();
        wire
    }

    /// Opens a fresh connection.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub fn greet(&mut self) {
        self.ask(&AuthList {}).expect("what authentication there is");
        let open = ConnectOpen { name: Some("qemu:///system".to_owned()), flags: OpenFlags::NONE };
        self.ask(&open).expect("an open connection");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the daemon has closed, or does not read for long.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A call's header, with the next serial.
    pub fn header(&mut self, procedure: Procedure) -> Header {
        self.serial += 1;
        Header {
            program: procedure.program().number(),
            version: VERSION,
            procedure: procedure.number(),
            kind: Kind::Call.number(),
            serial: self.serial,
            status: Status::Ok.number(),
        }
    }

    /// Sends a frame and waits for what answers it.
    ///
    /// # Panics
    /// When nothing comes in time, or the answer makes no sense.
    pub fn exchange(&mut self, header: Header, payload: &[u8]) -> Answer {
        let frame = header.frame(payload).expect("a frame within its limit");
        // A daemon that closes in the middle of it has answered.
        match self.write(&frame) {
            Ok(()) => self.answer(header.serial),
            Err(_) => Answer::Closed,
        }
    }

    /// Calls a procedure with arguments as they are.
    ///
    /// # Panics
    /// As [`exchange`](Self::exchange).
    pub fn call(&mut self, procedure: Procedure, payload: &[u8]) -> Answer {
        let header = self.header(procedure);
        self.exchange(header, payload)
    }

    /// Calls a procedure as it should be.
    ///
    /// # Errors
    /// The daemon's refusal.
    ///
    /// # Panics
    /// When nothing comes in time, the connection is lost, or the answer makes no sense.
    pub fn ask<T: Arguments>(&mut self, arguments: &T) -> std::result::Result<T::Reply, Error> {
        let payload = ferry_xdr::to_bytes(arguments).expect("arguments within their bounds");
        let header = self.header(T::PROCEDURE);
        self.write(&header.frame(&payload).expect("a frame within its limit")).expect("a living connection");
        let (header, payload) = self.reply(header.serial).expect("an answer");
        if header.status() == Some(Status::Error) {
            return Err(ferry_xdr::from_bytes(&payload).expect("an error"));
        }
        Ok(ferry_xdr::from_bytes(&payload).expect("a result"))
    }

    /// The answer to the call with this serial.
    ///
    /// # Panics
    /// When nothing comes in time, or the answer makes no sense.
    pub fn answer(&mut self, serial: u32) -> Answer {
        match self.reply(serial) {
            None => Answer::Closed,
            Some((header, payload)) => match header.status() {
                Some(Status::Error) => {
                    let error: Error = ferry_xdr::from_bytes(&payload).expect("an error");
                    Answer::Refused(error.code.0, error.origin.0)
                }
                _ => Answer::Reply(payload),
            },
        }
    }

    /// The next message of this kind; others stay.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn message<T: Message>(&mut self) -> T {
        loop {
            let wanted = (T::PROCEDURE.program().number(), T::PROCEDURE.number());
            let at =
                self.messages.iter().position(|(header, _)| (header.program, header.procedure) == wanted);
            if let Some((_, payload)) = at.and_then(|at| self.messages.remove(at)) {
                return ferry_xdr::from_bytes(&payload).expect("a message");
            }
            let frame = self.frame().expect("a message");
            self.messages.push_back(frame);
        }
    }

    /// Whether the daemon ends the connection within the time that it has for an answer; what it sends before is passed by.
    pub fn is_closed_soon(&mut self) -> bool {
        let mut bytes = [0; 65536];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// The reply with this serial; `None` when the connection has ended.
    fn reply(&mut self, serial: u32) -> Option<(Header, Vec<u8>)> {
        loop {
            let (header, payload) = self.frame()?;
            match header.kind() {
                Some(Kind::Reply) if header.serial == serial => return Some((header, payload)),
                Some(Kind::Reply) => {}
                _ => self.messages.push_back((header, payload)),
            }
        }
    }

    fn frame(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut word = [0; 4];
        self.read(&mut word)?;
        let len = u32::from_be_bytes(word) as usize;
        let mut frame = word.to_vec();
        frame.resize(len.max(FRAME_MIN), 0);
        self.read(&mut frame[4..])?;
        let (header, payload) = Header::split(&frame).expect("a whole frame");
        Some((header, payload.to_vec()))
    }

    /// Fills `bytes`; `None` when the connection has ended.
    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) => {
                use io::ErrorKind as Kind;
                let ended =
                    matches!(error.kind(), Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe);
                assert!(ended, "no answer within {SOON:?}: {error}");
                None
            }
        }
    }
}
