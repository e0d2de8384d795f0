//! A stream that a call opened: a console, a tunnelled migration, a download.

use ferry_rpc::client::{Serial, StreamEvent};
use tokio::sync::{mpsc, oneshot};

use crate::connection::CallError;
use crate::driver::{Command, Handles, Lost, Opened};

/// Both directions of a stream. Dropping it before [`Stream::finish`] aborts it.
///
/// The halves are fields, so that one task can read and write at once.
#[derive(Debug)]
pub struct Stream {
    /// What the server sends.
    pub reader: StreamReader,
    /// What is sent to the server.
    pub writer: StreamWriter,
}

/// The server's direction.
pub struct StreamReader {
    serial: Serial,
    handles: Handles,
    events: mpsc::UnboundedReceiver<StreamEvent>,
    /// How it ended, once it has.
    ended: Option<Result<(), CallError>>,
}

/// The client's direction.
pub struct StreamWriter {
    serial: Serial,
    handles: Handles,
}

impl Stream {
    pub(crate) fn new(opened: Opened, handles: Handles) -> Self {
        let Opened { serial, events } = opened;
        Self {
            reader: StreamReader { serial, handles: handles.clone(), events, ended: None },
            writer: StreamWriter { serial, handles },
        }
    }

    /// Says that all is sent, or received, and waits for the server's confirmation. Data that still comes is
    /// dropped.
    ///
    /// # Errors
    /// The server's own, when it failed to use what was sent; or the connection was lost.
    pub async fn finish(mut self) -> Result<(), CallError> {
        self.writer.command(Command::StreamFinish(self.writer.serial));
        loop {
            if let Some(ended) = &self.reader.ended {
                return ended.clone();
            }
            self.reader.next().await;
        }
    }

    /// Gives the stream up; the server confirms it by itself.
    pub fn abort(self) {}
}

impl StreamReader {
    /// The next bytes; `None` when the server sends no more, after which the stream is to be finished.
    ///
    /// May be dropped and called again without losing bytes.
    ///
    /// # Errors
    /// The server's own, when it ended the stream with one; or the connection was lost.
    pub async fn read(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        match &self.ended {
            Some(ended) => ended.clone().map(|()| None),
            None => {
                let data = self.next().await;
                match &self.ended {
                    Some(Err(error)) => Err(error.clone()),
                    Some(Ok(())) | None => Ok(data),
                }
            }
        }
    }

    /// One event: bytes, or `None` for an end of one kind or another.
    async fn next(&mut self) -> Option<Vec<u8>> {
        match self.events.recv().await {
            Some(StreamEvent::Data(bytes)) => {
                let _ = self.handles.commands.send(Command::StreamConsumed(self.serial, bytes.len()));
                return Some(bytes);
            }
            Some(StreamEvent::End) => {}
            Some(StreamEvent::Finished) => self.ended = Some(Ok(())),
            Some(StreamEvent::Failed(error)) => self.ended = Some(Err(CallError::Remote(error))),
            None => {
                let lost = self.handles.lost.borrow().clone().unwrap_or(Lost::Closed);
                self.ended = Some(Err(CallError::Lost(lost)));
            }
        }
        None
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.handles.commands.send(Command::StreamAbort(self.serial));
        }
    }
}

impl StreamWriter {
    /// Sends bytes, and waits while the server does not keep up. `false` when the stream takes no more: the
    /// server ended it, and [`Stream::finish`] says why.
    ///
    /// Bytes of a call that is dropped before it returns may or may not be sent.
    ///
    /// # Errors
    /// When the connection was lost.
    pub async fn write(&self, bytes: impl Into<Vec<u8>>) -> Result<bool, CallError> {
        let (sent, done) = oneshot::channel();
        self.command(Command::StreamData { serial: self.serial, bytes: bytes.into(), sent });
        match done.await {
            Ok(writable) => Ok(writable),
            Err(_) => {
                let lost = self.handles.lost.borrow().clone().unwrap_or(Lost::Closed);
                Err(CallError::Lost(lost))
            }
        }
    }

    fn command(&self, command: Command) {
        let _ = self.handles.commands.send(command);
    }
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamWriter").field("serial", &self.serial).finish_non_exhaustive()
    }
}
