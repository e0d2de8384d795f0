//! Making the connection: sockets, names, timeouts, and the texts that stock shows when it fails.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferry_rpc::{Error, ErrorCode, Origin};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use crate::uri::{Scope, Transport, Uri};

/// Why no connection could be made. All of them are 38/7 on the wire.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody listens at the socket, or it may not be used.
    #[error("Failed to connect socket to '{}': {}", path.display(), reason(cause))]
    Unix {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// No address of the host accepted the connection.
    #[error("unable to connect to server at '{host}:{port}': {}", reason(cause))]
    Tcp {
        /// The host as it was given.
        host: String,
        /// The port.
        port: u16,
        /// What the system said about the last address.
        #[source]
        cause: io::Error,
    },
    /// The host's name has no address.
    #[error("Unable to resolve address '{host}' service '{port}': {}", reason(cause))]
    Resolve {
        /// The host as it was given.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// `qemu:///session` without `XDG_RUNTIME_DIR`.
    #[error("no runtime directory for qemu:///session: XDG_RUNTIME_DIR is not set")]
    NoRuntimeDirectory,
}

impl DialError {
    /// The error as a client of the wire would see it.
    #[must_use]
    pub fn to_wire(&self) -> Error {
        Error::new(ErrorCode::SYSTEM_ERROR, Origin::RPC, self.to_string())
    }
}

pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects to the daemon's socket.
pub(crate) async fn dial(
    uri: &Uri,
    read_only: bool,
    within: Duration,
) -> Result<(Reader, Writer), DialError> {
    match uri.transport() {
        Transport::Unix { socket } => {
            let path = match socket {
                Some(path) => path.clone(),
                None => well_known(uri.scope(), read_only)?,
            };
            let connected = limited(within, UnixStream::connect(&path)).await;
            let (reader, writer) = connected.map_err(|cause| DialError::Unix { path, cause })?.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
        Transport::Tcp { host, port } => {
            let (reader, writer) = dial_tcp(host, *port, within).await?.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
    }
}

/// Tries every address of the host in turn, all within one limit.
async fn dial_tcp(host: &str, port: u16, within: Duration) -> Result<TcpStream, DialError> {
    let failed = |cause| DialError::Tcp { host: host.to_owned(), port, cause };
    let resolved = limited(within, lookup_host((host, port))).await;
    let addresses = resolved.map_err(|cause| DialError::Resolve { host: host.to_owned(), port, cause })?;
    let attempts = async {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(cause) => last = cause,
            }
        }
        Err(last)
    };
    let stream = limited(within, attempts).await.map_err(failed)?;
    // Calls are small and wait for their answers.
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

async fn limited<T>(within: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(within, work).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

/// The socket of the QEMU daemon when there is one, else of the daemon for everything.
fn well_known(scope: Scope, read_only: bool) -> Result<PathBuf, DialError> {
    let (folder, suffix) = match scope {
        Scope::System => (PathBuf::from("/run/libvirt"), if read_only { "-ro" } else { "" }),
        Scope::Session => {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").ok_or(DialError::NoRuntimeDirectory)?;
            (Path::new(&runtime).join("libvirt"), "")
        }
    };
    let own = folder.join(format!("virtqemud-sock{suffix}"));
    Ok(if own.exists() { own } else { folder.join(format!("libvirt-sock{suffix}")) })
}

/// The system's words without Rust's addition, as a C program prints them.
pub(crate) fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut {
        return "Connection timed out".to_owned();
    }
    let text = error.to_string();
    let words = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    words.strip_prefix("failed to lookup address information: ").unwrap_or(words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    async fn refused(uri: &Uri) -> Error {
        match dial(uri, false, WITHIN).await {
            Err(error) => error.to_wire(),
            Ok(_) => panic!("nobody listens at {uri}"),
        }
    }

    #[tokio::test]
    async fn nobody_listens_in_the_words_of_stock() {
        // Port 1 on loopback: nobody listens there.
        let error = refused(&Uri::tcp("127.0.0.1", 1)).await;
        assert_eq!((error.code, error.origin), (ErrorCode::SYSTEM_ERROR, Origin::RPC));
        assert_eq!(error.message, "unable to connect to server at '127.0.0.1:1': Connection refused");
        let error = refused(&Uri::unix("/nonexistent/sock")).await;
        assert_eq!(
            error.message,
            "Failed to connect socket to '/nonexistent/sock': No such file or directory"
        );
    }

    #[test]
    fn system_errors_read_as_in_c() {
        assert_eq!(reason(&io::Error::from_raw_os_error(113)), "No route to host");
        let lookup = io::Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(reason(&lookup), "Name or service not known");
        assert_eq!(reason(&io::Error::from(io::ErrorKind::TimedOut)), "Connection timed out");
    }
}
