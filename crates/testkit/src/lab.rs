//! Hosts on one machine, joined by a switch: each a network, UTS and mount namespace of its own.
//!
//! ```text
//!            switch namespace: bridge sw0
//!        h1 |                         | h2          link: can be cut, healed, shaped
//!      eth0 |                         | eth0
//!       br0 192.0.2.1                 br0 192.0.2.2  guests' cards join br0
//!        namespaces of host h1         namespaces of host h2
//! ```
//!
//! A host has its own name, resolvable from all, its own `/run`, and its own writable `/etc` and `/var` over the machine's;
//! unpacked packages may lie over its `/usr`. The rest of the file system, with the lab's folder in it, is shared: that is
//! where images lie. Nothing of this touches the machine, and all of it is gone when the last handle is dropped.
//!
//! An ordinary user gets hosts without namespaces ([`Lab::local`]): private folders on loopback.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{Output, run};
use crate::tools::{EMULATOR, Tools};
use crate::tree::{Launch, Tree};
use crate::{Error, Result};

/// How long a command of the lab's own may take.
const SETUP_LIMIT: Duration = Duration::from_secs(30);

/// A host's own folder on the machine's disk, as it alone sees it. The rest that is its own lies in memory.
pub const DISK: &str = "/run/disk";

/// The port of libvirt's protocol over plain TCP.
const LIBVIRT_PORT: u16 = 16509;

/// Several hosts.
#[derive(Debug)]
pub struct Lab {
    hosts: Vec<Arc<Host>>,
    folder: Arc<Folder>,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    port: u16,
    folder: PathBuf,
    tools: Tools,
    /// Keeps the namespaces. `None` for a host without.
    anchor: Option<Tree>,
    switch: Option<Arc<Switch>>,
    _lab: Arc<Folder>,
}

#[derive(Debug)]
struct Switch {
    anchor: Tree,
}

/// The lab's folder, gone with the last host. `FERRY_TEST_KEEP` in the environment keeps it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Lab {
    /// Makes hosts with namespaces, each with its tools. The first has the address 192.0.2.1, and so on.
    ///
    /// # Errors
    /// [`Error::Missing`] when this is not root, [`Error::Command`] when the kernel refuses something.
    pub fn new(hosts: &[(&str, &Tools)]) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Missing {
                what: "root".into(),
                needed_for: "hosts in namespaces; Lab::local has hosts without".into(),
            });
        }
        let folder = Arc::new(Folder::new()?);
        let switch = Arc::new(Switch::start(&folder.0)?);
        let names: Vec<&str> = hosts.iter().map(|(name, _)| *name).collect();
        let table = hosts_table(&names);
        let made = hosts.iter().zip(1u8..).map(|((name, tools), number)| {
            Host::in_namespaces(name, number, tools, &table, &switch, &folder).map(Arc::new)
        });
        Ok(Self { hosts: made.collect::<Result<_>>()?, folder })
    }

    /// Makes hosts without namespaces, for an ordinary user: folders and free ports on loopback. Their links cannot be cut,
    /// and stock libvirt cannot be run on them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn local(hosts: &[(&str, &Tools)]) -> Result<Self> {
        let folder = Arc::new(Folder::new()?);
        let made = hosts.iter().map(|(name, tools)| Host::local(name, tools, &folder).map(Arc::new));
        Ok(Self { hosts: made.collect::<Result<_>>()?, folder })
    }

    /// [`new`](Self::new) for root, else [`local`](Self::local).
    ///
    /// # Errors
    /// As those.
    pub fn best(hosts: &[(&str, &Tools)]) -> Result<Self> {
        if rustix::process::geteuid().is_root() { Self::new(hosts) } else { Self::local(hosts) }
    }

    /// A host by its number, from 0.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn host(&self, number: usize) -> &Arc<Host> {
        &self.hosts[number]
    }

    /// A folder that all hosts see under the same path: images go here.
    pub fn shared(&self) -> &Path {
        &self.folder.0
    }
}

impl Host {
    /// Its name, which all hosts with namespaces resolve.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The port for a daemon that listens on TCP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What another host calls it in a URI: its name, or address and port where names and ports are the machine's.
    pub fn authority(&self) -> String {
        if self.anchor.is_some() { self.name.clone() } else { format!("{}:{}", self.address, self.port) }
    }

    /// Its folder, seen by all under the same path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it has namespaces of its own.
    pub fn is_isolated(&self) -> bool {
        self.anchor.is_some()
    }

    /// Where `path`, as the host sees it, is seen by this process.
    pub fn seen(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match &self.anchor {
            Some(anchor) => Path::new("/proc")
                .join(anchor.pid().to_string())
                .join("root")
                .join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_path_buf(),
        }
    }

