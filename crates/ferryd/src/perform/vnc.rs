//! Ports for VNC servers that leave the choice to the daemon.
//!
//! Called by [`super::launch`] and [`crate::host`]. A port is free when nobody listens on it; the moment between
//! looking and QEMU's own bind is covered by QEMU, which then fails to start and says so.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// The ports that stock chooses from.
const PORTS: RangeInclusive<u16> = 5900..=65535;

/// The lowest port on which `address` can be listened on, leaving out those in `chosen`.
pub(crate) fn free_port(address: &str, chosen: &BTreeSet<u16>) -> Option<u16> {
    let address: IpAddr = address.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    PORTS.filter(|port| !chosen.contains(port)).find(|port| TcpListener::bind((address, *port)).is_ok())
}
