//! Where the demonstration plays: a temporary folder with two private hosts, and the way to end everything again.
//!
//! Guests are processes of their own and outlive their daemon; that is the point of them, and here the trouble. This
//! process declares itself the one to which orphans fall, so that after the daemons have ended every QEMU that is left is
//! a child of it, and is ended by its id.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ferry_client::{Connection, OpenOptions, Uri};
use ferry_rpc::flags::{DestroyFlags, ListFlags};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Failure;

/// How long a daemon may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long each step of the tidying up may take.
const END_LIMIT: Duration = Duration::from_secs(5);

/// How often something is looked at that gives no sign.
const LOOK: Duration = Duration::from_millis(20);

/// Lines of a daemon's log that are shown when it fails.
const LOG_LINES: usize = 15;

/// UNIX sockets leave no room for long paths; a temporary folder that is longer than this is not used.
const TEMPORARY_MAX: usize = 30;

/// The folder and what runs in it. [`Stage::end`] must be called; it cannot be left to a drop, since it waits.
pub(crate) struct Stage {
    folder: PathBuf,
    hosts: Vec<Host>,
}

/// A private host.
pub(crate) struct Host {
    /// Its name in the display.
    pub(crate) name: &'static str,
    root: PathBuf,
    log: PathBuf,
    daemon: Child,
    connection: Option<Connection>,
}

impl Stage {
    /// Makes the folder.
    pub(crate) fn open() -> Result<Self, Failure> {
        let cannot =
            |what: &str, error: io::Error| Failure::refused(format!("cannot {what}"), error.to_string());
        set_child_subreaper(Some(getpid()))
            .map_err(|errno| cannot("take in the guests' processes", errno.into()))?;
        let folder = temporary_folder().map_err(|error| cannot("make a temporary folder", error))?;
        Ok(Self { folder, hosts: Vec::new() })
    }

    /// A file of the demonstration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a daemon with a root of its own below the folder, and waits until it accepts connections. Two hosts on one
    /// machine share its ports, so each gets some of its own.
    pub(crate) async fn start_host(
        &mut self,
        ferryd: &Path,
        name: &'static str,
        ports: std::ops::RangeInclusive<u16>,
    ) -> Result<(), Failure> {
        let cannot = |cause: String| Failure::failed(format!("cannot start host {name}"), cause);
        let root = self.folder.join(name);
        let log = self.folder.join(format!("{name}.log"));
        let config = format!(
            "migration_host = \"127.0.0.1\"\nmigration_address = \"127.0.0.1\"\nmigration_port_min = {}\n\
             migration_port_max = {}\n",
            ports.start(),
            ports.end()
        );
        let spawn = || {
            fs::create_dir(&root)?;
            fs::write(root.join("ferryd.toml"), config)?;
            let output = File::create(&log)?;
            Command::new(ferryd)
                .arg("--root")
                .arg(&root)
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                // Ctrl-C is for this process, which then ends the others in order.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
        };
        let daemon = spawn().map_err(|error| cannot(format!("{}: {error}", ferryd.display())))?;
        // From here on `end` finds it, however the start goes.
        self.hosts.push(Host { name, root, log, daemon, connection: None });
        let Some(host) = self.hosts.last_mut() else { return Err(cannot("it is gone".to_owned())) };
        host.connect().await.map_err(|cause| cannot(format!("{cause}\n{}", host.last_words())))
    }

    /// The host of this name, which was started.
    pub(crate) fn host(&self, name: &str) -> Result<&Host, Failure> {
        let found = self.hosts.iter().find(|host| host.name == name);
        found.ok_or_else(|| Failure::failed("cannot go on", format!("there is no host {name}")))
    }

    /// The last lines of the daemons' logs.
    pub(crate) fn last_words(&self) -> String {
        let words = self.hosts.iter().map(|host| format!("--- ferryd {}\n{}", host.name, host.last_words()));
        words.collect::<Vec<_>>().join("\n")
    }

