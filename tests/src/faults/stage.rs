//! One cell of the matrix: two hosts, a guest, a migration that is held at the moment, the hit, and what is seen after.

use std::thread;
use std::time::{Duration, Instant};

use ferry_testkit::deadline::wait_for;
use ferry_testkit::ferryd::{Hold, Options};
use ferry_testkit::guest::Work;
use ferry_testkit::serial::Serial;
use ferry_testkit::tools::Tools;
use ferry_testkit::tree::{self, Tree};
use ferry_testkit::{Error, Result};

use super::verdict::{self, DECIDED_LIMIT, Look, one_line};
use super::{Cell, Fault, Mode, Moment, Report, Shot, Verdict};
use crate::{Pair, SOON};

/// A daemon that was killed is started again after this, as an init system would.
const RESTART: Duration = Duration::from_secs(3);

/// A cable that was cut is whole again after this.
const HEAL: Duration = Duration::from_secs(8);

/// How long a cell may take to come clean.
const PATIENCE: Duration = Duration::from_secs(45);

/// A host from which no beat came for this long does not run the guest, even on a busy machine.
const SILENCE: Duration = Duration::from_millis(500);

/// The guest's name.
const GUEST: &str = "vm";

/// When the hit comes.
#[derive(Clone, Copy)]
enum When {
    /// The daemon whose step it is is held there.
    At(Moment),
    /// So long after the client was started, with nobody held.
    After(Duration),
}

/// Runs a cell.
///
/// # Errors
/// When it cannot be set up, or its moment never comes.
pub fn run(cell: Cell, tools: &Tools) -> Result<Report> {
    play(cell.mode, cell.fault, When::At(cell.moment), tools)
}

/// Takes a shot.
///
/// # Errors
/// When it cannot be set up.
pub fn shoot(shot: Shot, tools: &Tools) -> Result<Report> {
    play(shot.mode, shot.fault, When::After(shot.after), tools)
}

fn play(mode: Mode, fault: Fault, when: When, tools: &Tools) -> Result<Report> {
    let options = || Options { fault_points: matches!(when, When::At(_)), ..Options::default() };
    let mut pair = Pair::with([tools, tools], [options(), options()])?;
    let serial = if mode.is_postcopy() {
        pair.linux(GUEST, Work { memory_mib: 48, memory_rate: 16, disk_mib: 0, ..Work::default() })?
    } else {
        pair.boot_sector(GUEST)?
    };
    let (client, hold) = match when {
        When::At(moment) => {
            let hold = arm(&pair, mode, moment)?;
            let client = start(&pair, mode, moment)?;
            let come = match &hold {
                Some(hold) => hold.wait(SOON * 3),
                None => serial.wait_beats_on(pair.ear(1), 50, SOON),
            };
            come.map_err(|error| Error::Unexpected {
                what: format!("{mode} x {moment}"),
                detail: format!("{error}; virsh: {}", client_words(&client)),
            })?;
            (client, hold)
        }
        When::After(delay) => {
            let client = start(&pair, mode, Moment::Handoff)?;
            thread::sleep(delay);
            (client, None)
        }
    };

    hit(&pair, fault, &client)?;
    drop(hold);
    let began = mend(&mut pair, fault)?;
    let may_lose = match when {
        When::At(moment) => verdict::held_alone(Cell { mode, moment, fault }),
        When::After(_) => matches!(fault, Fault::SourceQemu | Fault::DestinationQemu),
    };
    let mut report = watch(&pair, may_lose, &serial, began);
    if report.is_good() && client.wait_end(PATIENCE).is_err() {
        report.verdict = Verdict::Stuck;
    }
    report.note = one_line(&format!("{} {}", client_words(&client), report.note));
    if report.verdict == Verdict::Ok
        && let Some(host) = report.host
    {
        move_again(&pair, &serial, host, &mut report);
    }
    Ok(report)
}

