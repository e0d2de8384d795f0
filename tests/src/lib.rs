//! What every end-to-end scenario begins with: two hosts that run `ferryd`, a stock virsh on each, a guest, and an ear on its
//! serial port. The scenarios are in this package's `tests` folder.
//!
//! ```no_run
//! # use ferry_tests::Pair;
//! let pair = Pair::new(&Pair::distribution())?;
//! let serial = pair.boot_sector("vm")?;
//! pair.virsh(0).ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe"])?;
//! serial.wait_beats_on("h2", 100, ferry_tests::SOON)?;
//! serial.verdict().whole().expect("a whole guest");
//! # Ok::<(), ferry_testkit::Error>(())
//! ```

pub mod aftermath;
pub mod bench;
pub mod calls;
pub mod copying;
pub mod doubt;
pub mod events;
pub mod faults;
pub mod wire;

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferry_testkit::cache::Cache;
use ferry_testkit::command::Output;
use ferry_testkit::ferryd::{Ferryd, Options};
use ferry_testkit::guest::{Boot, Domain, LinuxImage, Port, Work};
use ferry_testkit::lab::{Host, Lab};
use ferry_testkit::serial::Serial;
use ferry_testkit::tools::{EMULATOR, Tools};
use ferry_testkit::virsh::Virsh;
use ferry_testkit::{Error, Result, programs};

/// Long enough for anything that should happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Long enough for Linux to boot in an emulated machine, on a busy one.
pub const BOOT: Duration = Duration::from_secs(120);

/// The hosts' names, in order.
pub const NAMES: [&str; 2] = ["h1", "h2"];

/// Two hosts with a daemon each: in namespaces for root, else private roots on loopback.
#[derive(Debug)]
pub struct Pair {
    // The daemons end before their hosts.
    daemons: [Ferryd; 2],
    lab: Lab,
}

impl Pair {
    /// Starts a daemon on each of two hosts that have `tools`.
    ///
    /// # Errors
    /// As [`Lab::best`] and [`Ferryd::start`].
    pub fn new(tools: &Tools) -> Result<Self> {
        Self::with([tools, tools], [Options::default(), Options::default()])
    }

    /// Starts daemons with options on hosts with tools of their own.
    ///
    /// # Errors
    /// As [`Lab::best`] and [`Ferryd::start`].
    pub fn with(tools: [&Tools; 2], options: [Options; 2]) -> Result<Self> {
        let lab = Lab::best(&[(NAMES[0], tools[0]), (NAMES[1], tools[1])])?;
        let [first, second] = options;
        let daemons = [Ferryd::start(lab.host(0), first)?, Ferryd::start(lab.host(1), second)?];
        Ok(Self { daemons, lab })
    }

    /// Debian 12's own QEMU and virsh.
    ///
    /// # Panics
    /// When they cannot be had: the test cannot go on.
    pub fn distribution() -> Tools {
        Cache::open()
            .and_then(|cache| Tools::distribution(&cache))
            .expect("the distribution's QEMU and virsh")
    }

    /// Backports' QEMU and virsh.
    ///
    /// # Panics
    /// When they cannot be had: the test cannot go on.
    pub fn newer() -> Tools {
        Cache::open().and_then(|cache| Tools::newer(&cache)).expect("backports' QEMU and virsh")
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A host by its number, 0 or 1.
    pub fn host(&self, number: usize) -> &Arc<Host> {
        self.lab.host(number)
    }

    /// A daemon by its host's number.
    pub fn daemon(&self, number: usize) -> &Ferryd {
        &self.daemons[number]
    }

    /// A daemon by its host's number, to be restarted.
    pub fn daemon_mut(&mut self, number: usize) -> &mut Ferryd {
        &mut self.daemons[number]
    }

    /// A virsh on a host, against that host's daemon.
    pub fn virsh(&self, number: usize) -> Virsh {
        Virsh::new(self.host(number), self.daemons[number].uri())
    }

    /// Where a daemon keeps its records, as SQLite finds it: that follows links by their names, and the root of another
    /// process has none.
    pub fn database(&self, number: usize) -> PathBuf {
        let host = self.host(number);
        host.folder().join(if host.is_isolated() { "disk/f" } else { "f" }).join("ferry.sqlite")
    }

    /// Runs the operator's tool on a host, for its daemon.
    ///
    /// # Panics
    /// When it does not end within [`SOON`].
    pub fn ferry(&self, number: usize, words: &[&str]) -> Output {
        let root = self.daemons[number].root().display().to_string();
        let words = ["-c", &root].into_iter().chain(words.iter().copied());
        let program = programs::ferry().expect("the operator's tool");
        self.host(number).run(program, words, SOON).expect("its end")
    }

    /// The URI that both hosts reach a daemon by.
    pub fn uri(&self, number: usize) -> String {
        self.daemons[number].tcp_uri()
    }

    /// The emulator's path for domains on these hosts: when one of them has an old QEMU, the script that old ones need.
    pub fn emulator(&self) -> PathBuf {
        let [first, second] = [0, 1].map(|number| self.host(number));
        let plain = first.tool(EMULATOR);
        if first.emulator() == plain { second.emulator() } else { first.emulator() }
    }

    /// Starts the boot-sector guest on the first host and waits until it beats.
    ///
    /// # Errors
    /// virsh's, or [`Error::Late`].
    pub fn boot_sector(&self, name: &str) -> Result<Serial> {
        let (domain, serial) = self.sector(name)?;
        self.start(name, domain)?;
        serial.wait_beats_on(self.ear(0), 100, SOON)?;
        Ok(serial)
    }

    /// A domain of the boot-sector guest, its image written, and an ear on it. Nothing is defined yet.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sector(&self, name: &str) -> Result<(Domain, Serial)> {
        let (log, serial) = self.listen(name)?;
        let image = self.lab.shared().join(format!("{name}.img"));
        Ok((Domain::boot_sector(name, &image, log)?.emulator(self.emulator()), serial))
    }

