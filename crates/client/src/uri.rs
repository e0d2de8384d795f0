//! Where a daemon is: `qemu:///system` and its relatives.
//!
//! Taken apart here, once; everyone else asks the [`Uri`]. Transports that are not spoken are refused by name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ferry_rpc::{Error, ErrorCode, Origin};
use thiserror::Error;

/// The port of the transport without encryption.
pub const TCP_PORT: u16 = 16509;

/// The address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    transport: Transport,
    scope: Scope,
}

/// How a daemon is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A UNIX socket: the one named with `?socket=`, else the well-known one.
    Unix {
        /// The socket that was named.
        socket: Option<PathBuf>,
    },
    /// TCP without encryption and, as a rule, without authentication.
    Tcp {
        /// A name or an address; an IPv6 address without brackets.
        host: String,
        /// 16509 unless given.
        port: u16,
    },
}

/// Whose daemon it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    System,
    Session,
}

/// Why a text is not the address of a daemon that can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseUriError {
    /// Not of the form `driver[+transport]://[host[:port]]/path[?query]`.
    #[error("'{0}' is not a connection URI")]
    Malformed(String),
    /// A hypervisor that is not QEMU.
    #[error("no connection driver available for {0}")]
    Driver(String),
    /// A transport that is not spoken here.
    #[error("transport '{0}' is not supported: use unix or tcp")]
    Transport(String),
    /// A path that is neither `/system` nor `/session`.
    #[error("path '{0}' is not supported: use /system or /session")]
    Path(String),
    /// A query parameter that means nothing here.
    #[error("parameter '{0}' is not supported in a connection URI")]
    Parameter(String),
}

impl ParseUriError {
    /// The error as a client of the wire would see it.
    #[must_use]
    pub fn to_wire(&self) -> Error {
        let code = match self {
            Self::Driver(_) => ErrorCode::NO_CONNECT,
            Self::Malformed(_) | Self::Path(_) | Self::Parameter(_) => ErrorCode::INVALID_ARG,
            Self::Transport(_) => ErrorCode::NO_SUPPORT,
        };
        let origin = if code == ErrorCode::NO_CONNECT { Origin::NONE } else { Origin::REMOTE };
        match self {
            Self::Driver(_) => Error::new(code, origin, self.to_string()),
            Self::Malformed(_) | Self::Path(_) | Self::Parameter(_) | Self::Transport(_) => {
                Error::of(code, origin, self.to_string())
            }
        }
    }
}

impl Uri {
    /// The system daemon of this host.
    #[must_use]
    pub const fn system() -> Self {
        Self { transport: Transport::Unix { socket: None }, scope: Scope::System }
    }

    /// A daemon behind this socket.
    #[must_use]
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        Self { transport: Transport::Unix { socket: Some(socket.into()) }, scope: Scope::System }
    }

    /// A daemon at this host and port.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self { transport: Transport::Tcp { host: host.into(), port }, scope: Scope::System }
    }

    /// How the daemon is reached.
    #[must_use]
    pub const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The name for the open call: host, transport and query are the client's business.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.scope {
            Scope::System => "qemu:///system",
            Scope::Session => "qemu:///session",
        }
    }

    pub(crate) const fn scope(&self) -> Scope {
        self.scope
    }
}

impl FromStr for Uri {
    type Err = ParseUriError;

    fn from_str(text: &str) -> Result<Self, ParseUriError> {
        let malformed = || ParseUriError::Malformed(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let (driver, transport) = scheme.split_once('+').unwrap_or((scheme, ""));
        if driver != "qemu" {
            return Err(ParseUriError::Driver(text.to_owned()));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let slash = rest.find('/').ok_or_else(malformed)?;
        let (authority, path) = rest.split_at(slash);
        let scope = match path {
            "/system" => Scope::System,
            "/session" => Scope::Session,
            other => return Err(ParseUriError::Path(other.to_owned())),
        };
        let transport = match (transport, authority) {
            ("", "") | ("unix", "") => Transport::Unix { socket: socket(query, &malformed)? },
            ("tcp", authority) => {
                no_parameters(query)?;
                let (host, port) = host_port(authority).ok_or_else(malformed)?;
                Transport::Tcp { host, port }
            }
            ("unix", _) => return Err(malformed()),
            // A host without a transport means TLS.
            ("", _) => return Err(ParseUriError::Transport("tls".to_owned())),
            (other, _) => return Err(ParseUriError::Transport(other.to_owned())),
        };
        Ok(Self { transport, scope })
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.scope {
            Scope::System => "/system",
            Scope::Session => "/session",
        };
        match &self.transport {
            Transport::Unix { socket: None } => write!(f, "qemu://{path}"),
            Transport::Unix { socket: Some(socket) } => {
                write!(f, "qemu+unix://{path}?socket={}", percent_encoded(&socket.to_string_lossy()))
            }
            Transport::Tcp { host, port } if host.contains(':') => {
                write!(f, "qemu+tcp://[{host}]:{port}{path}")
            }
            Transport::Tcp { host, port } => write!(f, "qemu+tcp://{host}:{port}{path}"),
        }
    }
}

/// The parameters of a query, decoded.
fn parameters(query: &str) -> impl Iterator<Item = (&str, Option<String>)> {
    let pairs = query.split(['&', ';']).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name, percent_decoded(value)))
}

