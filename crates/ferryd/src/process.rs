//! A QEMU process: who it is, whether it still lives, and its end.
//!
//! A pid alone proves nothing after a restart of the daemon or of the machine, so an identity is the pid with
//! its start time and the machine's boot id. A living one is held by a pidfd, which cannot come to mean another
//! process. Called by [`crate::perform`] and [`crate::restart`].

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Names one process for all time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// /proc/sys/kernel/random/boot_id of the boot in which it ran.
    pub(crate) boot_id: String,
}

/// A process that lived when this was made.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    identity: Identity,
    pidfd: Arc<AsyncFd<OwnedFd>>,
}

impl Process {
    /// Takes hold of a child just started.
    pub(crate) fn of_child(child: &Child) -> io::Result<Process> {
        let pid = i32::try_from(child.id()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Process::open(pid)
    }

    /// Takes hold of the process that `identity` names; `None` when it has gone.
    pub(crate) fn find(identity: &Identity) -> io::Result<Option<Process>> {
        if boot_id()? != identity.boot_id {
            return Ok(None);
        }
        // The pidfd comes first: what it names afterwards cannot change, so the start time read next belongs
        // to it or to a process that took the pid before.
        match Process::open(identity.pid) {
            Ok(process) if process.identity == *identity && !process.is_zombie() => Ok(Some(process)),
            Ok(_) => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(pid: i32) -> io::Result<Process> {
        let target = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = rustix::process::pidfd_open(target, PidfdFlags::NONBLOCK)?;
        let start_ticks = stat_field(pid, 22)?.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Process {
            identity: Identity { pid, start_ticks, boot_id: boot_id()? },
            pidfd: Arc::new(sys::watch(pidfd, Interest::READABLE)?),
        })
    }

    /// What to write down to find the process again.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Waits for the end.
    pub(crate) async fn exited(&self) {
        // A pidfd becomes readable when the process has ended and stays so. An error cannot come from a pidfd
        // that epoll took in; were one to come, "ended" would be a lie, so wait for good.
        if self.pidfd.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether it has ended, looked at now.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Sends SIGTERM: QEMU saves what it must and quits.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// User and system CPU time so far, in nanoseconds.
    pub(crate) fn cpu_time_ns(&self) -> u64 {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let field = |n| stat_field(self.identity.pid, n).ok().and_then(|text| text.parse::<u64>().ok());
        let ticks = field(14).unwrap_or(0) + field(15).unwrap_or(0);
        ticks.saturating_mul(1_000_000_000 / ticks_per_second)
    }

    fn signal(&self, signal: Signal) {
        match rustix::process::pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.identity.pid, %error, "cannot signal QEMU"),
        }
    }

    fn is_zombie(&self) -> bool {
        stat_field(self.identity.pid, 3).is_ok_and(|state| state == "Z" || state == "X")
    }
}

/// This boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Field `n` of /proc/PID/stat as proc(5) counts them, from 3 on (the name before it may hold blanks).
fn stat_field(pid: i32, n: usize) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_ascii_whitespace().nth(n - 3).ok_or(io::ErrorKind::InvalidData)?;
    Ok(field.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_found_by_its_identity_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of_child(&child).unwrap();
        let identity = process.identity().clone();
        assert!(Process::find(&identity).unwrap().is_some() && !process.has_ended());

        let mut other = identity.clone();
        other.start_ticks += 1;
        assert!(Process::find(&other).unwrap().is_none(), "same pid, another process");
        let mut other = identity.clone();
        other.boot_id.push('x');
        assert!(Process::find(&other).unwrap().is_none(), "same pid, another boot");

        process.kill();
        process.exited().await;
        assert!(process.has_ended());
        assert!(Process::find(&identity).unwrap().is_none(), "a zombie is not a guest");
        child.wait().unwrap();
        assert!(Process::find(&identity).unwrap().is_none());
    }
}
