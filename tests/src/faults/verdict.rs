//! What is seen of a cell, and the verdict on it. Pure: the stage looks, this judges.

use std::fmt;
use std::time::Duration;

use ferry_testkit::Error;
use ferry_testkit::serial;

use super::{Cell, Fault, Moment};

/// How soon after the restart or the heal it must be decided, and shown, who runs the guest.
pub(super) const DECIDED_LIMIT: Duration = Duration::from_secs(5);

/// The words of ../shared/faults.md's kind: what became of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Exactly one guest runs, whole; both daemons are clean, and it can move again.
    Ok,
    /// The fault killed the only QEMU that held the state.
    ExpectedLoss,
    /// None runs, the state is whole, and a daemon says why.
    Paused,
    /// Right, but late.
    Slow,
    /// None runs, the state is whole, and nobody says why.
    Hidden,
    /// A second, stopped copy is left.
    Stale,
    /// A job or a daemon that cannot be used.
    Stuck,
    /// A QEMU that its daemon does not know.
    Orphan,
    /// State is gone that a living QEMU held.
    Lost,
    /// Two ran, or one was set back.
    Double,
    /// The cell could not be set up.
    NotRun,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::ExpectedLoss => "EXPECTED-LOSS",
            Self::Paused => "PAUSED (shown)",
            Self::Slow => "SLOW",
            Self::Hidden => "PAUSED (hidden)",
            Self::Stale => "STALE",
            Self::Stuck => "STUCK",
            Self::Orphan => "ORPHAN",
            Self::Lost => "LOST",
            Self::Double => "DOUBLE",
            Self::NotRun => "NOT RUN",
        })
    }
}

/// What came of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// The host that runs the guest, if one does.
    pub host: Option<usize>,
    /// From the restart or the heal until it was decided and shown who runs the guest.
    pub decided: Option<Duration>,
    /// From then until nothing of the migration was left on either host.
    pub clean: Option<Duration>,
    /// What virsh said, and what was seen of a cell that is not as it must be.
    pub note: String,
}

impl Report {
    pub(super) fn not_run(error: &Error) -> Self {
        let note = one_line(&error.to_string());
        Self { verdict: Verdict::NotRun, host: None, decided: None, clean: None, note }
    }

    /// Whether the cell is as it must be.
    pub const fn is_good(&self) -> bool {
        matches!(self.verdict, Verdict::Ok | Verdict::ExpectedLoss)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds =
            |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
        let host = self.host.map_or("-", |host| ["source", "destination"][host]);
        let (decided, clean) = (seconds(self.decided), seconds(self.clean));
        write!(f, "{} | {host} | {decided} | {clean} | {}", self.verdict, self.note)
    }
}

/// What a destination shows of a guest whose memory stopped following it.
const TORN: &str = "running (post-copy failed)";

/// What a source shows of a guest that it handed over in post-copy, and whose destination is gone: its QEMU does not
/// let it go on.
const CUT_OFF: &str = "paused (post-copy failed)";

/// One look at a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Heartbeats come from there.
    pub(super) beats: bool,
    /// `domstate --reason`; nothing when the daemon does not answer, empty when it does not know the domain.
    pub(super) state: Option<String>,
    /// `domjobinfo` shows a job.
    pub(super) job: bool,
    /// The daemon says that it is in doubt.
    pub(super) doubt: bool,
    /// QEMUs that live there.
    pub(super) qemus: usize,
}

impl Look {
    fn is_running(&self) -> bool {
        self.beats && self.shows("running") && !self.shows(TORN)
    }

    fn is_off(&self) -> bool {
        self.state.as_deref() == Some("") || self.shows("shut off")
    }

    pub(super) fn shows(&self, word: &str) -> bool {
        self.state.as_deref().is_some_and(|state| state.starts_with(word))
    }

    fn is_clean(&self) -> bool {
        !self.job && !self.doubt && (self.is_running() && self.qemus == 1 || self.is_off() && self.qemus == 0)
    }
}

