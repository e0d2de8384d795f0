//! What a guest says on its serial port: followed as it is written, each line stamped when it arrives, over the logs of
//! all hosts that the guest may run on.
//!
//! A guest's own clock stands still while it is stopped, so only the arrival of its lines shows a pause. The reader looks
//! at most 2000 times a second, which bounds what a stamp can be late by on an idle machine.
//!
//! A migration may cut a line in two, its head in the source's log and its tail in the destination's; [`Assembler`] puts
//! it together again. What is heard goes into a [`Record`], which judges.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::{Error, Result};

mod assembler;
mod record;

pub use assembler::Assembler;
pub use record::{Event, Heard, Pause, Record, Verdict};

/// How long the reader lets news gather before it looks.
const GATHER: Duration = Duration::from_micros(500);

/// How long the reader waits without news before it looks whether it should end.
const IDLE_MS: i64 = 100;

/// Follows the serial logs of one guest. Dropping it stops the reader.
#[derive(Debug)]
pub struct Serial {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ports: Vec<String>,
    record: Mutex<Record>,
    heard: Condvar,
    stop: AtomicBool,
}

impl Serial {
    /// Follows one log file for each host, `(name of the host, path)`. The files need not exist yet; their folders are
    /// made. When two hosts write the same file, name it once.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn follow<Name: Into<String>, Place: Into<PathBuf>>(
        logs: impl IntoIterator<Item = (Name, Place)>,
    ) -> Result<Self> {
        let (names, paths): (Vec<String>, Vec<PathBuf>) =
            logs.into_iter().map(|(name, path)| (name.into(), path.into())).unzip();
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| Error::io("inotify")(errno.into()))?;
        for path in &paths {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder).map_err(Error::io(format!("making {folder:?}")))?;
            let flags = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, folder, flags)
                .map_err(|errno| Error::io(format!("watching {folder:?}"))(errno.into()))?;
        }
        let shared = Arc::new(Shared {
            ports: names,
            record: Mutex::new(Record::default()),
            heard: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let reader = Reader {
            shared: Arc::clone(&shared),
            files: paths.into_iter().map(Log::new).collect(),
            assembler: Assembler::default(),
            current: 0,
            began: Instant::now(),
        };
        let reader = thread::spawn(move || reader.run(&watch));
        Ok(Self { shared, reader: Some(reader) })
    }

    /// Everything heard so far.
    pub fn record(&self) -> Record {
        self.lock().clone()
    }

    /// The verdict on everything heard so far.
    pub fn verdict(&self) -> Verdict {
        self.lock().verdict()
    }

    /// A place in the record, for [`verdict_since`](Self::verdict_since).
    pub fn mark(&self) -> usize {
        self.lock().heard.len()
    }

    /// The verdict on what was heard since `mark`; the beat before it counts for the first pause.
    pub fn verdict_since(&self, mark: usize) -> Verdict {
        self.lock().since(mark).verdict()
    }

    /// Waits until what was heard since `mark` has an event for which `find` gives something.
    ///
    /// # Errors
    /// [`Error::Late`] with the last lines heard.
    pub fn wait_event<T>(
        &self,
        what: &str,
        mark: usize,
        limit: Duration,
        mut find: impl FnMut(&Heard) -> Option<T>,
    ) -> Result<T> {
        let mut next = mark;
        self.wait(what, limit, |record| {
            let found = record.heard.iter().skip(next).find_map(&mut find);
            next = record.heard.len();
            found
        })
    }

    /// Waits for the guest's `ready`. The boot sector has none: wait for its beats.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        self.wait_event("the guest's `ready`", 0, limit, |heard| {
            matches!(heard.event, Event::Ready(_)).then_some(())
        })
    }

    /// Waits until `count` more beats have been heard, from now.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub fn wait_beats(&self, count: usize, limit: Duration) -> Result<()> {
        let goal = self.lock().beats() + count;
        self.wait(&format!("{count} beats"), limit, |record| (record.beats() >= goal).then_some(()))
    }

    /// Waits until `count` more beats have been heard from `host`, from now.
    ///
    /// # Errors
    /// [`Error::Late`], and [`Error::Missing`] when no such host is followed.
    pub fn wait_beats_on(&self, host: &str, count: usize, limit: Duration) -> Result<()> {
        let port = self.shared.ports.iter().position(|name| name == host).ok_or_else(|| Error::Missing {
            what: format!("host {host:?}"),
            needed_for: "a serial log of it is followed".into(),
        })?;
        let goal = self.lock().beats_on(port) + count;
        self.wait(&format!("{count} beats on {host}"), limit, |record| {
            (record.beats_on(port) >= goal).then_some(())
        })
    }

    /// Waits until nothing has been heard for `silence`.
    ///
    /// # Errors
    /// [`Error::Late`] when the guest goes on speaking.
    pub fn wait_silence(&self, silence: Duration, limit: Duration) -> Result<()> {
        let asked = Instant::now();
        crate::deadline::wait_until("silence", limit, || {
            let last = self.lock().heard.last().map_or(asked, |heard| heard.at.max(asked));
            last.elapsed() >= silence
        })
    }

    /// The hosts from which a beat was heard within `window` before now. More than one name is what must never be,
    /// unless `window` reaches back over a migration.
    pub fn beating_within(&self, window: Duration) -> Vec<String> {
        let record = self.lock();
        let mut last = BTreeMap::new();
        for heard in record.heard.iter().rev().take_while(|heard| heard.at.elapsed() <= window) {
            if matches!(heard.event, Event::Beat { .. }) {
                last.insert(heard.port, ());
            }
        }
        last.into_keys().filter_map(|port| self.shared.ports.get(port).cloned()).collect()
    }

    /// Sends `command` over `port` (a terminal or a socket) and waits for the reply; gives its `key=value` pairs.
    ///
    /// # Errors
    /// [`Error::Io`] when the port does not take it, [`Error::Late`] without a reply, [`Error::Unexpected`] when the
    /// reply says `ok=0`.
    pub fn ask(
        &self,
        port: &mut impl Write,
        command: &str,
        limit: Duration,
    ) -> Result<BTreeMap<String, String>> {
        let mark = self.mark();
        port.write_all(format!("{command}\n").as_bytes()).map_err(Error::io("the guest's serial port"))?;
        port.flush().map_err(Error::io("the guest's serial port"))?;
        let word = command.split(' ').next().unwrap_or(command);
        let fields = self.wait_event(&format!("reply to {command:?}"), mark, limit, |heard| match &heard
            .event
        {
            Event::Reply(fields) if fields.get("cmd").is_some_and(|cmd| cmd == word) => Some(fields.clone()),
            _ => None,
        })?;
        if fields.get("ok").is_some_and(|ok| ok == "1") {
            return Ok(fields);
        }
        Err(Error::Unexpected { what: format!("reply to {command:?}"), detail: format!("{fields:?}") })
    }

    fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Record) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut record = self.lock();
        loop {
            if let Some(found) = condition(&record) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let detail = format!("; the last that was heard:\n{}", record.last_lines(15));
                return Err(Error::Late { what: what.to_owned(), limit, detail });
            }
            record = self.shared.heard.wait_timeout(record, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.shared.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            let record = self.record();
            eprintln!("--- serial port\n{}\n{:?}", record.last_lines(15), record.verdict());
        }
    }
}

