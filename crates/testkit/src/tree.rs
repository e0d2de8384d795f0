//! A process, and everything that comes of it, that cannot be left behind.
//!
//! A daemon's QEMUs outlive it on purpose, so ending the daemon is not enough: each tree stands under a subreaper
//! (`ferry-hold`, a binary of this crate) that inherits the orphans, reaps the dead at once, and ends all that lives when
//! the [`Tree`] is dropped, or when the test process dies in whatever way.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::deadline::wait_until;
use crate::{Error, Result, programs};

/// How long a program may take from being started to being there.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long the whole tree may take to be gone once its end was asked for.
const END_LIMIT: Duration = Duration::from_secs(20);

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Launch {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    inside: Vec<OsString>,
}

impl Launch {
    /// Starts `program`, looked up in PATH unless it is a path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            inside: Vec::new(),
        }
    }

    /// Adds arguments.
    pub fn args<Word: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = Word>) -> Self {
        self.arguments.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Puts `words`, such as `nsenter …`, before the whole command, the subreaper included.
    pub fn inside<Word: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = Word>) -> Self {
        self.inside = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }
}

/// A running tree. Dropping it ends everything in it, and panics when something would not die: a test that leaves a process
/// behind has failed.
#[derive(Debug)]
pub struct Tree {
    hold: Child,
    /// Closed to end everything.
    order: Option<ChildStdin>,
    news: Arc<News>,
    pid: u32,
    log: PathBuf,
    shown: String,
}

#[derive(Debug, Default)]
struct News {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    started: Option<u32>,
    failed: Option<String>,
    ended: Option<String>,
    closed: bool,
}

impl Tree {
    /// Starts `launch`; what it and its offspring print is appended to `log`.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when the program could not be started, with the reason.
    pub fn start(launch: &Launch, log: impl Into<PathBuf>) -> Result<Self> {
        let log = log.into();
        let hold = programs::program("ferry-testkit", "ferry-hold")?;
        let mut words = launch.inside.iter().map(OsString::as_os_str);
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(hold);
                command
            }
            None => Command::new(hold),
        };
        command.arg("--log").arg(&log).arg("--").arg(&launch.program).args(&launch.arguments);
        command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
        let shown = launch.program.to_string_lossy().into_owned();

        let mut hold = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::io(format!("starting {shown}")))?;
        let order = hold.stdin.take();
        let news = Arc::new(News::default());
        if let Some(out) = hold.stdout.take() {
            let news = Arc::clone(&news);
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
                    news.note(&line);
                }
                news.close();
            });
        }
        let mut tree = Self { hold, order, news, pid: 0, log, shown };
        let started = tree.news.wait(START_LIMIT, |told| told.started.is_some() || told.closed);
        match (started.started, started.failed) {
            (Some(pid), _) => tree.pid = pid,
            (None, why) => {
                let detail = why.unwrap_or_else(|| "nothing was heard of it".to_owned());
                return Err(Error::Unexpected { what: format!("starting {}", tree.shown), detail });
            }
        }
        Ok(tree)
    }

    /// The program's process id. After the program has ended it may be another's.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How the program ended, such as `exit code 0` or `signal 9`; `None` while it runs. Its offspring may live on.
    pub fn ended(&self) -> Option<String> {
        self.news.lock().ended.clone()
    }

    /// Sends a signal to the program, not to its offspring. One that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        if let (None, Some(pid)) = (self.ended(), raw(self.pid)) {
            // It may end in this very moment; then the signal has nobody to reach.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// [`Error::Late`] with the end of its log.
    pub fn wait_end(&self, limit: Duration) -> Result<String> {
        let told = self.news.wait(limit, |told| told.ended.is_some());
        told.ended.ok_or_else(|| Error::Late {
            what: format!("end of {}", self.shown),
            limit,
            detail: format!("\n{}", self.log_tail(20)),
        })
    }

    /// Process ids of all that live in the tree, the program included while it does.
    pub fn living(&self) -> Vec<u32> {
        let mut found = Vec::new();
        let mut open = children(self.hold.id());
        while let Some(pid) = open.pop() {
            open.extend(children(pid));
            found.push(pid);
        }
        // An entered namespace puts a process between; the subreaper itself is not part of what it holds.
        found.retain(|&pid| name(pid).is_some_and(|name| name != "ferry-hold" && name != "nsenter"));
        found.sort_unstable();
        found
    }

    /// As [`living`](Self::living), those whose name begins with `prefix` (such as `qemu-system`).
    pub fn living_named(&self, prefix: &str) -> Vec<u32> {
        self.living()
            .into_iter()
            .filter(|&pid| name(pid).is_some_and(|name| name.starts_with(prefix)))
            .collect()
    }

    /// The last `lines` lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// Ends everything in the tree and waits until it is gone.
    ///
    /// # Errors
    /// [`Error::Late`] when something would not die.
    pub fn end(&mut self) -> Result<()> {
        self.order = None;
        let hold = &mut self.hold;
        let gone = wait_until(&format!("end of all of {}", self.shown), END_LIMIT, || {
            !matches!(hold.try_wait(), Ok(None))
        });
        if gone.is_err() {
            let _ = self.hold.kill();
            let _ = self.hold.wait();
        }
        gone
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let ended = self.end();
        if std::thread::panicking() {
            eprintln!("--- {} ({})\n{}", self.shown, self.log.display(), self.log_tail(60));
        } else {
            assert!(ended.is_ok(), "{ended:?}");
        }
    }
}