/// Arms the point at which a daemon is held; nothing when the moment is seen from outside.
fn arm(pair: &Pair, mode: Mode, moment: Moment) -> Result<Option<Hold>> {
    let (host, name) = match moment {
        Moment::Prepare => (1, "listening"),
        Moment::Mid if mode.is_postcopy() => return Ok(None),
        Moment::Mid => (0, "copying"),
        Moment::Preswitch if mode.is_postcopy() => (0, "after-GrantedAhead"),
        Moment::Preswitch => (0, "switchover"),
        Moment::Gap => (0, "telling-granted"),
        Moment::Handoff => (1, "before-Starting"),
        Moment::Finishing => (1, "before-Running"),
        Moment::Postrun => (0, "before-Done"),
    };
    pair.daemon(host).arm(name).map(Some)
}

/// Starts the migration, its client runs on beside; slow where it would be over before it is hit.
fn start(pair: &Pair, mode: Mode, moment: Moment) -> Result<Tree> {
    let uri = pair.uri(1);
    let mut words = vec!["migrate", GUEST, &uri, "--live", "--unsafe"];
    if mode.is_p2p() {
        words.push("--p2p");
    }
    if mode.is_postcopy() {
        // So strict that it does not end before it is switched.
        pair.virsh(0).ok(["migrate-setmaxdowntime", GUEST, "1"])?;
        words.extend(["--postcopy", "--postcopy-after-precopy", "--bandwidth", "40"]);
        if !matches!(moment, Moment::Prepare | Moment::Postrun) {
            words.extend(["--postcopy-bandwidth", "1"]);
        }
    } else if moment == Moment::Mid {
        // So slow and so strict that it does not end by itself.
        pair.virsh(0).ok(["migrate-setmaxdowntime", GUEST, "1"])?;
        words.extend(["--bandwidth", "1"]);
    }
    pair.virsh(0).start(words, "migrate")
}

fn hit(pair: &Pair, fault: Fault, client: &Tree) -> Result<()> {
    let only_qemu = |host: usize| match pair.daemon(host).qemus()[..] {
        [pid] => tree::kill(pid),
        ref other => Err(Error::Unexpected { what: "QEMUs to kill".into(), detail: format!("{other:?}") }),
    };
    match fault {
        Fault::SourceDaemon => pair.daemon(0).kill(),
        Fault::DestinationDaemon => pair.daemon(1).kill(),
        Fault::SourceQemu => only_qemu(0),
        Fault::DestinationQemu => only_qemu(1),
        Fault::Client => tree::kill(client.pid()),
        Fault::Network => pair.host(1).cut(),
    }
}

/// Puts right what a machine's keeper would, and gives the moment from which the daemons have what they need.
fn mend(pair: &mut Pair, fault: Fault) -> Result<Instant> {
    match fault {
        Fault::SourceDaemon | Fault::DestinationDaemon => {
            thread::sleep(RESTART);
            let began = Instant::now();
            pair.daemon_mut(usize::from(fault == Fault::DestinationDaemon)).start_again()?;
            return Ok(began);
        }
        Fault::Network => {
            thread::sleep(HEAL);
            pair.host(1).heal()?;
        }
        Fault::SourceQemu | Fault::DestinationQemu | Fault::Client => {}
    }
    Ok(Instant::now())
}

/// Looks until nothing of the migration is left, or for as long as one is patient.
fn watch(pair: &Pair, may_lose: bool, serial: &Serial, began: Instant) -> Report {
    let mut decided = None;
    let mut last = [Look::default(), Look::default()];
    let clean = wait_for("the end of the migration", PATIENCE, || {
        last = look(pair, serial);
        let is_decided =
            verdict::decided(&last).or_else(|| (may_lose && verdict::is_torn(&last)).then_some(None));
        if is_decided.is_some() && decided.is_none() {
            decided = Some(began.elapsed());
            speed_up(pair);
        }
        (verdict::is_clean(&last) || may_lose && verdict::is_torn(&last)).then(|| began.elapsed())
    });
    let heard = serial.verdict();
    let host = verdict::decided(&last).flatten();
    let mut verdict = match clean {
        Ok(_) => verdict::settled(may_lose, host, &heard),
        Err(_) => verdict::unsettled(&last),
    };
    if verdict == Verdict::Ok && decided.is_none_or(|time| time > limit()) {
        verdict = Verdict::Slow;
    }
    let good = matches!(verdict, Verdict::Ok | Verdict::ExpectedLoss);
    let note = if good {
        String::new()
    } else {
        let heard = heard.whole().err().unwrap_or_default();
        format!("{last:?} {heard}\n{}\n{}", pair.daemon(0).log_tail(12), pair.daemon(1).log_tail(12))
    };
    Report { verdict, host, decided, clean: clean.ok(), note }
}

