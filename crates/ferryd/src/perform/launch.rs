//! Starting QEMU: from a completed definition to a process with a monitor that answers.
//!
//! Called by a driver, for a start and for a guest that arrives. Whatever fails on the way leaves nothing behind; a
//! QEMU that ends before it answers has its last words handed to the caller. CPUs do not run yet when this is done.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ferry_domxml::chardev::{Backend, ChannelState, ChardevSource, Log, SocketMode};
use ferry_domxml::display::{Graphics, Listen};
use ferry_domxml::{Domain, OnOff, YesNo};
use ferry_qemu::blockgraph;
use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::command_line::{
    ChardevFds, CommandLine, Launch, Now, SealedSecret, Tap, check_memory, command_line,
};
use ferry_qmp::Event;
use ferry_qmp::commands::device::QueryChardev;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use tokio::sync::mpsc;

use super::monitor::{ConnectError, Monitor};
use super::network::{self, TapRequest};
use super::rundir::RunDir;
use super::seal::{self, MasterKey};
use super::tpm::{self, Swtpm};
use super::virtiofs::{self, Servers};
use super::words::Words;
use super::{firmware, images, memory, settings, vcpus, vnc};
use crate::host::Host;
use crate::process::Process;
use crate::{refuse, sys};

/// What a QEMU is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A guest that boots.
    Boot,
    /// A guest that arrives: QEMU waits for `migrate-incoming`.
    Incoming,
}

/// A QEMU that answers. Its CPUs do not run.
pub(crate) struct Launched {
    /// The definition as it runs: aliases, nodes, chosen paths and ports.
    pub(crate) domain: Domain,
    pub(crate) launch_id: String,
    pub(crate) process: Process,
    pub(crate) child: Child,
    pub(crate) monitor: Monitor,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) run_dir: RunDir,
    pub(crate) capabilities: Arc<Capabilities>,
    /// The number of the next block node.
    pub(crate) next_node: u32,
    /// What it says.
    pub(crate) words: Words,
    /// Who plays its TPM.
    pub(crate) swtpm: Option<Swtpm>,
    /// Where variables of its firmware were made for it.
    pub(crate) new_variables: Option<PathBuf>,
}

/// A name for a launch that is about to be made.
pub(crate) fn new_launch_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
}

/// Starts QEMU for `domain`, which was completed and checked. `id` is the guest's number, `launch_id` names this
/// start of it for all time.
pub(crate) async fn launch(
    host: &Arc<Host>,
    domain: Domain,
    id: i32,
    launch_id: String,
    purpose: Purpose,
) -> Result<Launched, Error> {
    let capabilities = host.capabilities(domain.devices.emulator.as_deref()).await?;
    ferry_qemu::validate(&domain, &capabilities).map_err(refuse::invalid_definition)?;
    let new_variables = firmware::new_variables(&domain);
    let tpm = tpm::prepare(host, &domain, purpose).await?.map(Arc::new);
    let (worker, known, played) = (Arc::clone(host), Arc::clone(&capabilities), tpm.clone());
    let launched = async {
        // Files, TAPs and fork: work for a thread that may block.
        let started = tokio::task::spawn_blocking(move || {
            start(&worker, domain, &known, played.as_deref(), (id, launch_id), purpose)
        });
        let started = started.await.map_err(|_| refuse::internal("the daemon is stopping"))??;
        introduce(started, capabilities, purpose).await
    };
    match launched.await {
        Ok(launched) => Ok(Launched { new_variables, ..launched }),
        Err(error) => {
            if let Some(tpm) = &tpm {
                tpm.undo();
            }
            if let Some(path) = &new_variables {
                firmware::forget_variables(path);
            }
            Err(error)
        }
    }
}

/// The command line that `domain`, which was completed, would be started with, for people to read. Nothing is opened:
/// every descriptor is shown as -1.
pub(crate) async fn command_line_of(host: &Arc<Host>, domain: Domain) -> Result<String, Error> {
    let capabilities = host.capabilities(domain.devices.emulator.as_deref()).await?;
    unopened_line(host, domain, &capabilities).map(|line| refuse::shell_like(&line))
}

