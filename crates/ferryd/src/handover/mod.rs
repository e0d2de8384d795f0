//! The two daemons of one migration, talking beside the coordinator: who has the guest?
//!
//! A daemon tells in each cookie where it can be asked ([`addresses`]). What is said is authenticated by the secret
//! that travelled in the cookie, and answered with the host's UUID, so that an address that leads somewhere else (a
//! UNIX path exists on every machine) is found out before anything is believed. The transport is the RPC port's own:
//! one procedure of a program that stock does not have. Losing a message costs time only: the machines say it again.
//!
//! [`line`] speaks, [`crate::dispatch`] listens, the domain's driver decides.

mod line;

use std::net::IpAddr;

use crate::host::Host;

pub(crate) use line::{Answer, Credentials, Line, Peer, is_host, known, uri};

/// Where this daemon can be asked, most specific first.
pub(crate) fn addresses(host: &Host) -> Vec<String> {
    let mut addresses = host.config.control_addresses.clone();
    if addresses.is_empty()
        && let Some(bound) = host.tcp_address.get()
    {
        addresses.push(match bound.ip() {
            ip if ip.is_unspecified() => format!("tcp:{}:{}", host.hostname, bound.port()),
            IpAddr::V4(ip) => format!("tcp:{ip}:{}", bound.port()),
            IpAddr::V6(ip) => format!("tcp:[{ip}]:{}", bound.port()),
        });
    }
    // Serves two daemons on one machine; elsewhere another host answers there, or nobody.
    addresses.push(format!("unix:{}", host.layout.socket.display()));
    addresses.truncate(ferry_migration::cookie::ADDRESSES_MAX);
    addresses
}
