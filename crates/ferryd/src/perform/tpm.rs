//! The program that plays a guest's TPM (swtpm), and the state that it keeps.
//!
//! Called by [`super::launch`] for a guest that has a TPM, and by its driver when the guest or its definition ends.
//!
//! ```text
//!   daemon ──starts──> QEMU <──socket pair──> swtpm ──> NVRAM file in the host's state folder
//! ```
//!
//! The two are joined by a socket pair and by nothing else: whichever ends, the other notices. swtpm is told to end with
//! its guest, so that it lives as long as that does and no longer, also while no daemon watches. QEMU is started first,
//! and waits for its TPM: should the daemon die between the two, QEMU finds nobody there and ends.
//!
//! The state of a guest that arrives comes in QEMU's stream. Until it is sure that the guest has come, what this host had
//! of that TPM before is set aside ([`State::set_aside`]).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferry_domxml::tpm::{Tpm, TpmVersion};
use ferry_domxml::{Domain, Uuid};
use ferry_rpc::error::{Error, ErrorCode, Origin};

use super::discard;
use super::launch::Purpose;
use super::rundir::RunDir;
use super::words::Words;
use crate::host::Host;
use crate::process::{Identity, Process};
use crate::{refuse, sys};

/// How long a new TPM may take to be made; it makes keys.
const SETUP_LIMIT: Duration = Duration::from_secs(120);

/// How long swtpm may take to end once its guest has.
const GRACE: Duration = Duration::from_secs(5);

/// The state of one domain's TPM on this host's disk: a folder named by the domain's UUID.
#[derive(Debug, Clone)]
pub(crate) struct State {
    folder: PathBuf,
}

/// Where a state is within the folder, and the file without which it is none. As stock and swtpm name them.
const PLACES: [(TpmVersion, &str, &str); 2] =
    [(TpmVersion::V12, "tpm1.2", "tpm-00.permall"), (TpmVersion::V20, "tpm2", "tpm2-00.permall")];

/// What this host had before a guest arrived, while it is not sure that the guest has come.
const BEFORE: &str = "before";

/// The same on its way there or back: what is in here belongs back in its place.
const MOVING: &str = "moving";

/// What is of no use any more, on its way out.
const DROPPED: &str = "dropped";

/// A state in the making.
const UNFINISHED: &str = "new";

impl State {
    /// The state of the domain `uuid` below `states`.
    pub(crate) fn of(states: &Path, uuid: Uuid) -> State {
        State { folder: states.join(uuid.hyphenated().to_string()) }
    }

    /// The folder, whether it is there or not.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Forgets it for good. One that is not there is no error.
    pub(crate) fn remove(&self) -> io::Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        remove_all(&self.folder)?;
        // Or it is back after a power cut, for the next domain of this UUID to find.
        super::sync_folder_of(&self.folder)
    }

    /// Makes room for a guest that arrives, in a folder that is there and settled. What was in it comes back with
    /// [`State::give_up`].
    fn set_aside(&self) -> io::Result<()> {
        let moving = self.folder.join(MOVING);
        fs::DirBuilder::new().mode(0o700).create(&moving)?;
        for (_, place, _) in PLACES {
            rename_if_there(&self.folder.join(place), &moving.join(place))?;
        }
        fs::rename(&moving, self.folder.join(BEFORE))
    }

    /// The guest has come, and its state with it.
    pub(crate) fn accept(&self) -> io::Result<()> {
        let [before, dropped] = [BEFORE, DROPPED].map(|name| self.folder.join(name));
        remove_all(&dropped)?;
        if before.exists() {
            // From here on nothing can be given up any more, whatever becomes of the rest.
            fs::rename(&before, &dropped)?;
            super::sync_folder_of(&before)?;
        }
        remove_all(&dropped)
    }

    /// The guest does not come: everything as it was. Says whether there was something to give up.
    pub(crate) fn give_up(&self) -> io::Result<bool> {
        let had_something = [BEFORE, MOVING].iter().any(|name| self.folder.join(name).exists());
        while self.take_back()? {}
        if had_something {
            // Only an empty one goes.
            let _ = fs::remove_dir(&self.folder);
        }
        Ok(had_something)
    }

    /// One step of giving up: a rename, or the removal of what is of no use. A daemon may die after each, and the next one
    /// sees by the names that are there how far it was. False: nothing is left to do.
    fn take_back(&self) -> io::Result<bool> {
        let [before, moving, dropped] = [BEFORE, MOVING, DROPPED].map(|name| self.folder.join(name));
        if dropped.exists() {
            return remove_all(&dropped).map(|()| true);
        }
        let places = PLACES.map(|(_, place, _)| place);
        if before.exists() {
            let arrived =
                places.map(|place| self.folder.join(place)).into_iter().find(|place| place.exists());
            return match arrived {
                Some(arrived) => fs::rename(arrived, dropped),
                None => fs::rename(before, moving),
            }
            .map(|()| true);
        }
        if !moving.exists() {
            return Ok(false);
        }
        match places.into_iter().find(|place| moving.join(place).exists()) {
            Some(place) => fs::rename(moving.join(place), self.folder.join(place)),
            None => fs::remove_dir(moving),
        }
        .map(|()| true)
    }

    /// Settles what a daemon that died in the midst of an arrival left: a state that has come whole stays, else the earlier
    /// one is back.
    fn settle(&self) -> io::Result<()> {
        discard::put_back(&self.folder)?;
        let is_undecided = self.folder.join(BEFORE).exists();
        let has_come = PLACES.iter().any(|(_, place, file)| self.folder.join(place).join(file).exists());
        if is_undecided && has_come { self.accept() } else { self.give_up().map(drop) }
    }

    fn place(&self, version: TpmVersion) -> (PathBuf, &'static str) {
        let [old, new] = PLACES;
        let (_, place, file) = if version == old.0 { old } else { new };
        (self.folder.join(place), file)
    }
}