/// The same as words, for whoever wants to know what would be built.
///
/// # Errors
/// What the binary cannot run.
pub(crate) fn unopened_line(
    host: &Host,
    mut domain: Domain,
    capabilities: &Capabilities,
) -> Result<CommandLine, Error> {
    const UNOPENED: RawFd = -1;
    ferry_qemu::validate(&domain, capabilities).map_err(refuse::invalid_definition)?;
    ferry_qemu::host_model::expand(&mut domain, capabilities).map_err(refuse::no_host_model)?;
    blockgraph::number(&mut domain.devices.disks);
    ferry_qemu::aliases::assign(&mut domain).map_err(refuse::machine)?;
    let mut launch = Launch::new(UNOPENED, now());
    launch.memory = memory::folders(&host.layout);
    for secret in domain.devices.disks.iter().flat_map(blockgraph::needed) {
        let unsealed = SealedSecret { data: String::new(), iv: String::new() };
        launch.secrets.insert(secret.object, unsealed);
        launch.master_key = Some("master-key.aes".to_owned());
    }
    for folder in &domain.devices.filesystems {
        let alias = folder.info.alias.clone().unwrap_or_default();
        launch.file_systems.insert(alias.clone(), format!("{alias}-fs.sock"));
    }
    launch.tpm = Some(UNOPENED);
    for card in &domain.devices.interfaces {
        if TapRequest::of(card).is_some() {
            let tap = Tap { fds: vec![UNOPENED], vhost_fds: Vec::new() };
            launch.taps.insert(card.info.alias.clone().unwrap_or_default(), tap);
        }
    }
    let devices = &mut domain.devices;
    let channels = devices.channels.iter_mut().map(|channel| &mut channel.source);
    let serials = devices.serials.iter_mut().map(|serial| &mut serial.source);
    let consoles = devices.consoles.iter_mut().map(|console| &mut console.source);
    channels.chain(serials).chain(consoles).for_each(own_socket);
    choose_vnc(&mut domain, host)?;
    let unopened = ChardevFds { listen: Some(UNOPENED), file: Some(UNOPENED), log: Some(UNOPENED) };
    let devices = &domain.devices;
    let aliases = devices
        .serials
        .iter()
        .map(|serial| &serial.info)
        .chain(devices.channels.iter().map(|channel| &channel.info))
        .chain(devices.redirdevs.iter().map(|redirdev| &redirdev.info))
        .chain(devices.consoles.iter().map(|console| &console.info));
    for alias in aliases.filter_map(|info| info.alias.clone()) {
        launch.chardevs.insert(alias, unopened.clone());
    }
    command_line(&domain, capabilities, &launch).map_err(refuse::no_command_line)
}

/// Everything that would keep this definition from being started here as far as it can be seen without starting it.
/// May block: for a thread that can.
pub(crate) fn rehearse(host: &Host, mut domain: Domain, capabilities: &Capabilities) -> Vec<Error> {
    let problems = ferry_qemu::validate::problems(&domain, capabilities);
    let mut found: Vec<Error> = problems.into_iter().map(refuse::invalid_definition).collect();
    let mut note = |outcome: Result<(), Error>| found.extend(outcome.err());
    note(ferry_qemu::host_model::expand(&mut domain, capabilities).map(drop).map_err(refuse::no_host_model));
    let folders = memory::folders(&host.layout);
    note(check_memory(&domain, capabilities, folders).map_err(refuse::no_command_line));
    for card in &mut domain.devices.interfaces {
        let mapped = network::map(card, &host.config.networks, &host.layout.config);
        note(mapped.and_then(|()| network::look(card)));
    }
    for tpm in &domain.devices.tpms {
        note(tpm::look(host, tpm, false));
    }
    for disk in &mut domain.devices.disks {
        note(images::follow(std::slice::from_mut(disk)).map_err(refuse::chain_unreadable));
    }
    found
}

/// A process that was started and has not spoken yet.
struct Started {
    domain: Domain,
    launch_id: String,
    child: Child,
    process: Process,
    run_dir: RunDir,
    next_node: u32,
    words: Words,
    servers: Servers,
    swtpm: Option<Swtpm>,
}

/// What is opened for a launch, and removed again when it fails.
struct Making<'a> {
    host: &'a Host,
    run_dir: RunDir,
    /// Inherited by QEMU under these numbers; closed here once it runs.
    fds: Vec<OwnedFd>,
    launch: Launch,
    /// The TPM's end of its connection with QEMU.
    tpm: Option<OwnedFd>,
}

