//! `<serial>`, `<console>`, `<channel>`: character devices and what is behind them on the host.

use crate::address::DeviceInfo;
use crate::model::{ChildAttr, Flatten, Input, OnOff, Output, Refusal, Rest, YesNo, element, values};

element! {
    /// A serial port.
    pub struct Serial {
        /// What is behind it.
        source: ChardevSource => Flatten(),
        /// What the guest sends is written here as well.
        log: Option<Log> => Child("log"),
        /// What the guest sees. `None`: an ISA serial port with the next free number.
        target: Option<SerialTarget> => Child("target"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
}

element! {
    /// A console: either the first serial port again, or a device of its own.
    pub struct Console {
        /// Device node of the pty on this host (live XML only).
        tty: Option<String> => Attr("tty"),
        /// What is behind it.
        source: ChardevSource => Flatten(),
        /// What the guest sends is written here as well.
        log: Option<Log> => Child("log"),
        /// What the guest sees.
        target: Option<ConsoleTarget> => Child("target"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    attributes ["type", "tty"]
}

element! {
    /// A channel between guest and host that is no console.
    pub struct Channel {
        /// What is behind it.
        source: ChardevSource => Flatten(),
        /// What the guest sends is written here as well.
        log: Option<Log> => Child("log"),
        /// What the guest sees.
        target: ChannelTarget => Child("target"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
}

/// What is behind a character device: the `type` attribute, `<source>` and `<protocol>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChardevSource {
    /// What it is.
    pub backend: Backend,
    /// What else stands in `<source>`.
    pub rest: Rest,
}

/// What is behind a character device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Nothing.
    Null,
    /// A pseudo terminal; the path is its device node, in live XML only.
    Pty(Option<String>),
    /// A host's device.
    Dev(String),
    /// A named pipe.
    Pipe(String),
    /// A file that is written to.
    File {
        /// Absolute path.
        path: String,
        /// Whether it is appended to.
        append: Option<OnOff>,
    },
    /// QEMU's standard input and output.
    Stdio,
    /// A UNIX socket.
    Unix {
        /// Absolute path; `None`: the daemon chooses one, and QEMU listens.
        path: Option<String>,
        /// Who listens; `Bind` when there is no path.
        mode: SocketMode,
    },
    /// A TCP socket.
    Tcp {
        /// Who listens.
        mode: SocketMode,
        /// Host name or address.
        host: Option<String>,
        /// Port number or name.
        service: String,
        /// Encrypted or not; `None`: the daemon's default.
        tls: Option<YesNo>,
        /// What is spoken.
        protocol: Protocol,
    },
}

values! {
    /// The `type` of a character device.
    pub enum BackendType {
        /// nothing
        Null = "null",
        /// pseudo terminal
        Pty = "pty",
        /// device
        Dev = "dev",
        /// named pipe
        Pipe = "pipe",
        /// file
        File = "file",
        /// standard input and output
        Stdio = "stdio",
        /// UNIX socket
        Unix = "unix",
        /// TCP socket
        Tcp = "tcp",
    }
}

values! {
    /// Who listens.
    pub enum SocketMode {
        /// the other side does
        Connect = "connect",
        /// QEMU does
        Bind = "bind",
    }
}

values! {
    /// What is spoken on a TCP socket.
    pub enum Protocol {
        /// bytes
        Raw = "raw",
        /// telnet
        Telnet = "telnet",
    }
}

element! {
    /// `<log>`
    pub struct Log {
        /// Absolute path.
        file: String => Attr("file"),
        /// Whether it is appended to.
        append: Option<OnOff> => Attr("append"),
    }
}

element! {
    /// `<target>` of a serial port.
    pub struct SerialTarget {
        /// The bus. `None`: ISA.
        kind: Option<SerialTargetType> => Attr("type"),
        /// Number of the port, from 0.
        port: Option<u32> => Attr("port"),
        /// The QEMU device.
        model: Option<SerialModel> => ChildAttr("model", "name"),
    }
}

values! {
    /// Bus of a serial port.
    pub enum SerialTargetType {
        /// ISA
        Isa = "isa-serial",
        /// USB
        Usb = "usb-serial",
        /// PCI
        Pci = "pci-serial",
    }
}

values! {
    /// Device of a serial port.
    pub enum SerialModel {
        /// ISA
        Isa = "isa-serial",
        /// USB
        Usb = "usb-serial",
        /// PCI
        Pci = "pci-serial",
        /// a write-only port
        IsaDebugcon = "isa-debugcon",
    }
}

element! {
    /// `<target>` of a console.
    pub struct ConsoleTarget {
        /// What carries it.
        kind: ConsoleTargetType => AttrOr("type", ConsoleTargetType::Serial),
        /// Number of the port, from 0.
        port: Option<u32> => Attr("port"),
    }
}

values! {
    /// What carries a console.
    pub enum ConsoleTargetType {
        /// a serial port
        Serial = "serial",
        /// a virtio-serial port
        Virtio = "virtio",
    }
}

element! {
    /// `<target>` of a channel.
    pub struct ChannelTarget {
        /// What carries it.
        kind: ChannelTargetType => Attr("type"),
        /// Name of the port in the guest.
        name: Option<String> => Attr("name"),
        /// Whether the guest has it open (live XML only).
        state: Option<ChannelState> => Attr("state"),
    }
}

values! {
    /// What carries a channel.
    pub enum ChannelTargetType {
        /// a virtio-serial port
        Virtio = "virtio",
    }
}

values! {
    /// Whether the guest has the channel open.
    pub enum ChannelState {
        /// open
        Connected = "connected",
        /// closed
        Disconnected = "disconnected",
    }
}

impl Backend {
    /// The `type` attribute.
    pub fn backend_type(&self) -> BackendType {
        match self {
            Self::Null => BackendType::Null,
            Self::Pty(_) => BackendType::Pty,
            Self::Dev(_) => BackendType::Dev,
            Self::Pipe(_) => BackendType::Pipe,
            Self::File { .. } => BackendType::File,
            Self::Stdio => BackendType::Stdio,
            Self::Unix { .. } => BackendType::Unix,
            Self::Tcp { .. } => BackendType::Tcp,
        }
    }
}

impl From<Backend> for ChardevSource {
    fn from(backend: Backend) -> Self {
        Self { backend, rest: Rest::default() }
    }
}

impl Flatten for ChardevSource {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let kind: BackendType = input.required("type")?;
        let protocol = match kind {
            BackendType::Tcp => {
                let said = input.has_child("protocol");
                let protocol = <Option<Protocol> as ChildAttr>::take(input, "protocol", "type")?;
                // What is spoken is not known, and nothing may be put in its place.
                if said && protocol.is_none() {
                    return Err(Refusal::Unmodelled);
                }
                protocol
            }
            _ => None,
        };
        let source = input.first("source", |element| {
            let mut inner = Input::new(element);
            let backend = match kind {
                BackendType::Null => Backend::Null,
                BackendType::Pty => Backend::Pty(inner.attribute("path")?),
                BackendType::Dev => Backend::Dev(inner.required("path")?),
                BackendType::Pipe => Backend::Pipe(inner.required("path")?),
                BackendType::File => {
                    Backend::File { path: inner.required("path")?, append: inner.attribute("append")? }
                }
                BackendType::Stdio => Backend::Stdio,
                BackendType::Unix => {
                    let path: Option<String> = inner.attribute("path")?;
                    let mode = inner.attribute_or("mode", SocketMode::Connect)?;
                    let mode = if path.is_some() { mode } else { SocketMode::Bind };
                    Backend::Unix { path, mode }
                }
                BackendType::Tcp => Backend::Tcp {
                    mode: inner.attribute_or("mode", SocketMode::Connect)?,
                    host: inner.attribute("host")?,
                    service: inner.required("service")?,
                    tls: inner.attribute("tls")?,
                    protocol: protocol.unwrap_or(Protocol::Raw),
                },
            };
            Ok(Self { backend, rest: inner.rest() })
        })?;
        match (source, kind) {
            (Some(source), _) => Ok(source),
            (None, BackendType::Null) => Ok(Backend::Null.into()),
            (None, BackendType::Pty) => Ok(Backend::Pty(None).into()),
            (None, BackendType::Stdio) => Ok(Backend::Stdio.into()),
            (None, BackendType::Unix) => Ok(Backend::Unix { path: None, mode: SocketMode::Bind }.into()),
            (None, BackendType::Dev | BackendType::Pipe | BackendType::File | BackendType::Tcp) => {
                Err(input.missing_child("source"))
            }
        }
    }

    fn put(&self, out: &mut Output) {
        out.attribute("type", &self.backend.backend_type());
        let mut source = Output::new("source", out.options());
        let mut protocol_spoken = None;
        match &self.backend {
            Backend::Null | Backend::Stdio => {}
            Backend::Pty(path) => source.optional("path", path),
            Backend::Dev(path) | Backend::Pipe(path) => source.attribute("path", path),
            Backend::File { path, append } => {
                source.attribute("path", path);
                source.optional("append", append);
            }
            // Without a path the mode says nothing.
            Backend::Unix { path: None, mode: _ } => {}
            Backend::Unix { path: Some(path), mode } => {
                source.attribute("mode", mode);
                source.attribute("path", path);
            }
            Backend::Tcp { mode, host, service, tls, protocol } => {
                source.attribute("mode", mode);
                source.optional("host", host);
                source.attribute("service", service);
                source.optional("tls", tls);
                protocol_spoken = Some(*protocol);
            }
        }
        source.rest(&self.rest);
        if !source.is_empty() {
            out.push(source);
        }
        ChildAttr::put(&protocol_spoken, out, "protocol", "type");
    }
}
