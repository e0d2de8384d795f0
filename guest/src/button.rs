//! The ACPI power button: a thread per input device waits for the power key and ends the guest, so that a shutdown
//! asked for from outside works.

use std::fs::{self, File};
use std::io::Read;
use std::sync::Arc;
use std::thread;

use rustix::system::RebootCommand;

use crate::console::Console;

/// `struct input_event` on 64 bits: a 16-byte time, then type, code and value.
const EVENT_SIZE: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// Starts the threads; without an input device it says so.
pub(crate) fn start(console: &Arc<Console>) {
    let devices = fs::read_dir("/dev/input").into_iter().flatten().flatten();
    let events = devices.filter(|device| device.file_name().to_string_lossy().starts_with("event"));
    let mut listening = 0;
    for device in events {
        let Ok(file) = File::open(device.path()) else { continue };
        let console = Arc::clone(console);
        let thread = thread::Builder::new().name("button".into()).spawn(move || wait(&console, file));
        listening += usize::from(thread.is_ok());
    }
    if listening == 0 {
        console.say(format_args!("note button=none"));
    }
}

fn wait(console: &Console, mut device: File) {
    let mut event = [0; EVENT_SIZE];
    while device.read_exact(&mut event).is_ok() {
        if is_power_key(&event) {
            console.say(format_args!("end reason=button"));
            console.drain();
            crate::power(RebootCommand::PowerOff);
        }
    }
}

fn is_power_key(event: &[u8; EVENT_SIZE]) -> bool {
    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    // The value's low half is enough: 1 is pressed, 0 released, 2 repeated.
    half(16) == EV_KEY && half(18) == KEY_POWER && half(20) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_power_key_going_down_counts() {
        let mut event = [0; EVENT_SIZE];
        event[16..18].copy_from_slice(&EV_KEY.to_ne_bytes());
        event[18..20].copy_from_slice(&KEY_POWER.to_ne_bytes());
        assert!(!is_power_key(&event));
        event[20] = 1;
        assert!(is_power_key(&event));
        event[18] = 30;
        assert!(!is_power_key(&event));
    }
}
