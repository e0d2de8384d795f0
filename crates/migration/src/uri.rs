//! Data URIs: where the memory stream goes. What Prepare listens on, what it answers, what Perform connects to.
//!
//! Called by the driver with what clients and peers sent. It refuses to resolve names and to pick ports: both
//! are the driver's. Hosts and paths are checked here, since they end in a QEMU address with a syntax of its own.

use std::fmt;

use ferry_rpc::{Error, ErrorCode, Origin};

/// Longest path that a UNIX socket address holds, bytes.
const UNIX_PATH_MAX: usize = 107;
/// Longest host name (RFC 1035), also more than any literal address.
const HOST_MAX: usize = 253;

/// A checked data URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataUri {
    /// `tcp:host:port`, `tcp://host[:port]`.
    Tcp {
        /// Name or address; an IPv6 literal without its brackets.
        host: String,
        /// Absent: taken from the pool by the destination.
        port: Option<u16>,
    },
    /// `unix:/path`, `unix:///path`.
    Unix {
        /// An absolute path.
        path: String,
    },
}

/// Why a data URI is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No scheme at all.
    #[error("missing scheme in migration URI: {0}")]
    MissingScheme(String),
    /// A scheme that is not served.
    #[error("unsupported scheme {scheme} in migration URI {uri}")]
    UnsupportedScheme {
        /// The scheme.
        scheme: String,
        /// The whole text.
        uri: String,
    },
    /// Nothing where the host should be.
    #[error("missing host in migration URI: {0}")]
    MissingHost(String),
    /// A host, port or path with characters that none has, or out of range.
    #[error("malformed migration URI: {0}")]
    Malformed(String),
    /// A listen address together with a UNIX socket.
    #[error("Usage of listen-address is forbidden when migration URI uses UNIX transport method")]
    ListenAddressWithUnix,
    /// An address to listen on that is none.
    #[error("malformed listen address: {0}")]
    ListenAddress(String),
}

impl From<UriError> for Error {
    fn from(error: UriError) -> Self {
        let code = match &error {
            UriError::UnsupportedScheme { .. } => ErrorCode::ARGUMENT_UNSUPPORTED,
            UriError::MissingScheme(_)
            | UriError::MissingHost(_)
            | UriError::Malformed(_)
            | UriError::ListenAddressWithUnix
            | UriError::ListenAddress(_) => ErrorCode::INVALID_ARG,
        };
        Self::of(code, Origin::QEMU, error.to_string())
    }
}

impl DataUri {
    /// Reads what a client gave as `migrate_uri`, or what a destination answered.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let malformed = || UriError::Malformed(shorten(text));
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
            return Err(UriError::MissingScheme(shorten(text)));
        };
        match scheme {
            "tcp" => {
                let authority = rest.strip_prefix("//").unwrap_or(rest);
                let authority = authority.strip_suffix('/').unwrap_or(authority);
                let (host, port) = split_authority(authority).ok_or_else(malformed)?;
                if host.is_empty() {
                    return Err(UriError::MissingHost(shorten(text)));
                }
                if !is_host(host) {
                    return Err(malformed());
                }
                let port = match port {
                    None | Some("0") => None,
                    Some(digits) => Some(parse_port(digits).ok_or_else(malformed)?),
                };
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            "unix" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if !path.starts_with('/') || path.len() > UNIX_PATH_MAX || path.contains(char::is_control) {
                    return Err(malformed());
                }
                Ok(Self::Unix { path: path.to_owned() })
            }
            other => Err(UriError::UnsupportedScheme { scheme: shorten(other), uri: shorten(text) }),
        }
    }

    /// What QEMU's `migrate` takes. A TCP URI needs its port: the source connects to a port that is known.
    pub fn qemu_connect(&self) -> Result<String, UriError> {
        match self {
            Self::Tcp { host, port: Some(port) } => Ok(format!("tcp:{}:{port}", Bracketed(host))),
            Self::Tcp { port: None, .. } => Err(UriError::Malformed(self.to_string())),
            Self::Unix { path } => Ok(format!("unix:{path}")),
        }
    }
}

/// The form in which the URI is written into logs and answers.
impl fmt::Display for DataUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port: Some(port) } => write!(f, "tcp:{}:{port}", Bracketed(host)),
            Self::Tcp { host, port: None } => write!(f, "tcp:{}", Bracketed(host)),
            Self::Unix { path } => write!(f, "unix:{path}"),
        }
    }
}