impl News {
    fn note(&self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut told = self.lock();
        match word {
            "started" => told.started = rest.parse().ok(),
            "ended" => told.ended = Some(rest.to_owned()),
            _ => told.failed = Some(line.to_owned()),
        }
        self.changed.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration, condition: impl Fn(&Told) -> bool) -> Told {
        let deadline = Instant::now() + limit;
        let mut told = self.lock();
        while !condition(&told) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            told = self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Told {
            started: told.started,
            failed: told.failed.clone(),
            ended: told.ended.clone(),
            closed: told.closed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last `lines` lines of the file at `path`; of a file that cannot be read, the reason.
pub fn tail(path: &Path, lines: usize) -> String {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({error})"),
    }
}

/// Whether a process with that id is there and is not a corpse.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may itself contain anything, in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Ends a process as nothing else can, and waits until all its threads are gone.
///
/// # Errors
/// [`Error::Late`].
pub fn kill(pid: u32) -> Result<()> {
    let Some(Ok(process)) = raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        // It has ended by itself.
        return Ok(());
    };
    // It may end in this very moment; then the signal has nobody to reach.
    let _ = pidfd_send_signal(&process, Signal::KILL);
    wait_until(&format!("end of process {pid}"), END_LIMIT, || {
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    })
}

fn name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    is_alive(pid).then(|| name.trim().to_owned())
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::start(&Launch::new("sh").args(["-c", script]), folder.path().join("log")).unwrap();
        (folder, tree)
    }

    #[test]
    fn the_end_of_a_program_is_told_with_its_reason_and_its_output() {
        let (_folder, tree) = start("echo hello; exit 3");
        assert_eq!(tree.wait_end(Duration::from_secs(10)).unwrap(), "exit code 3");
        assert_eq!(tree.log_tail(5), "hello");
        let (_folder, tree) = start("kill -9 $$");
        assert_eq!(tree.wait_end(Duration::from_secs(10)).unwrap(), "signal 9");
    }

    #[test]
    fn an_orphan_that_left_its_session_is_held_and_ended() {
        let (_folder, mut tree) = start("setsid sleep 1000 & echo done; exit 0");
        tree.wait_end(Duration::from_secs(10)).unwrap();
        wait_until("the orphan", Duration::from_secs(10), || tree.living_named("sleep").len() == 1).unwrap();
        let orphan = tree.living()[0];
        tree.end().unwrap();
        assert!(!is_alive(orphan));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = Tree::start(&Launch::new("/no/such/program"), folder.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
