//! `ferryd` as an operator runs it: a process with a private root on a host, killed and restarted at will.
//!
//! Whatever a daemon started stays under the tree in which it was started, across restarts, so nothing is left when this is
//! dropped.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::deadline::{wait_for, wait_until};
use crate::lab::{DISK, Host};
use crate::tree::{Launch, Tree};
use crate::{Error, Result, programs};

/// How long the daemon may take to accept connections, and to end when asked to.
const LIMIT: Duration = Duration::from_secs(20);

/// How to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Listen on the host's address and port.
    pub tcp: bool,
    /// `--host-uuid`.
    pub host_uuid: Option<String>,
    /// `ferryd.toml` in the root, when there is to be one.
    pub config: Option<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Keep the root in memory, where syncing costs nothing; only on hosts with namespaces of their own.
    pub in_memory: bool,
    /// Run the build that a test can hold at the points of a migration: see [`Ferryd::arm`].
    pub fault_points: bool,
    /// How many descriptors it has at first, and how many it may have.
    pub descriptors: Option<(u64, u64)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tcp: true,
            host_uuid: None,
            config: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            in_memory: false,
            fault_points: false,
            descriptors: None,
        }
    }
}

/// Where fault points are armed, in the host's folder.
const FAULT_POINTS: &str = "fault-points";

/// A fault point that was armed. Dropping it disarms the point and lets go of a migration that is held there.
#[derive(Debug)]
pub struct Hold {
    armed: PathBuf,
    reached: PathBuf,
}

impl Hold {
    /// Whether a migration is held there.
    pub fn is_reached(&self) -> bool {
        self.reached.exists()
    }

    /// Waits until a migration is held there.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub fn wait(&self, limit: Duration) -> Result<()> {
        wait_until(&format!("fault point {:?}", self.armed), limit, || self.is_reached())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // One of the two is there, or neither: the daemon was never started again.
        let _ = std::fs::remove_file(&self.armed);
        let _ = std::fs::remove_file(&self.reached);
    }
}

/// A daemon and all it started. Dropping it ends everything.
#[derive(Debug)]
pub struct Ferryd {
    host: Arc<Host>,
    options: Options,
    root: PathBuf,
    /// One tree for each start; the last holds the running daemon.
    trees: Vec<Tree>,
}

impl Ferryd {
    /// Starts a daemon on `host` and waits until it accepts connections.
    ///
    /// # Errors
    /// [`Error::Late`] or [`Error::Unexpected`] with the end of its log.
    pub fn start(host: &Arc<Host>, options: Options) -> Result<Self> {
        // Where the other host cannot see its socket, or a cut cable would not part the two.
        let root = match (host.is_isolated(), options.in_memory) {
            (true, false) => Path::new(DISK).join("f"),
            (true, true) => PathBuf::from("/run/f"),
            (false, _) => host.folder().join("f"),
        };
        let seen = host.seen(&root);
        std::fs::create_dir_all(&seen).map_err(Error::io(format!("making {seen:?}")))?;
        if let Some(config) = &options.config {
            let path = seen.join("ferryd.toml");
            std::fs::write(&path, config).map_err(Error::io(format!("writing {path:?}")))?;
        }
        std::fs::create_dir_all(host.folder().join(FAULT_POINTS))
            .map_err(Error::io("a folder for fault points"))?;
        let mut ferryd = Self { host: Arc::clone(host), options, root, trees: Vec::new() };
        ferryd.start_again()?;
        Ok(ferryd)
    }