    /// The path of one of the host's tools, as the host sees it.
    pub fn tool(&self, name: &str) -> PathBuf {
        if self.anchor.is_some() { Path::new("/usr/bin").join(name) } else { self.tools.path(name) }
    }

    /// The QEMU to name in a domain that is to be migrated from or to this host: [`Tools::emulator`], else the plain one.
    pub fn emulator(&self) -> PathBuf {
        self.tools.emulator().map_or_else(|| self.tool(EMULATOR), Path::to_path_buf)
    }

    /// A command that will run on this host. A host with namespaces gives it `/` as its folder.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let entry = self.entry();
        match entry.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Runs a command on this host to its end.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run<Word: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        words: impl IntoIterator<Item = Word>,
        limit: Duration,
    ) -> Result<Output> {
        run(self.command(program).args(words), limit)
    }

    /// Runs a shell script on this host to its end, gives what it printed.
    ///
    /// # Errors
    /// As [`run`], and [`Error::Command`] when it fails.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.run("sh", ["-ec", script], SETUP_LIMIT)?.ok()
    }

    /// Starts a program on this host. Its output goes to `NAME.log` in the host's folder.
    ///
    /// # Errors
    /// As [`Tree::start`].
    pub fn start(&self, launch: Launch, name: &str) -> Result<Tree> {
        Tree::start(&launch.inside(self.entry()), self.folder.join(format!("{name}.log")))
    }

    /// Listens on this host, as some other program there would. The port is free again when the listener is dropped.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        let space = self.anchor.as_ref().map(|anchor| format!("/proc/{}/ns/net", anchor.pid()));
        let bind = move || {
            if let Some(space) = space {
                // Only the thread that makes the socket enters the host.
                let space = fs::File::open(space)?;
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            TcpListener::bind(address)
        };
        let bound = std::thread::spawn(bind).join();
        bound
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
            .map_err(Error::io(format!("listening on {address}")))
    }

    /// Sends a line to the guest's (or anyone's) TCP echo service from this host; whether it came back within 5 s.
    pub fn echo(&self, address: Ipv4Addr) -> bool {
        let script = format!(
            "exec 3<>/dev/tcp/{address}/7 && echo ferry >&3 && read -r -t 4 line <&3 && test \"$line\" = ferry"
        );
        self.run("bash", ["-c", &script], Duration::from_secs(5)).is_ok_and(|output| output.success())
    }

    /// Cuts the host off: packets vanish silently both ways, the cable stays in.
    ///
    /// # Errors
    /// [`Error::Missing`] on a host without namespaces.
    pub fn cut(&self) -> Result<()> {
        self.on_switch(&format!("bridge link set dev {} state 0", self.name))
    }

    /// Undoes [`cut`](Self::cut).
    ///
    /// # Errors
    /// As [`cut`](Self::cut).
    pub fn heal(&self) -> Result<()> {
        self.on_switch(&format!("bridge link set dev {} state 3", self.name))
    }

    /// Limits the host's link to `mbit_per_s` each way; `None` takes the limit off.
    ///
    /// # Errors
    /// As [`cut`](Self::cut).
    pub fn shape(&self, mbit_per_s: Option<u32>) -> Result<()> {
        let script = |device: &str| match mbit_per_s {
            // A burst of 10 ms at the rate, and room for one full-sized offloaded packet at any rate.
            Some(rate) => format!(
                "tc qdisc replace dev {device} root tbf rate {rate}mbit burst {}b latency 50ms",
                (u64::from(rate) * 1250).max(128 * 1024)
            ),
            None => format!("tc qdisc del dev {device} root 2>/dev/null || true"),
        };
        self.on_switch(&script(&self.name))?;
        self.sh(&script("eth0"))?;
        Ok(())
    }

    fn on_switch(&self, script: &str) -> Result<()> {
        let switch = self.switch.as_ref().ok_or_else(|| Error::Missing {
            what: format!("a link of host {}", self.name),
            needed_for: "only hosts with namespaces have one".into(),
        })?;
        switch.sh(script)
    }

    fn in_namespaces(
        name: &str,
        number: u8,
        tools: &Tools,
        table: &str,
        switch: &Arc<Switch>,
        lab: &Arc<Folder>,
    ) -> Result<Self> {
        let folder = lab.0.join(name);
        fs::create_dir_all(folder.join("private")).map_err(Error::io(format!("making {folder:?}")))?;
        let launch = Launch::new("sleep").args(["infinity"]).inside([
            "unshare",
            "--net",
            "--uts",
            "--mount",
            "--propagation",
            "private",
        ]);
        let anchor = Tree::start(&launch, folder.join("anchor.log"))?;
        // Lower than the address of any TAP. A bridge takes the lowest of its ports: with one that the kernel made up,
        // a guest that starts would now and then change the host's own address, and its peers would talk to nobody.
        switch.sh(&format!(
            "ip link add {name} type veth peer name eth0 address 02:00:00:00:02:{number:02x} netns {}
             ip link set {name} master sw0 up",
            anchor.pid()
        ))?;
        let host = Self {
            name: name.to_owned(),
            address: Ipv4Addr::new(192, 0, 2, number),
            port: LIBVIRT_PORT,
            folder,
            tools: tools.clone(),
            anchor: Some(anchor),
            switch: Some(Arc::clone(switch)),
            _lab: Arc::clone(lab),
        };
        host.sh(&host.setup())?;
        fs::write(host.seen("/etc/hosts"), table).map_err(Error::io("writing the host's /etc/hosts"))?;
        Ok(host)
    }

    /// The script that turns fresh namespaces into a host.
    fn setup(&self) -> String {
        let private = self.folder.join("private");
        let private = private.display();
        let mut script =
            format!("hostname {}\nmount -t tmpfs -o mode=755 ferry-lab '{private}'\n", self.name);
        if !self.tools.overlays.is_empty() {
            let roots: Vec<String> =
                self.tools.overlays.iter().map(|root| root.join("usr").display().to_string()).collect();
            script += &format!("mount -t overlay -o 'lowerdir={}:/usr' ferry-lab /usr\n", roots.join(":"));
        }
        // Plugins of the machine's own version do not fit: a folder of them is replaced, not added to.
        for (folder, place) in self.tools.plugin_folders() {
            let path = folder.display();
            script += &format!("mount --bind '{path}' '/{place}'\n");
        }
        let configured = self.tools.configured.iter().map(|root| format!("{}/etc:", root.display()));
        for (top, over) in [("etc", configured.collect()), ("var", String::new())] {
            script += &format!(
                "mkdir '{private}/{top}' '{private}/{top}.work'\n\
                 mount -t overlay -o 'lowerdir={over}/{top},upperdir={private}/{top},workdir={private}/{top}.work' ferry-lab /{top}\n"
            );
        }
        script += &format!(
            "mount -t tmpfs -o mode=755 ferry-lab /run
             mkdir -p /run/lock '{disk}' {DISK}
             mount --bind '{disk}' {DISK}
             mount -t sysfs ferry-lab /sys
             ip link set lo up
             ip link add br0 type bridge stp_state 0 forward_delay 0
             ip link set eth0 master br0 up
             ip address add {}/24 dev br0
             ip link set br0 up
             ",
            self.address,
            disk = self.folder.join("disk").display(),
        );
        script
    }

    fn local(name: &str, tools: &Tools, lab: &Arc<Folder>) -> Result<Self> {
        let folder = lab.0.join(name);
        fs::create_dir_all(&folder).map_err(Error::io(format!("making {folder:?}")))?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        Ok(Self {
            name: name.to_owned(),
            address: Ipv4Addr::LOCALHOST,
            port: free.map_err(Error::io("looking for a free port"))?.port(),
            folder,
            tools: tools.clone(),
            anchor: None,
            switch: None,
            _lab: Arc::clone(lab),
        })
    }

    /// What goes before a command to run it on this host.
    fn entry(&self) -> Vec<OsString> {
        self.anchor.as_ref().map(|anchor| enter(anchor, &["--net", "--uts", "--mount"])).unwrap_or_default()
    }
}