    /// Writes `domain` to the file `NAME.xml` that all hosts see.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, name: &str, domain: &Domain) -> Result<PathBuf> {
        domain.write(self.lab.shared().join(format!("{name}.xml")))
    }

    /// Starts the Linux guest on the first host, with an 8 MiB disk and, with namespaces, a card on the hosts' bridge, and
    /// waits until it is ready. Commands go to it by [`ask`](Self::ask).
    ///
    /// # Errors
    /// virsh's, or [`Error::Late`].
    pub fn linux(&self, name: &str, work: Work) -> Result<Serial> {
        let (log, serial) = self.listen(name)?;
        let disk = self.lab.shared().join(format!("{name}.img"));
        File::create(&disk).and_then(|file| file.set_len(8 << 20)).map_err(Error::io("an empty disk"))?;
        let boot = Boot::Linux(LinuxImage::ready(&Cache::open()?)?, work);
        let mut domain =
            Domain::new(name, boot, Port::File(log)).disk(&disk, "raw").command_port(self.commands(name));
        if self.host(0).is_isolated() {
            domain = domain.bridge("br0");
        }
        self.start(name, domain)?;
        serial.wait_ready(BOOT)?;
        Ok(serial)
    }

    /// Asks the Linux guest on host `number`: `check`, `stat`, `rate 50`. Gives the reply's fields.
    ///
    /// # Errors
    /// As [`Serial::ask`].
    pub fn ask(
        &self,
        number: usize,
        name: &str,
        serial: &Serial,
        command: &str,
    ) -> Result<std::collections::BTreeMap<String, String>> {
        let socket = self.host(number).seen(self.commands(name));
        let mut port = UnixStream::connect(&socket).map_err(Error::io(format!("{socket:?}")))?;
        serial.ask(&mut port, command, SOON)
    }

    /// Whether the Linux guest can be asked when it has moved: hosts without namespaces have one command port between them, and
    /// the QEMU that the guest has left takes it along.
    pub fn is_asked_there(&self) -> bool {
        let isolated = self.host(0).is_isolated();
        if !isolated {
            eprintln!("a guest that has moved is asked only on hosts with namespaces");
        }
        isolated
    }

    /// The name under which [`Serial`] knows what is heard from host `number`: without namespaces both write one file.
    pub fn ear(&self, number: usize) -> &'static str {
        if self.host(0).is_isolated() { NAMES[number] } else { NAMES[0] }
    }

    /// Defines and starts `domain` on the first host.
    ///
    /// # Errors
    /// virsh's.
    pub fn start(&self, name: &str, domain: Domain) -> Result<()> {
        let xml = self.write(name, &domain.emulator(self.emulator()))?;
        self.virsh(0).define_and_start(name, &xml)
    }

    /// The serial log's path as the hosts see it, and an ear on it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn listen(&self, name: &str) -> Result<(PathBuf, Serial)> {
        if self.host(0).is_isolated() {
            let log = PathBuf::from(format!("/run/{name}.log"));
            let serial = Serial::follow([0, 1].map(|number| (NAMES[number], self.host(number).seen(&log))))?;
            return Ok((log, serial));
        }
        let log = self.lab.shared().join(format!("{name}.log"));
        let serial = Serial::follow([(NAMES[0], &log)])?;
        Ok((log, serial))
    }

    fn commands(&self, name: &str) -> PathBuf {
        if self.host(0).is_isolated() {
            PathBuf::from(format!("/run/{name}.commands"))
        } else {
            // Both QEMUs of a migration bind the same path, and the one that ends takes it away: see `is_asked_there`.
            self.lab.shared().join(format!("{name}.commands"))
        }
    }
}