/// What the destination's QEMU listens on, as Prepare was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// TCP.
    Tcp {
        /// An address of this host; absent: all of them (`[::]` where the host has IPv6, else `0.0.0.0`).
        address: Option<String>,
        /// Absent: from the pool.
        port: Option<u16>,
    },
    /// A UNIX socket.
    Unix {
        /// Its path.
        path: String,
    },
}

impl Listen {
    /// From Prepare's `migrate_uri` and `listen_address`.
    pub fn plan(uri: Option<&DataUri>, listen_address: Option<&str>) -> Result<Self, UriError> {
        if let Some(address) = listen_address
            && !is_host(address.trim_start_matches('[').trim_end_matches(']'))
        {
            return Err(UriError::ListenAddress(shorten(address)));
        }
        match (uri, listen_address) {
            (Some(DataUri::Unix { .. }), Some(_)) => Err(UriError::ListenAddressWithUnix),
            (Some(DataUri::Unix { path }), None) => Ok(Self::Unix { path: path.clone() }),
            (Some(DataUri::Tcp { port, .. }), address) => {
                Ok(Self::Tcp { address: address.map(unbracket), port: *port })
            }
            (None, address) => Ok(Self::Tcp { address: address.map(unbracket), port: None }),
        }
    }

    /// What QEMU's `migrate-incoming` takes. `any` is the wildcard of this host, `port` the one that was chosen
    /// when the plan names none.
    pub fn qemu_incoming(&self, any: &str, port: u16) -> String {
        match self {
            Self::Tcp { address, port: fixed } => {
                let address = address.as_deref().unwrap_or(any);
                format!("tcp:{}:{}", Bracketed(address), fixed.unwrap_or(port))
            }
            Self::Unix { path } => format!("unix:{path}"),
        }
    }
}

/// Prepare's `uri_out`: where the source is to connect. Nothing when the caller's own URI says it all.
///
/// `given` is the caller's text, `host` this host's own name (or configured migration host), `port` the one that
/// was chosen from the pool.
pub fn uri_out(given: Option<&str>, uri: Option<&DataUri>, host: &str, port: u16) -> Option<String> {
    match (given, uri) {
        (_, Some(DataUri::Unix { .. } | DataUri::Tcp { port: Some(_), .. })) => None,
        (Some(text), Some(DataUri::Tcp { port: None, .. })) => {
            let text = text.trim_end_matches('/');
            Some(format!("{}:{port}", text.strip_suffix(":0").unwrap_or(text)))
        }
        (None, _) | (Some(_), None) => Some(format!("tcp:{}:{port}", Bracketed(host))),
    }
}

/// A host as it stands in a URI: IPv6 literals in brackets.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') && !self.0.starts_with('[') {
            write!(f, "[{}]", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Host and port of `host`, `host:port`, `[v6]`, `[v6]:port`. A bare IPv6 literal is taken as a host.
fn split_authority(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let is_number = !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Only what names and addresses are made of: QEMU reads commas and equal signs in an address as options.
fn is_host(text: &str) -> bool {
    let is_v6 = text.contains(':');
    !text.is_empty()
        && text.len() <= HOST_MAX
        && !text.starts_with('-')
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') || (is_v6 && matches!(c, ':' | '%'))
        })
}

