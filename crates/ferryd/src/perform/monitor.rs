//! The connection to one QEMU's monitor: a pure QMP session with a socket and a deadline around it.
//!
//! A task owns the socket; [`Monitor`] is the handle through which the domain's driver asks. Events arrive on a
//! channel of their own, so that a driver that waits for an answer misses none. It knows no domain, and does
//! not judge what QEMU says.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ferry_qmp::{
    Command, CommandError, EncodeError, Event, Incoming, Output, Reply, Request, RequestId, Session,
    SessionError,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// How long QEMU may take over one command. Its main loop can be held up by slow storage, not by less.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// How long a QEMU that was just started may take to greet.
const GREETING_DEADLINE: Duration = Duration::from_secs(30);

/// Events that may wait for the driver. A healthy QEMU sends a handful a second.
const EVENT_BACKLOG: usize = 16_384;

/// Why a command got no answer that can be used.
#[derive(Debug, Error)]
pub(crate) enum MonitorError {
    /// QEMU answered with an error, or with something else than the command's reply.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Our own arguments have no JSON form.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The connection ended: QEMU exited, or did not keep to the protocol.
    #[error("the QEMU monitor is closed")]
    Closed,
    /// QEMU did not answer in time.
    #[error("QEMU did not answer {command} within {} s", COMMAND_DEADLINE.as_secs())]
    Deadline {
        /// The command's name.
        command: String,
    },
}

/// Why a monitor could not be connected.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect to the QEMU monitor")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("QEMU closed its monitor before it greeted")]
    Closed,
    #[error("QEMU did not greet within {} s", GREETING_DEADLINE.as_secs())]
    Deadline,
}

impl MonitorError {
    /// QEMU's own words, when it refused.
    pub(crate) fn refusal(&self) -> Option<&str> {
        match self {
            MonitorError::Command(error) => error.refusal().map(|refusal| refusal.desc.as_str()),
            MonitorError::Encode(_) | MonitorError::Closed | MonitorError::Deadline { .. } => None,
        }
    }
}

struct Ask {
    request: Request,
    /// A descriptor that QEMU is to get with it.
    fd: Option<OwnedFd>,
    answer: oneshot::Sender<Reply>,
}

/// Asks one QEMU. Clones share the connection, which ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    asks: mpsc::UnboundedSender<Ask>,
}

impl Monitor {
    /// Connects to the socket at `path` and negotiates. The receiver yields QEMU's events and ends with the
    /// connection.
    pub(crate) async fn connect(
        path: &Path,
        generation: u64,
    ) -> Result<(Monitor, mpsc::Receiver<Event>), ConnectError> {
        Monitor::over(UnixStream::connect(path).await?, generation).await
    }

    /// Negotiates on a connection that stands already.
    pub(crate) async fn over(
        mut stream: UnixStream,
        generation: u64,
    ) -> Result<(Monitor, mpsc::Receiver<Event>), ConnectError> {
        let mut session = Session::new(generation);
        let greeted = tokio::time::timeout(GREETING_DEADLINE, greet(&mut stream, &mut session)).await;
        let early = greeted.map_err(|_| ConnectError::Deadline)??;
        let (asks, inbox) = mpsc::unbounded_channel();
        let (events, outbox) = mpsc::channel(EVENT_BACKLOG);
        for event in early {
            // The channel is empty and large: the few events of a start always fit.
            let _ = events.try_send(event);
        }
        let (reader, writer) = stream.into_split();
        let (asked, fds) = (HashMap::new(), HashMap::new());
        tokio::spawn(Connection { session, writer, inbox, events, asked, fds }.run(reader));
        Ok((Monitor { asks }, outbox))
    }

    /// Sends one command and waits for its reply.
    pub(crate) async fn execute<C: Command>(&self, command: &C) -> Result<C::Reply, MonitorError> {
        Ok(self.ask(Request::new(command)?).await?.decode::<C>()?)
    }

    /// Sends one command and a descriptor with it, and waits for the reply. Ours is closed.
    pub(crate) async fn execute_with_fd<C: Command>(
        &self,
        command: &C,
        fd: OwnedFd,
    ) -> Result<C::Reply, MonitorError> {
        Ok(self.put(Request::new(command)?, Some(fd)).await?.decode::<C>()?)
    }

    /// Sends a command that is known at run time only; the reply may be a refusal.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, MonitorError> {
        self.put(request, None).await
    }

    async fn put(&self, request: Request, fd: Option<OwnedFd>) -> Result<Reply, MonitorError> {
        let command = request.name().to_owned();
        let (answer, reply) = oneshot::channel();
        self.asks.send(Ask { request, fd, answer }).map_err(|_| MonitorError::Closed)?;
        match tokio::time::timeout(COMMAND_DEADLINE, reply).await {
            Err(_) => Err(MonitorError::Deadline { command }),
            Ok(Err(_)) => Err(MonitorError::Closed),
            Ok(Ok(reply)) => Ok(reply),
        }
    }
}

