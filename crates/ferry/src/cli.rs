//! What the operator can say: the commands, their options, and the help that teaches them.
//!
//! Read by `main` and written out as manual pages. It knows words and defaults; what they mean is decided by the
//! module of each command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs and live-migrates the QEMU guests of this and other hosts.
///
/// ferry talks to ferryd, or to stock libvirt, over libvirt's own protocol.
#[derive(Debug, Parser)]
#[command(
    name = "ferry",
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = "HOSTS\n  \
        -c and the destination of a migration take libvirt's URIs or a folder:\n    \
        qemu+tcp://beta/system                   ferryd --listen-tcp on host beta\n    \
        qemu+unix:///system?socket=/run/x/sock   a socket\n    \
        qemu:///system                           libvirt's own sockets on this host\n    \
        ~/host-a                                 the private host of `ferryd --root ~/host-a`\n\n\
        EXAMPLES\n  \
        ferry list --all\n  \
        ferry define guest1.xml && ferry start guest1\n  \
        ferry migrate guest1 qemu+tcp://beta/system\n  \
        ferry -c ~/host-a migrate guest1 ~/host-b\n\n\
        EXIT STATUS\n  \
        0  done\n  \
        1  failed; the guest is where it was\n  \
        2  refused before anything was started: a mistake in the call, no such host or guest, a host's veto\n  \
        3  in doubt: nobody knows yet on which host the guest runs; the message says what to do"
)]
pub(crate) struct Cli {
    /// The host to talk to. Without it, and without FERRY_URI: ferryd's packaged socket, /run/ferry/sock.
    #[arg(short, long, value_name = "URI|DIR", env = "FERRY_URI", global = true)]
    pub(crate) connect: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the guests that run, or all that the host knows.
    #[command(after_help = "EXAMPLES\n  ferry list\n  ferry -c qemu+tcp://beta/system list --all")]
    List {
        /// Also those that do not run.
        #[arg(long)]
        all: bool,
    },

