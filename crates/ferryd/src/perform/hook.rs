//! The operator's own word on a guest that is to come: a program of this host that may refuse it, or print another
//! definition for it.
//!
//! Called before a guest is prepared for, with `VM migrate begin -` as its arguments and the definition on its standard
//! input, as stock calls its hooks; programs in the folder of the same name with `.d` follow, each with what the one
//! before has printed. No shell is between. What a hook prints is read by the caller, who trusts it no more than a
//! peer. When a hook has ended, or has had its time, whatever it has started ends with it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::process::Process;
use crate::sys;

/// The longest definition that a hook may print, bytes; one that is kept is no longer either.
const DEFINITION_MAX: usize = 3 << 20;

/// How much of what it says on its standard error is passed on, bytes.
const WORDS_MAX: usize = 4096;

/// Why a hook's answer is no.
#[derive(Debug, Error)]
pub(crate) enum HookError {
    #[error("there is no program {path:?}")]
    Missing { path: PathBuf },
    #[error("cannot run {path:?}: {source}")]
    Run {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Stock's text.
    #[error("internal error: Child process ({call}) unexpected {end}: {words}")]
    Refused { call: String, end: String, words: String },
    #[error("internal error: Child process ({call}) was not done after {} s", limit.as_secs())]
    Late { call: String, limit: Duration },
    #[error("internal error: Child process ({call}) has printed more than {DEFINITION_MAX} bytes")]
    TooMuch { call: String },
    #[error("internal error: Child process ({call}) has printed what is not text")]
    NotText { call: String },
}

/// Asks the hook at `path`, and those in the folder beside it, about the guest `name`, whose definition is `xml`. Gives
/// the definition that it wants instead; `None` when all of them printed nothing but blanks.
///
/// # Errors
/// [`HookError`]; the guest is not to come then.
pub(crate) async fn ask(
    path: &Path,
    limit: Duration,
    name: &str,
    xml: &str,
) -> Result<Option<String>, HookError> {
    let mut changed: Option<String> = None;
    for program in programs(path)? {
        let given = changed.as_deref().unwrap_or(xml);
        changed = run(&program, limit, name, given).await?.or(changed);
    }
    Ok(changed)
}

/// Whether there is anything to ask at `path`.
pub(crate) fn is_there(path: &Path) -> bool {
    programs(path).is_ok()
}

/// The hook, then what may be run in its folder, by name.
fn programs(path: &Path) -> Result<Vec<PathBuf>, HookError> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let listed = fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut programs: Vec<PathBuf> = listed.unwrap_or_default();
    programs.retain(|program| {
        fs::metadata(program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    });
    programs.sort();
    // One that is there and cannot be run is an error of its own.
    if path.exists() {
        programs.insert(0, path.to_owned());
    }
    if programs.is_empty() { Err(HookError::Missing { path: path.to_owned() }) } else { Ok(programs) }
}

async fn run(program: &Path, limit: Duration, name: &str, xml: &str) -> Result<Option<String>, HookError> {
    let arguments = [name, "migrate", "begin", "-"];
    let call = format!("{} {}", program.display(), arguments.join(" "));
    let not_run = |source| HookError::Run { path: program.to_owned(), source };
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Whatever it starts is of its group, unless it takes care not to be.
    command.process_group(0);
    let mut running = Running::start(command).map_err(not_run)?;
    let (input, output, errors) = running.pipes().map_err(not_run)?;
    let process = running.process.clone();
    let conversation = async {
        let feed = async {
            let mut input = input;
            // A hook need not read.
            let _ = input.write_all(xml.as_bytes()).await;
        };
        let ended = async {
            process.exited().await;
            running.end_group();
        };
        let read = (read_most(output, DEFINITION_MAX), read_most(errors, WORDS_MAX));
        let ((), printed, said, ()) = tokio::join!(feed, read.0, read.1, ended);
        (printed, said)
    };
    let Ok((printed, said)) = tokio::time::timeout(limit, conversation).await else {
        return Err(HookError::Late { call, limit });
    };
    let status = running.status().map_err(not_run)?;
    if !status.success() {
        let words = String::from_utf8_lossy(&said.bytes).trim().to_owned();
        return Err(HookError::Refused { call, end: status.to_string().replace(": ", " "), words });
    }
    if printed.was_cut {
        return Err(HookError::TooMuch { call });
    }
    let printed = String::from_utf8(printed.bytes).map_err(|_| HookError::NotText { call })?;
    Ok((!printed.trim().is_empty()).then_some(printed))
}

/// A hook at work. However this is dropped, the hook and its group end.
struct Running {
    child: Option<Child>,
    process: Process,
}

impl Running {
    fn start(command: Command) -> io::Result<Running> {
        let child = sys::spawn_helper(command, &[])?;
        let process = Process::of_child(&child)?;
        Ok(Running { child: Some(child), process })
    }

    /// Its standard input, output and error.
    fn pipes(&mut self) -> io::Result<Pipes> {
        let child = self.child.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (input, output) = (input.ok_or_else(missing)?, output.ok_or_else(missing)?);
        pipes(input, output, errors.ok_or_else(missing)?)
    }