fn unbracket(address: &str) -> String {
    address.trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// What a client wrote goes into an error text, but not megabytes of it.
fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: Option<u16>) -> DataUri {
        DataUri::Tcp { host: host.into(), port }
    }

    #[test]
    fn both_spellings_are_read() {
        for (text, uri) in [
            ("tcp:h2:49777", tcp("h2", Some(49777))),
            ("tcp://h2:49777", tcp("h2", Some(49777))),
            ("tcp://h2:49777/", tcp("h2", Some(49777))),
            ("tcp:h2", tcp("h2", None)),
            ("tcp://h2", tcp("h2", None)),
            ("tcp://h2:0", tcp("h2", None)),
            ("tcp://[2001:db8::1]:7", tcp("2001:db8::1", Some(7))),
            ("tcp:[::1]:7", tcp("::1", Some(7))),
            ("tcp:[::1]", tcp("::1", None)),
            ("tcp://fe80::1%eth0", tcp("fe80::1%eth0", None)),
            ("unix:///run/s", DataUri::Unix { path: "/run/s".into() }),
            ("unix:/run/s", DataUri::Unix { path: "/run/s".into() }),
        ] {
            assert_eq!(DataUri::parse(text), Ok(uri), "{text}");
        }
    }

    #[test]
    fn refusals_have_the_codes_and_texts_of_stock() {
        let refused = |text: &str| Error::from(DataUri::parse(text).unwrap_err());
        let error = refused("xyz");
        assert_eq!((error.code, error.origin), (ErrorCode::INVALID_ARG, Origin::QEMU));
        assert_eq!(error.message, "invalid argument: missing scheme in migration URI: xyz");
        let error = refused("foo://h2");
        assert_eq!(error.code, ErrorCode::ARGUMENT_UNSUPPORTED);
        assert_eq!(error.message, "argument unsupported: unsupported scheme foo in migration URI foo://h2");
        assert_eq!(refused("rdma://h2").code, ErrorCode::ARGUMENT_UNSUPPORTED);
        assert_eq!(refused("tcp://:1").message, "invalid argument: missing host in migration URI: tcp://:1");
    }

    #[test]
    fn nothing_that_qemu_would_read_as_an_option_passes() {
        for text in [
            "tcp:h2:1,ipv4=off",
            "tcp:h2,to=5:1",
            "tcp://h 2:1",
            "tcp://h2:99999",
            "tcp://h2:-1",
            "tcp://h2:+1",
            "tcp:[::1",
            "tcp:[::1]x",
            "tcp:h2:1\n",
            "unix:relative",
            "unix:///a\0b",
            "tcp:-h2:1",
            "tcp:é:1",
        ] {
            assert!(DataUri::parse(text).is_err(), "{text:?}");
        }
        assert!(DataUri::parse(&format!("unix:/{}", "x".repeat(UNIX_PATH_MAX))).is_err());
        let long = DataUri::parse(&"x".repeat(1_000_000)).unwrap_err();
        assert!(long.to_string().len() < 1_000);
    }

    #[test]
    fn the_answer_of_prepare_adds_only_what_the_caller_left_out() {
        let out = |given: Option<&str>| {
            let uri = given.map(|text| DataUri::parse(text).unwrap());
            uri_out(given, uri.as_ref(), "beta", 49152)
        };
        assert_eq!(out(None).as_deref(), Some("tcp:beta:49152"));
        assert_eq!(out(Some("tcp:beta")).as_deref(), Some("tcp:beta:49152"));
        assert_eq!(out(Some("tcp://192.0.2.7")).as_deref(), Some("tcp://192.0.2.7:49152"));
        assert_eq!(out(Some("tcp://[::1]/")).as_deref(), Some("tcp://[::1]:49152"));
        assert_eq!(out(Some("tcp://beta:0")).as_deref(), Some("tcp://beta:49152"));
        assert_eq!(out(Some("tcp://beta:5000")), None);
        assert_eq!(out(Some("unix:///run/s")), None);
        assert_eq!(uri_out(None, None, "2001:db8::1", 1).as_deref(), Some("tcp:[2001:db8::1]:1"));
    }

    #[test]
    fn qemu_listens_and_connects_where_it_was_told() {
        let plan = |uri: Option<&str>, address| {
            Listen::plan(uri.map(|text| DataUri::parse(text).unwrap()).as_ref(), address)
        };
        assert_eq!(plan(None, None).unwrap().qemu_incoming("::", 49152), "tcp:[::]:49152");
        assert_eq!(plan(Some("tcp:h2:7"), None).unwrap().qemu_incoming("0.0.0.0", 9), "tcp:0.0.0.0:7");
        assert_eq!(plan(None, Some("[::1]")).unwrap().qemu_incoming("::", 9), "tcp:[::1]:9");
        assert_eq!(plan(Some("unix:/s"), None).unwrap().qemu_incoming("::", 9), "unix:/s");
        assert_eq!(plan(Some("unix:/s"), Some("127.0.0.1")), Err(UriError::ListenAddressWithUnix));
        assert!(plan(None, Some("127.0.0.1,to=9")).is_err());
        assert_eq!(DataUri::parse("tcp://[::1]:7").unwrap().qemu_connect().unwrap(), "tcp:[::1]:7");
        assert!(DataUri::parse("tcp://h2").unwrap().qemu_connect().is_err());
    }
}
