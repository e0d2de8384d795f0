//! The command line of a guest, in stock's order and words.
//!
//! Called when a domain starts, here or as the destination of a migration, with a definition that was
//! completed, named ([`crate::aliases`]), and whose disks were numbered ([`crate::blockgraph`]). What only
//! the daemon knows comes in as a [`Launch`]: file descriptors that QEMU inherits, the time, the role.
//! Options whose form differs between versions of QEMU are chosen by capability, never by version.
//!
//! One file a family of options; this one has the order. It refuses to know how a process is started.

mod board;
mod boot;
mod chardevs;
mod controllers;
mod disks;
mod display;
mod file_systems;
mod firmware;
mod firmware_tables;
mod interfaces;
mod memory;
mod memory_backend;
mod memory_devices;
mod place;
pub mod plug;
mod rtc;
mod small_devices;
mod threads;
mod tpm;
mod virtio;

use std::collections::BTreeMap;

use ferry_domxml::Domain;

use crate::blockgraph::{GraphError, MASTER_KEY};
use crate::capabilities::Capabilities;
use crate::machine::{self, Family, MachineError};
use crate::props::{KeyValue, Props};

pub use boot::boot_indexes;
pub use memory_backend::{MemoryFolders, check_memory};

pub(crate) use memory_devices::memory_driver;
pub(crate) use small_devices::{codecs, sound_driver};

/// Number of a file descriptor in QEMU's process.
pub type Fd = i32;

/// What only the daemon knows about a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The listening socket of the monitor.
    pub monitor: Fd,
    /// QEMU waits for a migration instead of a `cont`.
    pub incoming: bool,
    /// The time of the start.
    pub now: Now,
    /// Network back ends, by the card's alias. A card in user mode needs none.
    pub taps: BTreeMap<String, Tap>,
    /// Back ends of character devices, by the device's alias. One without an entry is opened by QEMU from
    /// its path.
    pub chardevs: BTreeMap<String, ChardevFds>,
    /// Sockets of the servers of shared folders that are programs of their own, by the folder's alias.
    pub file_systems: BTreeMap<String, String>,
    /// Values that disks refer to, by the object's name ([`crate::blockgraph::needed`]).
    pub secrets: BTreeMap<String, SealedSecret>,
    /// Path of the file with the key that they are encrypted with.
    pub master_key: Option<String>,
    /// `/dev/vhost-vsock`, open for reading and writing. `None`: QEMU opens it.
    pub vsock: Option<Fd>,
    /// Where guest memory can lie in files.
    pub memory: MemoryFolders,
    /// QEMU's end of a connected socket pair with the program that plays the guest's TPM.
    pub tpm: Option<Fd>,
}

impl Launch {
    /// A start with a monitor and nothing else.
    #[must_use]
    pub fn new(monitor: Fd, now: Now) -> Self {
        Self {
            monitor,
            incoming: false,
            now,
            taps: BTreeMap::new(),
            chardevs: BTreeMap::new(),
            file_systems: BTreeMap::new(),
            secrets: BTreeMap::new(),
            master_key: None,
            vsock: None,
            memory: MemoryFolders::default(),
            tpm: None,
        }
    }
}

/// A moment, for clocks that start relative to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970 UTC.
    pub utc_s: i64,
    /// Seconds that the host's time zone is ahead of UTC.
    pub zone_offset_s: i64,
}

/// The host's end of a network card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tap {
    /// One a queue pair.
    pub fds: Vec<Fd>,
    /// `/dev/vhost-net`, one a queue pair, when the kernel is to move the packets.
    pub vhost_fds: Vec<Fd>,
}

/// The host's end of a character device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChardevFds {
    /// A socket that listens already.
    pub listen: Option<Fd>,
    /// The file of a `type='file'` device, open for writing.
    pub file: Option<Fd>,
    /// The log, open for appending.
    pub log: Option<Fd>,
}

/// A value that only QEMU can read: AES-256 in CBC mode under the master key, padded as PKCS#7 has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// The encrypted value, base64.
    pub data: String,
    /// The initialization vector, base64.
    pub iv: String,
}

impl SealedSecret {
    /// The object that holds it.
    #[must_use]
    pub fn object(&self, name: &str) -> Props {
        Props::object("secret", name)
            .with("data", self.data.as_str())
            .with("keyid", MASTER_KEY)
            .with("iv", self.iv.as_str())
            .with("format", "base64")
    }
}

/// The object that holds the key of all others; `path` is the file that has it.
#[must_use]
pub fn master_key_object(path: &str) -> Props {
    Props::object("secret", MASTER_KEY).with("format", "raw").with("file", path)
}

/// What to execute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables that QEMU needs; the daemon adds its own.
    pub env: Vec<(String, String)>,
}

