//! A connection to a daemon: opening, calling, closing.

use std::time::Duration;

use ferry_rpc::client::{Config, Keepalive, Session};
use ferry_rpc::flags::OpenFlags;
use ferry_rpc::procedure::{Procedure, Stream as StreamKind};
use ferry_rpc::proto::{
    Arguments, AuthList, AuthPolkit, ConnectClose, ConnectOpen, ConnectRegisterCloseCallback,
    ConnectSupportsFeature, ConnectUnregisterCloseCallback,
};
use ferry_rpc::values::{AuthType, Feature};
use ferry_rpc::{Error, ErrorCode, Origin};
use ferry_xdr::{DecodeError, EncodeError};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::dial::{DialError, Reader, Writer, dial};
use crate::driver::{self, Command, Handles, Lost};
use crate::stream::Stream;
use crate::subscription::Subscription;
use crate::uri::Uri;

/// How to open a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// How long the socket may take to connect.
    pub connect_timeout: Duration,
    /// How long the calls that open the connection may take, together.
    pub open_timeout: Duration,
    /// How silence is noticed, when the server knows keepalive; `None` to wait for ever.
    pub keepalive: Option<Keepalive>,
    /// Whether only to look.
    pub read_only: bool,
    /// Whether to ask to be told when the server's own backend goes away, as stock clients do on the connections
    /// that they keep.
    pub close_callback: bool,
}

impl Default for OpenOptions {
    /// As virsh does: keepalive 5 s and 6 pings.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(30),
            keepalive: Some(Keepalive { interval: Duration::from_secs(5), count: 6 }),
            read_only: false,
            close_callback: true,
        }
    }
}

impl OpenOptions {
    /// As the source of a peer-to-peer migration does: keepalive 5 s and 5 pings.
    #[must_use]
    pub fn peer() -> Self {
        Self { keepalive: Some(Keepalive::DAEMON), ..Self::default() }
    }
}

/// What the server said about itself while the connection was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// It answers pings (10).
    pub keepalive: bool,
    /// It knows events with callback ids (14).
    pub event_callback: bool,
    /// It knows the close callback (15).
    pub close_callback: bool,
}

/// Why a connection could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The socket could not be connected.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server wants to know who we are, in a way that is not spoken here.
    #[error("authentication required: the server offers only {0:?}")]
    Authentication(Vec<AuthType>),
    /// A call on the way failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl OpenError {
    /// The error as a client of the wire would see it.
    #[must_use]
    pub fn to_wire(&self) -> Error {
        match self {
            Self::Dial(error) => error.to_wire(),
            Self::Authentication(_) => Error::of(ErrorCode::AUTH_UNAVAILABLE, Origin::RPC, self.to_string()),
            Self::Call(error) => error.to_wire(),
        }
    }
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server refused or failed.
    #[error(transparent)]
    Remote(#[from] Error),
    /// The connection is gone. Whether the server did what was asked is not known.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// No answer in time. Whether the server does what was asked is not known.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// An argument breaks a bound of the wire; nothing was sent.
    #[error("the call cannot be sent: {0}")]
    Encode(#[source] EncodeError),
    /// The server did what was asked, but its answer cannot be read.
    #[error("the answer to {} cannot be read: {error}", procedure.name())]
    Decode {
        /// What was called.
        procedure: Procedure,
        /// What is wrong with the answer.
        #[source]
        error: DecodeError,
    },
}

impl CallError {
    /// Whether the server may have done what was asked although there is no answer to show for it.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Timeout(_) | Self::Decode { .. } => true,
            Self::Remote(_) | Self::Encode(_) => false,
        }
    }

    /// The error as a client of the wire would see it.
    #[must_use]
    pub fn to_wire(&self) -> Error {
        match self {
            Self::Remote(error) => error.clone(),
            Self::Lost(lost) => lost.to_wire(),
            Self::Timeout(_) => Error::of(ErrorCode::OPERATION_TIMEOUT, Origin::RPC, self.to_string()),
            Self::Encode(_) => Error::new(ErrorCode::RPC, Origin::RPC, "Unable to encode message payload"),
            Self::Decode { .. } => {
                Error::new(ErrorCode::RPC, Origin::RPC, "Unable to decode message payload")
            }
        }
    }
}

/// An open connection. Clones share it; it ends when the last one is dropped.
///
/// Dropping a call's future does not recall the call: the server goes on with it.
#[derive(Clone)]
pub struct Connection {
    handles: Handles,
    features: Features,
    close_registered: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("features", &self.features).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and opens, with the calls and in the order of a stock client.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(uri: &Uri, options: OpenOptions) -> Result<Self, OpenError> {
        let (reader, writer) = dial(uri, options.read_only, options.connect_timeout).await?;
        Self::open_on(reader, writer, uri.name(), options).await
    }