/// A TPM whose state is there, to be played.
#[derive(Debug)]
pub(crate) struct Ready {
    state: State,
    folder: PathBuf,
    version: TpmVersion,
    debug: Option<u32>,
    log: PathBuf,
    /// What to do about the state when the guest does not come to be.
    undo: Undo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    Nothing,
    Remove,
    GiveUp,
}

/// Refuses a TPM that nothing on this host can play. `is_new`: it would have to be made.
///
/// # Errors
/// 67, with the program that is missing.
pub(crate) fn look(host: &Host, tpm: &Tpm, is_new: bool) -> Result<(), Error> {
    let (swtpm, setup) = (&host.config.swtpm, &host.config.swtpm_setup);
    let needed = [(swtpm, "swtpm")].into_iter().chain(is_new.then_some((setup, "swtpm-tools")));
    let missing = needed.into_iter().find(|(program, _)| !program.exists());
    let Some((program, package)) = missing else { return Ok(()) };
    let text = format!(
        "TPM version '{}' is not supported: there is no '{}' on this host (package {package})",
        tpm.version(),
        program.display()
    );
    Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text))
}

/// Whether this host can play TPMs.
pub(crate) fn is_played(host: &Host) -> bool {
    host.config.swtpm.exists() && host.config.swtpm_setup.exists()
}

/// Sees to it that the guest's TPM has a state, made anew for a guest that never had one. Nothing for a guest without TPM.
///
/// # Errors
/// The programs are missing or fail, or the disk does.
pub(crate) async fn prepare(host: &Host, domain: &Domain, purpose: Purpose) -> Result<Option<Ready>, Error> {
    let (Some(tpm), Some(uuid)) = (domain.devices.tpms.first(), domain.uuid) else { return Ok(None) };
    let state = State::of(&host.layout.tpm, uuid);
    let broken = |error: &io::Error| {
        refuse::system(&format!("cannot use the TPM's state '{}'", state.folder.display()), error)
    };
    state.settle().map_err(|error| broken(&error))?;
    let version = tpm.version();
    let (folder, file) = state.place(version);
    let is_new = purpose == Purpose::Boot && !folder.join(file).exists();
    look(host, tpm, is_new)?;
    let log = host.layout.logs.join(format!("{}-swtpm.log", domain.name));
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&state.folder);
    made.map_err(|error| broken(&error))?;
    let backend = tpm.backend.as_ref();
    let mut ready = Ready {
        state: state.clone(),
        folder,
        version,
        debug: backend.and_then(|backend| backend.debug),
        log,
        undo: Undo::Nothing,
    };
    let banks = backend.and_then(|backend| backend.active_pcr_banks.as_ref());
    let banks = banks.map(|banks| banks.names().join(",")).filter(|names| !names.is_empty());
    let prepared = match purpose {
        Purpose::Incoming => {
            ready.undo = Undo::GiveUp;
            state.set_aside().and_then(|()| make_folder(&ready.folder)).map_err(|error| broken(&error))
        }
        Purpose::Boot if is_new => {
            ready.undo = Undo::Remove;
            manufacture(host, &ready, domain, banks.as_deref()).await
        }
        Purpose::Boot => match &banks {
            Some(banks) => {
                let words = ["--reconfigure", "--pcr-banks", banks].map(str::to_owned);
                set_up(host, &ready, &ready.folder, &words).await
            }
            None => Ok(()),
        },
    };
    let owned = prepared.and_then(|()| own(host, &ready.folder).map_err(|error| broken(&error)));
    match owned {
        Ok(()) => Ok(Some(ready)),
        Err(error) => {
            ready.undo();
            Err(error)
        }
    }
}

