//! Listens to the guest: a thread that follows its serial log and stamps each line when it comes.
//!
//! Both hosts append to one file, as two hosts do with a log on shared storage: what one QEMU left half-written the other
//! completes, and two guests that run at once would show as repeated beats.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::heart::Heart;

/// How often the log is looked at, and so what a stamp can be late by.
const LOOK: Duration = Duration::from_millis(2);

/// The longest line that is kept; the rest of it is dropped.
const LINE_MAX: usize = 4096;

/// A guest that is listened to. Dropping it ends the thread.
pub(crate) struct Ear {
    heart: Arc<Mutex<Heart>>,
    heard: watch::Receiver<()>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Listens to `log`, which need not exist yet.
    pub(crate) fn open(log: PathBuf) -> std::io::Result<Self> {
        let heart = Arc::new(Mutex::new(Heart::new(Instant::now())));
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, heard) = watch::channel(());
        let follower = Follower { log, file: None, line: Vec::new() };
        let (shared, stopped) = (Arc::clone(&heart), Arc::clone(&stop));
        let listen = move || follower.run(&shared, &tell, &stopped);
        let thread = thread::Builder::new().name("ear".to_owned()).spawn(listen)?;
        Ok(Self { heart, heard, stop, thread: Some(thread) })
    }

    /// What was heard.
    pub(crate) fn heart(&self) -> MutexGuard<'_, Heart> {
        lock(&self.heart)
    }

    /// The same, for a display of its own.
    pub(crate) fn share(&self) -> Arc<Mutex<Heart>> {
        Arc::clone(&self.heart)
    }

    /// Waits until what was heard fulfils `condition`; `false` when that takes longer than `limit`.
    pub(crate) async fn wait(&self, limit: Duration, mut condition: impl FnMut(&Heart) -> bool) -> bool {
        let mut heard = self.heard.clone();
        let waiting = async {
            while !condition(&self.heart()) {
                if heard.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(limit, waiting).await.unwrap_or(false)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Locks what no thread leaves in disorder.
pub(crate) fn lock(heart: &Mutex<Heart>) -> MutexGuard<'_, Heart> {
    heart.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Follower {
    log: PathBuf,
    file: Option<File>,
    line: Vec<u8>,
}

impl Follower {
    fn run(mut self, heart: &Mutex<Heart>, tell: &watch::Sender<()>, stop: &AtomicBool) {
        let mut buffer = vec![0; 64 * 1024];
        while !stop.load(Ordering::Relaxed) {
            if self.file.is_none() {
                self.file = File::open(&self.log).ok();
            }
            match self.file.as_mut().map(|file| file.read(&mut buffer)) {
                Some(Ok(len)) if len > 0 => {
                    self.take(&buffer[..len], &mut lock(heart), Instant::now());
                    tell.send_replace(());
                }
                _ => thread::sleep(LOOK),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], heart: &mut Heart, at: Instant) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    heart.hear(at, &String::from_utf8_lossy(&self.line));
                    self.line.clear();
                }
                byte if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn lines_are_heard_as_they_are_written_whoever_completes_them() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let ear = Ear::open(log.clone()).unwrap();
        let append = || File::options().create(true).append(true).open(&log).unwrap();
        let (mut one, mut other) = (append(), append());
        one.write_all(b"boot\nferry-guest ready t=1\nferry-guest beat seq=1 t=1\nferry-guest beat se")
            .unwrap();
        assert!(ear.wait(LIMIT, |heart| heart.is_ready() && heart.beats() == 1).await);
        other.write_all(b"q=2 t=2\n").unwrap();
        assert!(ear.wait(LIMIT, |heart| heart.beats() == 2).await);
        assert!(ear.heart().proof().is_whole());
        assert!(!ear.wait(Duration::ZERO, |heart| heart.beats() == 3).await);
    }
}
