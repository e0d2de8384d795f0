//! Where the runs happen: two hosts for each daemon, and one run at a time on them.
//!
//! ```text
//! f1, f2   ferryd, and the floor beside it: same machine, same links
//! m1, m2   ferryd with its state in memory
//! s1, s2   libvirtd: it wants the same well-known port, so it gets hosts of its own, made alike
//! ```
//!
//! Each run has a fresh guest, alone on the machine, and each ends with nothing left of it.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferry_testkit::cache::Cache;
use ferry_testkit::ferryd::{self, Ferryd};
use ferry_testkit::floor::{self, Bare};
use ferry_testkit::guest::{Boot, Domain, LinuxImage, Port, Work};
use ferry_testkit::lab::{Host, Lab};
use ferry_testkit::serial::Serial;
use ferry_testkit::stock::Libvirtd;
use ferry_testkit::tools::Tools;
use ferry_testkit::virsh::Virsh;
use ferry_testkit::{Error, Result, command, programs};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cli::{Cli, Generation, Guest};
use crate::contender::{Contender, Daemon};
use crate::machine::{self, Disk};
use crate::tap::{Tap, Timeline};

/// The period of both guests' heartbeat, microseconds: that of the boot sector, which cannot be told.
const BEAT_US: u64 = 2000;

/// Beats that are heard before a migration, without one, to know the noise: half a second on an idle machine.
const QUIET_BEATS: usize = 250;

/// Beats that are heard after it, so that what comes late is seen.
const AFTER_BEATS: usize = 50;

/// How long a guest may take to start beating, and Linux to boot and fill its memory.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(300);

/// How long a migration may take.
const MIGRATE_LIMIT: Duration = Duration::from_secs(300);

/// The hosts and what runs on them.
#[derive(Debug)]
pub(crate) struct Arena {
    // What runs on the hosts ends before them.
    ferry: Option<[Ferryd; 2]>,
    in_memory: Option<[Ferryd; 2]>,
    stock: Option<[Libvirtd; 2]>,
    wanted: Vec<Contender>,
    missing: Vec<String>,
    tap: Tap,
    disk: Disk,
    floor_options: floor::Options,
    runs: u32,
    lab: Lab,
}

/// What one migration took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    /// From the command's start to its end; for the floor, from starting the destination's QEMU to the end of the source's.
    pub(crate) wall: Duration,
    /// What the QEMUs said.
    pub(crate) timeline: Timeline,
    /// The longest time between two beats.
    pub(crate) pause: Duration,
    /// The same before the migration, the guest being left alone.
    pub(crate) noise: Duration,
    /// An `fdatasync` just before.
    pub(crate) fdatasync: Duration,
    /// The load just before.
    pub(crate) load: f64,
}

impl Run {
    /// What the manager cost: wall time less QEMU's own total time, milliseconds.
    pub(crate) fn own_cost_ms(&self) -> f64 {
        self.wall.as_secs_f64() * 1000.0 - self.timeline.total_ms
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timeline { total_ms, stopped_ms, completed_to_running_ms, .. } = self.timeline;
        write!(
            f,
            "wall {:.0} ms, QEMU {total_ms:.0}, own {:.0}, pause {:.0} (QEMU {stopped_ms:.0}), completed to running \
             {completed_to_running_ms:.1}, fdatasync {:.2}, load {:.2}",
            self.wall.as_secs_f64() * 1000.0,
            self.own_cost_ms(),
            self.pause.as_secs_f64() * 1000.0,
            self.fdatasync.as_secs_f64() * 1000.0,
            self.load,
        )
    }
}

/// One side of a manager's migration.
#[derive(Debug)]
struct Side {
    virsh: Virsh,
    host: Arc<Host>,
    local_uri: String,
    uri: String,
}

