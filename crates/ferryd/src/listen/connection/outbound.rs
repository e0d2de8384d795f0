//! What others send to a connection: answers, events, and the bytes of streams.
//!
//! Answers and events go through a queue that the connection's task empties at once into its session, which
//! bounds what a client may leave unread. Bytes of streams go through a short queue that is read only while
//! little waits to be written, so a producer is held up by a slow client instead of filling memory.

use std::pin::Pin;

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::server::{CallId, StreamId};
use ferry_xdr::{Encode, EncodeError, Writer};
use tokio::sync::mpsc;

use crate::events::Notice;

/// Chunks of streams that may wait for one connection.
pub(super) const CHUNKS_MAX: usize = 4;

/// The result of a call, encoded.
#[derive(Debug)]
pub(crate) struct Encoded(pub(crate) Vec<u8>);

impl Encode for Encoded {
    fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.fixed(&self.0);
        Ok(())
    }
}

/// Serves a stream once the call that opens it has been answered.
pub(crate) type Pump = Box<dyn FnOnce(Stream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// How a call is answered when all is well.
pub(crate) enum Answer {
    /// With a result.
    Plain(Encoded),
    /// With a result, and a stream after it.
    Stream(Encoded, Pump),
}

/// What a connection's task is told to do.
pub(super) enum Order {
    Answer(CallId, Result<Answer, Error>),
    Notice(Notice),
    /// This many received bytes of a stream are used up.
    Consumed(StreamId, usize),
    /// Whoever served the stream has left it without an end.
    Abandoned(StreamId),
}

/// A piece of a stream on its way to the client.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Vec<u8>),
    /// No more data comes; the client answers by finishing.
    End,
    /// The client's finish is confirmed.
    Finish,
    Failure(Error),
}

/// Sends to one connection. Cheap to clone; it keeps no connection open.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    orders: mpsc::UnboundedSender<Order>,
}

impl Outbound {
    pub(super) fn new() -> (Outbound, mpsc::UnboundedReceiver<Order>) {
        let (orders, inbox) = mpsc::unbounded_channel();
        (Outbound { orders }, inbox)
    }

    /// Tells the client of an event. Never waits.
    pub(crate) fn notice(&self, notice: Notice) {
        self.order(Order::Notice(notice));
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.orders.is_closed()
    }

    /// What is told to a connection that has ended is told to nobody.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}

/// The duty to answer a call: should the task that has it end without an answer, the client is told so.
#[derive(Debug)]
pub(super) struct Debt {
    call: CallId,
    outbound: Outbound,
    paid: bool,
}

impl Debt {
    pub(super) fn new(call: CallId, outbound: Outbound) -> Debt {
        Debt { call, outbound, paid: false }
    }

    pub(super) fn pay(mut self, answer: Result<Answer, Error>) {
        self.paid = true;
        self.outbound.order(Order::Answer(self.call, answer));
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if !self.paid {
            let text = "the call ended without an answer; the daemon's log has more";
            let error = Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, text);
            self.outbound.order(Order::Answer(self.call, Err(error)));
        }
    }
}

/// What comes from the client on a stream.
#[derive(Debug)]
pub(crate) enum Received {
    /// Bytes, never none.
    Data(Vec<u8>),
    /// The client is through: it has sent all, or knows that it has received all.
    Finish,
}

/// The connection has ended, or the client gave the stream up.
#[derive(Debug)]
pub(crate) struct Broken;

/// One open stream, as its server sees it. It ends with [`Stream::finish`] or [`Stream::fail`]; one that is
/// dropped before fails.
#[derive(Debug)]
pub(crate) struct Stream {
    id: StreamId,
    received: mpsc::UnboundedReceiver<Received>,
    pieces: mpsc::Sender<(StreamId, Piece)>,
    outbound: Outbound,
    /// Bytes handed out that count as used up when the next ones are asked for.
    handed_out: usize,
    over: bool,
}

impl Stream {
    pub(super) fn new(
        id: StreamId,
        received: mpsc::UnboundedReceiver<Received>,
        pieces: mpsc::Sender<(StreamId, Piece)>,
        outbound: Outbound,
    ) -> Stream {
        Stream { id, received, pieces, outbound, handed_out: 0, over: false }
    }

