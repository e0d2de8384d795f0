//! Running a command to its end, with a deadline, and getting all of what it printed.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::deadline::wait_for;
use crate::{Error, Result};

/// What a command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output; what is not UTF-8 is replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with exit code 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The standard output of a command that succeeded, without white space at its ends.
    ///
    /// # Errors
    /// [`Error::Command`] with everything it printed when it did not.
    pub fn ok(self) -> Result<String> {
        if self.success() {
            return Ok(self.stdout.trim().to_owned());
        }
        Err(Error::Command {
            command: self.command,
            status: self.status.to_string(),
            output: format!("{}{}", self.stdout, self.stderr),
        })
    }

    /// The standard error of a command that failed, without white space at its ends.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when it succeeded.
    pub fn err(self) -> Result<String> {
        if self.success() {
            return Err(Error::Unexpected {
                what: self.command,
                detail: format!("succeeded and printed {:?}", self.stdout),
            });
        }
        Ok(self.stderr.trim().to_owned())
    }
}

/// Runs `command` without standard input until it ends.
///
/// # Errors
/// [`Error::Late`] when it has not ended within `limit`: it is then killed, and what it printed so far is in the error.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(&shown))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let ended = wait_for(&shown, limit, || child.try_wait().transpose());
    let status = match ended {
        Ok(status) => Some(status.map_err(Error::io(&shown))?),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            None
        }
    };
    match status {
        Some(status) => {
            Ok(Output { command: shown, status, stdout: collect(stdout), stderr: collect(stderr) })
        }
        // A grandchild may hold the pipes open for ever, so they are not read to their end here.
        None => Err(Error::Late { what: shown, limit, detail: String::new() }),
    }
}

/// The command line as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has given what there was.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn collect(reader: thread::JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Output> {
        run(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn output_and_failure_come_back_whole() {
        assert_eq!(sh("echo out; echo err >&2", Duration::from_secs(10)).unwrap().ok().unwrap(), "out");
        let failed = sh("echo out; echo err >&2; exit 3", Duration::from_secs(10)).unwrap();
        assert_eq!(failed.clone().err().unwrap(), "err");
        let told = failed.ok().unwrap_err().to_string();
        assert!(told.contains("exit status: 3") && told.contains("out") && told.contains("err"), "{told}");
    }

    #[test]
    fn a_command_that_hangs_is_ended_at_its_deadline() {
        let error = sh("exec sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::Late { .. }), "{error}");
    }
}
