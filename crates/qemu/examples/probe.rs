//! Probes a QEMU binary and prints its capabilities as JSON, the form that `tests/data` holds.
//!
//! ```text
//! cargo run -p ferry-qemu --example probe -- /usr/bin/qemu-system-x86_64 > capabilities.json
//! ```
//!
//! For a binary that was unpacked elsewhere, `QEMU_MODULE_DIR` names its modules: with those of another build on
//! the way, devices are missing. The crate itself starts no process; this program shows how one is driven.

use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::probe::Probe;
use ferry_qmp::commands::run::Quit;
use ferry_qmp::{Incoming, Session};
use std::error::Error;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let binary = std::env::args().nth(1).ok_or("usage: probe QEMU-BINARY")?;
    let start = Instant::now();
    let capabilities = capabilities(&binary)?;
    let accelerators: Vec<_> =
        capabilities.accelerators.keys().map(|accelerator| accelerator.as_str()).collect();
    eprintln!("{:?} for accelerators {}", start.elapsed(), accelerators.join(" and "));
    print(&capabilities)
}

/// What the binary can do, with the emulator and, where QEMU starts with it, with KVM.
pub(crate) fn capabilities(binary: &str) -> Result<Capabilities, Box<dyn Error>> {
    let mut capabilities = ask(binary, Probe::of_binary())?.finish()?;
    if let Ok(probe) = ask(binary, Probe::of_kvm()) {
        probe.finish_into(&mut capabilities)?;
    }
    Ok(capabilities)
}

/// Runs one probe to its end. QEMU has ended when this returns.
fn ask(binary: &str, mut probe: Probe) -> Result<Probe, Box<dyn Error>> {
    let mut qemu = Command::new(binary)
        .args(probe.arguments("stdio"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let outcome = converse(&mut qemu, &mut probe);
    if outcome.is_err() {
        qemu.kill()?;
    }
    qemu.wait()?;
    outcome.map(|()| probe)
}

/// Asks everything at once, `quit` last, and reads until QEMU closes its end. Ours stays open that long: QEMU
/// drops requests that it has not begun when its client leaves.
fn converse(qemu: &mut Child, probe: &mut Probe) -> Result<(), Box<dyn Error>> {
    let (mut to, mut from) = (qemu.stdin.take().ok_or("no pipe")?, qemu.stdout.take().ok_or("no pipe")?);
    let mut session = Session::new(0);
    for question in probe.questions() {
        session.submit(question.request()?);
    }
    let quit = session.execute(&Quit)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        session.handle_bytes(&buffer[..count])?;
        while let Some(output) = session.poll_output() {
            to.write_all(&output.bytes)?;
        }
        while let Some(incoming) = session.poll_event() {
            match incoming {
                Incoming::Reply(reply) if reply.id != quit => probe.handle_reply(&reply)?,
                _ => {}
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn print(capabilities: &Capabilities) -> Result<(), Box<dyn Error>> {
    println!("{}", capabilities.to_json()?);
    Ok(())
}
