//! What a QEMU binary can do: asked once for each build, then read from the cache.
//!
//! Called when a domain is completed or started, and at the daemon's start for the default emulator. What to ask
//! and what the answers mean is `ferry_qemu::probe`; this room starts the binary and keeps the result.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::probe::{Probe, ProbeError};
use ferry_qmp::EncodeError;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::perform::monitor::{ConnectError, Monitor, MonitorError};
use crate::process::Process;
use crate::sys;

/// The emulator of a domain that names none.
pub(crate) const DEFAULT_EMULATOR: &str = "/usr/bin/qemu-system-x86_64";

/// How long a probed QEMU may take to end once told to.
const QUIT_DEADLINE: Duration = Duration::from_secs(5);

/// Why nothing is known of a binary.
#[derive(Debug, Error)]
pub(crate) enum CapabilitiesError {
    #[error("Cannot check QEMU binary {path}: {source}")]
    Binary {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start {path} to ask what it can do: {source}")]
    Start {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} does not speak QMP: {source}")]
    Connect {
        path: PathBuf,
        #[source]
        source: ConnectError,
    },
    #[error("{path} did not answer: {source}")]
    Monitor {
        path: PathBuf,
        #[source]
        source: MonitorError,
    },
    #[error("{path}: {source}")]
    Encode {
        path: PathBuf,
        #[source]
        source: EncodeError,
    },
    #[error("{path} cannot be used: {source}")]
    Probe {
        path: PathBuf,
        #[source]
        source: ProbeError,
    },
}

impl From<CapabilitiesError> for Error {
    fn from(error: CapabilitiesError) -> Error {
        let code = match error {
            CapabilitiesError::Binary { .. } => ErrorCode::SYSTEM_ERROR,
            CapabilitiesError::Start { .. }
            | CapabilitiesError::Connect { .. }
            | CapabilitiesError::Monitor { .. }
            | CapabilitiesError::Encode { .. }
            | CapabilitiesError::Probe { .. } => ErrorCode::INTERNAL_ERROR,
        };
        Error::new(code, Origin::QEMU, crate::refuse::chain(&error))
    }
}

/// The cache of a host, in memory and on disk.
#[derive(Debug)]
pub(crate) struct CapabilityCache {
    folder: PathBuf,
    known: Mutex<HashMap<PathBuf, (Build, Arc<Capabilities>)>>,
}

/// One build of a binary: what changes when the file is replaced or this host's KVM comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Build {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
    kvm: bool,
    ferry: String,
}

/// What stands in a cache file.
#[derive(Serialize, Deserialize)]
struct Entry {
    build: Build,
    capabilities: Capabilities,
}

impl CapabilityCache {
    /// A cache that keeps its files in `folder`.
    pub(crate) fn new(folder: PathBuf) -> CapabilityCache {
        CapabilityCache { folder, known: Mutex::new(HashMap::new()) }
    }

    /// What `emulator` can do. Asks the binary when this build was not seen before.
    pub(crate) async fn of(&self, emulator: &Path) -> Result<Arc<Capabilities>, CapabilitiesError> {
        let build = Build::of(emulator)
            .map_err(|source| CapabilitiesError::Binary { path: emulator.to_owned(), source })?;
        // One at a time: two calls that want the same unknown build must not both ask it.
        let mut known = self.known.lock().await;
        if let Some((seen, capabilities)) = known.get(emulator)
            && *seen == build
        {
            return Ok(Arc::clone(capabilities));
        }
        let file = self.file(emulator);
        let capabilities = match read_entry(&file, &build) {
            Some(capabilities) => capabilities,
            None => {
                let capabilities = ask(emulator, build.kvm).await?;
                write_entry(&file, &build, &capabilities);
                capabilities
            }
        };
        let capabilities = Arc::new(capabilities);
        known.insert(emulator.to_owned(), (build, Arc::clone(&capabilities)));
        Ok(capabilities)
    }

    fn file(&self, emulator: &Path) -> PathBuf {
        let name = emulator.to_string_lossy().trim_start_matches('/').replace('/', "_");
        self.folder.join(format!("{name}.json"))
    }
}