fn start(
    host: &Host,
    mut domain: Domain,
    capabilities: &Capabilities,
    tpm: Option<&tpm::Ready>,
    (id, launch_id): (i32, String),
    purpose: Purpose,
) -> Result<Started, Error> {
    ferry_qemu::host_model::expand(&mut domain, capabilities).map_err(refuse::no_host_model)?;
    for card in &mut domain.devices.interfaces {
        network::map(card, &host.config.networks, &host.layout.config)?;
    }
    choose_vnc(&mut domain, host)?;
    let left_out = images::leave_out_missing(&mut domain.devices.disks, purpose == Purpose::Boot);
    if !left_out.is_empty() {
        tracing::warn!(domain = domain.name, disks = ?left_out, "images are missing and may be: left out");
    }
    images::follow(&mut domain.devices.disks).map_err(refuse::chain_unreadable)?;
    images::own(&domain.devices.disks, &host.account)
        .map_err(|e| refuse::system("Unable to set image ownership", &e))?;
    firmware::variables(&domain, &host.account)?;
    domain.id = u32::try_from(id).ok();
    let next_node = blockgraph::number(&mut domain.devices.disks);
    ferry_qemu::aliases::assign(&mut domain).map_err(refuse::machine)?;

    let run_dir = RunDir::create(&host.layout.run, id, &launch_id, &host.account)
        .map_err(|e| refuse::system("cannot make the run folder", &e))?;
    let made = make(host, &mut domain, capabilities, &run_dir, purpose);
    let (command_line, fds, servers, tpm_end) = match made {
        Ok(made) => made,
        Err(error) => {
            run_dir.remove();
            return Err(error);
        }
    };
    let spawned = spawn(host, &domain, &command_line, fds);
    let (mut child, process, words) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            servers.end();
            run_dir.remove();
            let text = format!("cannot execute {}", command_line.argv.first().map_or("", String::as_str));
            return Err(refuse::system(&text, &error));
        }
    };
    // QEMU waits for it. In this order no swtpm is left without a QEMU, whenever the daemon dies.
    let swtpm = match tpm.zip(tpm_end).map(|(tpm, socket)| tpm.start(host, socket, &run_dir)).transpose() {
        Ok(swtpm) => swtpm,
        Err(error) => {
            servers.end();
            process.kill();
            let _ = child.wait();
            run_dir.remove();
            return Err(error);
        }
    };
    Ok(Started { domain, launch_id, child, process, run_dir, next_node, words, servers, swtpm })
}

fn make(
    host: &Host,
    domain: &mut Domain,
    capabilities: &Capabilities,
    run_dir: &RunDir,
    purpose: Purpose,
) -> Result<(CommandLine, Vec<OwnedFd>, Servers, Option<OwnedFd>), Error> {
    let mut making =
        Making { host, run_dir: run_dir.clone(), fds: Vec::new(), launch: Launch::new(0, now()), tpm: None };
    making.launch.incoming = purpose == Purpose::Incoming;
    making.launch.memory = memory::prepare(domain, &host.layout, &host.account)
        .map_err(|error| refuse::system("cannot make a folder for guest memory", &error))?;
    making.launch.monitor = making.listen(&run_dir.monitor())?;
    making.open_taps(domain)?;
    making.open_chardevs(domain)?;
    making.open_small_devices(domain)?;
    making.seal_secrets(domain)?;
    // Last of what can fail but for the command line itself: what was started must be ended.
    let servers = making.serve_folders(domain)?;
    match command_line(domain, capabilities, &making.launch) {
        Ok(mut line) => {
            if !host.config.seccomp_sandbox {
                leave_out(&mut line, "-sandbox");
            }
            Ok((line, making.fds, servers, making.tpm))
        }
        Err(error) => {
            servers.end();
            Err(refuse::no_command_line(error))
        }
    }
}

