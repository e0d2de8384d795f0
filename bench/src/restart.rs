//! How soon a restarted daemon has found its guests.
//!
//! Many small guests, one in ten paused, all idle; the daemon is killed as by a crash and started again. Time counts from
//! the start of the new daemon until one `virsh list` shows every guest in the state that it was in.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use ferry_testkit::cache::Cache;
use ferry_testkit::ferryd::{self, Ferryd};
use ferry_testkit::guest::{Boot, Domain, Port};
use ferry_testkit::lab::Lab;
use ferry_testkit::tools::Tools;
use ferry_testkit::virsh::Virsh;
use ferry_testkit::{Error, Result, boot_sector};

use crate::machine::{self, Disk};
use crate::statistics::Summary;

/// How long the daemon may take: far more than it should.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts `guests` guests, and kills and restarts their daemon `rounds` times. Gives the report.
///
/// # Errors
/// What failed; also when a guest was not found again, or its QEMU did not live on.
pub(crate) fn run(guests: u32, rounds: u32, mut note: impl FnMut(&str)) -> Result<String> {
    let lab = Lab::best(&[("h1", &Tools::distribution(&Cache::open()?)?)])?;
    let mut daemon = Ferryd::start(lab.host(0), ferryd::Options::default())?;
    let virsh = Virsh::new(lab.host(0), daemon.uri());
    for number in 0..guests {
        let image = lab.shared().join(format!("idle-{number}.img"));
        fs::write(&image, boot_sector::idle_image()).map_err(Error::io("a guest's disk"))?;
        let log = lab.shared().join(format!("idle-{number}.log"));
        let name = name(number);
        let domain = Domain::new(&name, Boot::Disk, Port::File(log)).disk(&image, "raw");
        virsh.define_and_start(&name, &domain.write(lab.shared().join("idle.xml"))?)?;
        if is_paused(number) {
            virsh.ok(["suspend", &name])?;
        }
    }
    let fdatasync = Disk::open(lab.shared())?.sync()?;
    let mut took = Vec::new();
    for round in 1..=rounds {
        daemon.kill()?;
        let load = machine::load()?;
        let began = Instant::now();
        daemon.start_again()?;
        let accepting = began.elapsed();
        let found = loop {
            let listed = virsh.ok(["list", "--all"])?;
            if is_right(&listed, guests) {
                break began.elapsed();
            }
            if began.elapsed() > LIMIT {
                return Err(Error::Unexpected { what: "the list after the restart".into(), detail: listed });
            }
        };
        let alive = daemon.qemus().len();
        if alive != usize::try_from(guests).unwrap_or(usize::MAX) {
            let detail = format!("{alive} QEMUs live on of {guests}");
            return Err(Error::Unexpected { what: "the guests after the restart".into(), detail });
        }
        note(&format!(
            "restart {round}: accepts after {} ms, all right after {} ms, load {load:.2}",
            accepting.as_millis(),
            found.as_millis(),
        ));
        took.push(found.as_secs_f64() * 1000.0);
    }
    let mut report = String::new();
    let _ = writeln!(report, "Restart with {guests} guests, {rounds} times; {}", machine::described());
    let _ = writeln!(report, "fdatasync {:.2} ms", fdatasync.as_secs_f64() * 1000.0);
    if let Some(took) = Summary::of(took) {
        let _ = writeln!(report, "every guest found, its state right, after ms: {}", took.shown(0));
    }
    Ok(report)
}

fn name(number: u32) -> String {
    format!("idle-{number}")
}

fn is_paused(number: u32) -> bool {
    number.is_multiple_of(10)
}

/// Whether virsh's table has every guest, in its state.
fn is_right(listed: &str, guests: u32) -> bool {
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    (0..guests).all(|number| {
        let (name, state) = (name(number), if is_paused(number) { "paused" } else { "running" });
        rows.iter().any(|row| row.get(1..) == Some(&[name.as_str(), state]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_in_its_state_is_right_and_nothing_else() {
        let listed = " Id   Name     State\n---\n 1    idle-0   paused\n 2    idle-1   running\n";
        assert!(is_right(listed, 2));
        assert!(!is_right(listed, 3));
        assert!(!is_right(&listed.replace("paused", "running"), 2));
        assert!(!is_right(&listed.replace(" 2    idle-1   running", " -    idle-1   shut off"), 2));
    }
}
