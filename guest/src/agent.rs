//! A guest agent, as QEMU's own would answer on its channel: enough of it for a manager to be tested against.
//!
//! It finds the virtio-serial port by the name that the machine gave it, and serves it for as long as the guest lives,
//! whoever comes and goes at the other end. File systems are not frozen, only counted as such.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rustix::time::{ClockId, Timespec, clock_settime};
use serde_json::{Value, json};

use crate::clock;
use crate::console::Console;

/// The port's name in the machine.
const PORT: &str = "org.qemu.guest_agent.0";

/// Before a message: forget what came before.
const DELIMITER: u8 = 0xff;

/// Microseconds between two looks at a port that nobody has open at the other end.
const PATIENCE_US: u64 = 20_000;

/// Starts the agent, when the machine has a port for it.
pub(crate) fn start(console: &Arc<Console>) {
    let Some(path) = port() else { return };
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    let served =
        opened.and_then(|port| thread::Builder::new().name("agent".into()).spawn(move || serve(port)));
    if let Err(error) = served {
        console.say(format_args!("note agent={:?}", error.to_string()));
    }
}

fn port() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let named = ports
        .filter(|port| fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT));
    named.map(|port| PathBuf::from("/dev").join(port.file_name())).next()
}

fn serve(mut port: File) -> io::Result<()> {
    let mut agent = Agent::default();
    let (mut received, mut buffer) = (Vec::new(), vec![0; 4096]);
    loop {
        let count = port.read(&mut buffer)?;
        if count == 0 {
            clock::sleep_until_us(clock::monotonic_us() + PATIENCE_US);
            continue;
        }
        received.extend_from_slice(&buffer[..count]);
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let rest = received.split_off(end + 1);
            let line = std::mem::replace(&mut received, rest);
            if let Some(answer) = agent.hear(&line) {
                port.write_all(&answer)?;
            }
        }
    }
}

/// What the agent remembers from one command to the next.
#[derive(Debug, Default)]
struct Agent {
    frozen: bool,
}

impl Agent {
    /// The answer to a line.
    fn hear(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let message = line.rsplit(|byte| *byte == DELIMITER).next().unwrap_or_default();
        if message.trim_ascii().is_empty() {
            return None;
        }
        let command: Value = serde_json::from_slice(message).unwrap_or_default();
        let name = command["execute"].as_str().unwrap_or_default();
        let mut answer = Vec::new();
        if name == "guest-sync-delimited" {
            answer.push(DELIMITER);
        }
        let outcome = match self.obey(name, &command["arguments"]) {
            Some(value) => json!({ "return": value }),
            None => {
                json!({"error": {"class": "CommandNotFound", "desc": format!("The command {name} has not been found")}})
            }
        };
        answer.extend(outcome.to_string().bytes());
        answer.push(b'\n');
        Some(answer)
    }

    fn obey(&mut self, name: &str, arguments: &Value) -> Option<Value> {
        const SECOND_NS: i64 = 1_000_000_000;
        Some(match name {
            "guest-sync" | "guest-sync-delimited" => arguments["id"].clone(),
            "guest-ping" => json!({}),
            "guest-info" => json!({"version": env!("CARGO_PKG_VERSION"), "supported_commands": []}),
            "guest-get-time" => json!(clock::real_us() * 1000),
            "guest-set-time" => {
                // Without a time it is the hardware clock's, which this guest's clock never left.
                if let Some(ns) = arguments["time"].as_i64() {
                    let time = Timespec { tv_sec: ns / SECOND_NS, tv_nsec: ns % SECOND_NS };
                    clock_settime(ClockId::Realtime, time).ok()?;
                }
                json!({})
            }
            "guest-fsfreeze-freeze" => {
                self.frozen = true;
                json!(1)
            }
            "guest-fsfreeze-thaw" => json!(u8::from(std::mem::take(&mut self.frozen))),
            "guest-fsfreeze-status" => json!(if self.frozen { "frozen" } else { "thawed" }),
            "guest-get-host-name" => json!({"host-name": "ferry-guest"}),
            "guest-get-osinfo" => {
                json!({"id": "ferry-guest", "name": "Ferry's test guest", "machine": std::env::consts::ARCH})
            }
            "guest-get-vcpus" => json!([{"logical-id": 0, "online": true, "can-offline": false}]),
            "guest-network-get-interfaces" => json!([{
                "name": "lo",
                "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]
            }]),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(agent: &mut Agent, line: &[u8]) -> String {
        String::from_utf8_lossy(&agent.hear(line).unwrap()).into_owned()
    }

    #[test]
    fn a_sync_passes_over_what_came_before_and_marks_its_answer() {
        let mut agent = Agent::default();
        let line = b"{\"exec\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":7}}\n";
        let answer = agent.hear(line).unwrap();
        assert_eq!(answer[0], DELIMITER);
        assert_eq!(&answer[1..], b"{\"return\":7}\n");
        assert_eq!(agent.hear(b"\xff\n"), None);
    }

    #[test]
    fn commands_have_answers_and_unknown_ones_errors() {
        let mut agent = Agent::default();
        assert_eq!(hear(&mut agent, b"{\"execute\":\"guest-ping\"}\n"), "{\"return\":{}}\n");
        assert_eq!(hear(&mut agent, b"{\"execute\":\"guest-fsfreeze-freeze\"}\n"), "{\"return\":1}\n");
        assert!(hear(&mut agent, b"{\"execute\":\"guest-fsfreeze-status\"}\n").contains("frozen"));
        assert_eq!(hear(&mut agent, b"{\"execute\":\"guest-fsfreeze-thaw\"}\n"), "{\"return\":1}\n");
        assert!(hear(&mut agent, b"{\"execute\":\"guest-exec\"}\n").contains("CommandNotFound"));
        assert!(hear(&mut agent, b"nonsense\n").contains("CommandNotFound"));
    }
}