/// The thread that reads.
struct Reader {
    shared: Arc<Shared>,
    files: Vec<Log>,
    assembler: Assembler,
    /// The port that was heard last.
    current: usize,
    began: Instant,
}

impl Reader {
    fn run(mut self, watch: &impl std::os::fd::AsFd) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.look();
            let mut fds = [PollFd::new(watch, PollFlags::IN)];
            let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: IDLE_MS * 1_000_000 };
            if poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0) {
                // A guest writes byte by byte; a look for each would cost more than it tells.
                thread::sleep(GATHER);
                drain(watch);
            }
        }
    }

    /// Reads what is new, in the order in which it was written.
    ///
    /// What the source wrote last precedes what the destination wrote first. So the port that was heard last is read
    /// first, and once more after another one turns out to have news.
    fn look(&mut self) {
        let mut heard = Vec::new();
        let current = self.current;
        let news = self.files[current].read();
        heard.extend(self.assembler.take(current, &news));
        for port in (0..self.files.len()).filter(|&port| port != current) {
            let news = self.files[port].read();
            if !news.is_empty() {
                let before = self.files[self.current].read();
                heard.extend(self.assembler.take(self.current, &before));
                heard.extend(self.assembler.take(port, &news));
                self.current = port;
            }
        }
        if heard.is_empty() {
            return;
        }
        let at = Instant::now();
        let mut record = self.shared.record.lock().unwrap_or_else(PoisonError::into_inner);
        for (port, line) in heard {
            record.hear(port, at, self.began, &line);
        }
        drop(record);
        self.shared.heard.notify_all();
    }
}

fn drain(watch: &impl std::os::fd::AsFd) {
    let mut buffer = [0u8; 4096];
    while rustix::io::read(watch, &mut buffer).is_ok_and(|length| length > 0) {}
}

/// One log file, read from its start as it grows.
struct Log {
    path: PathBuf,
    open: Option<(File, u64)>,
}

impl Log {
    fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// What was written since the last look. A file that was replaced is read from its start.
    fn read(&mut self) -> Vec<u8> {
        let inode = std::fs::metadata(&self.path).map(|data| data.ino()).ok();
        if let Some((_, known)) = &self.open
            && inode.is_some_and(|inode| inode != *known)
        {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = inode.and_then(|inode| Some((File::open(&self.path).ok()?, inode)));
        }
        let mut news = Vec::new();
        if let Some((file, _)) = &mut self.open {
            // A read error gives what there was; the next look tries again.
            let _ = file.read_to_end(&mut news);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_that_change_hosts_in_the_middle_of_a_line_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a.log", "b.log"].map(|name| folder.path().join(name));
        let serial = Serial::follow([("a", &a), ("b", &b)]).unwrap();
        std::fs::write(&a, "ferry-guest beat seq=1 t=1000\nferry-guest beat s").unwrap();
        serial.wait_beats_on("a", 1, Duration::from_secs(10)).unwrap();
        std::fs::write(&b, "eq=2 t=2000\nferry-guest beat seq=3 t=3000\n").unwrap();
        serial.wait_beats_on("b", 2, Duration::from_secs(10)).unwrap();
        let verdict = serial.verdict();
        assert_eq!(verdict.beats, 3);
        verdict.whole().unwrap();
        assert!(serial.beating_within(Duration::from_secs(100)).contains(&"b".to_owned()));
        assert!(serial.wait_beats_on("c", 1, Duration::ZERO).is_err());
    }

    #[test]
    fn a_command_gets_its_reply() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let serial = Serial::follow([("a", &log)]).unwrap();
        let mut sent = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                std::fs::write(
                    &log,
                    "ferry-guest reply cmd=stat ok=1\nferry-guest reply cmd=check ok=1 pages=3\n",
                )
            });
            let reply = serial.ask(&mut sent, "check", Duration::from_secs(10)).unwrap();
            assert_eq!(reply["pages"], "3");
        });
        assert_eq!(sent, b"check\n");
    }
}
