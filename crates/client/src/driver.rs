//! The task that owns the socket and the session.
//!
//! [`Connection`](crate::Connection) and its streams send it commands; it answers each call on a channel of the
//! call's own. It ends when the last handle is dropped, when the connection is lost, or on request; then every
//! call that waits learns why.

use std::collections::{HashMap, VecDeque};
use std::io;

use ferry_rpc::client::{Closed, Event, Keepalive, Received, Serial, Session, StreamEvent};
use ferry_rpc::{Error, ErrorCode, Origin, Procedure};
use ferry_xdr::EncodeError;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::connection::CallError;
use crate::dial::{Reader, Writer, reason};

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Lost {
    /// The other side closed it.
    #[error("End of file while reading data: Input/output error")]
    Eof,
    /// The system reported an error.
    #[error("Cannot recv data: {0}")]
    Io(String),
    /// The other side was silent for too long.
    #[error("internal error: connection closed due to keepalive timeout")]
    Silent,
    /// The other side broke a rule of the wire.
    #[error("{0}")]
    Wire(Closed),
    /// This side closed it.
    #[error("internal error: client socket is closed")]
    Closed,
}

impl Lost {
    /// The error as a client of the wire would see it: code 38 or 1 with origin 7, as stock's client reports.
    #[must_use]
    pub fn to_wire(&self) -> Error {
        let code = match self {
            Self::Eof | Self::Io(_) => ErrorCode::SYSTEM_ERROR,
            Self::Silent | Self::Closed => ErrorCode::INTERNAL_ERROR,
            Self::Wire(_) => ErrorCode::RPC,
        };
        Error::new(code, Origin::RPC, self.to_string())
    }
}

/// Where the answer to a call goes: the encoded result and, when it opened one, the stream.
pub(crate) type Answer = oneshot::Sender<Result<(Vec<u8>, Option<Opened>), CallError>>;

/// A stream that a call opened.
pub(crate) struct Opened {
    pub(crate) serial: Serial,
    pub(crate) events: mpsc::UnboundedReceiver<StreamEvent>,
}

/// What handles ask of the task.
pub(crate) enum Command {
    Call { procedure: Procedure, payload: Vec<u8>, answer: Answer },
    StreamData { serial: Serial, bytes: Vec<u8>, sent: oneshot::Sender<bool> },
    StreamFinish(Serial),
    StreamAbort(Serial),
    StreamConsumed(Serial, usize),
    StartKeepalive(Keepalive),
    Close,
}

/// What the task shares with its handles.
#[derive(Clone)]
pub(crate) struct Handles {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) messages: broadcast::Sender<Received>,
    pub(crate) lost: watch::Receiver<Option<Lost>>,
}

/// Messages that may wait for a subscriber before it misses some.
const MESSAGES_KEPT: usize = 1024;

/// No message is this long; a server that sends one means harm.
const MESSAGE_MAX: usize = 1 << 20;

/// Stream bytes that may wait to be written before who sends them waits, too.
const OUTPUT_HIGH: usize = 1 << 20;

/// What one read takes at most.
const READ_SIZE: usize = 256 * 1024;

/// Starts the task.
pub(crate) fn start(reader: Reader, writer: Writer, session: Session) -> Handles {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (messages, _) = broadcast::channel(MESSAGES_KEPT);
    let (lost_sender, lost) = watch::channel(None);
    let driver = Driver {
        session,
        commands: receiver,
        messages: messages.clone(),
        answers: HashMap::new(),
        streams: HashMap::new(),
        held: VecDeque::new(),
        ended: None,
    };
    tokio::spawn(async move {
        let why = driver.run(reader, writer).await;
        tracing::debug!(reason = %why, "connection ended");
        lost_sender.send_replace(Some(why));
    });
    Handles { commands, messages, lost }
}

struct Driver {
    session: Session,
    commands: mpsc::UnboundedReceiver<Command>,
    messages: broadcast::Sender<Received>,
    answers: HashMap<Serial, (Procedure, Answer)>,
    streams: HashMap<Serial, mpsc::UnboundedSender<StreamEvent>>,
    /// Stream bytes that wait for the output to drain.
    held: VecDeque<(Serial, Vec<u8>, oneshot::Sender<bool>)>,
    ended: Option<Lost>,
}