    /// Ends guests, daemons and whatever they have left, and removes the folder.
    ///
    /// # Errors
    /// What could not be removed, in words.
    pub(crate) async fn end(mut self) -> Result<(), String> {
        for host in &self.hosts {
            // A daemon that does not answer has its guests ended below.
            let _ = timeout(END_LIMIT, host.destroy_guests()).await;
        }
        for host in &mut self.hosts {
            host.end().await;
        }
        let left = end_orphans().await;
        let removed = fs::remove_dir_all(&self.folder);
        match (left, removed) {
            (0, Ok(())) => Ok(()),
            (0, Err(error)) => Err(format!("cannot remove {}: {error}", self.folder.display())),
            (left, _) => Err(format!("{left} processes could not be ended")),
        }
    }
}

impl Host {
    /// Its address.
    pub(crate) fn uri(&self) -> Uri {
        Uri::unix(self.root.join("sock"))
    }

    /// The connection to it.
    pub(crate) fn connection(&self) -> Result<&Connection, Failure> {
        self.connection
            .as_ref()
            .ok_or_else(|| Failure::failed("cannot go on", format!("host {} is not connected", self.name)))
    }

    async fn connect(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        let options = OpenOptions { close_callback: false, ..OpenOptions::default() };
        loop {
            let error = match Connection::open(&self.uri(), options.clone()).await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(error) => error,
            };
            if let Ok(Some(status)) = self.daemon.try_wait() {
                return Err(format!("ferryd has ended ({status})"));
            }
            if Instant::now() >= deadline {
                return Err(format!("no connection within {} s: {error}", START_LIMIT.as_secs()));
            }
            sleep(LOOK).await;
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    async fn destroy_guests(&self) {
        let Some(connection) = &self.connection else { return };
        for domain in connection.domains(ListFlags::ACTIVE).await.unwrap_or_default() {
            let _ = connection.destroy(&domain, DestroyFlags::NONE).await;
        }
    }

    /// Asks the daemon to end, and insists when it does not.
    async fn end(&mut self) {
        self.connection = None;
        if let Some(pid) = self.daemon.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(END_LIMIT, self.daemon.wait()).await.is_err() {
            let _ = self.daemon.kill().await;
        }
    }
}

/// A folder that only its owner may enter, with a path short enough for sockets in it.
fn temporary_folder() -> io::Result<PathBuf> {
    let usual = std::env::temp_dir();
    let base = if usual.as_os_str().len() > TEMPORARY_MAX { Path::new("/tmp") } else { &usual };
    for number in 0..1000 {
        let folder = base.join(format!("ferry-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return fs::canonicalize(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

/// Ends the children that this process has; says how many are left.
async fn end_orphans() -> usize {
    let deadline = Instant::now() + END_LIMIT;
    loop {
        let children = children();
        if children.is_empty() || Instant::now() >= deadline {
            return children.len();
        }
        for child in children {
            let _ = kill_process(child, Signal::KILL);
            let _ = waitpid(Some(child), WaitOptions::NOHANG);
        }
        sleep(LOOK).await;
    }
}

/// The processes whose parent is this one.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero().get();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_ours = numbers.filter(|number| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        parent(&stat) == Some(own)
    });
    of_ours.filter_map(Pid::from_raw).collect()
}

/// The fourth field of proc(5)'s `stat`; the second, the name, may hold anything and ends with the last bracket.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (a) b (c) S 7 12 12"), Some(7));
        assert_eq!(parent(""), None);
    }

    #[test]
    fn folders_are_short_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (one, other) = (temporary_folder().unwrap(), temporary_folder().unwrap());
        assert_ne!(one, other);
        assert!(one.as_os_str().len() < TEMPORARY_MAX + 20, "{one:?}");
        assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir(one).unwrap();
        fs::remove_dir(other).unwrap();
    }

    #[tokio::test]
    async fn everything_that_was_started_is_ended_daemon_or_not() {
        let mut stage = Stage::open().unwrap();
        let folder = stage.folder.clone();
        // No daemon, but a program that starts another and goes, and never listens.
        let program = folder.join("program");
        fs::write(&program, "#!/bin/sh\nsleep 600 &\necho last words\nexit 3\n").unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let failure = stage.start_host(&program, "a", 1..=2).await.unwrap_err().to_string();
        assert!(failure.contains("ended (exit status: 3)") && failure.contains("last words"), "{failure}");
        assert_eq!(children().len(), 1, "the sleeper fell to us");
        stage.end().await.unwrap();
        assert!(children().is_empty() && !folder.exists());
    }
}
