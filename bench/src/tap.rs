//! What the two QEMUs themselves say of a migration: an ear on every QEMU that is started, whoever started it.
//!
//! ```text
//! manager --starts--> stand-in script --exec--> QEMU … -qmp unix:SOCKET
//!                                                 |  connects, then speaks only when something happens
//!                                               [Tap]  one thread for each QEMU, keeps the events with QEMU's own stamps
//! ```
//!
//! The domain's `<emulator>` is a script of two lines that adds a second monitor, so nothing about the manager, its
//! configuration or its log has to be touched, and all contenders carry the same burden: a shell's start (about 1 ms) and a
//! monitor that nobody asks anything. The stamps are QEMU's, of one clock when both run on one machine, and do not depend on
//! how soon this process gets to read them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ferry_testkit::{Error, Result};
use serde_json::Value;

/// How long it may take until all that QEMU has said is read.
const LIMIT: Duration = Duration::from_secs(10);

/// The ears. Their threads end with the QEMUs; the listener's ends with the process.
#[derive(Debug)]
pub(crate) struct Tap {
    emulator: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    /// QEMUs that have connected, in all.
    qemus: usize,
    /// Those that are still there.
    living: usize,
    events: Vec<Event>,
}

/// A moment before a migration; see [`Tap::mark`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// QEMUs that had been started: the source is one of them, the destination is not.
    qemus: usize,
    events: usize,
}

/// Something a QEMU said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Event {
    /// Number of the QEMU, counted from 0 as they were started.
    qemu: usize,
    /// QEMU's stamp, microseconds since 1970.
    at_us: i64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `MIGRATION` with status `setup`.
    Setup,
    /// `MIGRATION` with status `completed`.
    Completed,
    /// The CPUs stand.
    Stop,
    /// The CPUs run.
    Resume,
}

/// A migration as the QEMUs tell it; milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timeline {
    /// From `setup` to `completed` on the source: what `query-migrate` there calls `total-time`.
    pub(crate) total_ms: f64,
    /// From `STOP` on the source to `RESUME` on the destination.
    pub(crate) stopped_ms: f64,
    /// From `completed` on the source to `RESUME` on the destination. Below zero when the destination, left to
    /// itself, resumed before the source said that all was sent.
    pub(crate) completed_to_running_ms: f64,
    /// The manager's part of that: from `completed` on both sides, whichever came last, to `RESUME`. Nothing when the
    /// destination said so only after it ran, which is what it does when left to itself.
    pub(crate) loaded_to_running_ms: Option<f64>,
}