    /// Opens over bytes that someone else connected.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open_over<S>(stream: S, name: &str, options: OpenOptions) -> Result<Self, OpenError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        Self::open_on(Box::new(reader), Box::new(writer), name, options).await
    }

    async fn open_on(
        reader: Reader,
        writer: Writer,
        name: &str,
        options: OpenOptions,
    ) -> Result<Self, OpenError> {
        let session = Session::new(std::time::Instant::now(), Config::default());
        let handles = driver::start(reader, writer, session);
        let features = Features { keepalive: false, event_callback: false, close_callback: false };
        let mut connection = Self { handles, features, close_registered: false };
        let within = options.open_timeout;
        match timeout(within, connection.greet(name, &options)).await {
            Ok(result) => result?,
            Err(_) => return Err(CallError::Timeout(within).into()),
        }
        Ok(connection)
    }

    async fn greet(&mut self, name: &str, options: &OpenOptions) -> Result<(), OpenError> {
        self.authenticate().await?;
        self.features.keepalive = self.supports(Feature::KEEPALIVE).await?;
        if let Some(keepalive) = options.keepalive.filter(|_| self.features.keepalive) {
            self.command(Command::StartKeepalive(keepalive));
        }
        let flags = if options.read_only { OpenFlags::RO } else { OpenFlags::NONE };
        self.call(&ConnectOpen { name: Some(name.to_owned()), flags }).await?;
        self.features.event_callback = self.supports(Feature::EVENT_CALLBACK).await?;
        self.features.close_callback = self.supports(Feature::CLOSE_CALLBACK).await?;
        if options.close_callback && self.features.close_callback {
            self.call(&ConnectRegisterCloseCallback {}).await?;
            self.close_registered = true;
        }
        Ok(())
    }

    /// No authentication, or polkit, which looks at the socket's peer by itself.
    async fn authenticate(&self) -> Result<(), OpenError> {
        let offered = self.call(&AuthList {}).await?.types;
        if offered.is_empty() || offered.contains(&AuthType::NONE) {
            return Ok(());
        }
        if offered.contains(&AuthType::POLKIT) {
            self.call(&AuthPolkit {}).await?;
            return Ok(());
        }
        Err(OpenError::Authentication(offered))
    }

    /// What the server said about itself.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Asks whether the server knows a feature.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn supports(&self, feature: Feature) -> Result<bool, CallError> {
        self.call(&ConnectSupportsFeature { feature }).await
    }

    /// Calls a procedure and waits for its result, however long that takes; a server that is gone is noticed by
    /// keepalive.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<T: Arguments>(&self, arguments: &T) -> Result<T::Reply, CallError> {
        let (payload, _) = self.call_encoded(T::PROCEDURE, ferry_xdr::to_bytes(arguments)?).await?;
        decoded::<T>(&payload)
    }

    /// Calls a procedure and waits for its result, but not longer than `within`.
    ///
    /// # Errors
    /// See [`CallError`]; after [`CallError::Timeout`] the server may still be at it.
    pub async fn call_within<T: Arguments>(
        &self,
        within: Duration,
        arguments: &T,
    ) -> Result<T::Reply, CallError> {
        timeout(within, self.call(arguments)).await.unwrap_or(Err(CallError::Timeout(within)))
    }

    /// Calls a procedure that opens a stream.
    ///
    /// # Errors
    /// See [`CallError`]; code 3 for a procedure that opens none.
    pub async fn call_stream<T: Arguments>(&self, arguments: &T) -> Result<(T::Reply, Stream), CallError> {
        if T::PROCEDURE.stream() == StreamKind::None {
            let text = format!("{} opens no stream", T::PROCEDURE.name());
            return Err(CallError::Remote(Error::of(ErrorCode::NO_SUPPORT, Origin::STREAMS, text)));
        }
        let (payload, opened) = self.call_encoded(T::PROCEDURE, ferry_xdr::to_bytes(arguments)?).await?;
        let opened = opened.ok_or_else(|| self.lost())?;
        let stream = Stream::new(opened, self.handles.clone());
        Ok((decoded::<T>(&payload)?, stream))
    }

    /// Messages that the server sends from now on. Registering for events is a call of its own.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(&self.handles)
    }

    /// Waits until the connection is gone, and says why.
    pub async fn closed(&self) -> Lost {
        let mut lost = self.handles.lost.clone();
        match lost.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(why)) => why.clone(),
            Ok(None) | Err(_) => Lost::Closed,
        }
    }

    /// Whether the connection is there, as far as is known.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.handles.lost.borrow().is_none()
    }

    /// Closes as a stock client does: takes the close callback back, closes, ends the socket. Calls that are
    /// under way on clones of this connection are lost.
    ///
    /// # Errors
    /// See [`CallError`]; the socket is closed in any case.
    pub async fn close(self) -> Result<(), CallError> {
        let farewell = async {
            if self.close_registered {
                self.call(&ConnectUnregisterCloseCallback {}).await?;
            }
            self.call(&ConnectClose {}).await
        };
        let result = farewell.await;
        self.command(Command::Close);
        result
    }

    async fn call_encoded(
        &self,
        procedure: Procedure,
        payload: Vec<u8>,
    ) -> Result<(Vec<u8>, Option<driver::Opened>), CallError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Call { procedure, payload, answer });
        match answered.await {
            Ok(result) => result,
            // The task ended before it saw the call.
            Err(_) => Err(CallError::Lost(self.closed().await)),
        }
    }

    fn command(&self, command: Command) {
        // A task that has ended answers nobody; who waits learns it from the dropped channel.
        let _ = self.handles.commands.send(command);
    }

    fn lost(&self) -> Lost {
        self.handles.lost.borrow().clone().unwrap_or(Lost::Closed)
    }
}

fn decoded<T: Arguments>(payload: &[u8]) -> Result<T::Reply, CallError> {
    ferry_xdr::from_bytes(payload).map_err(|error| CallError::Decode { procedure: T::PROCEDURE, error })
}

#[cfg(test)]
mod tests;
