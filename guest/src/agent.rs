//! A guest agent, as QEMU's own would answer on its channel: enough of it for a manager to be tested against.
//!
//! It finds the virtio-serial port by the name that the machine gave it, and serves it for as long as the guest lives,
//! whoever comes and goes at the other end. What it says of disks and processors is so; its one file system and its one
//! user are only for show.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::system::RebootCommand;
use rustix::time::{ClockId, Timespec, clock_settime};
use serde_json::{Value, json};

use crate::clock;
use crate::console::Console;

/// The port's name in the machine.
const PORT: &str = "org.qemu.guest_agent.0";

/// Before a message: forget what came before.
const DELIMITER: u8 = 0xff;

/// Who may have a password and keys.
const USER: &str = "ferry";

/// Where the kernel shows processors and disks.
const CPUS: &str = "/sys/devices/system/cpu";
const DISKS: &str = "/sys/block";

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
            if let Some(end) = agent.end.take() {
                crate::power(end);
            }
        }
    }
}

/// What the agent remembers from one command to the next.
#[derive(Debug, Default)]
struct Agent {
    frozen: bool,
    /// As it was sent; [`FERRY_PASSWORD`] shows it.
    password: Value,
    keys: Vec<String>,
    /// The guest is to end so.
    end: Option<RebootCommand>,
}

/// A command of this agent alone: what the last password was, so that a test can see what arrived.
const FERRY_PASSWORD: &str = "ferry-password";

/// Why a command is not obeyed.
#[derive(Debug)]
enum Refusal {
    Unknown,
    Said(String),
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
        if name == "guest-shutdown" {
            // Nobody lives to answer.
            self.end = Some(match command["arguments"]["mode"].as_str() {
                Some("reboot") => RebootCommand::Restart,
                _ => RebootCommand::PowerOff,
            });
            return None;
        }
        let outcome = match self.obey(name, &command["arguments"]) {
            Ok(value) => json!({ "return": value }),
            Err(Refusal::Unknown) => {
                json!({"error": {"class": "CommandNotFound", "desc": format!("The command {name} has not been found")}})
            }
            Err(Refusal::Said(why)) => json!({"error": {"class": "GenericError", "desc": why}}),
        };
        answer.extend(outcome.to_string().bytes());
        answer.push(b'\n');
        Some(answer)
    }

    fn obey(&mut self, name: &str, arguments: &Value) -> Result<Value, Refusal> {
        const SECOND_NS: i64 = 1_000_000_000;
        Ok(match name {
            "guest-sync" | "guest-sync-delimited" => arguments["id"].clone(),
            "guest-ping" => json!({}),
            "guest-info" => json!({"version": env!("CARGO_PKG_VERSION"), "supported_commands": []}),
            "guest-get-time" => json!(clock::real_us() * 1000),
            "guest-set-time" => {
                // Without a time it is the hardware clock's, which this guest's clock never left.
                if let Some(ns) = arguments["time"].as_i64() {
                    let time = Timespec { tv_sec: ns / SECOND_NS, tv_nsec: ns % SECOND_NS };
                    clock_settime(ClockId::Realtime, time)
                        .map_err(|errno| Refusal::Said(errno.to_string()))?;
                }
                json!({})
            }
            "guest-fsfreeze-freeze" | "guest-fsfreeze-freeze-list" => {
                self.frozen = true;
                json!(1)
            }
            "guest-fsfreeze-thaw" => json!(u8::from(std::mem::take(&mut self.frozen))),
            "guest-fsfreeze-status" => json!(if self.frozen { "frozen" } else { "thawed" }),
            "guest-fstrim" => {
                json!({"paths": [{"path": "/", "trimmed": 0, "minimum": arguments["minimum"]}]})
            }
            "guest-get-host-name" => json!({"host-name": "ferry-guest"}),
            "guest-get-osinfo" => {
                json!({"id": "ferry-guest", "name": "Ferry's test guest", "machine": std::env::consts::ARCH})
            }
            "guest-get-timezone" => json!({"zone": "UTC", "offset": 0}),
            "guest-get-users" => json!([{"user": USER, "login-time": 1.5}]),
            "guest-get-disks" => json!(disks()),
            "guest-get-fsinfo" => {
                let on_virtio = |disk: &&Value| disk["address"]["bus-type"] == "virtio";
                let disks = disks();
                let below: Vec<&Value> =
                    disks.iter().find(on_virtio).map(|disk| &disk["address"]).into_iter().collect();
                json!([{"name": "root", "mountpoint": "/", "type": "ramfs", "disk": below}])
            }
            "guest-get-vcpus" => json!(vcpus()),
            "guest-set-vcpus" => json!(set_vcpus(&arguments["vcpus"])?),
            "guest-set-user-password" => {
                known(arguments)?;
                self.password = arguments.clone();
                json!({})
            }
            FERRY_PASSWORD => self.password.clone(),
            "guest-ssh-get-authorized-keys" => {
                known(arguments)?;
                json!({ "keys": self.keys })
            }
            "guest-ssh-add-authorized-keys" => {
                known(arguments)?;
                if arguments["reset"] == true {
                    self.keys.clear();
                }
                let new: Vec<String> =
                    texts(&arguments["keys"]).filter(|key| !self.keys.contains(key)).collect();
                self.keys.extend(new);
                json!({})
            }
            "guest-ssh-remove-authorized-keys" => {
                known(arguments)?;
                let gone: Vec<String> = texts(&arguments["keys"]).collect();
                self.keys.retain(|key| !gone.contains(key));
                json!({})
            }
            "guest-network-get-interfaces" => json!([{
                "name": "lo",
                "hardware-address": "00:00:00:00:00:00",
                "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]
            }]),
            _ => return Err(Refusal::Unknown),
        })
    }
}