/// The host that runs the guest, when it is decided and both daemons show it so: `Some(None)` when the guest is gone.
pub(super) fn decided(looks: &[Look; 2]) -> Option<Option<usize>> {
    let runs = |number: usize| {
        let other = &looks[1 - number];
        let quiet = !other.beats && other.state.is_some() && !other.shows("running");
        looks[number].is_running() && quiet
    };
    match (runs(0), runs(1)) {
        (true, false) => Some(Some(0)),
        (false, true) => Some(Some(1)),
        _ if looks.iter().all(|look| look.is_off() && look.qemus == 0) => Some(None),
        _ => None,
    }
}

/// Whether nothing of the migration is left.
pub(super) fn is_clean(looks: &[Look; 2]) -> bool {
    looks.iter().all(Look::is_clean) && decided(looks).is_some()
}

/// Whether the guest is on record as torn between two hosts of which one is gone: nothing runs, no job pretends to go
/// on, and what is left waits for its keeper to look at it.
pub(super) fn is_torn(looks: &[Look; 2]) -> bool {
    let shows = |look: &Look, what| look.shows(what) && !look.job && !look.beats;
    let gone = |look: &Look| look.is_off() && look.qemus == 0;
    gone(&looks[0]) && shows(&looks[1], TORN) || shows(&looks[0], CUT_OFF) && gone(&looks[1])
}

/// The last look at a cell that did not come clean.
pub(super) fn unsettled(looks: &[Look; 2]) -> Verdict {
    let beating = looks.iter().filter(|look| look.beats).count();
    let left = looks.iter().any(|look| look.qemus > 0 && look.is_off());
    let paused = looks.iter().any(|look| !look.beats && look.qemus > 0);
    if beating > 1 {
        Verdict::Double
    } else if looks.iter().any(|look| look.state.is_none()) {
        Verdict::Stuck
    } else if left {
        Verdict::Orphan
    } else if beating == 1 && paused {
        Verdict::Stale
    } else if beating == 1 {
        Verdict::Stuck
    } else if looks.iter().all(|look| look.qemus == 0) {
        Verdict::Lost
    } else if looks.iter().any(|look| look.doubt) {
        Verdict::Paused
    } else {
        Verdict::Hidden
    }
}

/// The verdict on a cell that came clean, as the guest itself tells it.
/// `may_lose`: the fault may have killed its only QEMU.
pub(super) fn settled(may_lose: bool, host: Option<usize>, heard: &serial::Verdict) -> Verdict {
    match (testimony(heard), host) {
        (Some(Verdict::Double), _) => Verdict::Double,
        (Some(against), Some(_)) => against,
        (None, Some(_)) => Verdict::Ok,
        (_, None) if may_lose => Verdict::ExpectedLoss,
        (_, None) => Verdict::Lost,
    }
}

/// What the guest itself says against what became of it: beats that came twice or never, memory or a disk that are not
/// as it left them. Its clock proves nothing: on a loaded machine it jumps by itself, and its kernel takes the jump for a CPU
/// that was stuck, as it does when memory is waited for.
pub(super) fn testimony(heard: &serial::Verdict) -> Option<Verdict> {
    let is_damage =
        |line: &String| !["anomaly kind=clock ", "soft lockup"].iter().any(|of_time| line.contains(of_time));
    if !heard.repeated.is_empty() || heard.anomalies.iter().any(is_damage) {
        return Some(Verdict::Double);
    }
    // Beats that were never heard: somebody ran on without an ear, or the guest was not whole.
    (!heard.lost.is_empty()).then_some(Verdict::Lost)
}

/// Whether the fault kills the only QEMU that holds the guest.
pub(super) fn held_alone(cell: Cell) -> bool {
    let postcopy = cell.mode.is_postcopy();
    match (cell.fault, cell.moment) {
        (Fault::SourceQemu, Moment::Prepare | Moment::Preswitch) => true,
        (Fault::SourceQemu, Moment::Mid) => true,
        // Past the switch, each of the two holds what the other lacks, until all has moved.
        (Fault::SourceQemu, Moment::Gap | Moment::Handoff | Moment::Finishing) => postcopy,
        (Fault::DestinationQemu, Moment::Mid | Moment::Gap | Moment::Handoff) => postcopy,
        (Fault::DestinationQemu, Moment::Finishing | Moment::Postrun) => true,
        (Fault::SourceQemu, Moment::Postrun)
        | (Fault::DestinationQemu, Moment::Prepare | Moment::Preswitch) => false,
        (Fault::SourceDaemon | Fault::DestinationDaemon | Fault::Client | Fault::Network, _) => false,
    }
}

