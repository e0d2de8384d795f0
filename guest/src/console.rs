//! The serial port: whole lines out, whole lines in. Every thread speaks through one [`Console`], so that no two
//! lines mix.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

/// What every line begins with, so that a reader can tell it from the kernel's and the firmware's.
const PREFIX: &str = "ferry-guest";

/// The longest command that is taken, in bytes; the rest of such a line is another (unknown) command.
const COMMAND_MAX: u64 = 256;

pub(crate) struct Console {
    port: Mutex<File>,
}

impl Console {
    /// Opens the port raw: no echo, and a line ends with `\n` alone.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        Ok(Self { port: Mutex::new(open_raw(path)?) })
    }

    /// Writes one line. A port that takes nothing is nobody's to tell, so an error is let go.
    pub(crate) fn say(&self, line: fmt::Arguments<'_>) {
        let text = format!("{PREFIX} {line}\n");
        let _ = self.lock().write_all(text.as_bytes());
    }

    /// Waits until everything said has left the port.
    pub(crate) fn drain(&self) {
        let _ = tcdrain(&*self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines that come in on the port at `path`, at most [`COMMAND_MAX`] bytes each; what is not UTF-8 is replaced.
pub(crate) fn commands(path: &str) -> io::Result<impl Iterator<Item = io::Result<String>> + use<>> {
    let mut reader = BufReader::new(open_raw(path)?);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(COMMAND_MAX).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(String::from_utf8_lossy(&line).trim().to_owned())),
            Err(error) => Some(Err(error)),
        }
    }))
}

/// A device node without a port behind it fails here.
fn open_raw(path: &str) -> io::Result<File> {
    let port = OpenOptions::new().read(true).write(true).open(path)?;
    let mut attributes = tcgetattr(&port)?;
    attributes.make_raw();
    tcsetattr(&port, OptionalActions::Now, &attributes)?;
    Ok(port)
}
