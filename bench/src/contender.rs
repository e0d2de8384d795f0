//! Who migrates the guest.

use std::fmt;

use clap::ValueEnum;

/// One way to migrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Contender {
    /// Ferry, coordinated by virsh.
    Ferry,
    /// Ferry, coordinated by the source's daemon.
    FerryP2p,
    /// Ferry, coordinated by virsh, with journals in memory: what syncing them costs is the difference.
    FerryInMemory,
    /// Stock libvirt, coordinated by virsh.
    Stock,
    /// Stock libvirt, coordinated by the source's daemon.
    StockP2p,
    /// Two bare QEMUs driven by raw QMP.
    Floor,
}

/// A daemon that manages guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// ferryd.
    Ferry,
    /// ferryd with its state in memory.
    FerryInMemory,
    /// libvirtd.
    Stock,
}

impl Contender {
    /// All, in the order of the report.
    pub(crate) const ALL: [Self; 6] =
        [Self::Ferry, Self::FerryP2p, Self::FerryInMemory, Self::Stock, Self::StockP2p, Self::Floor];

    /// Whose guest it is; `None` for the floor.
    pub(crate) fn daemon(self) -> Option<Daemon> {
        match self {
            Self::Ferry | Self::FerryP2p => Some(Daemon::Ferry),
            Self::FerryInMemory => Some(Daemon::FerryInMemory),
            Self::Stock | Self::StockP2p => Some(Daemon::Stock),
            Self::Floor => None,
        }
    }

    /// The words of virsh that migrate `domain` to the daemon at `uri`. `--unsafe`, because hosts on one machine have no
    /// shared file system for stock to recognise.
    pub(crate) fn words<'a>(self, domain: &'a str, uri: &'a str) -> Vec<&'a str> {
        let mut words = vec!["migrate", domain, uri, "--live", "--unsafe"];
        if matches!(self, Self::FerryP2p | Self::StockP2p) {
            words.push("--p2p");
        }
        words
    }

    /// What is run, for the report.
    pub(crate) fn shown(self) -> String {
        match self {
            Self::Floor => "two bare QEMUs, raw QMP".to_owned(),
            _ => format!("virsh {}", self.words("GUEST", "qemu+tcp://HOST/system").join(" ")),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ferry => "Ferry, direct",
            Self::FerryP2p => "Ferry, p2p",
            Self::FerryInMemory => "Ferry, journal in memory",
            Self::Stock => "stock, direct",
            Self::StockP2p => "stock, p2p",
            Self::Floor => "floor",
        })
    }
}