/// A text for a cell of a table.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Mode;

    fn host(beats: bool, state: &str, qemus: usize) -> Look {
        Look { beats, state: Some(state.to_owned()), qemus, ..Look::default() }
    }

    #[test]
    fn what_is_seen_is_called_by_its_name() {
        let moved = [host(false, "shut off (migrated)", 0), host(true, "running (migrated)", 1)];
        assert_eq!(decided(&moved), Some(Some(1)));
        assert!(is_clean(&moved));
        let kept = [host(true, "running (migrated)", 1), host(false, "", 0)];
        assert!(is_clean(&kept) && decided(&kept) == Some(Some(0)));
        let under_way = [host(true, "running (booted)", 1), host(false, "paused (migrating)", 1)];
        assert!(!is_clean(&under_way) && decided(&under_way) == Some(Some(0)));

        let both = [host(true, "running (booted)", 1), host(true, "running (migrated)", 1)];
        assert_eq!((decided(&both), unsettled(&both)), (None, Verdict::Double));
        assert_eq!(unsettled(&under_way), Verdict::Stale);
        let nobody = [host(false, "paused (migrating)", 1), host(false, "", 0)];
        assert_eq!(unsettled(&nobody), Verdict::Hidden);
        let mut shown = nobody.clone();
        shown[0].doubt = true;
        assert_eq!(unsettled(&shown), Verdict::Paused);
        let orphan = [host(true, "running (booted)", 1), host(false, "", 1)];
        assert_eq!(unsettled(&orphan), Verdict::Orphan);
        let dead = [Look::default(), host(true, "running (migrated)", 1)];
        assert_eq!(unsettled(&dead), Verdict::Stuck);
        let mut busy = moved.clone();
        busy[1].job = true;
        assert!(!is_clean(&busy) && unsettled(&busy) == Verdict::Stuck);
    }

    #[test]
    fn a_guest_that_is_gone_is_a_loss_unless_its_last_qemu_was_killed() {
        let heard = serial::Verdict { beats: 1, ..serial::Verdict::default() };
        let cell = |fault, moment| Cell { mode: Mode::Direct, moment, fault };
        let verdict = |fault, moment| settled(held_alone(cell(fault, moment)), None, &heard);
        assert_eq!(verdict(Fault::SourceQemu, Moment::Mid), Verdict::ExpectedLoss);
        assert_eq!(verdict(Fault::SourceQemu, Moment::Gap), Verdict::Lost);
        assert_eq!(verdict(Fault::DestinationQemu, Moment::Handoff), Verdict::Lost);
        assert_eq!(verdict(Fault::DestinationQemu, Moment::Finishing), Verdict::ExpectedLoss);
        assert_eq!(verdict(Fault::DestinationDaemon, Moment::Finishing), Verdict::Lost);
        let jump = "ferry-guest anomaly kind=clock jump_us=619610 t=12065938".to_owned();
        let busy = serial::Verdict { anomalies: vec![jump], ..heard.clone() };
        assert_eq!(settled(false, Some(0), &busy), Verdict::Ok);
        let stuck = "[ 575.558418] watchdog: BUG: soft lockup - CPU#0 stuck for 294s! [memory:87]".to_owned();
        let waited = serial::Verdict { anomalies: vec![stuck], ..heard.clone() };
        assert_eq!(settled(false, Some(1), &waited), Verdict::Ok);
        let old = "ferry-guest anomaly kind=memory index=3".to_owned();
        let stale = serial::Verdict { anomalies: vec![old], ..heard.clone() };
        assert_eq!(settled(false, Some(0), &stale), Verdict::Double);
        let set_back = serial::Verdict { repeated: vec![7], ..heard };
        assert_eq!(settled(false, Some(0), &set_back), Verdict::Double);
    }
}