fn no_parameters(query: &str) -> Result<(), ParseUriError> {
    match parameters(query).next() {
        None => Ok(()),
        Some((name, _)) => Err(ParseUriError::Parameter(name.to_owned())),
    }
}

/// The socket that a query names.
fn socket(query: &str, malformed: &dyn Fn() -> ParseUriError) -> Result<Option<PathBuf>, ParseUriError> {
    let mut socket = None;
    for (name, value) in parameters(query) {
        match (name, value) {
            ("socket", Some(path)) if path.starts_with('/') && !path.contains('\0') => {
                socket = Some(PathBuf::from(path));
            }
            ("socket", _) => return Err(malformed()),
            (other, _) => return Err(ParseUriError::Parameter(other.to_owned())),
        }
    }
    Ok(socket)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`, after an optional `user@` that TCP has no use for.
fn host_port(authority: &str) -> Option<(String, u16)> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let well_formed = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    let port = port.map_or(Some(TCP_PORT), |port| port.parse().ok().filter(|port| *port != 0))?;
    well_formed.then(|| (host.to_owned(), port))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = digits.map(|digit| char::from(digit).to_digit(16));
        bytes.push(u8::try_from(digits[0]? * 16 + digits[1]?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~:,".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Uri, ParseUriError> {
        text.parse()
    }

    #[test]
    fn the_forms_that_are_spoken() {
        assert_eq!(parse("qemu:///system"), Ok(Uri::system()));
        assert_eq!(parse("qemu:///session").unwrap().name(), "qemu:///session");
        assert_eq!(parse("qemu+unix:///system"), Ok(Uri::system()));
        assert_eq!(parse("qemu+unix:///system?socket=/run/a%20b"), Ok(Uri::unix("/run/a b")));
        assert_eq!(parse("qemu+tcp://beta/system"), Ok(Uri::tcp("beta", 16509)));
        assert_eq!(parse("qemu+tcp://192.0.2.7:16999/system"), Ok(Uri::tcp("192.0.2.7", 16999)));
        assert_eq!(parse("qemu+tcp://[::1]/system"), Ok(Uri::tcp("::1", 16509)));
        assert_eq!(parse("qemu+tcp://[2001:db8::7]:1/system"), Ok(Uri::tcp("2001:db8::7", 1)));
        assert_eq!(parse("qemu+tcp://beta:1/system").unwrap().name(), "qemu:///system");
    }

    #[test]
    fn the_others_are_refused_by_name() {
        let transport = |name: &str| Err(ParseUriError::Transport(name.to_owned()));
        assert_eq!(parse("qemu+ssh://root@beta/system"), transport("ssh"));
        assert_eq!(parse("qemu+libssh2://beta/system"), transport("libssh2"));
        assert_eq!(parse("qemu://beta/system"), transport("tls"));
        assert_eq!(parse("qemu+tls://beta/system"), transport("tls"));
        assert_eq!(parse("xen:///system"), Err(ParseUriError::Driver("xen:///system".to_owned())));
        assert_eq!(parse("qemu:///embed"), Err(ParseUriError::Path("/embed".to_owned())));
        let parameter = Err(ParseUriError::Parameter("no_tty".to_owned()));
        assert_eq!(parse("qemu+tcp://beta/system?no_tty=1"), parameter);
        let wire = parse("qemu+ssh://beta/system").unwrap_err().to_wire();
        assert!(wire.message.contains("'ssh'"), "{}", wire.message);
    }

    #[test]
    fn what_is_no_uri_is_malformed() {
        for text in [
            "",
            "qemu",
            "qemu:/system",
            "qemu://system",
            "qemu+tcp:///system",
            "qemu+tcp://beta:0/system",
            "qemu+tcp://beta:70000/system",
            "qemu+tcp://[::1/system",
            "qemu+tcp://[beta]/system",
            "qemu+tcp://[::1]16509/system",
            "qemu+unix://beta/system",
            "qemu:///system?socket=relative",
            "qemu:///system?socket=/a%0",
            "qemu:///system?socket=/a%00b",
        ] {
            assert!(matches!(parse(text), Err(ParseUriError::Malformed(_))), "{text}: {:?}", parse(text));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in "(qemu(\\+tcp|\\+unix)?://[a-z0-9:.\\[\\]@%]{0,12}/system(\\?socket=/[ -~é]{0,9})?|.{0,40})") {
            if let Ok(uri) = parse(&text) {
                prop_assert_eq!(parse(&uri.to_string()), Ok(uri));
            }
        }
    }
}