/// Why there is no command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// The machine type is not known.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A disk has no block graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The definition was not completed or not named before.
    #[error("internal error: {device} has no {what}")]
    Incomplete {
        /// What kind of device, or which.
        device: String,
        /// What is missing.
        what: &'static str,
    },
    /// A secret whose value the daemon must bring was not brought.
    #[error("internal error: no value was brought for secret {0}")]
    NoSecret(String),
    /// A back end that the daemon must open was not.
    #[error("internal error: no file descriptor was opened for {0}")]
    NoFd(String),
    /// Large pages are wanted, and the host has none that could be used.
    #[error("internal error: hugetlbfs filesystem is not mounted or disabled by administrator config")]
    NoLargePages,
    /// The host has large pages of other sizes.
    #[error("internal error: Unable to find any usable hugetlbfs mount for {kib} KiB")]
    NoPagesOfSize {
        /// The size that is wanted.
        kib: u64,
    },
    /// Something that has no command line here yet.
    #[error("unsupported configuration: {0}")]
    Unsupported(String),
}

/// The command line of a domain.
///
/// # Errors
/// See [`CommandLineError`]; [`crate::validate()`] has refused before what the binary cannot do.
pub fn command_line(
    domain: &Domain,
    capabilities: &Capabilities,
    launch: &Launch,
) -> Result<CommandLine, CommandLineError> {
    let emulator = domain.devices.emulator.clone();
    let emulator = emulator.ok_or_else(|| incomplete("the domain", "emulator"))?;
    let mut line = Builder::new(domain, capabilities, launch)?;
    line.out = CommandLine { argv: vec![emulator], env: vec![("LC_ALL".to_owned(), "C".to_owned())] };
    line.option("-name", KeyValue::new("").with("guest", &domain.name).switch("debug-threads", true));
    line.flag("-S");
    if let Some(path) = &launch.master_key {
        line.option("-object", master_key_object(path));
    }
    line.board()?;
    line.monitor();
    line.clock();
    line.power();
    line.boot();
    line.controllers()?;
    line.memory_devices()?;
    line.hubs()?;
    line.disks()?;
    line.file_systems()?;
    line.interfaces()?;
    line.serials()?;
    line.channels()?;
    line.consoles()?;
    line.tpms()?;
    line.inputs()?;
    line.audio();
    line.graphics()?;
    line.videos()?;
    line.sounds()?;
    line.watchdogs()?;
    line.redirections()?;
    if launch.incoming {
        line.option("-incoming", "defer");
    }
    line.balloon()?;
    line.rngs()?;
    line.identity();
    line.panics()?;
    line.vsock()?;
    line.pstore()?;
    line.crash_dump();
    line.words_of_the_user();
    line.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    line.option("-msg", "timestamp=on");
    Ok(line.out)
}

struct Builder<'a> {
    domain: &'a Domain,
    capabilities: &'a Capabilities,
    launch: &'a Launch,
    family: Family,
    boot: boot::BootIndexes,
    out: CommandLine,
    fd_sets: u32,
}

impl<'a> Builder<'a> {
    fn new(
        domain: &'a Domain,
        capabilities: &'a Capabilities,
        launch: &'a Launch,
    ) -> Result<Self, CommandLineError> {
        Ok(Builder {
            domain,
            capabilities,
            launch,
            family: machine::family(domain)?,
            boot: boot_indexes(domain),
            out: CommandLine::default(),
            fd_sets: 0,
        })
    }
}

impl Builder<'_> {
    fn flag(&mut self, option: &str) {
        self.out.argv.push(option.to_owned());
    }

    fn option(&mut self, option: &str, value: impl ToString) {
        self.flag(option);
        self.out.argv.push(value.to_string());
    }

    fn device(&mut self, props: &Props) {
        self.option("-device", props);
    }

    /// What the definition says in QEMU's own words. Nobody looks at them.
    fn words_of_the_user(&mut self) {
        let Some(own) = &self.domain.qemu_command_line else { return };
        self.out.argv.extend(own.arguments.iter().filter_map(|argument| argument.value.clone()));
        for variable in &own.variables {
            if let Some(name) = &variable.name {
                self.out.env.push((name.clone(), variable.value.clone().unwrap_or_default()));
            }
        }
    }

    fn monitor(&mut self) {
        let chardev = KeyValue::new("socket").with("id", "charmonitor").with("fd", self.launch.monitor);
        self.option("-chardev", chardev.switch("server", true).switch("wait", false));
        self.option("-mon", "chardev=charmonitor,id=monitor,mode=control");
    }
}

fn incomplete(device: impl Into<String>, what: &'static str) -> CommandLineError {
    CommandLineError::Incomplete { device: device.into(), what }
}

/// The name that [`crate::aliases`] gave.
fn alias<'a>(
    info: &'a ferry_domxml::address::DeviceInfo,
    device: &'static str,
) -> Result<&'a str, CommandLineError> {
    info.alias.as_deref().ok_or_else(|| incomplete(device, "alias"))
}