impl Tap {
    /// Listens, and writes the stand-in for `emulator` into `folder`, which all hosts see under the same path.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn open(folder: &Path, emulator: &Path) -> Result<Self> {
        let socket = folder.join("tap");
        let script = folder.join("qemu-system-x86_64");
        let listener = UnixListener::bind(&socket).map_err(Error::io(format!("listening on {socket:?}")))?;
        fs::write(&script, stand_in(emulator, &socket))
            .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
            .map_err(Error::io(format!("writing {script:?}")))?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let qemu = {
                    let mut heard = accepting.lock();
                    heard.qemus += 1;
                    heard.living += 1;
                    heard.qemus - 1
                };
                accepting.news.notify_all();
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.listen(qemu, stream));
            }
        });
        Ok(Self { emulator: script, shared })
    }

    /// The path to give as `<emulator>`.
    pub(crate) fn emulator(&self) -> &Path {
        &self.emulator
    }

    /// To be taken when the source runs and the destination has not been started.
    pub(crate) fn mark(&self) -> Mark {
        let heard = self.shared.lock();
        Mark { qemus: heard.qemus, events: heard.events.len() }
    }

    /// The migration that has happened since `mark`.
    ///
    /// # Errors
    /// [`Error::Late`] with what was heard when the story has holes: a manager that does not ask QEMU for the events of
    /// a migration cannot be measured.
    pub(crate) fn timeline(&self, mark: Mark) -> Result<Timeline> {
        self.shared
            .wait(LIMIT, |heard| Timeline::of(heard.events.get(mark.events..)?, mark.qemus))
            .ok_or_else(|| Error::Late {
                what: "events of QEMU from setup to RESUME".into(),
                limit: LIMIT,
                detail: format!(
                    "\n{:?}",
                    self.shared.lock().events.get(mark.events..).map(<[Event]>::to_vec)
                ),
            })
    }

    /// Waits until no QEMU is left, so that the next guest has the machine to itself.
    ///
    /// # Errors
    /// [`Error::Late`].
    pub(crate) fn wait_alone(&self) -> Result<()> {
        self.shared.wait(LIMIT, |heard| (heard.living == 0).then_some(())).ok_or_else(|| Error::Late {
            what: "end of all QEMUs".into(),
            limit: LIMIT,
            detail: String::new(),
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<T>(&self, limit: Duration, mut look: impl FnMut(&Heard) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut heard = self.lock();
        loop {
            if let Some(found) = look(&heard) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            heard = self.news.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hears one QEMU to its end. A QEMU that breaks off has said what it said.
    fn listen(&self, qemu: usize, mut stream: UnixStream) {
        if let Ok(reading) = stream.try_clone()
            && stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").is_ok()
        {
            for line in BufReader::new(reading).lines().map_while(std::io::Result::ok) {
                let Some((at_us, kind)) = understand(&line) else { continue };
                self.lock().events.push(Event { qemu, at_us, kind });
                self.news.notify_all();
            }
        }
        self.lock().living -= 1;
        self.news.notify_all();
    }
}

impl Timeline {
    /// Reads the story of one migration; `None` as long as a part of it is missing. QEMUs from number `first_new` on were
    /// started for it.
    fn of(events: &[Event], first_new: usize) -> Option<Self> {
        let at = |kind: Kind, new: bool| {
            let found = |event: &&Event| event.kind == kind && (event.qemu >= first_new) == new;
            events.iter().rev().find(found).map(|event| event.at_us)
        };
        let completed = at(Kind::Completed, false)?;
        let running = at(Kind::Resume, true)?;
        let loaded = at(Kind::Completed, true).filter(|loaded| *loaded <= running);
        let ms = |from: i64, to: i64| (to - from) as f64 / 1000.0;
        Some(Self {
            total_ms: ms(at(Kind::Setup, false)?, completed),
            stopped_ms: ms(at(Kind::Stop, false)?, running),
            completed_to_running_ms: ms(completed, running),
            loaded_to_running_ms: loaded.map(|loaded| ms(loaded.max(completed), running)),
        })
    }
}

/// The stamp and kind of a line of QMP; `None` for what does not matter here.
fn understand(line: &str) -> Option<(i64, Kind)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let kind = match (message["event"].as_str()?, message["data"]["status"].as_str()) {
        ("MIGRATION", Some("setup")) => Kind::Setup,
        ("MIGRATION", Some("completed")) => Kind::Completed,
        ("STOP", _) => Kind::Stop,
        ("RESUME", _) => Kind::Resume,
        _ => return None,
    };
    let stamp = &message["timestamp"];
    Some((stamp["seconds"].as_i64()? * 1_000_000 + stamp["microseconds"].as_i64()?, kind))
}

/// Both paths are the lab's own or a package's: nothing in them needs more than quotes.
fn stand_in(emulator: &Path, socket: &Path) -> String {
    format!("#!/bin/sh\nexec '{}' \"$@\" -qmp 'unix:{}'\n", emulator.display(), socket.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, status: &str, microseconds: i64) -> String {
        format!(
            r#"{{"timestamp": {{"seconds": 3, "microseconds": {microseconds}}}, "event": "{name}", "data": {{"status": "{status}"}}}}"#
        )
    }

    fn told(lines: &[(usize, String)]) -> Vec<Event> {
        let understood = lines.iter().filter_map(|(qemu, line)| Some((*qemu, understand(line)?)));
        understood.map(|(qemu, (at_us, kind))| Event { qemu, at_us, kind }).collect()
    }

    #[test]
    fn a_timeline_needs_both_sides_and_takes_each_event_from_its_own() {
        let mut lines = vec![
            (4, event("MIGRATION", "setup", 1_000)),
            (5, event("MIGRATION", "setup", 900)),
            (4, event("MIGRATION", "active", 2_000)),
            (4, event("STOP", "", 200_000)),
            (5, event("MIGRATION", "completed", 223_000)),
            (4, event("MIGRATION", "completed", 221_000)),
            (4, event("RESUME", "", 1)),
        ];
        assert_eq!(Timeline::of(&told(&lines), 5), None);
        lines.push((5, event("RESUME", "", 224_500)));
        let timeline = Timeline::of(&told(&lines), 5).unwrap();
        let expected = Timeline {
            total_ms: 220.0,
            stopped_ms: 24.5,
            completed_to_running_ms: 3.5,
            loaded_to_running_ms: None,
        };
        assert_eq!(timeline, Timeline { loaded_to_running_ms: Some(1.5), ..expected });
        // Left to itself, the destination runs first.
        lines[4] = (5, event("MIGRATION", "completed", 230_000));
        assert_eq!(Timeline::of(&told(&lines), 5), Some(expected));
    }

    #[test]
    fn what_is_no_such_event_is_passed_over() {
        for line in ["", "{}", r#"{"return": {}}"#, r#"{"event": "STOP"}"#, &event("MIGRATION", "active", 1)]
        {
            assert_eq!(understand(line), None, "{line}");
        }
    }

    #[test]
    fn whoever_connects_is_heard_and_missed_when_gone() {
        let folder = std::env::temp_dir().join(format!("ferry-tap-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let tap = Tap::open(&folder, Path::new("/usr/bin/qemu-system-x86_64")).unwrap();
        assert!(fs::read_to_string(tap.emulator()).unwrap().contains("exec '/usr/bin/qemu-system-x86_64'"));
        let mut source = UnixStream::connect(folder.join("tap")).unwrap();
        tap.shared.wait(LIMIT, |heard| (heard.qemus == 1).then_some(())).unwrap();
        let mark = tap.mark();
        let mut destination = UnixStream::connect(folder.join("tap")).unwrap();
        for (name, status, at) in [("MIGRATION", "setup", 0), ("STOP", "", 5), ("MIGRATION", "completed", 7)]
        {
            writeln!(source, "{}", event(name, status, at)).unwrap();
        }
        writeln!(destination, "{}", event("RESUME", "", 9)).unwrap();
        assert_eq!(tap.timeline(mark).unwrap().completed_to_running_ms, 0.002);
        drop((source, destination));
        tap.wait_alone().unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