/// Makes a TPM with its keys and certificates. It has its place when it is whole, and not before.
async fn manufacture(host: &Host, ready: &Ready, domain: &Domain, banks: Option<&str>) -> Result<(), Error> {
    let new = ready.state.folder.join(UNFINISHED);
    let system = |error: &io::Error| refuse::system(&format!("cannot make '{}'", new.display()), error);
    remove_all(&new).and_then(|()| make_folder(&new)).map_err(|error| system(&error))?;
    let uuid = domain.uuid.unwrap_or_default().hyphenated().to_string();
    let mut words = vec!["--vmid".to_owned(), format!("{}:{uuid}", domain.name)];
    let parts =
        ["--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite"];
    words.extend(parts.map(str::to_owned));
    words.extend(banks.into_iter().flat_map(|banks| ["--pcr-banks".to_owned(), banks.to_owned()]));
    set_up(host, ready, &new, &words).await?;
    let placed = remove_all(&ready.folder)
        .and_then(|()| fs::rename(&new, &ready.folder))
        .and_then(|()| super::sync_folder_of(&ready.folder));
    placed.map_err(|error| system(&error))
}

/// Runs `swtpm_setup` on the state in `folder`, as the daemon's own user: the certificates' authority is the host's.
async fn set_up(host: &Host, ready: &Ready, folder: &Path, words: &[String]) -> Result<(), Error> {
    let program = &host.config.swtpm_setup;
    if !rustix::process::geteuid().is_root() {
        // Not root's place for certificates, but the user's own.
        let words = ["--create-config-files", "skip-if-exist"].map(str::to_owned);
        run(host, ready, &words).await?;
    }
    let mut all = vec!["--tpm-state".to_owned(), folder.to_string_lossy().into_owned()];
    all.extend(["--logfile".to_owned(), ready.log.to_string_lossy().into_owned()]);
    all.extend((ready.version == TpmVersion::V20).then(|| "--tpm2".to_owned()));
    all.extend_from_slice(words);
    let status = run(host, ready, &all).await?;
    if status == 0 {
        return Ok(());
    }
    let text = format!(
        "Could not run '{}'. exitstatus: {status}; Check error log '{}' for details.",
        program.display(),
        ready.log.display()
    );
    Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text))
}