    /// Ends all that is left of its group. It has not been waited for, so nobody else has its number.
    fn end_group(&self) {
        let group = Pid::from_raw(self.process.identity().pid);
        if let Some(group) = group.filter(|_| self.child.is_some()) {
            // There may be nobody left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// How it ended. It has.
    fn status(mut self) -> io::Result<ExitStatus> {
        self.child.take().ok_or(io::ErrorKind::NotFound)?.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_group();
        if let Some(mut child) = self.child.take() {
            let process = self.process.clone();
            tokio::spawn(async move {
                process.exited().await;
                // It has ended: this takes no time.
                let _ = child.wait();
            });
        }
    }
}

type Pipes = (tokio::process::ChildStdin, tokio::process::ChildStdout, tokio::process::ChildStderr);

fn pipes(input: ChildStdin, output: ChildStdout, errors: ChildStderr) -> io::Result<Pipes> {
    Ok((
        tokio::process::ChildStdin::from_std(input)?,
        tokio::process::ChildStdout::from_std(output)?,
        tokio::process::ChildStderr::from_std(errors)?,
    ))
}

/// What was read of a stream.
struct Read {
    bytes: Vec<u8>,
    /// There was more.
    was_cut: bool,
}

/// Reads a stream to its end and keeps at most `most` bytes of it.
async fn read_most(mut stream: impl AsyncRead + Unpin, most: usize) -> Read {
    let mut read = Read { bytes: Vec::new(), was_cut: false };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = most - read.bytes.len();
        read.was_cut |= count > room;
        read.bytes.extend_from_slice(&buffer[..count.min(room)]);
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tempfile::TempDir;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Written by another process: a file that this one has open, so that a fork may inherit it, cannot be run.
    fn script(place: &Path, text: &str) -> PathBuf {
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let written = Command::new("sh").args(["-c", write]).arg(place).arg(text).status().unwrap();
        assert!(written.success());
        place.to_owned()
    }

    async fn told(text: &str, limit: Duration) -> Result<Option<String>, String> {
        let folder = TempDir::new().unwrap();
        let hook = script(&folder.path().join("qemu"), text);
        ask(&hook, limit, "vm; touch x", "<domain/>").await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn it_gets_its_arguments_and_the_definition_and_no_shell_reads_them() {
        let words = told("echo \"$#:$1:$2:$3:$4:\"; cat", LIMIT).await.unwrap().unwrap();
        assert_eq!(words, "4:vm; touch x:migrate:begin:-:\n<domain/>");
        assert_eq!(told("cat > /dev/null; echo; echo ' '", LIMIT).await, Ok(None));
        assert_eq!(told("exit 0", LIMIT).await, Ok(None), "it need not read");
    }

    #[tokio::test]
    async fn its_no_is_passed_on_with_its_reason() {
        let said = told("echo not here >&2; exit 3", LIMIT).await.unwrap_err();
        assert!(said.starts_with("internal error: Child process (/"), "{said}");
        assert!(
            said.ends_with("/qemu vm; touch x migrate begin -) unexpected exit status 3: not here"),
            "{said}"
        );
        let long = told("yes no | head -c 100000 >&2; exit 1", LIMIT).await.unwrap_err();
        assert!(long.len() < WORDS_MAX + 300, "{} bytes", long.len());
    }

    #[tokio::test]
    async fn what_it_prints_is_bounded_and_text() {
        let much = format!("head -c {} /dev/zero | tr '\\0' x", DEFINITION_MAX + 1);
        assert!(told(&much, LIMIT).await.unwrap_err().contains("printed more than 3145728 bytes"));
        assert!(told("printf '\\377'", LIMIT).await.unwrap_err().contains("not text"));
    }

    #[tokio::test]
    async fn one_that_is_late_ends_with_all_it_has_started() {
        let folder = TempDir::new().unwrap();
        let pids = folder.path().join("pids");
        let hook = script(
            &folder.path().join("qemu"),
            &format!("sleep 1000 & echo $$ $! > '{}'; wait", pids.display()),
        );
        let begun = Instant::now();
        let late = ask(&hook, Duration::from_secs(1), "vm", "").await.unwrap_err().to_string();
        assert!(late.ends_with("was not done after 1 s"), "{late}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pids = fs::read_to_string(pids).unwrap();
        for pid in pids.split_whitespace() {
            let gone = || {
                let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                state.is_empty() || state.contains(") Z ")
            };
            for _ in 0..1000 {
                if gone() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(gone(), "process {pid} lives on");
        }
        // One that has ended and left something behind holds nobody up either.
        let done = told("sleep 1000 & exit 0", LIMIT).await;
        assert_eq!(done, Ok(None));
    }

    #[tokio::test]
    async fn those_in_the_folder_follow_each_with_what_the_one_before_has_printed() {
        let folder = TempDir::new().unwrap();
        let hook = folder.path().join("qemu");
        assert!(matches!(ask(&hook, LIMIT, "vm", "").await, Err(HookError::Missing { .. })));
        let beside = folder.path().join("qemu.d");
        fs::create_dir(&beside).unwrap();
        script(&beside.join("20"), "cat; echo 20");
        script(&beside.join("10"), "cat; echo 10");
        script(&beside.join("30"), "cat > /dev/null");
        fs::write(beside.join("notes"), "nothing to run").unwrap();
        assert_eq!(ask(&hook, LIMIT, "vm", "0\n").await.unwrap().unwrap(), "0\n10\n20\n");
        script(&hook, "echo first");
        assert_eq!(ask(&hook, LIMIT, "vm", "0\n").await.unwrap().unwrap(), "first\n10\n20\n");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(ask(&hook, LIMIT, "vm", "").await, Err(HookError::Run { .. })));
    }
}
