//! What must be true once a migration, or anything else, is over: where the guest is, and that nothing is left where it
//! is not.

use std::fs;
use std::time::Duration;

use ferry_testkit::Error;
use ferry_testkit::deadline::wait_until;
use ferry_testkit::serial::Serial;

use crate::{Pair, SOON};

/// Beats that show that a guest lives.
const ALIVE: usize = 50;

/// A pause in which a running guest would have been heard: 50 beats' time.
const SILENT: Duration = Duration::from_millis(100);

/// Everything here panics with what it found: it is the last word of a test.
impl Pair {
    /// A migration from the first host did not happen: the guest goes on there as it was, and the second host has
    /// nothing of it.
    ///
    /// # Panics
    /// When one of the two is not so.
    pub fn stayed(&self, name: &str, serial: &Serial) {
        serial.wait_beats_on(self.ear(0), ALIVE, SOON).expect("beats on the source");
        self.virsh(0).until_state(name, "running");
        self.is_clean(1, name);
        serial.verdict().whole().expect("a whole guest");
    }

    /// A migration from host `from` to the other one happened: the guest is there, in `state`, and `from` has no QEMU of
    /// it.
    ///
    /// # Panics
    /// When one of the two is not so.
    pub fn moved(&self, from: usize, name: &str, state: &str, serial: &Serial) {
        let to = 1 - from;
        if state.starts_with("running") {
            serial.wait_beats_on(self.ear(to), ALIVE, SOON).expect("beats on the destination");
        }
        assert_eq!(self.virsh(to).reason(name), state);
        assert_eq!(self.daemon(to).qemus().len(), 1, "QEMUs on the destination");
        self.nothing_runs(from);
        serial.verdict().whole().expect("a whole guest");
    }

    /// Host `number` knows nothing of the domain, and has no process, port or file of any guest.
    ///
    /// # Panics
    /// When it does.
    pub fn is_clean(&self, number: usize, name: &str) {
        self.nothing_runs(number);
        let known = self.virsh(number).domains().expect("a list");
        assert!(!known.iter().any(|known| known == name), "{name} is among {known:?}");
    }

    /// Host `number` has no process, port or file of any guest. What is being ended may take a moment to be gone.
    ///
    /// # Panics
    /// When it does.
    pub fn nothing_runs(&self, number: usize) {
        wait_until("the end of every QEMU", SOON, || self.daemon(number).qemus().is_empty())
            .expect("no QEMU");
        wait_until("an empty run folder", SOON, || self.run_folders(number).is_empty())
            .expect("no run folder");
        if self.host(number).is_isolated() {
            let listening = self.listening(number);
            assert!(listening.iter().all(|port| *port == self.host(number).port()), "{listening:?}");
        }
    }

    /// The TCP ports on which something listens on host `number`, which must have namespaces.
    ///
    /// # Panics
    /// When they cannot be told.
    pub fn listening(&self, number: usize) -> Vec<u16> {
        let sockets = self.host(number).sh("ss -Hltn").expect("a list of sockets");
        let local = sockets.lines().filter_map(|line| line.split_whitespace().nth(3));
        local.filter_map(|address| address.rsplit_once(':')?.1.parse().ok()).collect()
    }

    /// What lies in the folder where each running guest of host `number` has one.
    fn run_folders(&self, number: usize) -> Vec<String> {
        let folder = self.host(number).seen(self.daemon(number).root().join("channel"));
        let entries = fs::read_dir(folder).expect("the run folder");
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Nothing is heard of the guest.
///
/// # Panics
/// When it goes on speaking.
pub fn is_silent(serial: &Serial) {
    serial.wait_silence(SILENT, SOON).expect("silence");
}

/// What scenarios ask of virsh again and again.
pub trait Asking {
    /// `domstate --reason`: `running (booted)`.
    ///
    /// # Panics
    /// When virsh fails.
    fn reason(&self, domain: &str) -> String;

    /// Waits for a state: what follows from an event of QEMU's follows soon, not at once.
    ///
    /// # Panics
    /// When the state does not come.
    fn until_state(&self, domain: &str, state: &str);

    /// Waits for a state with its reason.
    ///
    /// # Panics
    /// When the state does not come.
    fn until_reason(&self, domain: &str, reason: &str);

    /// The value that a command such as `dominfo` prints behind `key:`.
    ///
    /// # Panics
    /// When virsh fails or there is none.
    fn field(&self, words: &[&str], key: &str) -> String;

    /// Runs a command that must be refused, with `part` in what is said.
    ///
    /// # Panics
    /// When it is not.
    fn refused(&self, words: &[&str], part: &str);

    /// What is said of a command that must be refused.
    ///
    /// # Panics
    /// When it is not.
    fn refusal(&self, words: &[&str]) -> String;
}

impl Asking for ferry_testkit::virsh::Virsh {
    fn reason(&self, domain: &str) -> String {
        self.ok(["domstate", domain, "--reason"]).expect("a state")
    }

    fn until_state(&self, domain: &str, state: &str) {
        let reached = wait_until(state, SOON, || self.state(domain).is_ok_and(|found| found == state));
        assert!(reached.is_ok(), "{reached:?}; it is {:?}", self.state(domain));
    }

    fn until_reason(&self, domain: &str, reason: &str) {
        let reached = wait_until(reason, SOON, || self.reason(domain) == reason);
        assert!(reached.is_ok(), "{reached:?}; it is {}", self.reason(domain));
    }

    fn field(&self, words: &[&str], key: &str) -> String {
        let told = self.ok(words).expect("an answer");
        let value = told.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        assert!(value.is_some(), "no {key:?} in {told}");
        value.unwrap_or_default().trim().to_owned()
    }

    fn refused(&self, words: &[&str], part: &str) {
        let said = self.refusal(words);
        assert!(said.contains(part), "{words:?}\nwanted: {part}\nsaid:   {said}");
    }

    fn refusal(&self, words: &[&str]) -> String {
        // A virsh whose migration is refused before it has begun to watch it misses the end of it, and waits for ever.
        let said = match self.clone().limit(SOON).fails(words) {
            Err(Error::Late { .. }) => self.fails(words),
            told => told,
        };
        said.expect("a refusal")
    }
}