impl Making<'_> {
    /// Keeps a descriptor for QEMU and tells its number.
    fn inherit(&mut self, fd: impl Into<OwnedFd>) -> RawFd {
        let fd = fd.into();
        let number = fd.as_raw_fd();
        self.fds.push(fd);
        number
    }

    fn listen(&mut self, path: &Path) -> Result<RawFd, Error> {
        let listener = RunDir::listen(path, &self.host.account).map_err(|source| {
            refuse::system(&format!("unable to listen on '{}'", path.display()), &source)
        })?;
        Ok(self.inherit(listener))
    }

    fn open_taps(&mut self, domain: &mut Domain) -> Result<(), Error> {
        for interface in &mut domain.devices.interfaces {
            let Some(request) = TapRequest::of(interface) else { continue };
            let tap = network::open(&request)
                .map_err(|error| Error::of(ErrorCode::SYSTEM_ERROR, Origin::NONE, refuse::chain(&error)))?;
            interface.target_dev = Some(tap.name);
            let fds = tap.fds.into_iter().map(|fd| self.inherit(fd)).collect();
            let alias = interface.info.alias.clone().unwrap_or_default();
            self.launch.taps.insert(alias, Tap { fds, vhost_fds: Vec::new() });
        }
        Ok(())
    }

    /// The host's end of a socket device, the way to the TPM, and the file behind the guest's crash memory.
    fn open_small_devices(&mut self, domain: &Domain) -> Result<(), Error> {
        const VSOCK: &str = "/dev/vhost-vsock";
        if !domain.devices.tpms.is_empty() {
            let pair = UnixStream::pair();
            let (ours, theirs) =
                pair.map_err(|error| refuse::system("unable to create socket pair", &error))?;
            self.launch.tpm = Some(self.inherit(ours));
            self.tpm = Some(theirs.into());
        }
        if domain.devices.vsock.is_some() {
            let opened = File::options().read(true).write(true).open(VSOCK);
            let device =
                opened.map_err(|error| refuse::system(&format!("unable to open '{VSOCK}'"), &error))?;
            self.launch.vsock = Some(self.inherit(device));
        }
        let Some(pstore) = &domain.devices.pstore else { return Ok(()) };
        let Some((path, size)) = pstore.path.as_deref().zip(pstore.size) else { return Ok(()) };
        let path = Path::new(path);
        // QEMU would make it, but only where its account may.
        let made = File::options().create(true).append(true).open(path).and_then(|file| {
            let bytes = size.kib.saturating_mul(1024);
            if file.metadata()?.len() < bytes {
                file.set_len(bytes)?;
            }
            self.host.account.own(path)
        });
        made.map_err(|error| refuse::system(&format!("Unable to open file: {}", path.display()), &error))
    }

    /// The values that disks refer to, for QEMU's eyes only.
    fn seal_secrets(&mut self, domain: &Domain) -> Result<(), Error> {
        let values = seal::values(self.host, &domain.devices.disks)?;
        if values.is_empty() {
            return Ok(());
        }
        let failed = |error| refuse::system("cannot encrypt a secret", &error);
        let key = MasterKey::of(&self.run_dir, &self.host.account).map_err(failed)?;
        for value in values {
            let sealed = key.seal(&value).map_err(failed)?;
            self.launch.secrets.insert(value.object, sealed);
        }
        self.launch.master_key = Some(key.path.to_string_lossy().into_owned());
        Ok(())
    }

    /// The servers of shared folders.
    fn serve_folders(&mut self, domain: &Domain) -> Result<Servers, Error> {
        let (run_dir, host) = (&self.run_dir, self.host);
        let started = virtiofs::start(domain, run_dir, &host.account, &host.layout.logs);
        let (servers, sockets) =
            started.map_err(|text| Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text))?;
        self.launch.file_systems = sockets;
        Ok(servers)
    }

    fn open_chardevs(&mut self, domain: &mut Domain) -> Result<(), Error> {
        let devices = &mut domain.devices;
        for serial in &mut devices.serials {
            self.open_chardev(&mut serial.source, serial.log.as_ref(), serial.info.alias.as_deref(), None)?;
        }
        for channel in &mut devices.channels {
            let target = channel.target.name.clone();
            let alias = channel.info.alias.as_deref();
            self.open_chardev(&mut channel.source, channel.log.as_ref(), alias, target.as_deref())?;
        }
        for redirdev in &mut devices.redirdevs {
            self.open_chardev(&mut redirdev.source, None, redirdev.info.alias.as_deref(), None)?;
        }
        for console in &mut devices.consoles {
            let shown_already = console
                .target
                .as_ref()
                .is_none_or(|target| target.kind == ferry_domxml::chardev::ConsoleTargetType::Serial);
            if !shown_already {
                let alias = console.info.alias.as_deref();
                self.open_chardev(&mut console.source, console.log.as_ref(), alias, None)?;
            }
        }
        Ok(())
    }

    fn open_chardev(
        &mut self,
        source: &mut ChardevSource,
        log: Option<&Log>,
        alias: Option<&str>,
        target: Option<&str>,
    ) -> Result<(), Error> {
        let alias = alias.unwrap_or_default();
        let mut fds = ChardevFds::default();
        own_socket(source);
        match &mut source.backend {
            Backend::Unix { path, mode: SocketMode::Bind } => {
                let chosen = path.get_or_insert_with(|| {
                    let name = target.filter(|name| !name.contains('/')).unwrap_or(alias);
                    self.run_dir.channel(name).to_string_lossy().into_owned()
                });
                fds.listen = Some(self.listen(Path::new(&*chosen))?);
            }
            Backend::File { path, append } => {
                fds.file = Some(self.open_file(Path::new(path), *append == Some(OnOff::On))?);
            }
            Backend::Unix { mode: SocketMode::Connect, .. }
            | Backend::Null
            | Backend::Pty(_)
            | Backend::Dev(_)
            | Backend::Pipe(_)
            | Backend::Stdio
            | Backend::Tcp { .. } => {}
        }
        if let Some(log) = log {
            fds.log = Some(self.open_file(Path::new(&log.file), log.append == Some(OnOff::On))?);
        }
        self.launch.chardevs.insert(alias.to_owned(), fds);
        Ok(())
    }

    /// A file that QEMU writes to; emptied unless it is appended to.
    fn open_file(&mut self, path: &Path, append: bool) -> Result<RawFd, Error> {
        let opened = File::options().create(true).append(true).open(path).and_then(|file| {
            if !append {
                file.set_len(0)?;
            }
            self.host.account.own(path)?;
            Ok(file)
        });
        match opened {
            Ok(file) => Ok(self.inherit(file)),
            Err(error) => Err(refuse::system(&format!("Unable to open file: {}", path.display()), &error)),
        }
    }
}