    /// The next from the client; `None` when the stream is broken. What was handed out before counts as used
    /// up, and the client may send as much again. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        if self.handed_out > 0 {
            self.outbound.order(Order::Consumed(self.id, self.handed_out));
            self.handed_out = 0;
        }
        let received = self.received.recv().await;
        if let Some(Received::Data(bytes)) = &received {
            self.handed_out = bytes.len();
        }
        received
    }

    /// Sends bytes, when the client has room for them.
    pub(crate) async fn send(&self, bytes: Vec<u8>) -> Result<(), Broken> {
        self.put(Piece::Data(bytes)).await
    }

    /// Says that no more bytes come. The client answers with [`Received::Finish`].
    pub(crate) async fn end(&self) -> Result<(), Broken> {
        self.put(Piece::End).await
    }

    /// Confirms the client's finish.
    pub(crate) async fn finish(mut self) {
        self.over = self.put(Piece::Finish).await.is_ok();
    }

    /// Ends the stream with an error.
    pub(crate) async fn fail(mut self, error: Error) {
        self.over = self.put(Piece::Failure(error)).await.is_ok();
    }

    async fn put(&self, piece: Piece) -> Result<(), Broken> {
        self.pieces.send((self.id, piece)).await.map_err(|_| Broken)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.over {
            self.outbound.order(Order::Abandoned(self.id));
        }
    }
}

/// The other end of a stream, for tests of those who serve one.
#[cfg(test)]
pub(crate) mod far {
    use super::*;
    use std::time::Instant;

    use ferry_rpc::header::Header;
    use ferry_rpc::procedure::Procedure;
    use ferry_rpc::server::{Config, Event, Session};

    /// What a client sees of a stream, and what it does to it.
    pub(crate) struct FarEnd {
        sends: Option<mpsc::UnboundedSender<Received>>,
        pieces: mpsc::Receiver<(StreamId, Piece)>,
        _orders: mpsc::UnboundedReceiver<Order>,
    }

    /// What came out of a stream.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum Came {
        Data(Vec<u8>),
        End,
        Finish,
        Failure(i32, i32),
    }

    /// A stream whose client is the far end.
    pub(crate) fn stream() -> (Stream, FarEnd) {
        let (outbound, orders) = Outbound::new();
        let (chunks, pieces) = mpsc::channel(CHUNKS_MAX);
        let (sends, received) = mpsc::unbounded_channel();
        let far = FarEnd { sends: Some(sends), pieces, _orders: orders };
        (Stream::new(id(), received, chunks, outbound), far)
    }

    /// An id as a session gives it out.
    fn id() -> StreamId {
        let mut session = Session::new(Instant::now(), Config::default());
        let console = Procedure::DomainOpenConsole;
        let (program, procedure) = (console.program().number(), console.number());
        let call = Header { program, version: 1, procedure, kind: 0, serial: 1, status: 0 };
        session.handle_bytes(Instant::now(), &call.frame(&[]).unwrap());
        let Some(Event::Call(call)) = session.poll_event() else { unreachable!("a call was sent") };
        session.reply_stream(call.id, &()).unwrap()
    }

    impl FarEnd {
        pub(crate) fn send(&self, bytes: &[u8]) {
            self.put(Received::Data(bytes.to_vec()));
        }

        pub(crate) fn finish(&self) {
            self.put(Received::Finish);
        }

        pub(crate) fn abort(&mut self) {
            self.sends = None;
        }

        /// `None` once the server has left.
        pub(crate) async fn next(&mut self) -> Option<Came> {
            let (_, piece) = self.pieces.recv().await?;
            Some(match piece {
                Piece::Data(bytes) => Came::Data(bytes),
                Piece::End => Came::End,
                Piece::Finish => Came::Finish,
                Piece::Failure(error) => Came::Failure(error.code.0, error.origin.0),
            })
        }

        fn put(&self, received: Received) {
            self.sends.as_ref().unwrap().send(received).unwrap();
        }
    }
}