async fn greet(stream: &mut UnixStream, session: &mut Session) -> Result<Vec<Event>, ConnectError> {
    let mut early = Vec::new();
    let mut buffer = vec![0; 4096];
    loop {
        while let Some(output) = session.poll_output() {
            stream.write_all(&output.bytes).await?;
        }
        while let Some(incoming) = session.poll_event() {
            match incoming {
                Incoming::Ready(_) => return Ok(early),
                Incoming::Event(event) => early.push(event),
                Incoming::Reply(_) => {}
            }
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(ConnectError::Closed),
            read => session.handle_bytes(&buffer[..read])?,
        }
    }
}

/// Sends a descriptor with the first of `bytes`; gives how many of them went along.
async fn send_with_fd(stream: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    loop {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [fd];
            control.push(SendAncillaryMessage::ScmRights(&fds));
            let parts = [IoSlice::new(bytes)];
            Ok(sendmsg(stream, &parts, &mut control, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent,
        }
    }
}

struct Connection {
    session: Session,
    writer: OwnedWriteHalf,
    inbox: mpsc::UnboundedReceiver<Ask>,
    events: mpsc::Sender<Event>,
    asked: HashMap<RequestId, oneshot::Sender<Reply>>,
    /// Descriptors of requests that wait to be sent.
    fds: HashMap<RequestId, OwnedFd>,
}

impl Connection {
    /// Runs until QEMU or the last handle is gone. Dropping `asked` and `events` tells those who wait.
    async fn run(mut self, mut reader: OwnedReadHalf) {
        let mut buffer = vec![0; 65_536];
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(read) => {
                        let understood = self.session.handle_bytes(&buffer[..read]);
                        if !self.deliver() {
                            return;
                        }
                        if let Err(error) = understood {
                            tracing::error!(%error, "QEMU broke the monitor protocol");
                            return;
                        }
                    }
                },
                ask = self.inbox.recv() => match ask {
                    None => return,
                    Some(Ask { request, fd, answer }) => {
                        let id = self.session.submit(request);
                        self.asked.insert(id, answer);
                        self.fds.extend(fd.map(|fd| (id, fd)));
                    }
                },
            }
            while let Some(output) = self.session.poll_output() {
                if self.send(output).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn send(&mut self, output: Output) -> io::Result<()> {
        let sent = match output.id.and_then(|id| self.fds.remove(&id)) {
            Some(fd) => send_with_fd(self.writer.as_ref(), &output.bytes, fd.as_fd()).await?,
            None => 0,
        };
        self.writer.write_all(&output.bytes[sent..]).await
    }

    /// Hands out what the session understood; false when the driver has fallen hopelessly behind.
    fn deliver(&mut self) -> bool {
        while let Some(incoming) = self.session.poll_event() {
            match incoming {
                Incoming::Ready(_) => {}
                Incoming::Reply(reply) => {
                    if let Some(answer) = self.asked.remove(&reply.id) {
                        // The asker may have given up on its deadline.
                        let _ = answer.send(reply);
                    }
                }
                Incoming::Event(event) => {
                    if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
                        tracing::error!("QEMU floods its monitor with events");
                        return false;
                    }
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    use ferry_qmp::commands::fd::Getfd;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    /// Reads a line as QEMU does; gives the descriptors that came with it.
    fn line(stream: &std::os::unix::net::UnixStream) -> (String, Vec<OwnedFd>) {
        let (mut bytes, mut fds) = (Vec::new(), Vec::new());
        while !bytes.ends_with(b"\n") {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut buffer = [0; 4096];
            let mut parts = [io::IoSliceMut::new(&mut buffer)];
            let got = recvmsg(stream, &mut parts, &mut control, RecvFlags::empty()).unwrap();
            assert!(got.bytes > 0, "the connection ended");
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
            bytes.extend_from_slice(&buffer[..got.bytes]);
        }
        (String::from_utf8(bytes).unwrap(), fds)
    }

    #[tokio::test]
    async fn a_descriptor_travels_with_its_own_command() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let qemu = std::thread::spawn(move || {
            let mut stream = theirs;
            stream.write_all(b"{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":0,\"major\":10}},\"capabilities\":[]}}\n").unwrap();
            assert!(line(&stream).0.contains("qmp_capabilities"));
            stream.write_all(b"{\"return\":{}}\n").unwrap();
            let (command, fds) = line(&stream);
            assert!(command.contains("getfd"), "{command}");
            stream.write_all(b"{\"return\":{},\"id\":\"3-1\"}\n").unwrap();
            let mut text = String::new();
            std::fs::File::from(fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
            text
        });
        ours.set_nonblocking(true).unwrap();
        let (monitor, _events) = Monitor::over(UnixStream::from_std(ours).unwrap(), 3).await.unwrap();
        let (read, write) = io::pipe().unwrap();
        monitor.execute_with_fd(&Getfd { fdname: "net0".to_owned() }, read.into()).await.unwrap();
        (&write).write_all(b"over here").unwrap();
        drop(write);
        assert_eq!(qemu.join().unwrap(), "over here");
    }
}
