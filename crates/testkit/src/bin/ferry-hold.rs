//! Starts one program and holds on to everything that comes of it: `ferry-hold --log FILE -- PROGRAM ARGUMENT…`.
//!
//! It is the subreaper of the program and its offspring, so a QEMU whose daemon was killed becomes its child, is reaped
//! at once when it ends, and is ended with the rest. [`ferry_testkit::tree`] starts it; nothing else does.
//!
//! ```text
//! standard output: `started PID`, then `ended WORDS` when the program has ended, then end of file when all have
//! standard input:  its end, for whatever reason, means: end everything that lives, then yourself
//! ```

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
};

fn main() -> ExitCode {
    match run(env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stdout(), "failed {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<OsString>) -> io::Result<()> {
    let [log_flag, log, dashes, program, arguments @ ..] = words.as_slice() else { return Err(usage()) };
    if log_flag != "--log" || dashes != "--" {
        return Err(usage());
    }
    set_child_subreaper(Some(getpid()))?;
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    say(&format!("started {}", child.id()));
    thread::spawn(end_all_when_told);
    reap(child.id())
}

fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "usage: ferry-hold --log FILE -- PROGRAM ARGUMENT...")
}

/// Reaps children, our own and inherited ones, until there are none.
fn reap(program: u32) -> io::Result<()> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() as u32 == program => {
                say(&format!("ended {}", words(status)));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn words(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => format!("status {status:?}"),
    }
}

/// Whoever listens may be gone; that is no reason to let go of the children.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn end_all_when_told() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    // What a killed child leaves behind comes to us, so the next round finds it. The main thread ends the process when
    // there is nobody left.
    loop {
        for pid in children() {
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn children() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let text = lists.collect::<Vec<_>>().join(" ");
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