impl Arena {
    /// Makes the hosts and starts the daemons that the contenders need. Stock libvirt that cannot be had is left out; see
    /// [`missing`](Self::missing).
    ///
    /// # Errors
    /// What the testkit says of the hosts or of ferryd.
    pub(crate) fn open(cli: &Cli) -> Result<Self> {
        let cache = Cache::open()?;
        let tools = match cli.tools {
            Generation::Distribution => Tools::distribution(&cache)?,
            Generation::Newer => Tools::newer(&cache)?,
        };
        let mut wanted = cli.contenders();
        wanted.sort();
        wanted.dedup();
        let wants = |daemon| wanted.iter().any(|contender| contender.daemon() == Some(daemon));
        let names = ["f1", "f2", "s1", "s2", "m1", "m2"];
        let lab = Lab::best(&names.map(|name| (name, &tools)))?;
        let mut missing = Vec::new();
        let ferry = if wants(Daemon::Ferry) {
            let start = |number| Ferryd::start(lab.host(number), ferryd::Options::default());
            Some([start(0)?, start(1)?])
        } else {
            None
        };
        let in_memory = if !wants(Daemon::FerryInMemory) {
            None
        } else if lab.host(4).is_isolated() {
            let options = ferryd::Options { in_memory: true, ..ferryd::Options::default() };
            let start = |number| Ferryd::start(lab.host(number), options.clone());
            Some([start(4)?, start(5)?])
        } else {
            missing.push("journals in memory are left out: hosts of their own need root".to_owned());
            None
        };
        let stock = if wants(Daemon::Stock) {
            let start = |number| Libvirtd::start(lab.host(number));
            let both = start(2).and_then(|first| Ok([first, start(3)?]));
            both.map_err(|error| missing.push(format!("stock libvirt is left out: {error}"))).ok()
        } else {
            None
        };
        wanted.retain(|contender| match contender.daemon() {
            Some(Daemon::FerryInMemory) => in_memory.is_some(),
            Some(Daemon::Stock) => stock.is_some(),
            Some(Daemon::Ferry) | None => true,
        });
        let tap = Tap::open(lab.shared(), &lab.host(0).tool("qemu-system-x86_64"))?;
        let disk = Disk::open(lab.shared())?;
        let floor_options =
            floor::Options { downtime_limit_ms: cli.floor_downtime_ms, ..floor::Options::default() };
        Ok(Self { ferry, in_memory, stock, wanted, missing, tap, disk, floor_options, runs: 0, lab })
    }

