//! What can be asked for on the command line. It knows names and defaults; [`crate::arena`] knows what they mean.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};

use crate::contender::Contender;

/// Migrates the same guest by Ferry, by stock libvirt and by two bare QEMUs (the floor), in shuffled order, and compares.
///
/// Each run gets a fresh guest on the first of two hosts and moves it to the second. Progress goes to standard error,
/// the report to standard output. As root the hosts are namespaces joined by a bridge; as an ordinary user they are
/// private folders on loopback, without stock libvirt.
#[derive(Debug, Parser)]
#[command(
    name = "ferry-bench",
    version,
    after_help = "EXAMPLES:\n  \
        The figures to quote, on an otherwise idle machine:\n    \
        cargo run --release -p ferry-bench -- --rounds 9 --markdown\n\n  \
        A bigger guest as well, and the newer QEMU and libvirt:\n    \
        cargo run --release -p ferry-bench -- --guest boot-sector,linux --tools newer\n\n  \
        A crashed daemon that comes back to 200 guests:\n    \
        cargo run --release -p ferry-bench -- --restart 200\n\n  \
        What a plan predicts, beside what the migrations take:\n    \
        cargo run --release -p ferry-bench -- --predict --markdown\n\n  \
        Is it still as fast? A quick look:\n    \
        cargo run --release -p ferry-bench -- --rounds 3 --only ferry,floor"
)]
pub(crate) struct Cli {
    /// Rounds that count. In each, every contender runs once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: u32,

    /// Rounds before those, not counted: caches fill, capabilities are probed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) warm_up: u32,

    /// Guests, one report each.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum, default_value = "boot-sector")]
    guest: Vec<GuestKind>,

    /// Memory of the guest, MiB [default: 256 for the boot sector, 2048 for Linux].
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u64>,

    /// Of the Linux guest's memory, what it fills with data before it is migrated, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    touched_mib: u64,

    /// What the Linux guest dirties of that while it is migrated, MiB/s.
    #[arg(long, value_name = "RATE", default_value_t = 0)]
    dirty_mib_per_s: u64,

    /// Contenders, instead of all.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    only: Vec<Contender>,

    /// QEMU, virsh and libvirtd: the distribution's, or those of backports (unpacked, not installed).
    #[arg(long, value_enum, default_value_t = Generation::Distribution)]
    pub(crate) tools: Generation,

    /// QEMU's downtime-limit in the floor, ms [default: QEMU's own, 300].
    #[arg(long, value_name = "MS")]
    pub(crate) floor_downtime_ms: Option<u64>,

    /// Seed of the shuffled order [default: the time].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Measure another thing: how soon a restarted daemon has found this many guests, each round once.
    #[arg(long, value_name = "GUESTS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) restart: Option<u32>,

    /// Measure another thing: what a plan predicts of ten guests, and what their migrations take. As root, since only hosts of
    /// their own have a way between them.
    #[arg(long, conflicts_with = "restart")]
    pub(crate) predict: bool,

    /// Print the report as Markdown.
    #[arg(long)]
    pub(crate) markdown: bool,
}

/// Which programs are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generation {
    /// As installed.
    Distribution,
    /// Backports'.
    Newer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GuestKind {
    /// 512 bytes of code that beat 500 times a second and leave nearly all memory untouched.
    BootSector,
    /// A stock kernel, its memory partly filled, beating as often.
    Linux,
}

/// The guest that is migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    /// MiB.
    pub(crate) memory_mib: u64,
    /// The boot sector when there is none.
    pub(crate) linux: Option<LinuxLoad>,
}

/// What the Linux guest does with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinuxLoad {
    /// Filled with data, MiB.
    pub(crate) touched_mib: u64,
    /// Dirtied, MiB/s.
    pub(crate) dirty_mib_per_s: u64,
}

impl Cli {
    /// The guests asked for.
    pub(crate) fn guests(&self) -> Vec<Guest> {
        self.guest.iter().map(|kind| self.guest(*kind)).collect()
    }

    /// The contenders asked for.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        if self.only.is_empty() { Contender::ALL.to_vec() } else { self.only.clone() }
    }

    /// The seed of the shuffled order.
    pub(crate) fn seed(&self) -> u64 {
        let by_time = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        self.seed.unwrap_or_else(by_time)
    }

    fn guest(&self, kind: GuestKind) -> Guest {
        match kind {
            GuestKind::BootSector => Guest { memory_mib: self.memory_mib.unwrap_or(256), linux: None },
            GuestKind::Linux => Guest {
                memory_mib: self.memory_mib.unwrap_or(2048),
                linux: Some(LinuxLoad {
                    touched_mib: self.touched_mib,
                    dirty_mib_per_s: self.dirty_mib_per_s,
                }),
            },
        }
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.linux {
            None => write!(f, "{} MiB, idle, boot sector", self.memory_mib),
            Some(load) => write!(
                f,
                "{} MiB, Linux, {} MiB touched, {} MiB/s dirtied",
                self.memory_mib, load.touched_mib, load.dirty_mib_per_s
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent_and_the_defaults_are_the_small_guest_and_everyone() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["ferry-bench"]);
        assert_eq!(cli.guests(), [Guest { memory_mib: 256, linux: None }]);
        assert_eq!(cli.contenders(), Contender::ALL);
        let cli = Cli::parse_from(["ferry-bench", "--guest", "boot-sector,linux", "--only", "floor"]);
        let shown: Vec<String> = cli.guests().iter().map(Guest::to_string).collect();
        assert_eq!(
            shown,
            ["256 MiB, idle, boot sector", "2048 MiB, Linux, 1024 MiB touched, 0 MiB/s dirtied"]
        );
        assert_eq!(cli.contenders(), [Contender::Floor]);
    }
}