impl Switch {
    fn start(folder: &Path) -> Result<Self> {
        let launch = Launch::new("sleep").args(["infinity"]).inside(["unshare", "--net"]);
        let switch = Self { anchor: Tree::start(&launch, folder.join("switch.log"))? };
        switch.sh("ip link add sw0 type bridge stp_state 0 forward_delay 0\nip link set sw0 up")?;
        Ok(switch)
    }

    fn sh(&self, script: &str) -> Result<()> {
        let words = enter(&self.anchor, &["--net"]);
        let mut command = Command::new(&words[0]);
        run(command.args(&words[1..]).args(["sh", "-ec", script]), SETUP_LIMIT)?.ok()?;
        Ok(())
    }
}

impl Folder {
    /// In `/tmp`, whatever `TMPDIR` says: sockets below it must have short paths.
    fn new() -> Result<Self> {
        let made = tempfile::Builder::new().prefix("ferry").tempdir_in("/tmp");
        Ok(Self(made.map_err(Error::io("making the lab's folder"))?.keep()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("FERRY_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.0.display());
        } else if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

fn enter(anchor: &Tree, namespaces: &[&str]) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["nsenter", "--target"].map(OsString::from).into();
    words.push(anchor.pid().to_string().into());
    words.extend(namespaces.iter().map(OsString::from));
    words
}

fn hosts_table(names: &[&str]) -> String {
    let hosts = names.iter().zip(1u8..).map(|(name, number)| format!("192.0.2.{number} {name}\n"));
    std::iter::once("127.0.0.1 localhost\n".to_owned()).chain(hosts).collect()
}
