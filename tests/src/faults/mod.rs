//! The matrix of faults: who is hit, at which moment of which kind of migration, and what must come of it.
//!
//! The tests run a part of it, `fault-matrix` (this package's program) all or what it is asked for. [`stage`] sets a
//! cell up, hits and watches; [`verdict`] judges. Daemons are real, QEMUs are real, the client is stock virsh; a
//! daemon that was killed is started again after 3 s, a cable that was cut is whole again after 8 s.
//!
//! | moment | before the switch (pre-copy) | post-copy |
//! |---|---|---|
//! | prepare | the destination's QEMU listens, Prepare is not answered | the same |
//! | mid | memory moves | memory moves, the guest runs on the destination |
//! | preswitch | the guest is stopped, QEMU waits to be let go | the grant is on record, QEMU not told to switch |
//! | gap | the source has granted, and told nobody | past the switch, nobody told |
//! | handoff | the destination has the grant, and has not acted on it | the same |
//! | finishing | the destination's CPUs run, and nobody was told | the same |
//! | postrun | the source knows that the destination runs, and has not acted on it | the same, all memory moved |

mod stage;
mod verdict;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use stage::{run, shoot};
pub use verdict::{Report, Verdict};

/// Who is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of the source's ferryd.
    SourceDaemon,
    /// `kill -9` of the destination's ferryd.
    DestinationDaemon,
    /// `kill -9` of the source's QEMU.
    SourceQemu,
    /// `kill -9` of the destination's QEMU.
    DestinationQemu,
    /// `kill -9` of virsh.
    Client,
    /// The destination's cable.
    Network,
}

/// When; the module's table says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the module's table")]
pub enum Moment {
    Prepare,
    Mid,
    Preswitch,
    Gap,
    Handoff,
    Finishing,
    Postrun,
}

/// In which kind of migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// virsh calls both daemons.
    Direct,
    /// The source's daemon calls the destination's.
    P2p,
    /// Direct, switched to post-copy after the first pass.
    PostcopyDirect,
    /// Peer to peer, likewise.
    PostcopyP2p,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SourceDaemon,
        Self::DestinationDaemon,
        Self::SourceQemu,
        Self::DestinationQemu,
        Self::Client,
        Self::Network,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::SourceDaemon => "source-daemon",
            Self::DestinationDaemon => "destination-daemon",
            Self::SourceQemu => "source-qemu",
            Self::DestinationQemu => "destination-qemu",
            Self::Client => "client",
            Self::Network => "network",
        }
    }
}

impl Moment {
    /// All of them, in order of time (pre-copy).
    pub const ALL: [Self; 7] =
        [Self::Prepare, Self::Mid, Self::Preswitch, Self::Gap, Self::Handoff, Self::Finishing, Self::Postrun];

    const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Mid => "mid",
            Self::Preswitch => "preswitch",
            Self::Gap => "gap",
            Self::Handoff => "handoff",
            Self::Finishing => "finishing",
            Self::Postrun => "postrun",
        }
    }
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Direct, Self::P2p, Self::PostcopyDirect, Self::PostcopyP2p];

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::P2p => "p2p",
            Self::PostcopyDirect => "postcopy-direct",
            Self::PostcopyP2p => "postcopy-p2p",
        }
    }

    /// Whether the source's daemon coordinates.
    pub const fn is_p2p(self) -> bool {
        matches!(self, Self::P2p | Self::PostcopyP2p)
    }

    /// Whether it is switched to post-copy.
    pub const fn is_postcopy(self) -> bool {
        matches!(self, Self::PostcopyDirect | Self::PostcopyP2p)
    }
}

macro_rules! by_name {
    ($($kind:ident),+) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $kind {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let known = Self::ALL.into_iter().find(|one| one.name() == text);
                known.ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(Self::name).join(", ")))
            }
        }
    )+};
}

by_name!(Fault, Moment, Mode);

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// In which kind of migration.
    pub mode: Mode,
    /// When.
    pub moment: Moment,
    /// Who is hit.
    pub fault: Fault,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.mode, self.moment, self.fault)
    }
}

/// All combinations.
pub fn cells(modes: &[Mode], moments: &[Moment], faults: &[Fault]) -> Vec<Cell> {
    let pairs = modes.iter().flat_map(|&mode| moments.iter().map(move |&moment| (mode, moment)));
    pairs.flat_map(|(mode, moment)| faults.iter().map(move |&fault| Cell { mode, moment, fault })).collect()
}

/// A hit at a time that nobody chose, on ordinary daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// In which kind of migration.
    pub mode: Mode,
    /// Who is hit.
    pub fault: Fault,
    /// How long after the client was started.
    pub after: Duration,
}

impl fmt::Display for Shot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x after {:?} x {}", self.mode, self.after, self.fault)
    }
}

/// How late a shot may come: a migration of the small guest is over by then.
const LATEST_MS: u64 = 400;

/// The shots that come of a seed.
pub fn shots(seed: u64, count: usize, modes: &[Mode], faults: &[Fault]) -> Vec<Shot> {
    let mut state = seed;
    // A linear congruential generator; its high bits are the good ones.
    let mut draw = |choices: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % choices as u64).unwrap_or_default()
    };
    let shot = |_| {
        let (mode, fault) = (modes[draw(modes.len())], faults[draw(faults.len())]);
        Shot { mode, fault, after: Duration::from_millis(draw(LATEST_MS as usize) as u64) }
    };
    (0..count).map(shot).collect()
}

/// Runs cells or shots, `workers` at a time, and gives their reports in the same order.
pub fn run_all<T: Sync + fmt::Display>(
    items: &[T],
    workers: usize,
    run: impl Fn(&T) -> ferry_testkit::Result<Report> + Sync,
) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(vec![None; items.len()]);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    let report = run(item).unwrap_or_else(|error| Report::not_run(&error));
                    eprintln!("{item}: {report}");
                    reports.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.into_iter().flatten().collect()
}

/// The reports as a table in Markdown.
pub fn table<T: fmt::Display>(items: &[T], reports: &[Report]) -> String {
    let mut text = "| mode | moment | fault | verdict | guest | decided, s | clean, s | note |\n".to_owned();
    text += "|---|---|---|---|---|---|---|---|\n";
    for (item, report) in items.iter().zip(reports) {
        text += &format!("| {} | {report} |\n", item.to_string().replace(" x ", " | "));
    }
    text
}
