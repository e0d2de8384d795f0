//! Bare QEMUs, and the migration of a guest between two of them by raw QMP: spawn the destination, copy, resume, source
//! gone. What a manager costs is measured against this.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guest::{LinuxImage, Work};
use crate::lab::Host;
use crate::qmp::Qmp;
use crate::tree::{Launch, Tree};
use crate::{Error, Result, boot_sector};

/// How long QEMU may take to open its monitor.
const SPAWN_LIMIT: Duration = Duration::from_secs(20);

/// How long a migration may take.
const MIGRATE_LIMIT: Duration = Duration::from_secs(120);

/// A guest that is started without any manager.
#[derive(Clone, Debug)]
pub struct Bare {
    /// The QEMU binary.
    pub emulator: PathBuf,
    /// The machine, such as `q35` or `pc-q35-7.2`.
    pub machine: String,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Linux and its work; the boot sector when there is none.
    pub linux: Option<(LinuxImage, Work)>,
    /// A raw disk for Linux; the boot sector brings its own.
    pub disk: Option<PathBuf>,
    /// The serial port's log; both QEMUs append to it.
    pub log: PathBuf,
    /// A folder for sockets, logs and the boot sector's image, shared by both QEMUs.
    pub folder: PathBuf,
}

impl Bare {
    /// Starts it, on a host of a lab or on this machine.
    ///
    /// # Errors
    /// [`Error::Unexpected`] with QEMU's last words when its monitor does not open.
    pub fn start(&self, host: Option<&Host>) -> Result<BareGuest> {
        self.spawn(host, false)
    }

    /// Starts a QEMU that waits for the guest to arrive.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_incoming(&self, host: Option<&Host>) -> Result<BareGuest> {
        self.spawn(host, true)
    }

    fn spawn(&self, host: Option<&Host>, incoming: bool) -> Result<BareGuest> {
        let began = Instant::now();
        // Any number of QEMUs may share the folder.
        let scratch = tempfile::Builder::new()
            .prefix("q")
            .tempdir_in(&self.folder)
            .map_err(Error::io(format!("a folder in {:?}", self.folder)))?;
        let monitor = scratch.path().join("m");
        let commands = scratch.path().join("c");
        let launch = Launch::new(&self.emulator).args(self.arguments(&monitor, &commands, incoming)?);
        let tree = match host {
            Some(host) => host.start(launch, "bare-qemu")?,
            None => Tree::start(&launch, self.folder.join("qemu.log"))?,
        };
        let qmp = Qmp::connect(&monitor, SPAWN_LIMIT).map_err(|error| Error::Unexpected {
            what: "QEMU".into(),
            detail: format!("{error}\n{}", tree.log_tail(20)),
        })?;
        let address = host.map_or(Ipv4Addr::LOCALHOST, Host::address);
        Ok(BareGuest { qmp, tree, commands, address, spawned_in: began.elapsed(), _scratch: scratch })
    }

    fn arguments(&self, monitor: &Path, commands: &Path, incoming: bool) -> Result<Vec<String>> {
        let mut words: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-accel",
            "tcg",
            "-machine",
            &self.machine,
            "-m",
            &format!("size={}k", self.memory_mib * 1024),
            "-qmp",
            &format!("unix:{},server=on,wait=off", monitor.display()),
            "-chardev",
            &format!("file,id=beats,path={},append=on", self.log.display()),
            "-device",
            "isa-serial,chardev=beats",
            "-chardev",
            &format!("socket,id=commands,path={},server=on,wait=off", commands.display()),
            "-device",
            "isa-serial,chardev=commands",
        ]
        .map(str::to_owned)
        .into();
        let disk = match &self.linux {
            Some((image, work)) => {
                words.extend(["-kernel".to_owned(), image.kernel.display().to_string()]);
                words.extend(["-initrd".to_owned(), image.initrd.display().to_string()]);
                words.extend(["-append".to_owned(), work.command_line()]);
                self.disk.clone()
            }
            None => {
                let path = self.folder.join("boot.img");
                if !path.exists() {
                    boot_sector::write_image(&path)?;
                }
                Some(path)
            }
        };
        if let Some(disk) = disk {
            words
                .extend(["-blockdev".to_owned(), format!("file,node-name=disk,filename={}", disk.display())]);
            words.extend(["-device".to_owned(), "virtio-blk-pci,drive=disk".to_owned()]);
        }
        if incoming {
            words.extend(["-incoming", "defer"].map(str::to_owned));
        }
        Ok(words)
    }
}

/// A running QEMU. Dropping it ends it.
#[derive(Debug)]
pub struct BareGuest {
    /// Its monitor.
    pub qmp: Qmp,
    tree: Tree,
    commands: PathBuf,
    address: Ipv4Addr,
    spawned_in: Duration,
    _scratch: tempfile::TempDir,
}

