//! The test guest's init: the only process of a Linux guest that says, on its serial port, whether it lived
//! through a migration whole.
//!
//! The testkit links it statically, puts it with the virtio modules of a stock Debian cloud kernel into an
//! initial ramdisk, and boots that. It refuses to know anything about Ferry: it sees a machine, not a manager.
//!
//! ```text
//! mount /dev /proc /sys -> load modules -> `ready` -> threads: beat   numbered lines on the serial port
//!                                                              memory dirties and verifies pages
//!                                                              disk   writes, reads back and verifies blocks
//!                                                              button the ACPI power button
//!                                                              echo   UDP and TCP port 7
//!                                                              agent  QEMU's guest agent protocol
//!                                                     main thread: commands from the serial port
//! ```
//!
//! # Lines out
//! Each line is `ferry-guest KIND key=value …`; times (`t=`) are microseconds of the guest's monotonic clock.
//! A stopped guest's clock stands still too, so a pause shows only to a reader outside that notes when lines
//! arrive.
//!
//! | kind | when |
//! |---|---|
//! | `beat` | every period; `seq` counts from 1 without a gap |
//! | `ready` | once, when everything has been started |
//! | `reply` | once per command, `cmd=` names it, `ok=` is 1 or 0 |
//! | `anomaly` | a page, a block or the clock is not what it must be |
//! | `note` | a part that is not there, such as a missing disk |
//! | `end` | the last line before power off |
//!
//! # Commands in
//! `rate MIB_PER_S`, `disk MIB_PER_S`, `beat MICROSECONDS`, `check` (verifies every page and block now), `stat`,
//! `ping WORD`, `tpm WORD …` (`extend BYTE`, `register`, `keep WORD`, `kept`), `poweroff`, `reboot`; one a line, on the first serial port or, when there is one, the second.
//!
//! # Kernel command line
//! `ferry.beat_us=10000 ferry.mem=16 ferry.rate=4 ferry.disk=4 ferry.disk_rate=1 ferry.ip=192.0.2.50/24`: sizes in
//! MiB, rates in MiB/s. Without `ferry.ip` the network is left alone; with `ferry.disk=0` the disk is.

mod agent;
mod beat;
mod button;
mod clock;
mod command;
mod console;
mod disk;
mod memory;
mod modules;
mod network;
mod options;
mod page;
mod tpm;

use std::io;
use std::sync::Arc;

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

use console::Console;
use options::Options;

/// Where the guest speaks. The kernel's own messages go there too; `quiet` on the kernel command line keeps them off.
const SERIAL_PORT: &str = "/dev/ttyS0";

fn main() {
    // An init that returns panics the kernel, which is loud enough when there is no console to say why on.
    let Err(error) = run() else { return };
    if let Ok(console) = Console::open(SERIAL_PORT) {
        console.say(format_args!("anomaly kind=init error={:?}", error.to_string()));
    }
    power(RebootCommand::PowerOff);
}

fn run() -> io::Result<()> {
    mount_all()?;
    let console = Arc::new(Console::open(SERIAL_PORT)?);
    let options = Options::parse(&std::fs::read_to_string("/proc/cmdline")?);
    for problem in modules::load_all() {
        console.say(format_args!("note module={problem:?}"));
    }

    let beat = beat::start(Arc::clone(&console), options.beat_us)?;
    let memory = memory::start(Arc::clone(&console), options.memory_mib, options.memory_rate)?;
    let disk = disk::start(Arc::clone(&console), options.disk_mib, options.disk_rate)?;
    let link = match options.address {
        Some(address) => network::start(&console, address),
        None => None,
    };
    button::start(&console);
    agent::start(&console);

    let ready = format!(
        "ready t={} memory_mib={} disk={} net={}",
        clock::monotonic_us(),
        options.memory_mib,
        disk.as_ref().map_or("none", |disk| disk.path()),
        link.as_deref().unwrap_or("none"),
    );
    command::serve(console, command::Parts { beat, memory, disk }, &ready)
}

fn mount_all() -> io::Result<()> {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        std::fs::create_dir_all(target)?;
        match mount(kind, target, kind, MountFlags::empty(), None) {
            // devtmpfs may have been mounted by the kernel already.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Ends the guest. Does not return unless the kernel refuses.
fn power(command: RebootCommand) {
    disk::stop();
    rustix::fs::sync();
    let _ = reboot(command);
}
