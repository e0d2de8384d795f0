//! Messages that a server sends unasked.

use ferry_rpc::client::Received;
use thiserror::Error;
use tokio::sync::{broadcast, watch};

use crate::driver::{Handles, Lost};

/// The messages of a connection since the subscription was made, for one listener.
#[derive(Debug)]
pub struct Subscription {
    messages: broadcast::Receiver<Received>,
    lost: watch::Receiver<Option<Lost>>,
}

/// Why there is no next message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Missed {
    /// The listener was too slow, and this many messages are gone. Later ones follow.
    #[error("{0} messages were missed")]
    Overflow(u64),
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl Subscription {
    pub(crate) fn new(handles: &Handles) -> Self {
        Self { messages: handles.messages.subscribe(), lost: handles.lost.clone() }
    }

    /// The next message. May be dropped and called again without losing one.
    ///
    /// # Errors
    /// See [`Missed`]. Who listened without an error listened without a gap.
    pub async fn next(&mut self) -> Result<Received, Missed> {
        let lost = async { self.lost.wait_for(Option::is_some).await.is_ok() };
        tokio::select! {
            biased;
            message = self.messages.recv() => match message {
                Ok(message) => Ok(message),
                Err(broadcast::error::RecvError::Lagged(missed)) => Err(Missed::Overflow(missed)),
                Err(broadcast::error::RecvError::Closed) => Err(Missed::Lost(self.why())),
            },
            _ = lost => Err(Missed::Lost(self.why())),
        }
    }

    fn why(&self) -> Lost {
        self.lost.borrow().clone().unwrap_or(Lost::Closed)
    }
}
