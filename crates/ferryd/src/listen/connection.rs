//! One connection: a task around a pure session, from accept to the last release.
//!
//! ```text
//!   socket ──bytes──▶ Session ──Call──▶ a task of its own ──▶ dispatch
//!   socket ◀──bytes── Session ◀─Answer────────┘    events ──▶ Session    streams ◀──▶ Session
//! ```
//!
//! Every call runs as a task of its own, so one that takes minutes holds up nobody, and pings are answered
//! meanwhile. Only opening and closing are done here, in the order in which they came, because the [`Gate`]
//! depends on them. The task waits for nothing but its socket, its queues and its deadline; whoever does not
//! read what it is sent is let go by the session's bound.
//!
//! When the connection ends, for whatever reason, everything that hangs on it is released: event
//! registrations, streams, and what drivers hold for the [`Client`]. Calls under way are carried out all the
//! same; their answers go nowhere.

mod client;
mod outbound;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::procedure::Procedure;
use ferry_rpc::proto::ConnectOpen;
use ferry_rpc::server::gate::Gate;
use ferry_rpc::server::{self, Call, Event, Keepalive, Session, StreamEvent, StreamId};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::dispatch::{self, Context};
use crate::host::Host;
use crate::listen::Place;

pub(crate) use client::Client;
pub(crate) use outbound::{Answer, Encoded, Outbound, Pump, Received, Stream};

#[cfg(test)]
pub(crate) use outbound::far;

use client::Presence;
use outbound::{CHUNKS_MAX, Debt, Order, Piece};

/// Bytes that one read takes. Calls are small; thousands of idle connections each hold this much.
const READ_SIZE: usize = 16 * 1024;

/// With this much waiting to be written, streams wait.
const STREAM_OUTPUT_MAX: usize = 1 << 20;

/// How long a client that has closed may take to read its last answers.
const FAREWELL: Duration = Duration::from_secs(10);

/// Serves one connection until its end. `place` is held as long.
pub(crate) fn serve<R, W>(host: Arc<Host>, reader: R, writer: W, read_only: bool, place: Place)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(run(host, reader, writer, read_only, place));
}

/// Ends a connection for which there is no place: its first call is answered with that.
pub(crate) async fn turn_away<R, W>(mut reader: R, mut writer: W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut session = Session::new(Instant::now(), server::Config::default());
    let mut buffer = vec![0; 1024];
    let farewell = async {
        let mut is_told = false;
        while !is_told || !session.output().is_empty() {
            tokio::select! {
                read = reader.read(&mut buffer), if !is_told => match read {
                    Ok(0) | Err(_) => return,
                    Ok(len) => session.handle_bytes(Instant::now(), &buffer[..len]),
                },
                written = writer.write(session.output()), if !session.output().is_empty() => match written {
                    Ok(0) | Err(_) => return,
                    Ok(len) => session.output_written(len),
                },
            }
            match session.poll_event() {
                Some(Event::Call(call)) => {
                    let text = "all places for clients are taken (max_clients)";
                    session.reply_error(call.id, &Error::of(ErrorCode::RESOURCE_BUSY, Origin::RPC, text));
                    is_told = true;
                }
                Some(Event::Closed(_)) => return,
                Some(Event::Stream(..)) | None => {}
            }
        }
    };
    // Whoever has nothing to say is not told anything.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

async fn run<R, W>(host: Arc<Host>, mut reader: R, mut writer: W, read_only: bool, mut place: Place)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (presence, client) = Client::arrive();
    let (outbound, mut orders) = Outbound::new();
    let (chunks, mut pieces) = mpsc::channel(CHUNKS_MAX);
    tracing::debug!(client = client.id(), read_only, "connected");
    let patience = Duration::from_secs(host.config.open_timeout.into());
    let mut connection = Connection {
        session: Session::new(Instant::now(), session_config(&host)),
        gate: Gate::new(read_only),
        host,
        client,
        outbound,
        chunks,
        streams: HashMap::new(),
        phase: Phase::Serving,
        open_until: Some(Instant::now() + patience),
        _presence: presence,
    };
    let mut buffer = vec![0; READ_SIZE];
    while !connection.is_over() {
        let deadline = connection.deadline();
        let session = &mut connection.session;
        let (output, output_len) = (session.output(), session.output_len());
        tokio::select! {
            read = reader.read(&mut buffer), if connection.phase == Phase::Serving && session.wants_read() => {
                match read {
                    Ok(0) | Err(_) => break,
                    Ok(len) => session.handle_bytes(Instant::now(), &buffer[..len]),
                }
            }
            written = writer.write(output), if !output.is_empty() => match written {
                Ok(0) | Err(_) => break,
                Ok(len) => session.output_written(len),
            },
            Some(order) = orders.recv() => connection.obey(order),
            Some((stream, piece)) = pieces.recv(), if output_len < STREAM_OUTPUT_MAX => {
                connection.send_piece(stream, piece);
            }
            () = until(deadline) => connection.handle_timeout(),
        }
        connection.handle_events();
        if !place.hold(connection.session.held()) {
            tracing::warn!(
                client = connection.client.id(),
                "connection dropped: no memory for what it holds"
            );
            break;
        }
    }
    // First the queues, so that nothing registers any more; then what had registered.
    drop((orders, pieces));
    connection.host.events.forget(connection.client.id());
    tracing::debug!(client = connection.client.id(), "disconnected");
}

