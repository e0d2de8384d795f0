//! The commands that come in over the serial port, and the replies.
//!
//! The second port takes commands too, when there is one, so that the first can be a file that only a reader follows.
//! Replies always leave on the first.

use std::io;
use std::sync::Arc;
use std::thread;

use rustix::system::RebootCommand;

use crate::beat::Beat;
use crate::clock;
use crate::console::{self, Console};
use crate::disk::Disk;
use crate::memory::Memory;
use crate::tpm;

/// Takes commands only.
const SECOND_PORT: &str = "/dev/ttyS1";

/// What commands act on.
pub(crate) struct Parts {
    pub(crate) beat: Arc<Beat>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) disk: Option<Arc<Disk>>,
}

/// One command, parsed.
#[derive(Debug, PartialEq, Eq)]
enum Command<'a> {
    Rate(u64),
    Disk(u64),
    Beat(u64),
    Check,
    Stat,
    Ping(&'a str),
    Tpm(Tpm<'a>),
    PowerOff,
    Reboot,
}

/// What is asked of the guest's TPM.
#[derive(Debug, PartialEq, Eq)]
enum Tpm<'a> {
    Extend(u8),
    Register,
    Keep(&'a str),
    Kept,
}

/// Opens both ports, says `ready`, and takes commands until the first port is closed, which it never is.
pub(crate) fn serve(console: Arc<Console>, parts: Parts, ready: &str) -> io::Result<()> {
    let parts = Arc::new(parts);
    // What comes before a port is open is lost, so it is open before anybody is told.
    let first = console::commands(crate::SERIAL_PORT)?;
    let second = console::commands(SECOND_PORT);
    console.say(format_args!("{ready}"));
    if let Ok(lines) = second {
        let (console, parts) = (Arc::clone(&console), Arc::clone(&parts));
        thread::Builder::new().name("second-port".into()).spawn(move || take(&console, &parts, lines))?;
    }
    take(&console, &parts, first)
}

fn take(console: &Console, parts: &Parts, lines: impl Iterator<Item = io::Result<String>>) -> io::Result<()> {
    for line in lines {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        match parse(&line) {
            Some(command) => obey(console, parts, &command),
            None => console.say(format_args!("reply cmd={line:?} ok=0 error=unknown")),
        }
    }
    Ok(())
}

fn parse(line: &str) -> Option<Command<'_>> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match (word, rest.trim()) {
        ("rate", number) => number.parse().ok().map(Command::Rate),
        ("disk", number) => number.parse().ok().map(Command::Disk),
        ("beat", number) => number.parse().ok().map(Command::Beat),
        ("check", "") => Some(Command::Check),
        ("stat", "") => Some(Command::Stat),
        ("ping", word) => Some(Command::Ping(word)),
        ("tpm", rest) => parse_tpm(rest).map(Command::Tpm),
        ("poweroff", "") => Some(Command::PowerOff),
        ("reboot", "") => Some(Command::Reboot),
        _ => None,
    }
}

fn parse_tpm(line: &str) -> Option<Tpm<'_>> {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("extend", byte) => byte.parse().ok().map(Tpm::Extend),
        ("register", "") => Some(Tpm::Register),
        ("keep", word) if !word.is_empty() => Some(Tpm::Keep(word)),
        ("kept", "") => Some(Tpm::Kept),
        _ => None,
    }
}

fn obey(console: &Console, parts: &Parts, command: &Command<'_>) {
    match command {
        Command::Rate(rate) => {
            parts.memory.set_rate(*rate);
            console.say(format_args!("reply cmd=rate ok=1 rate={rate}"));
        }
        Command::Disk(rate) => {
            if let Some(disk) = &parts.disk {
                disk.set_rate(*rate);
            }
            console.say(format_args!("reply cmd=disk ok={} rate={rate}", u8::from(parts.disk.is_some())));
        }
        Command::Beat(period) => {
            parts.beat.set_period_us(*period);
            console.say(format_args!("reply cmd=beat ok=1 period_us={period}"));
        }
        Command::Check => check(console, parts),
        Command::Stat => stat(console, parts),
        Command::Ping(word) => console.say(format_args!("reply cmd=ping ok=1 word={word:?}")),
        Command::Tpm(command) => {
            let outcome = match command {
                Tpm::Extend(byte) => tpm::extend(*byte),
                Tpm::Register => tpm::register(),
                Tpm::Keep(word) => tpm::keep(word).map(|()| (*word).to_owned()),
                Tpm::Kept => tpm::kept(),
            };
            match outcome {
                Ok(value) => console.say(format_args!("reply cmd=tpm ok=1 value={value:?}")),
                Err(error) => console.say(format_args!("reply cmd=tpm ok=0 error={:?}", error.to_string())),
            }
        }
        Command::PowerOff => end(console, "poweroff", RebootCommand::PowerOff),
        Command::Reboot => end(console, "reboot", RebootCommand::Restart),
    }
}

fn check(console: &Console, parts: &Parts) {
    let (pages, bad_pages) = parts.memory.check(console);
    let (blocks, bad_blocks) = parts.disk.as_ref().map_or((0, 0), |disk| disk.check(console));
    // What the threads found before counts as well: damage does not heal by being overwritten.
    let damaged = parts.memory.damaged() + parts.disk.as_ref().map_or(0, |disk| disk.damaged());
    console.say(format_args!(
        "reply cmd=check ok={} pages={pages} bad_pages={bad_pages} blocks={blocks} bad_blocks={bad_blocks} \
         damaged={damaged}",
        u8::from(damaged == 0),
    ));
}

fn stat(console: &Console, parts: &Parts) {
    console.say(format_args!(
        "reply cmd=stat ok=1 t={} real={} seq={} gap_us_max={} rate={} dirtied={} written={} damaged={}",
        clock::monotonic_us(),
        clock::real_us(),
        parts.beat.sequence(),
        parts.beat.gap_us_max(),
        parts.memory.rate(),
        parts.memory.dirtied(),
        parts.disk.as_ref().map_or(0, |disk| disk.written()),
        parts.memory.damaged() + parts.disk.as_ref().map_or(0, |disk| disk.damaged()),
    ));
}

fn end(console: &Console, reason: &str, command: RebootCommand) {
    console.say(format_args!("reply cmd={reason} ok=1"));
    console.say(format_args!("end reason={reason}"));
    console.drain();
    crate::power(command);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_parse_and_others_do_not() {
        assert_eq!(parse("rate 50"), Some(Command::Rate(50)));
        assert_eq!(parse("ping  hello"), Some(Command::Ping("hello")));
        assert_eq!(parse("check"), Some(Command::Check));
        assert_eq!(parse("tpm extend 7"), Some(Command::Tpm(Tpm::Extend(7))));
        assert_eq!(parse("tpm kept"), Some(Command::Tpm(Tpm::Kept)));
        for wrong in
            ["rate", "rate x", "rate -1", "check now", "", "format", "tpm", "tpm keep", "tpm extend x"]
        {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