    /// Who can run, in the order of the report.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        self.wanted.clone()
    }

    /// Who was asked for and cannot, and why.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Versions of all that takes part.
    pub(crate) fn versions(&self) -> Vec<String> {
        let host = self.lab.host(0);
        let mut versions = vec![machine::version(host, host.tool("qemu-system-x86_64"))];
        if self.contenders().iter().any(|contender| contender.daemon().is_some()) {
            versions.push(format!("virsh {}", machine::version(host, host.tool("virsh"))));
        }
        if self.ferry.is_some() || self.in_memory.is_some() {
            let said = programs::ferryd()
                .map(|path| format!("{} ({})", machine::version(host, &path), machine::build(&path)));
            versions.push(said.unwrap_or_else(|error| format!("ferryd of unknown version: {error}")));
        }
        if self.stock.is_some() {
            versions.push(machine::version(self.lab.host(2), "/usr/sbin/libvirtd"));
        }
        versions
    }

    /// Starts a fresh guest, migrates it once, and ends it.
    ///
    /// # Errors
    /// What failed, in the words of whoever failed; also when the guest did not come through whole.
    pub(crate) fn run(&mut self, contender: Contender, guest: Guest) -> Result<Run> {
        self.runs += 1;
        let name = format!("bench-{}", self.runs);
        let run = match contender.daemon() {
            Some(daemon) => self.run_managed(contender, daemon, &name, guest),
            None => self.run_bare(&name, guest),
        };
        let run = run.map_err(|error| Error::Unexpected {
            what: contender.to_string(),
            detail: format!("{error}\n{}", self.last_words(contender)),
        })?;
        self.tap.wait_alone()?;
        Ok(run)
    }

    fn run_managed(&mut self, contender: Contender, daemon: Daemon, name: &str, guest: Guest) -> Result<Run> {
        let [source, destination] = self.sides(daemon)?;
        let (log, serial) = listen(&self.lab, [&source.host, &destination.host], name)?;
        let disk = self.disk_image(name)?;
        let boot = match work(guest)? {
            Some((image, work)) => Boot::Linux(image, work),
            None => Boot::Disk,
        };
        let xml = Domain::new(name, boot, Port::File(log))
            .memory_mib(guest.memory_mib)
            .disk(&disk, "raw")
            .emulator(self.tap.emulator())
            .write(self.lab.shared().join(format!("{name}.xml")))?;
        source.virsh.define_and_start(name, &xml)?;

        let run = self.measure(guest, &serial, &destination.host, || {
            let mut virsh = source.host.command(source.host.tool("virsh"));
            virsh.args(["-c", &source.local_uri]).args(contender.words(name, &destination.uri));
            timed(virsh.env("LC_ALL", "C"), MIGRATE_LIMIT).map(|wall| (wall, ()))
        });
        let (run, ()) = run?;
        destination.virsh.ok(["destroy", name])?;
        source.virsh.ok(["undefine", name])?;
        Ok(run)
    }

    fn run_bare(&mut self, name: &str, guest: Guest) -> Result<Run> {
        let [from, to] = [0, 1].map(|number| Arc::clone(self.lab.host(number)));
        let (log, serial) = listen(&self.lab, [&from, &to], name)?;
        let linux = work(guest)?;
        let bare = Bare {
            emulator: self.tap.emulator().to_path_buf(),
            machine: "q35".into(),
            memory_mib: guest.memory_mib,
            disk: linux.is_some().then(|| self.disk_image(name)).transpose()?,
            linux,
            log,
            folder: self.lab.shared().to_path_buf(),
        };
        let source = bare.start(Some(&from))?;
        let options = self.floor_options;
        let (run, _destination) = self.measure(guest, &serial, &to, || {
            let (destination, timings) = floor::migrate(&bare, source, Some(&to), options)?;
            Ok((timings.wall, destination))
        })?;
        Ok(run)
    }

    /// Hears the started guest alone, then through `migrate`, then on the host `to`.
    fn measure<Rest>(
        &mut self,
        guest: Guest,
        serial: &Serial,
        to: &Host,
        migrate: impl FnOnce() -> Result<(Duration, Rest)>,
    ) -> Result<(Run, Rest)> {
        match guest.linux {
            Some(_) => serial.wait_ready(START_LIMIT)?,
            None => serial.wait_beats(QUIET_BEATS, START_LIMIT)?,
        }
        let alone = serial.mark();
        serial.wait_beats(QUIET_BEATS, START_LIMIT)?;
        let noise = serial.verdict_since(alone).longest_pause();
        let fdatasync = self.disk.sync()?;
        let load = machine::load()?;

        let mark = self.tap.mark();
        let before = serial.mark();
        let (wall, rest) = migrate()?;
        let ear = if to.is_isolated() { to.name() } else { HERE };
        serial.wait_beats_on(ear, AFTER_BEATS, START_LIMIT)?;
        let verdict = serial.verdict_since(before);
        verdict.whole().map_err(|detail| Error::Unexpected { what: "the guest".into(), detail })?;
        let timeline = self.tap.timeline(mark)?;
        Ok((Run { wall, timeline, pause: verdict.longest_pause(), noise, fdatasync, load }, rest))
    }

    fn sides(&self, daemon: Daemon) -> Result<[Side; 2]> {
        let side = |host: &Arc<Host>, local_uri: String, uri: String| Side {
            virsh: Virsh::new(host, &local_uri),
            host: Arc::clone(host),
            local_uri,
            uri,
        };
        let ferries = |daemons: &[Ferryd; 2]| {
            [0, 1].map(|n| side(daemons[n].host(), daemons[n].uri(), daemons[n].tcp_uri()))
        };
        let sides = match daemon {
            Daemon::Ferry => self.ferry.as_ref().map(ferries),
            Daemon::FerryInMemory => self.in_memory.as_ref().map(ferries),
            Daemon::Stock => self.stock.as_ref().map(|daemons| {
                [0, 1].map(|n| side(daemons[n].host(), daemons[n].uri(), daemons[n].tcp_uri()))
            }),
        };
        sides.ok_or_else(|| Error::Missing {
            what: format!("{daemon:?}'s daemons"),
            needed_for: "a contender that was not asked for".into(),
        })
    }

    /// A disk for a guest: the boot sector, which Linux, booted from its own kernel, takes for data.
    fn disk_image(&self, name: &str) -> Result<PathBuf> {
        let path = self.lab.shared().join(format!("{name}.img"));
        ferry_testkit::boot_sector::write_image(&path)?;
        let grown = File::options().write(true).open(&path).and_then(|file| file.set_len(8 << 20));
        grown.map_err(Error::io(format!("growing {path:?}")))?;
        Ok(path)
    }

    /// The ends of the logs of the daemons that a failed run went through.
    fn last_words(&self, contender: Contender) -> String {
        let tails: Vec<String> = match contender.daemon() {
            Some(Daemon::Ferry) => self.ferry.iter().flatten().map(|daemon| daemon.log_tail(15)).collect(),
            Some(Daemon::FerryInMemory) => {
                self.in_memory.iter().flatten().map(|daemon| daemon.log_tail(15)).collect()
            }
            Some(Daemon::Stock) => self.stock.iter().flatten().map(|daemon| daemon.log_tail(15)).collect(),
            None => Vec::new(),
        };
        tails.iter().map(|tail| format!("--- log\n{tail}\n")).collect()
    }
}