fn session_config(host: &Host) -> server::Config {
    server::Config {
        keepalive: host.config.keepalive().map(|(interval, count)| Keepalive { interval, count }),
        unanswered_max: host.config.max_client_requests.max(1),
        ..server::Config::default()
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// The client has closed: what is left to be written goes out until this instant, nothing is read.
    Leaving(Instant),
    Over,
}

struct Connection {
    host: Arc<Host>,
    session: Session,
    gate: Gate,
    client: Client,
    outbound: Outbound,
    chunks: mpsc::Sender<(StreamId, Piece)>,
    streams: HashMap<StreamId, mpsc::UnboundedSender<Received>>,
    phase: Phase,
    /// Until it is open: who never opens has a place that others want.
    open_until: Option<Instant>,
    _presence: Presence,
}

impl Connection {
    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Serving => false,
            Phase::Leaving(_) => self.session.output().is_empty(),
            Phase::Over => true,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Leaving(deadline) => Some(deadline),
            Phase::Serving | Phase::Over => self.session.deadline().into_iter().chain(self.open_until).min(),
        }
    }

    fn handle_timeout(&mut self) {
        match self.phase {
            Phase::Serving if self.open_until.is_some_and(|until| until <= Instant::now()) => {
                tracing::info!(client = self.client.id(), "connection dropped: it was never opened");
                self.phase = Phase::Over;
            }
            Phase::Serving => self.session.handle_timeout(Instant::now()),
            Phase::Leaving(_) | Phase::Over => self.phase = Phase::Over,
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                // What comes after a close is not answered.
                Event::Call(_) if self.phase != Phase::Serving => {}
                Event::Call(call) => self.handle_call(call),
                Event::Stream(id, event) => self.handle_stream(id, event),
                Event::Closed(reason) => {
                    tracing::info!(client = self.client.id(), %reason, "connection dropped");
                    self.phase = Phase::Over;
                }
            }
        }
    }

    fn handle_call(&mut self, call: Call) {
        if let Err(refusal) = self.gate.check(call.procedure) {
            return self.session.reply_error(call.id, &refusal);
        }
        match call.procedure {
            Procedure::ConnectOpen => {
                let opened =
                    call.decode::<ConnectOpen>().and_then(|open| dispatch::open(&open, &mut self.gate));
                match opened {
                    Ok(()) => {
                        self.open_until = None;
                        self.session.reply(call.id, &());
                    }
                    Err(refusal) => self.session.reply_error(call.id, &refusal),
                }
            }
            Procedure::ConnectClose => {
                self.session.reply(call.id, &());
                self.gate.close();
                self.phase = Phase::Leaving(Instant::now() + FAREWELL);
            }
            _ => {
                let debt = Debt::new(call.id, self.outbound.clone());
                let context = Context {
                    host: Arc::clone(&self.host),
                    client: self.client.clone(),
                    outbound: self.outbound.clone(),
                    gate: self.gate,
                };
                tokio::spawn(async move { debt.pay(dispatch::dispatch(context, call).await) });
            }
        }
    }

    fn handle_stream(&mut self, id: StreamId, event: StreamEvent) {
        let Some(server) = self.streams.get(&id) else { return };
        let received = match event {
            StreamEvent::Data(bytes) => Received::Data(bytes),
            StreamEvent::Finish => Received::Finish,
            StreamEvent::Abort => {
                self.streams.remove(&id);
                return;
            }
        };
        // A server that has left says so itself.
        let _ = server.send(received);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Answer(call, Ok(Answer::Plain(result))) => self.session.reply(call, &result),
            Order::Answer(call, Ok(Answer::Stream(result, pump))) => {
                let Some(id) = self.session.reply_stream(call, &result) else { return };
                let (sender, received) = mpsc::unbounded_channel();
                self.streams.insert(id, sender);
                tokio::spawn(pump(Stream::new(id, received, self.chunks.clone(), self.outbound.clone())));
            }
            Order::Answer(call, Err(refusal)) => self.session.reply_error(call, &refusal),
            Order::Notice(notice) => notice.send(&mut self.session),
            Order::Consumed(stream, bytes) => self.session.stream_consumed(stream, bytes),
            Order::Abandoned(stream) => {
                let error = Error::of(ErrorCode::INTERNAL_ERROR, Origin::STREAMS, "the stream was given up");
                self.send_piece(stream, Piece::Failure(error));
            }
        }
    }

    fn send_piece(&mut self, stream: StreamId, piece: Piece) {
        match piece {
            Piece::Data(bytes) => self.session.stream_data(stream, &bytes),
            Piece::End => self.session.stream_end(stream),
            Piece::Finish => {
                self.streams.remove(&stream);
                self.session.stream_finish(stream);
            }
            Piece::Failure(error) => {
                self.streams.remove(&stream);
                self.session.stream_error(stream, &error);
            }
        }
    }
}
