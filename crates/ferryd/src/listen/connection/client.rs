//! Who is on a connection, and whether they still are.
//!
//! Drivers hold a [`Client`] for what lives and dies with a connection: a migration that its coordinator
//! guards, a guest that was started to be destroyed with its starter. It keeps no connection open.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The last number that was given to a client of this daemon.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// One client, by its connection. Clones are the same client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    id: u64,
    /// `None`: never ends.
    connection: Option<watch::Receiver<()>>,
}

/// Held by a connection's task: when it is dropped, however that comes about, the client has gone.
#[derive(Debug)]
pub(crate) struct Presence(#[expect(dead_code, reason = "held, not used")] watch::Sender<()>);

impl Client {
    /// A client that is there as long as the presence is held.
    pub(crate) fn arrive() -> (Presence, Client) {
        let (presence, connection) = watch::channel(());
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
        (Presence(presence), Client { id, connection: Some(connection) })
    }

    /// The daemon itself, for what it does of its own accord. It never goes.
    pub(crate) fn daemon() -> Client {
        Client { id: 0, connection: None }
    }

    /// Differs from that of every other client that this daemon has had.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Done when the connection has ended; at once when it has already.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let connection = self.connection.clone();
        async move {
            match connection {
                Some(mut connection) => while connection.changed().await.is_ok() {},
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    #[tokio::test]
    async fn a_client_has_gone_once_its_presence_ends() {
        let (presence, client) = Client::arrive();
        let (_other, another) = Client::arrive();
        assert_ne!(client.id(), another.id());
        let mut gone = std::pin::pin!(client.gone());
        assert!(std::future::poll_fn(|context| Poll::Ready(gone.as_mut().poll(context).is_pending())).await);
        drop(presence);
        gone.await;
        client.gone().await;
    }
}
