//! The two daemons of one migration, talking beside the coordinator: who has the guest?
//!
//! A daemon tells in each cookie where it can be asked ([`addresses`]). What is said, and what is answered, is sealed with the
//! secret that travelled in the cookie; an answer names the host's UUID too, so that an address that leads somewhere else (a
//! UNIX path exists on every machine) is found out before anything is believed. The transport is the RPC port's own:
//! one procedure of a program that stock does not have. Losing a message costs time only: the machines say it again.
//!
//! [`line`] speaks, [`crate::dispatch`] listens, both in [`letter`]s; the domain's driver decides.

mod letter;
mod line;

use std::net::IpAddr;

use crate::host::Host;

pub(crate) use letter::{Answer, is_sealed, known, reply};
pub(crate) use line::{Credentials, Line, Peer, is_host, uri};

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
