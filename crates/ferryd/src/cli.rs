//! What the daemon can be told on its command line.
//!
//! Called by `main` only. It knows names and defaults of options; what they mean for a host is decided in
//! [`crate::layout`] and [`crate::config`].

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use uuid::Uuid;

/// Runs, watches and live-migrates the QEMU guests of this host.
///
/// ferryd speaks libvirt's wire protocol: virsh, libvirt-python, virt-manager and Nova drive it unmodified.
/// Guests are processes of their own. They go on when ferryd stops, and ferryd finds them again when it starts.
#[derive(Debug, Parser)]
#[command(
    name = "ferryd",
    version,
    after_help = "EXAMPLES:\n  \
        A private host in a folder, no root needed:\n    \
        ferryd --root ~/host-a\n    \
        virsh -c 'qemu+unix:///system?socket=/home/me/host-a/sock' list --all\n\n  \
        A host that others migrate to over a trusted network:\n    \
        ferryd --listen-tcp 192.0.2.1:16509\n\n  \
        In the place of libvirtd, for `virsh -c qemu:///system`:\n    \
        ferryd --libvirt-sockets"
)]
pub(crate) struct Cli {
    /// Keep everything of this host in DIR: sockets, state, logs, its own host UUID. Needs no root.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Read this configuration file instead of DIR/ferryd.toml or /etc/ferry/ferryd.toml.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Also listen on this TCP address, WITHOUT authentication or encryption. Port 0 picks a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen_tcp: Option<SocketAddr>,

    /// Also listen on libvirt's own well-known socket paths, so that clients need no URI of their own.
    #[arg(long)]
    pub(crate) libvirt_sockets: bool,

    /// Use this host UUID instead of the stored one. It must differ from every other host's.
    #[arg(long, value_name = "UUID")]
    pub(crate) host_uuid: Option<Uuid>,

    /// What to log, as in RUST_LOG: `info`, `debug`, `ferryd::driver=trace`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "FERRYD_LOG")]
    pub(crate) log: String,

    /// Write the manual page into a folder and end.
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) man: Option<PathBuf>,
}