/// Whether the command is about the one user that there is.
fn known(arguments: &Value) -> Result<(), Refusal> {
    let name = arguments["username"].as_str().unwrap_or_default();
    if name == USER { Ok(()) } else { Err(Refusal::Said(format!("no user {name:?}"))) }
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned))
}

/// The processors. One without a switch is in use.
fn vcpus() -> Vec<Value> {
    let names = fs::read_dir(CPUS).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_prefix("cpu")?.parse::<u64>().ok());
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    let one = |number: &u64| {
        let switch = fs::read_to_string(switch_of(*number));
        let online = switch.as_ref().map_or(true, |text| text.trim() == "1");
        json!({"logical-id": number, "online": online, "can-offline": switch.is_ok()})
    };
    numbers.iter().map(one).collect()
}

/// Switches processors on and off; how many it came to.
fn set_vcpus(wanted: &Value) -> Result<u64, Refusal> {
    let mut done = 0;
    for cpu in wanted.as_array().into_iter().flatten() {
        let number = cpu["logical-id"].as_u64().unwrap_or(u64::MAX);
        let value = if cpu["online"] == true { "1" } else { "0" };
        fs::write(switch_of(number), value)
            .map_err(|error| Refusal::Said(format!("processor {number}: {error}")))?;
        done += 1;
    }
    Ok(done)
}

fn switch_of(number: u64) -> PathBuf {
    Path::new(CPUS).join(format!("cpu{number}/online"))
}

/// The disks behind PCI, and where each sits: on a bus with more than one, it is the first.
fn disks() -> Vec<Value> {
    let entries = fs::read_dir(DISKS).into_iter().flatten().flatten();
    let mut disks: Vec<Value> = entries
        .filter_map(|entry| {
            let (name, device) = (entry.file_name().into_string().ok()?, fs::read_link(entry.path()).ok()?);
            let place = pci_address(device.to_str()?)?;
            let bus = if name.starts_with("vd") { "virtio" } else { "scsi" };
            let address = json!({"bus-type": bus, "bus": 0, "target": 0, "unit": 0, "pci-controller": place});
            Some(json!({"name": format!("/dev/{name}"), "partition": false, "address": address}))
        })
        .collect();
    disks.sort_by_key(|disk| disk["name"].to_string());
    disks
}

/// The last PCI address on a device's path: `…/0000:01:00.0/virtio1/block/vda`.
fn pci_address(device: &str) -> Option<Value> {
    device.rsplit('/').find_map(|part| {
        let (place, function) = part.split_once('.')?;
        let number = |digits: Option<&str>| u32::from_str_radix(digits?, 16).ok();
        let mut place = place.split(':');
        let (domain, bus, slot) = (number(place.next())?, number(place.next())?, number(place.next())?);
        Some(json!({"domain": domain, "bus": bus, "slot": slot, "function": number(Some(function))?}))
    })
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

    #[test]
    fn an_end_is_not_answered() {
        let mut agent = Agent::default();
        assert_eq!(agent.hear(br#"{"execute":"guest-shutdown","arguments":{"mode":"reboot"}}"#), None);
        assert!(matches!(agent.end, Some(RebootCommand::Restart)));
    }

    #[test]
    fn keys_and_a_password_belong_to_a_user() {
        let mut agent = Agent::default();
        let add = br#"{"execute":"guest-ssh-add-authorized-keys","arguments":{"username":"ferry","keys":["a","b"]}}"#;
        assert_eq!(hear(&mut agent, add), "{\"return\":{}}\n");
        let remove = br#"{"execute":"guest-ssh-remove-authorized-keys","arguments":{"username":"ferry","keys":["a"]}}"#;
        hear(&mut agent, remove);
        let ask = br#"{"execute":"guest-ssh-get-authorized-keys","arguments":{"username":"ferry"}}"#;
        assert_eq!(hear(&mut agent, ask), "{\"return\":{\"keys\":[\"b\"]}}\n");
        let other = br#"{"execute":"guest-set-user-password","arguments":{"username":"other"}}"#;
        assert!(hear(&mut agent, other).contains("no user"));
    }

    #[test]
    fn a_disk_is_where_its_path_says() {
        let path = "../devices/pci0000:00/0000:00:02.1/0000:03:00.0/virtio1/block/vda";
        assert_eq!(pci_address(path).unwrap(), json!({"domain": 0, "bus": 3, "slot": 0, "function": 0}));
        assert_eq!(pci_address("../devices/virtual/block/loop0"), None);
    }
}
