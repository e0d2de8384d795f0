//! The system calls that no safe wrapper offers: the only room of the workspace with `unsafe` in it.
//!
//! Called by [`crate::perform`]. Each function is the whole of its unsafe block; nothing here knows of domains.
#![expect(unsafe_code, reason = "fork hooks and TUN/TAP ioctls have no safe wrapper in std or rustix")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::io::{Errno, FdFlags};
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Starts `command` in a session of its own, so that it lives on when the daemon stops, and lets it inherit
/// `fds` under the numbers that they have here.
///
/// # Errors
/// Whatever fork, the hooks or exec report; the program has then not run.
pub(crate) fn spawn_session(command: Command, fds: &[OwnedFd]) -> io::Result<Child> {
    spawn(command, fds, || Ok(rustix::process::setsid().map(drop)?))
}

/// As [`spawn_session`], for a program that is of no use without this daemon: the kernel ends it with us. (With the
/// thread that spawns, to be exact; that is a worker of the runtime, which lives as long as the daemon.)
///
/// # Errors
/// As [`spawn_session`].
pub(crate) fn spawn_helper(command: Command, fds: &[OwnedFd]) -> io::Result<Child> {
    let daemon = rustix::process::getpid();
    spawn(command, fds, move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // A daemon that has died meanwhile sends no signal any more.
        if rustix::process::getppid() == Some(daemon) { Ok(()) } else { Err(Errno::SRCH.into()) }
    })
}

fn spawn(
    mut command: Command,
    fds: &[OwnedFd],
    prepare: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<Child> {
    let inherited: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    // SAFETY: between fork and exec only setsid, prctl, getppid and fcntl are called, which are async-signal-safe and
    // do not allocate; the descriptors stay open in the parent until spawn returns.
    unsafe {
        command.pre_exec(move || {
            prepare()?;
            for &fd in &inherited {
                let fd = std::os::fd::BorrowedFd::borrow_raw(fd);
                rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Registers a descriptor that we own with the runtime, so that tasks can wait for it.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and `AsyncFd` gives out no way to
    // replace it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

/// `struct ifreq` of linux/if.h: a name, and a union of which we use the first bytes.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    value: [u8; 24],
}

impl IfReq {
    fn new(name: &str) -> io::Result<IfReq> {
        let mut request = IfReq { name: [0; 16], value: [0; 24] };
        if name.len() >= request.name.len() || name.bytes().any(|b| b == 0 || b == b'/') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("bad interface name {name:?}")));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    fn name(&self) -> String {
        let end = self.name.iter().position(|&b| b == 0).unwrap_or(self.name.len());
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }
}

/// An ioctl that takes a pointer to an [`IfReq`] and may write into it.
struct IfIoctl<'a> {
    opcode: Opcode,
    request: &'a mut IfReq,
}

// SAFETY: the opcodes in use (below) all take `struct ifreq *`; the pointer is valid for the call.
unsafe impl Ioctl for IfIoctl<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;
    fn opcode(&self) -> Opcode {
        self.opcode
    }
    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.request).cast()
    }
    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

fn if_ioctl(fd: impl AsFd, opcode: Opcode, request: &mut IfReq) -> Result<(), Errno> {
    // SAFETY: `IfIoctl` upholds the contract of the opcodes that this module passes.
    unsafe { ioctl::ioctl(fd, IfIoctl { opcode, request }) }
}

// linux/if_tun.h and linux/sockios.h.
const TUNSETIFF: Opcode = 0x4004_54ca;
const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCSIFMTU: Opcode = 0x8922;
const SIOCSIFHWADDR: Opcode = 0x8924;
const SIOCBRADDIF: Opcode = 0x89a2;
const IFF_UP: u16 = 1;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const ARPHRD_ETHER: u16 = 1;

/// Opens `queues` descriptors of a TAP interface and returns them with the interface's name.
///
/// `name` may hold `%d`, for which the kernel puts the next free number. The interface goes away with its last
/// descriptor, so a QEMU that dies leaves none behind.
pub(crate) fn open_tap(name: &str, queues: usize) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if queues > 1 {
        flags |= IFF_MULTI_QUEUE;
    }
    let mut actual = name.to_owned();
    let mut fds = Vec::with_capacity(queues);
    for _ in 0..queues.max(1) {
        let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut request = IfReq::new(&actual)?;
        request.value[..2].copy_from_slice(&flags.to_ne_bytes());
        if_ioctl(&tun, TUNSETIFF, &mut request)?;
        actual = request.name();
        fds.push(OwnedFd::from(tun));
    }
    Ok((actual, fds))
}

/// Gives `interface` its MTU and MAC address, plugs it into `bridge` and brings it up.
pub(crate) fn plug_tap(
    interface: &str,
    mac: [u8; 6],
    mtu: Option<u32>,
    bridge: Option<&str>,
) -> io::Result<()> {
    let control = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut hardware = IfReq::new(interface)?;
    hardware.value[..2].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
    hardware.value[2..8].copy_from_slice(&mac);
    if_ioctl(&control, SIOCSIFHWADDR, &mut hardware)?;
    if let Some(mtu) = mtu {
        let mut request = IfReq::new(interface)?;
        request.value[..4].copy_from_slice(&mtu.to_ne_bytes());
        if_ioctl(&control, SIOCSIFMTU, &mut request)?;
    }
    if let Some(bridge) = bridge {
        let mut request = IfReq::new(bridge)?;
        let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
        let index: i32 = index.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        request.value[..4].copy_from_slice(&index.to_ne_bytes());
        if_ioctl(&control, SIOCBRADDIF, &mut request)?;
    }
    let mut request = IfReq::new(interface)?;
    if_ioctl(&control, SIOCGIFFLAGS, &mut request)?;
    let flags = u16::from_ne_bytes([request.value[0], request.value[1]]) | IFF_UP;
    request.value[..2].copy_from_slice(&flags.to_ne_bytes());
    if_ioctl(&control, SIOCSIFFLAGS, &mut request)?;
    Ok(())
}