    /// Define a guest from its domain XML, or redefine the one with the same name and UUID.
    ///
    /// What ferryd does not support is refused with its place in the XML; nothing is dropped in silence.
    #[command(
        after_help = "EXAMPLES\n  ferry define guest1.xml\n  virsh dumpxml guest1 --inactive | ferry define -"
    )]
    Define {
        /// The XML; `-` reads it from standard input.
        file: PathBuf,
    },

    /// Start a guest that is defined.
    #[command(after_help = "EXAMPLES\n  ferry start guest1")]
    Start {
        /// Name or UUID.
        #[arg(value_name = "VM")]
        guest: String,
    },

    /// Shut a guest down by its power button, and wait until it has ended.
    ///
    /// When the time is up the guest is left alone: it may still be shutting down.
    #[command(
        after_help = "EXAMPLES\n  ferry stop guest1\n  ferry stop guest1 --timeout 600\n  ferry stop guest1 --now"
    )]
    Stop {
        /// Name or UUID.
        #[arg(value_name = "VM")]
        guest: String,

        /// End it at once, as by pulling the plug: what it has not written is lost.
        #[arg(long, conflicts_with = "timeout")]
        now: bool,

        /// How long to wait for the guest to end, seconds.
        #[arg(long, value_name = "S", default_value = "120", value_parser = seconds)]
        timeout: Duration,
    },

    /// Move a guest to another host while it runs.
    #[command(
        long_about = "Move a guest to another host while it runs.\n\n\
            ferry coordinates the two hosts itself (direct); with --p2p the source host does, and ferry only watches. \
            Whatever goes wrong before the guest is handed over, it goes on where it was. Both hosts are asked first, as \
            by `ferry plan`, and what stands in the way is said at once.\n\n\
            Ctrl-C calls the migration off and waits until the guest goes on at the source; a second Ctrl-C leaves at \
            once.",
        after_help = "EXAMPLES\n  \
            ferry migrate guest1 qemu+tcp://beta/system\n  \
            ferry migrate guest1 qemu+tcp://beta/system --p2p --persistent --undefinesource\n  \
            ferry migrate guest1 qemu+tcp://beta/system --bandwidth 100 --timeout 60\n  \
            ferry migrate guest1 qemu+tcp://beta/system --offline --persistent\n  \
            ferry -c qemu+tcp://alpha/system migrate guest1 qemu+tcp://beta/system --json\n\n\
            EXIT STATUS\n  \
            0  the guest is on the destination\n  \
            1  failed; the guest is where it was\n  \
            2  refused before anything was started\n  \
            3  in doubt: nobody knows yet on which host the guest runs; the message says what to do"
    )]
    Migrate(Box<Go>),

    /// Say what a migration would meet, on both hosts, and begin nothing.
    #[command(
        long_about = "Say what a migration would meet, on both hosts, and begin nothing.\n\n\
            Both hosts run every check that the migration itself would run, and all that stands in the way is shown \
            together, each with its remedy; what may go and should be known is marked with `!`. The source tries the way \
            that the memory would take, measures the guest for a second, and predicts copy time, pause and bytes. Takes the \
            options of `ferry migrate`. A destination that runs no ferryd is asked what its ordinary calls tell, and what \
            they do not is named.",
        after_help = "EXAMPLES\n  \
            ferry plan guest1 qemu+tcp://beta/system\n  \
            ferry plan guest1 qemu+tcp://beta/system --p2p --json\n\n\
            EXIT STATUS\n  \
            0  nothing stands in the way; there may be warnings\n  \
            2  it would not go"
    )]
    Plan(Box<Plan>),

    /// Show the migrations that a host took part in, newest first: how each ended, and what was proven.
    #[command(after_help = "EXAMPLES\n  \
        ferry history\n  \
        ferry history guest1 --limit 1\n  \
        ferry -c qemu+tcp://beta/system history --json\n\n\
        GUARANTEE\n  \
        proven       the two hosts knew by their journals that the guest never ran on both\n  \
        best effort  one host could not take part in that proof; why is said\n  \
        not needed   no QEMU moved")]
    History(History),

    /// Say on which host a guest is, when its migration is in doubt and the other host is gone for good.
    ///
    /// As long as the other host can come back, wait: contact settles the doubt without a hand. To say `here` while the guest
    /// runs on the other host makes a second copy of it.
    #[command(after_help = "EXAMPLES\n  \
            ferry resolve guest1 --guest-is here    the other host never started it, or is off for good\n  \
            ferry resolve guest1 --guest-is there   it runs there; what this host holds of it is ended\n\n\
            EXIT STATUS\n  \
            0  settled\n  \
            1  failed; the doubt stands\n  \
            2  refused: no such guest, it is not in doubt, or the question was not answered with yes")]
    Resolve(Resolve),

    /// Watch a guest being migrated: two private hosts on this machine, a Linux guest, there and back.
    #[command(
        // `./dev demo` gives the files, and passes on what it is given: the last word counts.
        args_override_self = true,
        long_about = "Watch a guest being migrated: two private hosts on this machine, a Linux guest, there and back.\n\n\
            Starts two ferryds in a temporary folder, boots the test guest on the first, and moves it to the second \
            (coordinated by ferry) and back again (peer to peer) while the guest's heartbeat is shown. Then the guest \
            verifies its memory and its disk, and the count of its beats is printed: none may be lost, none repeated. \
            Everything that was started is ended, and nothing is left behind.",
        after_help = "EXAMPLES\n  ferry demo --kernel vmlinuz --initrd initrd\n\n\
            EXIT STATUS\n  0  the guest is whole and back where it began\n  1  anything else"
    )]
    Demo(Demo),

    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Man {
        /// The folder; it is made when it is missing.
        dir: PathBuf,
    },
}

/// A migration that is to happen.
#[derive(Debug, Args)]
pub(crate) struct Go {
    #[command(flatten)]
    pub(crate) migrate: Migrate,

    /// Measure the guest first, for a second, and say what the migration will take; the history keeps it beside what it
    /// took.
    #[arg(long, conflicts_with_all = ["no_plan", "offline"])]
    pub(crate) predict: bool,

    /// Do not ask both hosts first: begin, and meet what there is.
    #[arg(long)]
    pub(crate) no_plan: bool,
}

/// A migration that is only thought of.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) migrate: Migrate,

    /// Measure nothing, predict nothing: only say whether it would go.
    #[arg(long)]
    pub(crate) no_prediction: bool,
}