/// Starts the process, with what it says going to the domain's log.
fn spawn(
    host: &Host,
    domain: &Domain,
    line: &CommandLine,
    fds: Vec<OwnedFd>,
) -> io::Result<(Child, Process, Words)> {
    let log_path = host.layout.logs.join(format!("{}.log", domain.name));
    let mut log = File::options().create(true).append(true).open(&log_path)?;
    writeln!(log, "{}", refuse::shell_like(line))?;
    if domain.qemu_command_line.is_some() {
        tracing::warn!(domain = %domain.name, "tainted: custom-argv");
    }
    let log_start = log.seek(SeekFrom::End(0))?;
    let (program, arguments) =
        line.argv.split_first().ok_or_else(|| io::Error::other("an empty command line"))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(line.env.iter().map(|(name, value)| (name, value)));
    // Where QEMU finds what it was built with, when it is not where it was built for.
    for kept in ["PATH", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    host.account.run_as(&mut command);
    command.arg0(program);
    let start = || sys::spawn_session(command, &fds);
    let is_locked = domain.memory_backing.as_ref().is_some_and(|backing| backing.locked);
    let mut child = if is_locked { memory::with_locked_memory(start)? } else { start()? };
    match Process::of_child(&child) {
        Ok(process) => Ok((child, process, Words::from(log_path, log_start))),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// Connects to the monitor and learns what only QEMU knows.
async fn introduce(
    started: Started,
    capabilities: Arc<Capabilities>,
    purpose: Purpose,
) -> Result<Launched, Error> {
    let connected = Monitor::connect(&started.run_dir.monitor(), 1).await;
    let (monitor, events) = match connected {
        Ok(connected) => connected,
        Err(error) => return Err(bury(started, error).await),
    };
    let Started { mut domain, launch_id, child, process, run_dir, next_node, words, servers, mut swtpm } =
        started;
    // Its monitor answers, and so all its devices are there, connected.
    servers.leave();
    let has_terminal = |source: &ChardevSource| matches!(source.backend, Backend::Pty(_));
    let devices = &domain.devices;
    let asks = devices.serials.iter().any(|serial| has_terminal(&serial.source))
        || devices.channels.iter().any(|channel| has_terminal(&channel.source))
        || devices.redirdevs.iter().any(|redirdev| has_terminal(&redirdev.source))
        || devices.consoles.iter().any(|console| has_terminal(&console.source));
    let introduced = async {
        // No guest has a channel open before it runs.
        for channel in &mut domain.devices.channels {
            channel.target.state = Some(ChannelState::Disconnected);
        }
        if asks {
            let chardevs = monitor.execute(&QueryChardev).await?;
            fill_in_terminals(&mut domain, &chardevs);
        }
        vcpus::plug_all(&monitor, &domain).await?;
        settings::apply(&monitor, &domain).await?;
        memory::learn(&monitor, &mut domain).await?;
        match purpose {
            Purpose::Boot => settings::inflate(&monitor, &mut domain).await,
            // The balloon arrives as it is.
            Purpose::Incoming => Ok(()),
        }
    };
    let mut outcome = introduced.await.map_err(refuse::monitor);
    if outcome.is_ok() {
        outcome = vcpus::pin(&monitor, &domain, process.identity().pid).await.map_err(refuse::not_pinned);
    }
    if let Err(error) = outcome {
        process.kill();
        process.exited().await;
        if let Some(swtpm) = &mut swtpm {
            swtpm.end().await;
        }
        run_dir.remove();
        return Err(error);
    }
    Ok(Launched {
        domain,
        launch_id,
        process,
        child,
        monitor,
        events,
        run_dir,
        capabilities,
        next_node,
        words,
        swtpm,
        new_variables: None,
    })
}

/// A QEMU that did not come to answer: what it said last is why.
async fn bury(mut started: Started, error: ConnectError) -> Error {
    started.process.kill();
    started.process.exited().await;
    let _ = started.child.wait();
    started.servers.end();
    let mut words = started.words.last().unwrap_or_else(|| refuse::chain(&error));
    if let Some(swtpm) = &mut started.swtpm {
        swtpm.end().await;
        words.extend(swtpm.last_words().map(|said| format!("; swtpm: {said}")));
    }
    started.run_dir.remove();
    let text = format!("process exited while connecting to monitor: {words}");
    Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text)
}

/// A socket that the definition does not name is ours, and so we listen.
fn own_socket(source: &mut ChardevSource) {
    if let Backend::Unix { path: None, mode } = &mut source.backend {
        *mode = SocketMode::Bind;
    }
}

fn fill_in_terminals(domain: &mut Domain, chardevs: &[ferry_qmp::commands::device::Chardev]) {
    let path_of = |alias: Option<&str>| {
        let label = format!("char{}", alias.unwrap_or_default());
        let chardev = chardevs.iter().find(|chardev| chardev.label == label);
        chardev.and_then(|chardev| chardev.pty_path()).map(str::to_owned)
    };
    let devices = &mut domain.devices;
    for serial in &mut devices.serials {
        if let Backend::Pty(path) = &mut serial.source.backend {
            *path = path_of(serial.info.alias.as_deref());
        }
    }
    for channel in &mut devices.channels {
        if let Backend::Pty(path) = &mut channel.source.backend {
            *path = path_of(channel.info.alias.as_deref());
        }
    }
    for redirdev in &mut devices.redirdevs {
        if let Backend::Pty(path) = &mut redirdev.source.backend {
            *path = path_of(redirdev.info.alias.as_deref());
        }
    }
    for console in &mut devices.consoles {
        if let Backend::Pty(path) = &mut console.source.backend {
            *path = path_of(console.info.alias.as_deref());
            console.tty.clone_from(path);
        }
    }
    ferry_qemu::complete::mirror_console(domain);
}

/// Gives VNC servers the address and port that they leave open.
fn choose_vnc(domain: &mut Domain, host: &Host) -> Result<(), Error> {
    let mut chosen = BTreeSet::new();
    for graphics in &mut domain.devices.graphics {
        let Graphics::Vnc(vnc) = graphics;
        if vnc.listens.is_empty() {
            vnc.listens.push(Listen::Address(None));
        }
        let Some(Listen::Address(address)) = vnc.listens.first_mut() else { continue };
        if address.is_none() {
            *address = Some(host.config.vnc_listen.clone());
            vnc.listen_from_config = true;
        }
        let asked = vnc.autoport != Some(YesNo::Yes) && vnc.port.is_some_and(|port| port > 0);
        if !asked {
            let port = vnc::free_port(address.as_deref().unwrap_or_default(), &chosen)
                .ok_or_else(|| refuse::internal("Unable to find an unused port in range 'VNC'"))?;
            chosen.insert(port);
            vnc.port = Some(i32::from(port));
            vnc.autoport = Some(YesNo::Yes);
        }
    }
    Ok(())
}

/// Takes an option and its value out of a command line.
fn leave_out(line: &mut CommandLine, option: &str) {
    if let Some(at) = line.argv.iter().position(|argument| argument == option) {
        line.argv.drain(at..at + 2);
    }
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { utc_s: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), zone_offset_s: 0 }
}