/// The limit for a decision; twice as long on a machine that is busy with other things.
fn limit() -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse::<f32>().ok()).unwrap_or_default();
    if load > 4.0 { DECIDED_LIMIT * 2 } else { DECIDED_LIMIT }
}

/// A copy that was slowed down so that it could be hit may end now.
fn speed_up(pair: &Pair) {
    // The migration may have ended by itself meanwhile.
    let _ =
        pair.virsh(0).run([format!("migrate-setmaxdowntime {GUEST} 300; migrate-setspeed {GUEST} 100000")]);
    let _ = pair.virsh(0).run([format!("migrate-setspeed {GUEST} 100000 --postcopy")]);
}

fn look(pair: &Pair, serial: &Serial) -> [Look; 2] {
    let shown = [0, 1].map(|host| {
        // With namespaces or without: the daemon's own socket.
        let words = [format!("domstate {GUEST} --reason; domjobinfo {GUEST}; dominfo {GUEST}")];
        pair.virsh(host).limit(SOON).run(words)
    });
    let beating = serial.beating_within(SILENCE);
    let mut hosts = 0..;
    shown.map(|output| {
        let host = hosts.next().unwrap_or_default();
        let mut look = Look { qemus: pair.daemon(host).qemus().len(), ..Look::default() };
        if let Ok(output) = output {
            let state = output.stdout.lines().map(str::trim).find(|line| !line.is_empty());
            let known = !output.stderr.contains("failed to get domain");
            look.state = match state {
                Some(state) if known => Some(state.to_owned()),
                Some(_) | None => (!known).then(String::new),
            };
            look.job = output.stdout.contains("Operation:")
                || output.stderr.contains("available only on the source host");
            look.doubt = output.stdout.contains("doubt");
        }
        // Without namespaces both write into one file: a daemon's word tells them apart then.
        let is_known = pair.host(host).is_isolated() || look.shows("running");
        look.beats = is_known && beating.iter().any(|name| name == pair.ear(host));
        look
    })
}

fn client_words(client: &Tree) -> String {
    match client.ended() {
        None => "virsh still runs".to_owned(),
        Some(end) if end == "exit code 0" => String::new(),
        Some(end) if end == "signal 9" => String::new(),
        // What virsh itself says, without its library's warnings.
        Some(_) => client.log_tail(20).lines().filter(|line| line.starts_with("error:")).collect(),
    }
}

/// The proof that nothing is stuck: the guest moves to the other host. What a client has asked for before it was killed
/// may still be under way, and be called off, while the first tries are made.
fn move_again(pair: &Pair, serial: &Serial, host: usize, report: &mut Report) {
    let (other, uri) = (1 - host, pair.uri(1 - host));
    let mut refused = None;
    let moved = wait_for("another migration", SOON, || {
        let virsh = pair.virsh(host);
        virsh.ok(["migrate", GUEST, &uri, "--live", "--unsafe"]).map_err(|error| refused = Some(error)).ok()
    });
    let moved = moved.and_then(|_| serial.wait_beats_on(pair.ear(other), 50, SOON));
    if let Err(error) = moved {
        report.verdict = Verdict::Stuck;
        report.note = one_line(&format!("{} cannot move again: {error} {refused:?}", report.note));
    } else if let Some(against) = verdict::testimony(&serial.verdict()) {
        report.verdict = against;
        let heard = serial.verdict().whole().err().unwrap_or_default();
        report.note = one_line(&format!("{} after it moved again: {heard}", report.note));
    }
}