impl Driver {
    async fn run(mut self, mut reader: Reader, mut writer: Writer) -> Lost {
        let mut buffer = vec![0; READ_SIZE];
        let why = loop {
            self.handle_events();
            self.release_held();
            if let Some(why) = self.ended.take() {
                break why;
            }
            let deadline = self.session.deadline().map(Instant::from_std);
            tokio::select! {
                read = reader.read(&mut buffer), if self.session.wants_read() => match read {
                    Ok(0) => break Lost::Eof,
                    Ok(len) => self.session.handle_bytes(now(), buffer.get(..len).unwrap_or_default()),
                    Err(error) => break lost(&error),
                },
                write = writer.write(self.session.output()), if !self.session.output().is_empty() => match write {
                    Ok(0) => break Lost::Eof,
                    Ok(len) => self.session.output_written(len),
                    Err(error) => break lost(&error),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => break Lost::Closed,
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.session.handle_timeout(now());
                }
            }
        };
        let _ = writer.shutdown().await;
        self.fail_all(&why);
        why
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Reply(serial, result) => self.handle_reply(serial, result),
                Event::Message(message) if message.payload.len() > MESSAGE_MAX => {
                    self.ended = Some(Lost::Wire(Closed::Flooded));
                }
                // Nobody listens: nobody misses it.
                Event::Message(message) => drop(self.messages.send(message)),
                Event::Stream(serial, event) => self.handle_stream(serial, event),
                Event::Closed(Closed::Silent) => self.ended = Some(Lost::Silent),
                Event::Closed(why) => self.ended = Some(Lost::Wire(why)),
            }
        }
    }

    fn handle_reply(&mut self, serial: Serial, result: Result<Vec<u8>, Error>) {
        let Some((procedure, answer)) = self.answers.remove(&serial) else { return };
        let opens = procedure.stream() != ferry_rpc::procedure::Stream::None;
        let result = result.map_err(CallError::Remote).map(|payload| {
            let opened = opens.then(|| {
                let (sender, events) = mpsc::unbounded_channel();
                self.streams.insert(serial, sender);
                Opened { serial, events }
            });
            (payload, opened)
        });
        if answer.send(result).is_err() && opens {
            // The caller is gone, and with it the only one who could end the stream.
            self.abort_stream(serial);
        }
    }

    fn handle_stream(&mut self, serial: Serial, event: StreamEvent) {
        let last = matches!(event, StreamEvent::Finished | StreamEvent::Failed(_));
        let delivered = self.streams.get(&serial).is_some_and(|stream| stream.send(event).is_ok());
        if last {
            self.streams.remove(&serial);
        } else if !delivered {
            self.abort_stream(serial);
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Call { procedure, payload, answer } => {
                match self.session.call_encoded(procedure, &payload) {
                    Ok(serial) => drop(self.answers.insert(serial, (procedure, answer))),
                    Err(error) => drop(answer.send(Err(CallError::Encode(error)))),
                }
            }
            Command::StreamData { serial, bytes, sent } => self.held.push_back((serial, bytes, sent)),
            Command::StreamFinish(serial) => self.session.stream_finish(serial),
            Command::StreamAbort(serial) => self.abort_stream(serial),
            Command::StreamConsumed(serial, bytes) => self.session.stream_consumed(serial, bytes),
            Command::StartKeepalive(keepalive) => self.session.start_keepalive(keepalive),
            Command::Close => self.ended = Some(Lost::Closed),
        }
    }

    fn abort_stream(&mut self, serial: Serial) {
        self.streams.remove(&serial);
        self.session.stream_abort(serial);
    }

    /// Passes stream bytes on while the other side keeps up. Who sent them waits until then.
    fn release_held(&mut self) {
        while self.session.output_len() < OUTPUT_HIGH {
            let Some((serial, bytes, sent)) = self.held.pop_front() else { return };
            let writable = self.session.stream_writable(serial);
            self.session.stream_data(serial, &bytes);
            // Who does not wait for this does not want to know.
            let _ = sent.send(writable);
        }
    }

    fn fail_all(&mut self, why: &Lost) {
        for (_, (_, answer)) in self.answers.drain() {
            let _ = answer.send(Err(CallError::Lost(why.clone())));
        }
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Call { answer, .. } = command {
                let _ = answer.send(Err(CallError::Lost(why.clone())));
            }
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn lost(error: &io::Error) -> Lost {
    Lost::Io(reason(error))
}

impl From<EncodeError> for CallError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}
