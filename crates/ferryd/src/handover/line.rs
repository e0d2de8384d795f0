//! A line to the other daemon of one migration.
//!
//! Held by the domain's driver beside its machine. A task keeps one connection and makes one call at a time; what is
//! to be said while it is busy or the other side is away may be dropped, for the machine says again what matters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferry_client::{Connection, OpenOptions, Uri};
use ferry_migration::message::Word;
use ferry_migration::{MigrationId, Secret};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::letter::{self, Answer};

/// How long one address may take to be reached, and one word to be answered.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is tried anew meanwhile: what was lost in a cut, TCP repeats only after a second.
const AGAIN: Duration = Duration::from_millis(400);

/// Words that may wait for the line.
const BACKLOG: usize = 8;

/// The other daemon, as its cookie describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) host: Uuid,
    /// `tcp:HOST:PORT`, `unix:PATH`; as they came, so unchecked.
    pub(crate) addresses: Vec<String>,
}

/// Whose migration it is, and by what the other side knows us.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) id: MigrationId,
    pub(crate) secret: Secret,
    /// This host.
    pub(crate) host: Uuid,
}

struct Said {
    word: Word,
    cookie: Vec<u8>,
    answer: oneshot::Sender<Answer>,
}

/// The way to the other daemon.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    said: mpsc::Sender<Said>,
}

impl Line {
    /// A line to `peer`; it connects when something is to be said. `None` when the peer has no address that we
    /// could use.
    pub(crate) fn open(peer: &Peer, credentials: Credentials) -> Option<Line> {
        let uris: Vec<Uri> = peer.addresses.iter().filter_map(|address| uri(address)).collect();
        if uris.is_empty() || peer.host == credentials.host {
            return None;
        }
        let (said, inbox) = mpsc::channel(BACKLOG);
        let task = Task {
            uris,
            peer: peer.host,
            credentials: Arc::new(credentials),
            connection: None,
            silent_since: None,
        };
        tokio::spawn(task.run(inbox));
        Some(Line { said })
    }

    /// Says a word. The future yields what the other daemon answered; nothing when the word was lost.
    pub(crate) fn say(
        &self,
        word: Word,
        cookie: Vec<u8>,
    ) -> impl Future<Output = Option<Answer>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let sent = self.said.try_send(Said { word, cookie, answer }).is_ok();
        async move { if sent { answered.await.ok() } else { None } }
    }
}

struct Task {
    uris: Vec<Uri>,
    peer: Uuid,
    credentials: Arc<Credentials>,
    connection: Option<Connection>,
    /// When the first word was said to which nothing came back.
    silent_since: Option<Instant>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Said>) {
        while let Some(Said { word, cookie, answer }) = inbox.recv().await {
            let began = Instant::now();
            // Dropping `answer` tells that the word was lost.
            if let Some(mut said) = self.tell(word, cookie).await {
                said.silence = self.silent_since.take().map_or(Duration::ZERO, |since| since.elapsed());
                let _ = answer.send(said);
            } else if began.elapsed() >= PATIENCE {
                self.silent_since.get_or_insert(began);
            }
        }
    }

    async fn tell(&mut self, word: Word, cookie: Vec<u8>) -> Option<Answer> {
        if let Some(connection) = self.connection.take().filter(Connection::is_alive)
            && let Some(answer) = self.tell_over(connection, word, cookie.clone()).await
        {
            return Some(answer);
        }
        for uri in self.uris.clone() {
            let Some(mut connection) = reach(&uri).await else { continue };
            if !cookie.is_empty() {
                // Perform's cookie has the secret in it: nobody is given that who has not shown that he knows it.
                match self.tell_over(connection, Word::Ask, Vec::new()).await {
                    Some(answer) if answer.secret.is_some() => {}
                    Some(_) | None => continue,
                }
                let Some(proven) = self.connection.take() else { continue };
                connection = proven;
            }
            if let Some(answer) = self.tell_over(connection, word, cookie.clone()).await {
                return Some(answer);
            }
        }
        None
    }

    async fn tell_over(&mut self, connection: Connection, word: Word, cookie: Vec<u8>) -> Option<Answer> {
        let Credentials { id, secret, host } = &*self.credentials;
        let call = letter::call(*id, secret, *host, (word, cookie), *Uuid::new_v4().as_bytes());
        let reply = connection.call_within(PATIENCE, &call).await.ok()?;
        let answer = letter::open(&call, reply, secret, self.peer)?;
        self.connection = Some(connection);
        Some(answer)
    }
}

/// Reaches an address: the first of some tries that overlap.
async fn reach(uri: &Uri) -> Option<Connection> {
    let began = Instant::now();
    let mut tries = JoinSet::new();
    loop {
        let left = PATIENCE.saturating_sub(began.elapsed());
        if !left.is_zero() {
            let uri = uri.clone();
            let options =
                OpenOptions { connect_timeout: left, open_timeout: PATIENCE, ..OpenOptions::peer() };
            tries.spawn(async move { Connection::open(&uri, options).await });
        }
        match tokio::time::timeout(AGAIN, tries.join_next()).await {
            Ok(Some(Ok(Ok(connection)))) => return Some(connection),
            // Refused at once, or the last of them has failed.
            Ok(_) if tries.is_empty() => return None,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Whether the daemon behind `connection` is the host `wanted`, by its capabilities document.
pub(crate) async fn is_host(connection: &Connection, wanted: Uuid) -> bool {
    let capabilities = connection.capabilities().await.unwrap_or_default();
    capabilities.contains(&format!("<uuid>{wanted}</uuid>"))
}

/// An address of a cookie as somewhere to connect to.
pub(crate) fn uri(address: &str) -> Option<Uri> {
    if let Some(path) = address.strip_prefix("unix:") {
        return path.starts_with('/').then(|| Uri::unix(PathBuf::from(path)));
    }
    let (host, port) = address.strip_prefix("tcp:")?.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(())?;
    Some(Uri::tcp(host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_cookie_are_understood_or_left_out() {
        assert!(uri("tcp:192.0.2.1:16509").is_some());
        assert!(uri("tcp:[2001:db8::1]:16509").is_some());
        assert!(uri("unix:/run/ferry/sock").is_some());
        for nonsense in ["", "tcp:", "tcp::1", "tcp:h:port", "unix:relative", "exec:rm", "http://h"] {
            assert!(uri(nonsense).is_none(), "{nonsense}");
        }
    }

    #[tokio::test]
    async fn a_line_to_this_host_itself_is_none() {
        let peer = Peer { host: Uuid::from_u128(1), addresses: vec!["unix:/nonexistent".into()] };
        let credentials = |host| Credentials {
            id: MigrationId::from_bytes([1; 16]),
            secret: Secret::from_bytes([2; 16]),
            host: Uuid::from_u128(host),
        };
        assert!(Line::open(&peer, credentials(1)).is_none());
        let line = Line::open(&peer, credentials(2)).unwrap();
        assert_eq!(line.say(Word::Ask, Vec::new()).await, None);
    }
}
