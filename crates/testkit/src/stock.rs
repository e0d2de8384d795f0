//! Unmodified libvirtd on a host with namespaces, for comparison and as the other side.
//!
//! It gets what a lab cannot give it taken away (cgroups, security labels, its own mount namespace, ownership changes), and
//! listens on plain TCP without authentication. Nothing about how it migrates is changed.

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::deadline::wait_for;
use crate::lab::Host;
use crate::tree::{Launch, Tree};
use crate::{Error, Result};

/// How long the daemon may take to accept connections, and to end.
const LIMIT: Duration = Duration::from_secs(30);

const QEMU_CONF: &str = "\
security_driver = \"none\"
user = \"root\"
group = \"root\"
swtpm_user = \"root\"
swtpm_group = \"root\"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = \"file\"
seccomp_sandbox = 0
max_core = 0
";

/// A daemon and all it started. Dropping it ends everything.
#[derive(Debug)]
pub struct Libvirtd {
    host: Arc<Host>,
    trees: Vec<Tree>,
}

impl Libvirtd {
    /// Starts the libvirtd of the host's tools and waits until it accepts connections.
    ///
    /// # Errors
    /// [`Error::Missing`] on a host without namespaces, else as [`crate::ferryd::Ferryd::start`].
    pub fn start(host: &Arc<Host>) -> Result<Self> {
        if !host.is_isolated() {
            return Err(Error::Missing {
                what: "namespaces".into(),
                needed_for: "stock libvirt keeps to fixed places, which must not be the machine's".into(),
            });
        }
        let etc = host.seen("/etc/libvirt");
        fs::create_dir_all(&etc).map_err(Error::io(format!("making {etc:?}")))?;
        // 192.0.2.N: a UUID that differs from host to host and stays over restarts.
        let uuid = format!("0f3e0000-0000-4000-8000-0000000000{:02x}", host.address().octets()[3]);
        let libvirtd_conf = format!(
            "listen_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nauth_unix_rw = \"none\"\nhost_uuid = \"{uuid}\"\n\
             log_outputs = \"2:stderr\"\n"
        );
        for (name, text) in [("libvirtd.conf", libvirtd_conf.as_str()), ("qemu.conf", QEMU_CONF)] {
            fs::write(etc.join(name), text).map_err(Error::io(format!("writing {name}")))?;
        }
        add_accounts(host)?;
        let mut libvirtd = Self { host: Arc::clone(host), trees: Vec::new() };
        libvirtd.start_again()?;
        Ok(libvirtd)
    }

    /// Starts the daemon after [`kill`](Self::kill).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_again(&mut self) -> Result<()> {
        let launch = Launch::new("/usr/sbin/libvirtd").args(["--listen"]).env("LC_ALL", "C");
        self.trees.push(self.host.start(launch, "libvirtd")?);
        let socket = self.host.seen("/run/libvirt/libvirt-sock");
        let accepted = wait_for("libvirtd's socket", LIMIT, || match self.daemon().ended() {
            Some(end) => Some(Err(end)),
            None => UnixStream::connect(&socket).ok().map(|_| Ok(())),
        });
        let detail = match accepted {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(end)) => end,
            Err(late) => late.to_string(),
        };
        let log = self.daemon().log_tail(30);
        Err(Error::Unexpected { what: "start of libvirtd".into(), detail: format!("{detail}\n{log}") })
    }

    /// Ends the daemon as a crash would. Its QEMUs live on.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub fn kill(&self) -> Result<()> {
        self.daemon().signal(Signal::KILL);
        self.daemon().wait_end(LIMIT).map(drop)
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The URI for clients on the same host.
    pub fn uri(&self) -> String {
        "qemu:///system".to_owned()
    }

    /// The URI for clients on any host.
    pub fn tcp_uri(&self) -> String {
        format!("qemu+tcp://{}/system", self.host.authority())
    }

    /// The living QEMUs that it has started.
    pub fn qemus(&self) -> Vec<u32> {
        self.trees.iter().flat_map(|tree| tree.living_named("qemu-system")).collect()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.daemon().log_tail(lines)
    }

    fn daemon(&self) -> &Tree {
        // There is one from `start` on.
        &self.trees[self.trees.len() - 1]
    }
}

/// The account that its package makes on installation: the daemon looks for it even when told to use another.
fn add_accounts(host: &Host) -> Result<()> {
    host.sh("getent group libvirt-qemu || echo 'libvirt-qemu:x:64055:' >> /etc/group
         getent group libvirt || echo 'libvirt:x:64056:' >> /etc/group
         getent passwd libvirt-qemu ||
             echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' >> /etc/passwd")?;
    Ok(())
}