impl Build {
    fn of(emulator: &Path) -> io::Result<Build> {
        let found = fs::metadata(emulator)?;
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Ok(Build {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified_ns: ns(found.mtime(), found.mtime_nsec()),
            changed_ns: ns(found.ctime(), found.ctime_nsec()),
            kvm: fs::File::options().read(true).write(true).open("/dev/kvm").is_ok(),
            ferry: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

/// A cache file that is damaged, or of another build, is as good as none.
fn read_entry(file: &Path, build: &Build) -> Option<Capabilities> {
    let entry: Entry = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let current = entry.build == *build && entry.capabilities.format == ferry_qemu::capabilities::FORMAT;
    current.then_some(entry.capabilities)
}

/// Not being able to keep the answer costs the next daemon a probe, nothing else.
fn write_entry(file: &Path, build: &Build, capabilities: &Capabilities) {
    let entry = Entry { build: build.clone(), capabilities: capabilities.clone() };
    let scratch = file.with_extension(format!("{}.new", std::process::id()));
    let written = serde_json::to_vec(&entry)
        .map_err(io::Error::from)
        .and_then(|text| fs::write(&scratch, text))
        .and_then(|()| fs::rename(&scratch, file));
    if let Err(error) = written {
        tracing::warn!(file = %file.display(), %error, "cannot keep the capabilities of QEMU");
    }
}

async fn ask(emulator: &Path, kvm: bool) -> Result<Capabilities, CapabilitiesError> {
    let path = || emulator.to_owned();
    let mut probe = Probe::of_binary();
    put(emulator, &mut probe).await?;
    let mut capabilities =
        probe.finish().map_err(|source| CapabilitiesError::Probe { path: path(), source })?;
    if kvm && capabilities.kvm_built_in {
        let mut probe = Probe::of_kvm();
        // That QEMU does not start with KVM is an answer too.
        match put(emulator, &mut probe).await {
            Ok(()) => probe
                .finish_into(&mut capabilities)
                .map_err(|source| CapabilitiesError::Probe { path: path(), source })?,
            Err(error) => tracing::info!(emulator = %emulator.display(), %error, "no KVM"),
        }
    }
    Ok(capabilities)
}

/// Starts the binary, puts all questions of `probe` to it and ends it.
async fn put(emulator: &Path, probe: &mut Probe) -> Result<(), CapabilitiesError> {
    let path = || emulator.to_owned();
    let start = |source| CapabilitiesError::Start { path: path(), source };
    let (ours, theirs) = UnixStream::pair().map_err(start)?;
    let theirs = OwnedFd::from(theirs.into_std().map_err(start)?);
    let mut command = Command::new(emulator);
    // The monitor is a socket pair: no path, nothing to clean up.
    let monitor = format!("socket,id=probe,fd={}", theirs.as_raw_fd());
    let arguments = probe.arguments("chardev:probe");
    let without_qmp = arguments.iter().take(arguments.len() - 2);
    command.args(without_qmp).args(["-chardev", &monitor, "-mon", "chardev=probe,mode=control"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = sys::spawn_helper(command, std::slice::from_ref(&theirs)).map_err(start)?;
    drop(theirs);
    let outcome = converse(emulator, probe, ours).await;
    if let Ok(process) = Process::of_child(&child)
        && (outcome.is_err() || tokio::time::timeout(QUIT_DEADLINE, process.exited()).await.is_err())
    {
        process.kill();
        process.exited().await;
    }
    let _ = child.wait();
    outcome
}

async fn converse(emulator: &Path, probe: &mut Probe, stream: UnixStream) -> Result<(), CapabilitiesError> {
    let path = || emulator.to_owned();
    let (monitor, _events) = Monitor::over(stream, 0)
        .await
        .map_err(|source| CapabilitiesError::Connect { path: path(), source })?;
    for question in probe.questions().to_vec() {
        let request =
            question.request().map_err(|source| CapabilitiesError::Encode { path: path(), source })?;
        let reply = monitor
            .ask(request)
            .await
            .map_err(|source| CapabilitiesError::Monitor { path: path(), source })?;
        probe.handle_reply(&reply).map_err(|source| CapabilitiesError::Probe { path: path(), source })?;
    }
    // The answer may be lost with the process that gave it.
    let _ = monitor.execute(&ferry_qmp::commands::run::Quit).await;
    Ok(())
}
