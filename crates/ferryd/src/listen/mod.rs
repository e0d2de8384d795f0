//! Sockets: where clients come in.
//!
//! `main` opens the doors before it says that it is ready, so that a client that connects then never finds a
//! closed one. Each accepted connection becomes a task of [`connection`]. Nothing here knows a procedure.

pub(crate) mod connection;
mod room;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::host::Host;

pub(crate) use connection::{Answer, Client, Encoded, Outbound, Pump, Received, Stream};

pub(crate) use room::{Place, Room};

/// libvirt's own sockets, as stock clients look for them, and whether they are read-only.
const LIBVIRT_SOCKETS: [(&str, bool); 4] = [
    ("/run/libvirt/libvirt-sock", false),
    ("/run/libvirt/libvirt-sock-ro", true),
    ("/run/libvirt/virtqemud-sock", false),
    ("/run/libvirt/virtqemud-sock-ro", true),
];

/// How long to leave a door alone after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a door could not be opened.
#[derive(Debug, Error)]
pub(crate) enum ListenError {
    #[error("cannot listen on {path:?}")]
    Unix {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another daemon listens on {path:?}; stop it first, or leave out --libvirt-sockets")]
    Busy { path: PathBuf },
    #[error("{path:?} exists and is no socket")]
    NoSocket { path: PathBuf },
    #[error("cannot listen on tcp {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Doors that are open and not yet served.
#[derive(Debug)]
pub(crate) struct Doors {
    unix: Vec<(UnixListener, bool)>,
    tcp: Option<TcpListener>,
    paths: Vec<PathBuf>,
}

impl Doors {
    /// Opens all doors of a host.
    pub(crate) async fn open(
        socket: &Path,
        socket_read_only: &Path,
        libvirt_sockets: bool,
        tcp: Option<SocketAddr>,
    ) -> Result<Doors, ListenError> {
        let mut doors = Doors { unix: Vec::new(), tcp: None, paths: Vec::new() };
        doors.open_unix(socket, false)?;
        doors.open_unix(socket_read_only, true)?;
        if libvirt_sockets {
            for (path, read_only) in LIBVIRT_SOCKETS {
                doors.open_unix(Path::new(path), read_only)?;
            }
        }
        if let Some(address) = tcp {
            let listener =
                TcpListener::bind(address).await.map_err(|source| ListenError::Tcp { address, source })?;
            let bound = listener.local_addr().map_err(|source| ListenError::Tcp { address, source })?;
            tracing::warn!(
                %bound,
                "listening on TCP WITHOUT AUTHENTICATION OR ENCRYPTION: whoever reaches this address owns every guest of this host"
            );
            doors.tcp = Some(listener);
        }
        Ok(doors)
    }

    /// The address of the TCP door, with the port that was picked.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Accepts clients until the daemon ends.
    pub(crate) fn serve(self, host: &Arc<Host>) -> Served {
        let room = Arc::new(Room::new(host.config.max_clients, room::raise_descriptors()));
        for (listener, read_only) in self.unix {
            let (host, mut porter) = (Arc::clone(host), Porter::new(&room, read_only));
            tokio::spawn(async move {
                loop {
                    let accepted = listener.accept().await.map(|(stream, _)| stream.into_split());
                    porter.admit(&host, accepted).await;
                }
            });
        }
        if let Some(listener) = self.tcp {
            let (host, mut porter) = (Arc::clone(host), Porter::new(&room, false));
            tokio::spawn(async move {
                loop {
                    let accepted = listener.accept().await.map(|(stream, _)| {
                        // Calls are small and answered one by one: waiting to fill a segment is pure delay.
                        let _ = stream.set_nodelay(true);
                        stream.into_split()
                    });
                    porter.admit(&host, accepted).await;
                }
            });
        }
        Served { paths: self.paths }
    }

    fn open_unix(&mut self, path: &Path, read_only: bool) -> Result<(), ListenError> {
        let error = |source| ListenError::Unix { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(error)?;
        }
        clear_stale(path)?;
        let listener = UnixListener::bind(path).map_err(error)?;
        // Who may enter the read-only socket may look; the other one is for its owner alone.
        let mode = if read_only { 0o777 } else { 0o700 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(error)?;
        self.unix.push((listener, read_only));
        self.paths.push(path.to_owned());
        Ok(())
    }
}

/// The socket files of a serving daemon; removed when it ends in order.
#[derive(Debug)]
pub(crate) struct Served {
    paths: Vec<PathBuf>,
}

impl Drop for Served {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes a socket that a daemon left behind, and nothing else.
fn clear_stale(path: &Path) -> Result<(), ListenError> {
    let error = |source| ListenError::Unix { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(error(source)),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NoSocket { path: path.to_owned() }),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(ListenError::Busy { path: path.to_owned() }),
            Err(_) => fs::remove_file(path).map_err(error),
        },
    }
}

/// Stands at one door.
struct Porter {
    room: Arc<Room>,
    read_only: bool,
    /// The last client was sent away.
    full: bool,
}

impl Porter {
    fn new(room: &Arc<Room>, read_only: bool) -> Porter {
        Porter { room: Arc::clone(room), read_only, full: false }
    }

    /// A failed accept is the client's failure, or descriptors have run out: say so, leave others the time to finish
    /// (the listener stays readable, so trying again at once would only burn the processor), and go on. A client for whom
    /// there is no place is told so: one that is left to wait would not know for what.
    async fn admit<R, W>(&mut self, host: &Arc<Host>, accepted: io::Result<(R, W)>)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (reader, writer) = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                return tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        };
        let was_full = self.full;
        self.full = false;
        if let Some(place) = self.room.place(self.read_only) {
            return connection::serve(Arc::clone(host), reader, writer, self.read_only, place);
        }
        self.full = true;
        if !was_full {
            tracing::warn!(read_only = self.read_only, "all places are taken: further clients are sent away");
        }
        if let Some(porch) = self.room.porch() {
            tokio::spawn(async move {
                connection::turn_away(reader, writer).await;
                drop(porch);
            });
        }
    }
}
