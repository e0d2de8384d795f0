//! Gives the first network card its address, and answers echo on UDP and TCP port 7. ARP and ICMP are the kernel's.
//!
//! The address goes in by two netlink requests written out by hand: an init that brings no library for it needs just
//! these.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};

use crate::clock;
use crate::console::Console;
use crate::options::Address;

/// The echo service's port on both protocols (RFC 862).
const ECHO_PORT: u16 = 7;

/// Connections that are echoed at the same time; more are closed at once.
const CONNECTIONS_MAX: usize = 16;

/// How long the card's driver may take to find it, microseconds.
const APPEAR_US: u64 = 1_000_000;

// From the kernel's uapi: linux/netlink.h, linux/rtnetlink.h, linux/if.h.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;

/// Brings the card up with `address`. Gives its name, or says why there is none.
pub(crate) fn start(console: &Arc<Console>, address: Address) -> Option<String> {
    let Some(card) = appear() else {
        console.say(format_args!("note net=none"));
        return None;
    };
    if let Err(error) = configure(&card, address).and_then(|()| echo()) {
        console.say(format_args!("note net={card} error={:?}", error.to_string()));
        return None;
    }
    Some(card)
}

fn appear() -> Option<String> {
    let until = clock::monotonic_us() + APPEAR_US;
    loop {
        let mut cards: Vec<String> = fs::read_dir("/sys/class/net")
            .ok()?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name != "lo")
            .collect();
        cards.sort();
        if let Some(card) = cards.into_iter().next() {
            return Some(card);
        }
        if clock::monotonic_us() >= until {
            return None;
        }
        clock::sleep_until_us(clock::monotonic_us() + 10_000);
    }
}

fn configure(card: &str, address: Address) -> io::Result<()> {
    let index: u32 = fs::read_to_string(format!("/sys/class/net/{card}/ifindex"))?
        .trim()
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    request(&address_message(index, address))?;
    request(&up_message(index))
}

/// Sends one request and waits for the kernel's word on it.
fn request(message: &[u8]) -> io::Result<()> {
    // No protocol is protocol 0, which is NETLINK_ROUTE.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    sendto(&socket, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 1024];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    match error_of(&answer[..length]) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The error number of an acknowledgement: 0, or a negative errno.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(error)
}

/// `ip address replace ADDRESS dev INDEX`.
fn address_message(index: u32, address: Address) -> Vec<u8> {
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let mut body = vec![AF_INET, address.prefix, 0, 0];
    body.extend(index.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend(attribute(kind, address.ip));
    }
    message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// `ip link set INDEX up`.
fn up_message(index: u32) -> Vec<u8> {
    // struct ifinfomsg: family, padding, device type, index, flags, mask of the flags that change.
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    message(RTM_NEWLINK, 0, &body)
}

fn attribute(kind: u16, ip: Ipv4Addr) -> Vec<u8> {
    let mut bytes = Vec::from(8u16.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(ip.octets());
    bytes
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    // struct nlmsghdr: length, type, flags, sequence number, sender.
    let mut bytes = Vec::from((16 + body.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn echo() -> io::Result<()> {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ECHO_PORT))?;
    thread::Builder::new().name("echo-udp".into()).spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(&buffer[..length], from);
            }
        }
    })?;
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ECHO_PORT))?;
    thread::Builder::new().name("echo-tcp".into()).spawn(move || {
        let open = Arc::new(());
        for stream in tcp.incoming().flatten() {
            // Each connection holds a handle to `open`; one more is ours.
            if Arc::strong_count(&open) <= CONNECTIONS_MAX {
                let held = Arc::clone(&open);
                let _ = thread::Builder::new().name("echo".into()).spawn(move || echo_stream(stream, held));
            }
        }
    })?;
    Ok(())
}

fn echo_stream(mut stream: TcpStream, _held: Arc<()>) {
    let mut buffer = [0; 2048];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_request_has_the_kernels_layout() {
        let address = Address { ip: Ipv4Addr::new(192, 0, 2, 50), prefix: 24 };
        let expected = [
            &40u32.to_ne_bytes()[..],
            &20u16.to_ne_bytes(),
            &0x505u16.to_ne_bytes(),
            &1u32.to_ne_bytes(),
            &0u32.to_ne_bytes(),
            &[2, 24, 0, 0],
            &3u32.to_ne_bytes(),
            &8u16.to_ne_bytes(),
            &2u16.to_ne_bytes(),
            &[192, 0, 2, 50],
            &8u16.to_ne_bytes(),
            &1u16.to_ne_bytes(),
            &[192, 0, 2, 50],
        ]
        .concat();
        assert_eq!(address_message(3, address), expected);
    }

    #[test]
    fn an_acknowledgement_is_told_from_an_error_and_from_noise() {
        let mut answer = vec![0; 36];
        answer[4] = 2;
        assert_eq!(error_of(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(error_of(&answer), Some(-17));
        answer[4] = 3;
        assert_eq!(error_of(&answer), None);
        assert_eq!(error_of(&answer[..10]), None);
    }
}
