//! `<source>` of a network disk: which server, which of its images, and how it is talked to. Used by [`crate::storage`].
//!
//! Its attributes and children stand in the same element as what every source has; what is not known is the source's to
//! keep.

use crate::model::{Attr, Child, ChildAttr, Input, Model, Output, Refusal, Rest, YesNo, element, values};

values! {
    /// How a server is talked to.
    pub enum SourceProtocol {
        /// network block device
        Nbd = "nbd",
        /// Ceph's block device
        Rbd = "rbd",
        /// SCSI over TCP
        Iscsi = "iscsi",
        /// HTTP
        Http = "http",
        /// HTTP over TLS
        Https = "https",
        /// FTP
        Ftp = "ftp",
        /// FTP over TLS
        Ftps = "ftps",
        /// a file over SSH
        Ssh = "ssh",
    }
}

impl SourceProtocol {
    /// The port of a server whose definition names none. `None`: its client knows, or finds it out.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Nbd => Some(10809),
            Self::Rbd => None,
            Self::Iscsi => Some(3260),
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Ftp => Some(21),
            Self::Ftps => Some(990),
            Self::Ssh => Some(22),
        }
    }

    /// Whether it is read from an address of the web.
    pub fn is_url(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::Ftp | Self::Ftps)
    }
}

/// An image on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSource {
    /// How the server is talked to.
    pub protocol: SourceProtocol,
    /// What it calls the image: an export, `pool/image`, `target/unit`, a path.
    pub name: Option<String>,
    /// What follows a question mark in an address of the web.
    pub query: Option<String>,
    /// Whether NBD is encrypted.
    pub tls: Option<YesNo>,
    /// The server, or the monitors of a cluster.
    pub hosts: Vec<SourceHost>,
    /// A snapshot of the image.
    pub snapshot: Option<String>,
    /// A file of the client's on this host that says the rest.
    pub config: Option<String>,
    /// What the client calls itself (iscsi).
    pub initiator: Option<Initiator>,
    /// Whether the server must prove who it is (https, ftps).
    pub ssl: Option<Ssl>,
    /// What is sent along with each request (http, https). Secrets: written only into secure XML.
    pub cookies: Option<Cookies>,
    /// Bytes that are read ahead.
    pub readahead: Option<u64>,
    /// Seconds until a request has failed.
    pub timeout: Option<u64>,
    /// Seconds that requests wait for a server that is lost (nbd).
    pub reconnect: Option<u64>,
    /// Whose keys are believed (ssh).
    pub known_hosts: Option<String>,
    /// As whom (ssh).
    pub identity: Option<Identity>,
}

impl NetworkSource {
    /// Takes what it knows from the `<source>` in hand.
    pub(crate) fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            protocol: input.required("protocol")?,
            name: input.attribute("name")?,
            query: input.attribute("query")?,
            tls: Attr::take(input, "tls")?,
            hosts: Child::take(input, "host")?,
            snapshot: ChildAttr::take(input, "snapshot", "name")?,
            config: ChildAttr::take(input, "config", "file")?,
            initiator: Child::take(input, "initiator")?,
            ssl: Child::take(input, "ssl")?,
            cookies: Child::take(input, "cookies")?,
            readahead: ChildAttr::take(input, "readahead", "size")?,
            timeout: ChildAttr::take(input, "timeout", "seconds")?,
            reconnect: ChildAttr::take(input, "reconnect", "delay")?,
            known_hosts: ChildAttr::take(input, "knownHosts", "path")?,
            identity: Child::take(input, "identity")?,
        })
    }

    /// Writes itself into the open `<source>`.
    pub(crate) fn put(&self, out: &mut Output) {
        out.attribute("protocol", &self.protocol);
        out.optional("name", &self.name);
        out.optional("query", &self.query);
        out.optional("tls", &self.tls);
        Child::put(&self.hosts, out, "host");
        ChildAttr::put(&self.snapshot, out, "snapshot", "name");
        ChildAttr::put(&self.config, out, "config", "file");
        Child::put(&self.initiator, out, "initiator");
        Child::put(&self.ssl, out, "ssl");
        if out.options().secure {
            Child::put(&self.cookies, out, "cookies");
        }
        ChildAttr::put(&self.readahead, out, "readahead", "size");
        ChildAttr::put(&self.timeout, out, "timeout", "seconds");
        ChildAttr::put(&self.reconnect, out, "reconnect", "delay");
        ChildAttr::put(&self.known_hosts, out, "knownHosts", "path");
        Child::put(&self.identity, out, "identity");
    }
}

element! {
    /// `<host>` of a network source.
    pub struct SourceHost {
        /// How it is reached. `None`: TCP.
        transport: Option<Transport> => Attr("transport"),
        /// Its name or address.
        name: Option<String> => Attr("name"),
        /// Its port.
        port: Option<u16> => Attr("port"),
        /// Path of its socket on this host.
        socket: Option<String> => Attr("socket"),
    }
}

values! {
    /// How a host is reached.
    pub enum Transport {
        /// TCP
        Tcp = "tcp",
        /// a socket on this host
        Unix = "unix",
    }
}

element! {
    /// `<initiator>`
    pub struct Initiator {
        /// The qualified name.
        iqn: Option<String> => ChildAttr("iqn", "name"),
    }
}

element! {
    /// `<ssl>`
    pub struct Ssl {
        /// Whether the server must prove who it is.
        verify: YesNo => Attr("verify"),
    }
}

/// `<cookies>`
#[derive(Clone, PartialEq, Eq)]
pub struct Cookies(pub Vec<Cookie>);

/// One cookie.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What is in them is not for logs.
impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cookies", self.0.len())
    }
}

impl Model for Cookies {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let cookies = input.each("cookie", |element| {
            let mut inner = Input::new(element);
            let cookie = Cookie { name: inner.required("name")?, value: inner.text()?.unwrap_or_default() };
            inner.finish()?;
            Ok(cookie)
        })?;
        input.finish()?;
        Ok(Self(cookies))
    }

    fn write(&self, out: &mut Output) {
        for cookie in &self.0 {
            out.child("cookie", |out| {
                out.attribute("name", &cookie.name);
                out.text(&cookie.value);
            });
        }
    }
}

element! {
    /// `<identity>` of an SSH source.
    pub struct Identity {
        /// The account on the server.
        username: Option<String> => Attr("username"),
        /// A private key on this host.
        keyfile: Option<String> => Attr("keyfile"),
        /// Socket of an agent that holds the keys.
        agent_socket: Option<String> => Attr("agentsock"),
    }
}

impl SourceHost {
    /// A host that is reached over TCP.
    pub fn tcp(name: &str, port: u16) -> Self {
        Self {
            transport: None,
            name: Some(name.to_owned()),
            port: Some(port),
            socket: None,
            rest: Rest::default(),
        }
    }
}
