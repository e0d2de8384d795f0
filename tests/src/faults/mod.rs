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
use std::sync::Mutex;
use std::sync::PoisonError;

use ferry_testkit::tools::Tools;

pub use stage::{run, run_blind};
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

/// Runs cells, `workers` at a time, and gives their reports in the order of the cells. `watch` hears of each as it ends.
pub fn run_all(
    cells: &[Cell],
    tools: &Tools,
    workers: usize,
    watch: impl Fn(Cell, &Report) + Sync,
) -> Vec<Report> {
    let next = Mutex::new(0);
    let reports = Mutex::new(vec![None; cells.len()]);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = {
                        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                        *next += 1;
                        *next - 1
                    };
                    let Some(&cell) = cells.get(number) else { return };
                    let report = run(cell, tools).unwrap_or_else(|error| Report::not_run(&error));
                    watch(cell, &report);
                    reports.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.into_iter().flatten().collect()
}

/// The reports as a table in Markdown.
pub fn table(cells: &[Cell], reports: &[Report]) -> String {
    let mut text = "| mode | moment | fault | verdict | guest | decided, s | clean, s | note |\n".to_owned();
    text += "|---|---|---|---|---|---|---|---|\n";
    for (cell, report) in cells.iter().zip(reports) {
        text += &format!("| {} | {} | {} | {report} |\n", cell.mode, cell.moment, cell.fault);
    }
    text
}