/// Runs `swtpm_setup` to its end, and gives its exit status.
async fn run(host: &Host, ready: &Ready, words: &[String]) -> Result<i32, Error> {
    let program = &host.config.swtpm_setup;
    let failed = |error: &io::Error| refuse::system(&format!("cannot execute {}", program.display()), error);
    let log = open_log(&ready.log).map_err(|error| failed(&error))?;
    let errors = log.try_clone().map_err(|error| failed(&error))?;
    let mut command = tokio::process::Command::new(program);
    command.args(words).env_clear().env("LC_ALL", "C").env("PATH", search_path(&host.config.swtpm));
    for kept in ["HOME", "XDG_CONFIG_HOME", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(true);
    match tokio::time::timeout(SETUP_LIMIT, command.status()).await {
        Ok(status) => Ok(status.map_err(|error| failed(&error))?.code().unwrap_or(-1)),
        Err(_) => {
            let text = format!("'{}' did not end within {} s", program.display(), SETUP_LIMIT.as_secs());
            Err(Error::of(ErrorCode::OPERATION_TIMEOUT, Origin::QEMU, text))
        }
    }
}

/// Where `swtpm_setup` looks for swtpm: beside the one that guests get, then where the daemon looks.
fn search_path(swtpm: &Path) -> std::ffi::OsString {
    let mut folders: Vec<PathBuf> = swtpm.parent().map(Path::to_path_buf).into_iter().collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(folders).unwrap_or_default()
}

impl Ready {
    /// Starts swtpm at its end of the socket pair, as the user that QEMU runs as. May block.
    pub(crate) fn start(&self, host: &Host, socket: OwnedFd, run_dir: &RunDir) -> Result<Swtpm, Error> {
        let program = &host.config.swtpm;
        let failed =
            |error: &io::Error| refuse::system(&format!("cannot execute {}", program.display()), error);
        let started = || -> io::Result<(Child, u64)> {
            let log = open_log(&self.log)?;
            let begin = log.metadata()?.len();
            let logged = OwnedFd::from(log.try_clone()?);
            let mut command = Command::new(program);
            command.arg("socket");
            command.args(["--ctrl", &format!("type=unixio,clientfd={}", socket.as_raw_fd())]);
            command.args(["--tpmstate", &format!("dir={},mode=0600", self.folder.display())]);
            let level = self.debug.map(|level| format!(",level={level}")).unwrap_or_default();
            command.args(["--log", &format!("fd={}{level}", logged.as_raw_fd())]);
            command.arg("--terminate");
            if self.version == TpmVersion::V20 {
                command.arg("--tpm2");
            }
            command.env_clear().env("LC_ALL", "C");
            for kept in ["PATH", "LD_LIBRARY_PATH"] {
                if let Some(value) = std::env::var_os(kept) {
                    command.env(kept, value);
                }
            }
            command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            host.account.run_as(&mut command);
            Ok((sys::spawn_session(command, &[socket, logged])?, begin))
        };
        let (child, begin) = started().map_err(|error| failed(&error))?;
        let mut swtpm = Swtpm {
            process: Process::of_child(&child).ok(),
            child: Some(child),
            words: Some(Words::from(self.log.clone(), begin)),
        };
        let noted = swtpm
            .process
            .as_ref()
            .ok_or(io::Error::from(io::ErrorKind::NotFound))
            .and_then(|process| fs::write(run_dir.tpm(), note(process.identity())));
        if let Err(error) = noted {
            swtpm.kill_now();
            return Err(failed(&error));
        }
        Ok(swtpm)
    }

    /// The guest does not come to be: the state is as it was before.
    pub(crate) fn undo(&self) {
        let undone = match self.undo {
            Undo::Nothing => Ok(()),
            Undo::Remove => self.state.remove(),
            Undo::GiveUp => self.state.give_up().map(drop),
        };
        if let Err(error) = undone {
            tracing::warn!(folder = %self.state.folder.display(), %error, "the TPM's state could not be taken back");
        }
    }
}

/// A swtpm that plays a running guest's TPM.
#[derive(Debug)]
pub(crate) struct Swtpm {
    /// None when it ended before it could be held.
    process: Option<Process>,
    /// Ours to reap; `None` when an earlier daemon started it.
    child: Option<Child>,
    words: Option<Words>,
}

impl Swtpm {
    /// The one that an earlier daemon started for the launch with this run folder, if it lives.
    pub(crate) fn found(run_dir: &RunDir) -> Option<Swtpm> {
        let identity = read_note(&fs::read_to_string(run_dir.tpm()).ok()?)?;
        let process = Process::find(&identity).ok()??;
        Some(Swtpm { process: Some(process), child: None, words: None })
    }

    /// Waits for its end, which its guest's has brought; one that does not end by itself is killed.
    pub(crate) async fn end(&mut self) {
        if let Some(process) = &self.process
            && tokio::time::timeout(GRACE, process.exited()).await.is_err()
        {
            tracing::warn!(pid = process.identity().pid, "swtpm does not end with its guest: killed");
            process.kill();
            process.exited().await;
        }
        self.reap();
    }

    /// Ends it now: its guest is elsewhere, and whatever it would still write is old.
    pub(crate) async fn kill(&mut self) {
        if let Some(process) = &self.process {
            process.kill();
            process.exited().await;
        }
        self.reap();
    }

    /// What it said, when it has ended by itself.
    pub(crate) fn last_words(&self) -> Option<String> {
        let has_ended = self.process.as_ref().is_none_or(Process::has_ended);
        self.words.as_ref().filter(|_| has_ended).and_then(Words::last)
    }

    fn kill_now(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
        self.reap();
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

fn note(identity: &Identity) -> String {
    format!("{} {} {}\n", identity.pid, identity.start_ticks, identity.boot_id)
}

fn read_note(text: &str) -> Option<Identity> {
    let mut words = text.split_whitespace();
    let (pid, start_ticks) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Identity { pid, start_ticks, boot_id: words.next()?.to_owned() })
}

fn open_log(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Gives the folder and its files to the account that swtpm runs as. Until then nobody else could reach them.
fn own(host: &Host, folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        host.account.own(&entry?.path())?;
    }
    host.account.own(folder)
}

fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(folder: &Path) -> State {
        State::of(folder, Uuid::from_u128(7))
    }

    fn keep(state: &State, text: &str) {
        let place = state.folder.join("tpm2");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("tpm2-00.permall"), text).unwrap();
    }

    fn kept(state: &State) -> Option<String> {
        fs::read_to_string(state.folder.join("tpm2/tpm2-00.permall")).ok()
    }

    /// As for a guest that arrives.
    fn set_aside(state: &State) {
        state.settle().unwrap();
        fs::create_dir_all(&state.folder).unwrap();
        state.set_aside().unwrap();
    }

    #[test]
    fn a_guest_that_does_not_come_leaves_the_state_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        assert!(!state.give_up().unwrap(), "nothing was set aside");
        set_aside(&state);
        keep(&state, "half");
        assert!(state.give_up().unwrap());
        assert!(!state.folder.exists(), "there was none before");

        keep(&state, "old");
        set_aside(&state);
        assert_eq!(kept(&state), None);
        keep(&state, "half");
        assert!(state.give_up().unwrap());
        assert_eq!(kept(&state).as_deref(), Some("old"));
    }

    #[test]
    fn a_guest_that_comes_brings_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        keep(&state, "old");
        set_aside(&state);
        keep(&state, "new");
        state.accept().unwrap();
        assert_eq!(kept(&state).as_deref(), Some("new"));
        assert!(!state.give_up().unwrap(), "it is settled");
        state.remove().unwrap();
        assert!(!state.folder.exists());
        state.remove().unwrap();
    }

    #[test]
    fn what_a_dead_daemon_left_is_settled_by_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        keep(&state, "old");
        set_aside(&state);
        state.settle().unwrap();
        assert_eq!(kept(&state).as_deref(), Some("old"), "nothing had come");
        set_aside(&state);
        keep(&state, "new");
        state.settle().unwrap();
        assert_eq!(kept(&state).as_deref(), Some("new"), "it had come");
        assert!(!state.folder.join(BEFORE).exists());
    }

    /// A daemon that dies after each step of giving up, and the next one, which gives up as well or settles.
    #[test]
    fn no_step_of_giving_up_loses_what_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        let ends: [fn(&State); 2] =
            [|state| state.settle().unwrap(), |state| assert!(state.give_up().is_ok())];
        for (end, arrived) in ends.into_iter().flat_map(|end| [(end, None), (end, Some("new"))]) {
            let mut steps = 0;
            loop {
                keep(&state, "old");
                fs::create_dir(state.folder.join("tpm1.2")).unwrap();
                set_aside(&state);
                match arrived {
                    Some(text) => keep(&state, text),
                    None => fs::create_dir(state.folder.join("tpm2")).unwrap(),
                }
                // Whether a guest whose state is all there has come is settled by that alone, until it is given up.
                let is_given_up = arrived.is_none() || steps > 0;
                let ended = (0..steps).any(|_| !state.take_back().unwrap());
                for again in ["", "once more "] {
                    if is_given_up {
                        end(&state);
                        assert_eq!(kept(&state).as_deref(), Some("old"), "{again}after {steps} steps");
                    }
                }
                if is_given_up {
                    let left = fs::read_dir(&state.folder).unwrap().count();
                    assert_eq!(left, 2, "nothing but the two is left after {steps} steps");
                }
                fs::remove_dir_all(&state.folder).unwrap();
                if ended {
                    break;
                }
                steps += 1;
            }
            assert_eq!(
                steps, 7,
                "out, removed, on the way, back and back, nothing on the way, nothing to do"
            );
        }
    }

    #[test]
    fn neither_does_a_step_of_setting_aside_or_of_accepting() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        keep(&state, "old");
        let moving = state.folder.join(MOVING);
        fs::create_dir(&moving).unwrap();
        state.settle().unwrap();
        assert_eq!(kept(&state).as_deref(), Some("old"), "on the way, and nothing had gone it");
        fs::create_dir(&moving).unwrap();
        fs::rename(state.folder.join("tpm2"), moving.join("tpm2")).unwrap();
        assert!(state.give_up().unwrap());
        assert_eq!(kept(&state).as_deref(), Some("old"), "on the way, and it had");

        set_aside(&state);
        keep(&state, "new");
        fs::rename(state.folder.join(BEFORE), state.folder.join(DROPPED)).unwrap();
        assert!(!state.give_up().unwrap(), "it is accepted");
        assert_eq!(kept(&state).as_deref(), Some("new"));
        assert!(!state.folder.join(DROPPED).exists());
    }

    #[test]
    fn a_note_names_the_process_again() {
        let identity = Identity { pid: 7, start_ticks: 12, boot_id: "b-o".to_owned() };
        assert_eq!(read_note(&note(&identity)), Some(identity));
        for broken in ["", "7", "7 x y", "x 1 y"] {
            assert_eq!(read_note(broken), None, "{broken:?}");
        }
    }
}