impl BareGuest {
    /// The socket on which the Linux guest takes commands.
    pub fn command_port(&self) -> &Path {
        &self.commands
    }

    /// From starting QEMU to its monitor's first answer.
    pub fn spawned_in(&self) -> Duration {
        self.spawned_in
    }

    /// QEMU's process.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// How to migrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// QEMU's `downtime-limit`, milliseconds; QEMU's own default is 300.
    pub downtime_limit_ms: Option<u64>,
    /// Streams; more than one turns multifd on.
    pub streams: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self { downtime_limit_ms: None, streams: 1 }
    }
}

/// What a migration took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// From starting the destination's QEMU to the source's process being gone.
    pub wall: Duration,
    /// Starting the destination's QEMU.
    pub spawn: Duration,
    /// QEMU's own total time.
    pub qemu_total: Duration,
    /// QEMU's own estimate of the pause.
    pub qemu_downtime: Duration,
    /// From the source's `completed` to the destination's answer to `cont`.
    pub completed_to_running: Duration,
}

impl Timings {
    /// What the manager cost: wall less QEMU's total time.
    pub fn own_cost(&self) -> Duration {
        self.wall.saturating_sub(self.qemu_total)
    }
}

/// Moves the guest to a new QEMU on host `to`. Gives the destination and the times.
///
/// # Errors
/// [`Error::Unexpected`] with QEMU's words when the migration fails; both QEMUs are ended then.
pub fn migrate(
    bare: &Bare,
    mut source: BareGuest,
    to: Option<&Host>,
    options: Options,
) -> Result<(BareGuest, Timings)> {
    let began = Instant::now();
    let mut destination = bare.start_incoming(to)?;
    configure(&mut destination.qmp, options)?;
    // A port of QEMU's choice, so that runs side by side do not meet. The older form, which 7.2 knows as well.
    let host = destination.address;
    destination.qmp.execute("migrate-incoming", json!({ "uri": format!("tcp:{host}:0") }))?;
    let listening = destination.qmp.execute("query-migrate", json!({}))?;
    let Some(port) = listening["socket-address"][0]["port"].as_str() else {
        return Err(Error::Unexpected { what: "query-migrate".into(), detail: listening.to_string() });
    };
    let uri = format!("tcp:{host}:{port}");

    configure(&mut source.qmp, options)?;
    source.qmp.execute("migrate-set-capabilities", capabilities(&["events"], true))?;
    source.qmp.execute("migrate", json!({ "uri": uri }))?;
    let ended = source.qmp.wait_event("the end of the migration", MIGRATE_LIMIT, |event| {
        event["event"] == "MIGRATION"
            && matches!(event["data"]["status"].as_str(), Some("completed" | "failed"))
    })?;
    let completed = Instant::now();
    if ended["data"]["status"] != "completed" {
        let why = source.qmp.execute("query-migrate", json!({}))?;
        return Err(Error::Unexpected { what: "migration".into(), detail: why.to_string() });
    }
    // Started without -S, so the destination resumes by itself; its answer says that the CPUs run.
    wait_running(&mut destination.qmp)?;
    let completed_to_running = completed.elapsed();

    let figures = source.qmp.execute("query-migrate", json!({}))?;
    source.qmp.execute("quit", json!({}))?;
    source.qmp.wait_closed()?;
    source.tree.wait_end(SPAWN_LIMIT)?;
    let wall = began.elapsed();
    let ms = |key: &str| Duration::from_millis(figures[key].as_u64().unwrap_or(0));
    let timings = Timings {
        wall,
        spawn: destination.spawned_in,
        qemu_total: ms("total-time"),
        qemu_downtime: ms("downtime"),
        completed_to_running,
    };
    Ok((destination, timings))
}

fn configure(qmp: &mut Qmp, options: Options) -> Result<()> {
    // QEMU's default bandwidth limit on old versions is 32 MiB/s; 0 takes it off.
    let mut parameters = json!({ "max-bandwidth": 0 });
    if let Some(limit) = options.downtime_limit_ms {
        parameters["downtime-limit"] = json!(limit);
    }
    if options.streams > 1 {
        qmp.execute("migrate-set-capabilities", capabilities(&["multifd"], true))?;
        parameters["multifd-channels"] = json!(options.streams);
    }
    qmp.execute("migrate-set-parameters", parameters)?;
    Ok(())
}

fn wait_running(qmp: &mut Qmp) -> Result<()> {
    crate::deadline::wait_for("the destination's CPUs", MIGRATE_LIMIT, || {
        match qmp.execute("query-status", json!({})) {
            Ok(status) if status["running"] == true => Some(Ok(())),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    })?
}

fn capabilities(names: &[&str], state: bool) -> Value {
    let list: Vec<Value> = names.iter().map(|name| json!({ "capability": name, "state": state })).collect();
    json!({ "capabilities": list })
}
