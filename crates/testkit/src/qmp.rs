//! A small blocking QMP client, for bare QEMUs only: one command at a time, events kept aside.
//!
//! It is not the daemon's client on purpose: what measures and checks the daemon shares no code with it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::deadline::wait_for;
use crate::{Error, Result};

/// How long QEMU may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection to one QEMU's monitor.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects as soon as the socket is there, and leaves the greeting behind.
    ///
    /// # Errors
    /// [`Error::Late`] when there is no socket within `limit`, [`Error::Io`] when the connection breaks.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let stream = wait_for(&format!("monitor {path:?}"), limit, || UnixStream::connect(path).ok())?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(Error::io("monitor"))?;
        let mut qmp = Self { reader: BufReader::new(stream), events: VecDeque::new() };
        qmp.read()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command, gives what it returned.
    ///
    /// # Errors
    /// [`Error::Unexpected`] with QEMU's words when it refuses.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        self.reader.get_mut().write_all(line.as_bytes()).map_err(Error::io("monitor"))?;
        loop {
            let mut message = self.read()?;
            if let Some(error) = message.get("error") {
                return Err(Error::Unexpected { what: command.to_owned(), detail: error.to_string() });
            }
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            self.events.push_back(message);
        }
    }

    /// Waits for the next event for which `wanted` holds; others are thrown away.
    ///
    /// # Errors
    /// [`Error::Late`], or [`Error::Io`] when the connection breaks.
    pub fn wait_event(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            while let Some(event) = self.events.pop_front() {
                if wanted(&event) {
                    return Ok(event);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Late { what: what.to_owned(), limit, detail: String::new() });
            }
            let stream = self.reader.get_ref();
            stream.set_read_timeout(Some(left)).map_err(Error::io("monitor"))?;
            let message = self.read();
            let stream = self.reader.get_ref();
            stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(Error::io("monitor"))?;
            self.events.push_back(message?);
        }
    }

    /// Waits for an event of that name.
    ///
    /// # Errors
    /// As [`wait_event`](Self::wait_event).
    pub fn wait_named(&mut self, name: &str, limit: Duration) -> Result<Value> {
        self.wait_event(name, limit, |event| event["event"] == name)
    }

    /// Waits until the other side has hung up, which QEMU does when it ends.
    ///
    /// # Errors
    /// [`Error::Io`] when it has not within half a minute.
    pub fn wait_closed(mut self) -> Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            match self.reader.read_line(&mut line) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(Error::io("monitor")(error)),
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).map_err(Error::io("monitor"))?;
        if length == 0 {
            return Err(Error::Unexpected { what: "monitor".into(), detail: "QEMU hung up".into() });
        }
        serde_json::from_str(&line)
            .map_err(|error| Error::Unexpected { what: "monitor".into(), detail: format!("{error}: {line}") })
    }
}