/// The ear's name for hosts without namespaces, which write one file.
const HERE: &str = "here";

/// The serial log's path as the hosts see it, and an ear on it.
pub(crate) fn listen(lab: &Lab, hosts: [&Arc<Host>; 2], name: &str) -> Result<(PathBuf, Serial)> {
    if hosts[0].is_isolated() {
        let log = PathBuf::from(format!("/run/{name}.log"));
        let serial = Serial::follow(hosts.map(|host| (host.name(), host.seen(&log))))?;
        return Ok((log, serial));
    }
    let log = lab.shared().join(format!("{name}.log"));
    let serial = Serial::follow([(HERE, &log)])?;
    Ok((log, serial))
}

/// What a Linux guest boots and does.
pub(crate) fn work(guest: Guest) -> Result<Option<(LinuxImage, Work)>> {
    let Some(load) = guest.linux else { return Ok(None) };
    let work = Work {
        beat_us: BEAT_US,
        memory_mib: load.touched_mib,
        memory_rate: load.dirty_mib_per_s,
        disk_mib: 0,
        disk_rate: 0,
        address: None,
    };
    Ok(Some((LinuxImage::ready(&Cache::open()?)?, work)))
}

/// Runs a command that must succeed, and gives the time from its start to its end. The end is waited for, not looked for.
fn timed(command: &mut Command, limit: Duration) -> Result<Duration> {
    let shown = command::shown(command);
    let failed = || Error::io(&shown);
    // virsh says less than a pipe holds, so it never waits for a reader.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().map_err(failed())?;
    let pid = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let pid = pid.map_err(|errno| failed()(errno.into()))?;
    let timeout = Timespec { tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&pid, PollFlags::IN)], Some(&timeout));
    let wall = began.elapsed();
    if ready.map_err(|errno| failed()(errno.into()))? == 0 {
        child.kill().map_err(failed())?;
    }
    let output = child.wait_with_output().map_err(failed())?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    command::Output {
        command: shown,
        status: output.status,
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
    .ok()?;
    Ok(wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cost_is_wall_less_what_qemu_took() {
        let run = Run {
            wall: Duration::from_millis(400),
            timeline: Timeline {
                total_ms: 280.0,
                stopped_ms: 20.0,
                completed_to_running_ms: 2.0,
                loaded_to_running_ms: None,
            },
            pause: Duration::from_millis(22),
            noise: Duration::from_millis(3),
            fdatasync: Duration::from_micros(400),
            load: 0.5,
        };
        assert!((run.own_cost_ms() - 120.0).abs() < 1e-9);
        assert!(run.to_string().starts_with("wall 400 ms, QEMU 280, own 120, pause 22 (QEMU 20)"));
    }

    #[test]
    fn a_timed_command_must_succeed_and_end() {
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        timed(&mut sh("true"), Duration::from_secs(20)).unwrap();
        let error = timed(&mut sh("echo why >&2; exit 3"), Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        let error = timed(&mut sh("exec sleep 1000"), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("signal: 9"), "{error}");
    }
}
