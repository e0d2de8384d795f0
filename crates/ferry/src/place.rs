//! What `-c` and the destination of a migration may say: a URI, or the folder of a private host.
//!
//! Called by every command. Decided once, here; behind it there is only [`Uri`].

use std::path::{Path, PathBuf};

use ferry_client::{ParseUriError, Uri};
use thiserror::Error;

/// Where the packaged daemon listens.
const PACKAGED_SOCKET: &str = "/run/ferry/sock";

/// A folder's socket, as ferryd names it.
const SOCKET: &str = "sock";

/// Why a text names no host.
#[derive(Debug, Error)]
pub(crate) enum PlaceError {
    /// It looks like a URI and is none that is spoken.
    #[error(transparent)]
    Uri(#[from] ParseUriError),
    /// Neither a URI nor a folder.
    #[error("'{0}' is neither a URI nor the folder of a private host")]
    Nothing(String),
    /// A folder without a host.
    #[error("{0:?} is a folder, but no private host: there is no socket in it")]
    NoSocket(PathBuf),
}

/// The host to talk to: as named, else the packaged daemon.
pub(crate) fn source(named: Option<&str>) -> Result<Uri, PlaceError> {
    named.map_or_else(|| Ok(Uri::unix(PACKAGED_SOCKET)), host)
}

/// A host by URI, by the folder of a private host, or by its socket.
pub(crate) fn host(text: &str) -> Result<Uri, PlaceError> {
    if text.contains("://") {
        return Ok(with_path(text).parse()?);
    }
    let path = std::path::absolute(text).map_err(|_| PlaceError::Nothing(text.to_owned()))?;
    if path.is_dir() {
        let socket = path.join(SOCKET);
        return if socket.exists() { Ok(Uri::unix(socket)) } else { Err(PlaceError::NoSocket(path)) };
    }
    if is_socket(&path) {
        return Ok(Uri::unix(path));
    }
    Err(PlaceError::Nothing(text.to_owned()))
}

/// `qemu+tcp://beta` is `qemu+tcp://beta/system`: nobody means anything else.
fn with_path(text: &str) -> String {
    let (base, query) = text.split_once('?').map_or((text, None), |(base, query)| (base, Some(query)));
    let authority = base.split_once("://").map_or("", |(_, rest)| rest);
    if authority.contains('/') {
        return text.to_owned();
    }
    match query {
        Some(query) => format!("{base}/system?{query}"),
        None => format!("{base}/system"),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    path.metadata().is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_libvirts_with_the_path_left_out_at_will() {
        assert_eq!(host("qemu+tcp://beta").unwrap(), Uri::tcp("beta", 16509));
        assert_eq!(host("qemu+tcp://beta:7/system").unwrap(), Uri::tcp("beta", 7));
        assert_eq!(host("qemu:///system").unwrap(), Uri::system());
        assert_eq!(host("qemu+unix://?socket=/x").unwrap(), Uri::unix("/x"));
        assert!(matches!(host("qemu+ssh://beta/system"), Err(PlaceError::Uri(_))));
    }

    #[test]
    fn without_a_word_it_is_the_packaged_daemon() {
        assert_eq!(source(None).unwrap(), Uri::unix("/run/ferry/sock"));
    }

    #[test]
    fn a_folder_stands_for_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().to_str().unwrap();
        assert!(matches!(host(name), Err(PlaceError::NoSocket(_))));
        let socket = folder.path().join("sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(host(name).unwrap(), Uri::unix(&socket));
        assert_eq!(host(socket.to_str().unwrap()).unwrap(), Uri::unix(&socket));
        assert!(matches!(host("/nonexistent"), Err(PlaceError::Nothing(_))));
    }
}