/// Where a guest goes, and how.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Name or UUID.
    #[arg(value_name = "VM")]
    pub(crate) guest: String,

    /// The destination: as this tool reaches it, or with --p2p as the source host does.
    #[arg(value_name = "DEST")]
    pub(crate) destination: String,

    /// Copy while the guest runs. This is the default.
    #[arg(long, overrides_with = "no_live")]
    pub(crate) live: bool,

    /// Pause the guest for the whole copy.
    #[arg(long, overrides_with = "live")]
    pub(crate) no_live: bool,

    /// Let the source host coordinate: the migration goes on when this tool is gone.
    #[arg(long)]
    pub(crate) p2p: bool,

    /// Leave the guest paused on the destination.
    #[arg(long)]
    pub(crate) suspend: bool,

    /// Keep the definition on the destination.
    #[arg(long)]
    pub(crate) persistent: bool,

    /// Forget the definition on the source after success.
    #[arg(long)]
    pub(crate) undefinesource: bool,

    /// The guest's name on the destination.
    #[arg(long, value_name = "NAME")]
    pub(crate) dname: Option<String>,

    /// Domain XML for the destination: paths and addresses may differ, what the guest sees may not.
    #[arg(long, value_name = "FILE")]
    pub(crate) xml: Option<PathBuf>,

    /// Domain XML to keep on the destination.
    #[arg(long, value_name = "FILE", requires = "persistent")]
    pub(crate) persistent_xml: Option<PathBuf>,

    /// Move the definition alone, of a guest that runs or not.
    #[arg(long, conflicts_with_all = ["live", "suspend", "timeout"], requires = "persistent")]
    pub(crate) offline: bool,

    /// Most that the copy may take of the network, MiB/s.
    #[arg(long, value_name = "MIB_PER_S", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) bandwidth: Option<u64>,

    /// Where the memory is sent, such as tcp://192.0.2.7 (another network) or tcp://beta:49200.
    #[arg(long, value_name = "URI")]
    pub(crate) migrateuri: Option<String>,

    /// The address on which the destination receives the memory.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen_address: Option<String>,

    /// Pause the guest when the copy has not ended after this many seconds, so that it ends.
    #[arg(long, value_name = "S", value_parser = seconds, conflicts_with = "no_live")]
    pub(crate) timeout: Option<Duration>,

    /// Migrate although a disk's cache or storage makes it unsafe.
    #[arg(long = "unsafe")]
    pub(crate) allow_unsafe: bool,

    /// Give up when the guest meets an I/O error.
    #[arg(long)]
    pub(crate) abort_on_error: bool,

    /// Slow the guest down when it dirties memory faster than it can be sent.
    #[arg(long)]
    pub(crate) auto_converge: bool,

    /// Say nothing unless it fails.
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print the result as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which migrations to show.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only those of this guest: name or UUID. The host need not know it any more.
    #[arg(value_name = "VM")]
    pub(crate) guest: Option<String>,

    /// At most this many.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) limit: u32,

    /// Print one line of JSON for each.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The operator's word.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// Name or UUID.
    #[arg(value_name = "VM")]
    pub(crate) guest: String,

    /// Where the guest is, seen from the host that this is said to.
    #[arg(long, value_name = "WHERE")]
    pub(crate) guest_is: GuestIs,

    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// On which side of a migration a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GuestIs {
    /// On this host.
    Here,
    /// On the other host.
    There,
}

/// The demonstration's parts.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// A Linux kernel that boots under QEMU.
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: PathBuf,

    /// The initial ramdisk with the test guest's init.
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: PathBuf,

    /// QEMU. Before 9.0 it loses some of what an emulated guest writes while it is migrated, unless the size of its RAM is
    /// no multiple of 256 KiB.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/qemu-system-x86_64")]
    pub(crate) emulator: PathBuf,

    /// The daemon. Without it: `ferryd` beside this program, else from PATH.
    #[arg(long, value_name = "FILE")]
    pub(crate) ferryd: Option<PathBuf>,
}

/// Whole seconds, at least one.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds.into())),
        _ => Err("expected a number of seconds, at least 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn migrate(words: &str) -> Result<Migrate, clap::Error> {
        match Cli::try_parse_from(format!("ferry migrate vm dest {words}").split_whitespace())?.command {
            Command::Migrate(go) => Ok(go.migrate),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("EXAMPLES\n  ferry "), "{}: {help}", command.get_name());
        }
    }

    #[test]
    fn the_last_of_live_and_no_live_counts() {
        assert!(!migrate("").unwrap().no_live);
        assert!(migrate("--live --no-live").unwrap().no_live);
        assert!(!migrate("--no-live --live").unwrap().no_live);
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for words in [
            "--persistent-xml f",
            "--offline",
            "--offline --persistent --live",
            "--offline --persistent --suspend",
            "--no-live --timeout 3",
            "--timeout 0",
            "--bandwidth 0",
            "--bandwidth fast",
        ] {
            assert_eq!(migrate(words).unwrap_err().exit_code(), 2, "{words}");
        }
        assert_eq!(migrate("--predict --no-plan").unwrap_err().exit_code(), 2);
        assert!(migrate("--offline --persistent --undefinesource").is_ok());
    }
}