    /// Starts the daemon after [`kill`](Self::kill) or [`stop`](Self::stop), and waits until it accepts connections.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_again(&mut self) -> Result<()> {
        let program =
            if self.options.fault_points { programs::ferryd_with_fault_points() } else { programs::ferryd() };
        let program = program?;
        let mut launch = match self.options.descriptors {
            None => Launch::new(program),
            Some((first, most)) => {
                let limit = format!("--nofile={first}:{most}");
                Launch::new("prlimit").args([limit.as_ref(), program.as_os_str()])
            }
        };
        launch = launch.args(["--root".as_ref(), self.root.as_os_str()]);
        if self.options.tcp {
            launch = launch.args(["--listen-tcp", &format!("{}:{}", self.host.address(), self.host.port())]);
        }
        if let Some(uuid) = &self.options.host_uuid {
            launch = launch.args(["--host-uuid", uuid]);
        }
        launch = launch.args(&self.options.arguments).env("RUST_BACKTRACE", "1");
        for (name, value) in &self.options.environment {
            launch = launch.env(name, value);
        }
        if self.options.fault_points {
            launch = launch.env("FERRYD_FAULT_POINTS", self.fault_points());
        }
        self.trees.push(self.host.start(launch, "ferryd")?);
        self.wait_accepting()
    }

    /// Ends the daemon as a crash would. Its QEMUs live on.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub fn kill(&self) -> Result<()> {
        self.daemon().signal(Signal::KILL);
        self.daemon().wait_end(LIMIT).map(drop)
    }

    /// Ends the daemon as an init system would. Its QEMUs live on.
    ///
    /// # Errors
    /// [`Error::Late`], and [`Error::Unexpected`] when it does not end with exit code 0.
    pub fn stop(&self) -> Result<()> {
        self.daemon().signal(Signal::TERM);
        let end = self.daemon().wait_end(LIMIT)?;
        if end == "exit code 0" {
            return Ok(());
        }
        Err(Error::Unexpected {
            what: "end of ferryd".into(),
            detail: format!("{end}\n{}", self.log_tail(20)),
        })
    }

    /// [`kill`](Self::kill) and [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// As those.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.kill()?;
        self.start_again()
    }

    /// Has the daemon hold the next migration that comes to fault point `name`, in this life of it or a later one. The
    /// daemon's own documentation has the names; only a daemon with [`Options::fault_points`] has the points.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn arm(&self, name: &str) -> Result<Hold> {
        let armed = self.fault_points().join(name);
        std::fs::write(&armed, "").map_err(Error::io(format!("{armed:?}")))?;
        let reached = self.fault_points().join(format!("{name}.reached"));
        Ok(Hold { armed, reached })
    }

    fn fault_points(&self) -> PathBuf {
        self.host.folder().join(FAULT_POINTS)
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Its `--root`, as its host sees it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its socket, as its host sees it.
    pub fn socket(&self) -> PathBuf {
        self.root.join("sock")
    }

    /// The URI for clients on the same host.
    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket().display())
    }

    /// The URI for clients on any host.
    pub fn tcp_uri(&self) -> String {
        format!("qemu+tcp://{}/system", self.host.authority())
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon().pid()
    }

    /// How the daemon ended; `None` while it runs.
    pub fn ended(&self) -> Option<String> {
        self.daemon().ended()
    }

    /// The living QEMUs that this daemon, in any of its lives, has started.
    pub fn qemus(&self) -> Vec<u32> {
        self.trees.iter().flat_map(|tree| tree.living_named("qemu-system")).collect()
    }

    /// The living programs that play TPMs of guests that this daemon, in any of its lives, has started.
    pub fn swtpms(&self) -> Vec<u32> {
        self.trees.iter().flat_map(|tree| tree.living_named("swtpm")).collect()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.daemon().log_tail(lines)
    }

    fn wait_accepting(&self) -> Result<()> {
        let accepted = wait_for("ferryd's socket", LIMIT, || match self.ended() {
            Some(end) => Some(Err(end)),
            None => UnixStream::connect(self.host.seen(self.socket())).ok().map(|_| Ok(())),
        });
        let detail = match accepted {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(end)) => end,
            Err(late) => late.to_string(),
        };
        Err(Error::Unexpected {
            what: "start of ferryd".into(),
            detail: format!("{detail}\n{}", self.log_tail(30)),
        })
    }

    fn daemon(&self) -> &Tree {
        // There is one from `start` on.
        &self.trees[self.trees.len() - 1]
    }
}
