//! What a plan predicts beside what the migration then takes: ten guests of different sizes that write at different speeds.
//!
//! Each is booted alone, planned (`ferry plan --json`), migrated at once (`ferry migrate`), and looked up in the source's
//! history. Copy time is QEMU's own, the pause is the source's reckoning. Two migrations before them are not counted: the
//! first between two hosts has no history to go by.
//!
//! Before each guest the machine rests. Where it is a virtual machine itself, memory that a guest has given up goes back to *its*
//! host after some seconds, and has to be fetched from there for the next guest. That takes several times as long as to use
//! again what was given up a moment ago, and few destinations have lost a guest of the same size a moment ago.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ferry_testkit::cache::Cache;
use ferry_testkit::ferryd::{self, Ferryd};
use ferry_testkit::guest::{Boot, Domain, Port};
use ferry_testkit::lab::{Host, Lab};
use ferry_testkit::tools::Tools;
use ferry_testkit::virsh::Virsh;
use ferry_testkit::{Error, Result, boot_sector, programs};
use serde_json::Value;

use crate::arena::{START_LIMIT, listen, work};
use crate::cli::{Guest, LinuxLoad};
use crate::machine;
use crate::report::table;

/// How long the tool may take.
const TOOL_LIMIT: Duration = Duration::from_secs(300);

/// How long the machine rests between two guests.
const REST: Duration = Duration::from_secs(15);

/// Of a predicted copy time, what it may be wrong, percent.
const WITHIN_PERCENT: u64 = 30;

/// Memory, what of it is filled with data, both MiB, and what is written, MiB/s.
const GUESTS: [(u64, u64, u64); 10] = [
    (256, 64, 0),
    (512, 128, 10),
    (512, 256, 0),
    (768, 512, 20),
    (1024, 256, 40),
    (1024, 768, 0),
    (1024, 768, 40),
    (1536, 1024, 0),
    (2048, 512, 80),
    (2048, 1024, 60),
];

/// Not counted.
const WARM_UP: [(u64, u64, u64); 2] = [(768, 384, 0), (1024, 512, 20)];

/// One guest's figures.
struct Run {
    guest: Guest,
    predicted: Value,
    copy_ms: u64,
    pause_ms: u64,
    load: f64,
}

/// Plans and migrates all of them. Gives the report.
///
/// # Errors
/// What failed; also when a guest did not come through whole.
pub(crate) fn run(markdown: bool, mut note: impl FnMut(&str)) -> Result<String> {
    let tools = Tools::distribution(&Cache::open()?)?;
    let lab = Lab::best(&[("f1", &tools), ("f2", &tools)])?;
    let shared = format!("shared_filesystems = [{:?}]\n", lab.shared().display().to_string());
    let options = ferryd::Options { config: Some(shared), ..ferryd::Options::default() };
    let daemons = [0, 1].map(|number| Ferryd::start(lab.host(number), options.clone()));
    let [source, destination] = daemons;
    let (source, destination) = (source?, destination?);
    let mut runs = Vec::new();
    for (number, figures) in WARM_UP.into_iter().chain(GUESTS).enumerate() {
        let run = one(&lab, [&source, &destination], &format!("foreseen-{number}"), figures)?;
        let counted = number >= WARM_UP.len();
        note(&format!("{}{}", if counted { "" } else { "warm-up: " }, run.row().join(", ")));
        if counted {
            runs.push(run);
        }
    }
    let near = runs.iter().filter(|run| run.is_near()).count();
    let heads = [
        "guest",
        "copy predicted, ms",
        "measured, ms",
        "off by, %",
        "pause predicted, ms",
        "measured, ms",
        "load",
    ];
    let rows: Vec<Vec<String>> = runs.iter().map(Run::row).collect();
    let mut report = table(&heads, &rows, markdown);
    let _ = write!(
        report,
        "\n{near} of {} copy times within ±{WITHIN_PERCENT} %; {}",
        runs.len(),
        machine::described()
    );
    Ok(report)
}

fn one(lab: &Lab, daemons: [&Ferryd; 2], name: &str, figures: (u64, u64, u64)) -> Result<Run> {
    let (memory_mib, touched_mib, dirty_mib_per_s) = figures;
    thread::sleep(REST);
    let guest = Guest { memory_mib, linux: Some(LinuxLoad { touched_mib, dirty_mib_per_s }) };
    let [source, destination] = daemons;
    let [from, to] = daemons.map(|daemon| Virsh::new(daemon.host(), daemon.uri()));
    let hosts: [&Arc<Host>; 2] = daemons.map(Ferryd::host);
    let (log, serial) = listen(lab, hosts, name)?;
    let disk = lab.shared().join(format!("{name}.img"));
    boot_sector::write_image(&disk)?;
    let grown = File::options().write(true).open(&disk).and_then(|file| file.set_len(8 << 20));
    grown.map_err(Error::io(format!("growing {disk:?}")))?;
    let boot = work(guest)?.map_or(Boot::Disk, |(image, work)| Boot::Linux(image, work));
    let xml = Domain::new(name, boot, Port::File(log))
        .memory_mib(memory_mib)
        .disk(&disk, "raw")
        .emulator(hosts[0].emulator())
        .write(lab.shared().join(format!("{name}.xml")))?;
    from.define_and_start(name, &xml)?;
    serial.wait_ready(START_LIMIT)?;

    let load = machine::load()?;
    let there = destination.tcp_uri();
    let predicted = tool(source, &["plan", name, &there, "--json"])?["prediction"].clone();
    tool(source, &["migrate", name, &there, "--json", "--quiet"])?;
    let history = tool(source, &["history", name, "--limit", "1", "--json"])?;
    let figures = &history["statistics"];
    let number = |name: &str| figures[name].as_u64().ok_or_else(|| unexpected(name, &history));
    let run = Run { guest, predicted, copy_ms: number("copy_ms")?, pause_ms: number("downtime_ms")?, load };
    serial.verdict().whole().map_err(|detail| Error::Unexpected { what: "the guest".into(), detail })?;
    to.ok(["destroy", name])?;
    from.ok(["undefine", name])?;
    Ok(run)
}

/// What the operator's tool says on a daemon's host, as JSON.
fn tool(daemon: &Ferryd, words: &[&str]) -> Result<Value> {
    let root = daemon.root().display().to_string();
    let words: Vec<&str> = ["-c", &root].into_iter().chain(words.iter().copied()).collect();
    let program: &Path = &programs::ferry()?;
    let said = daemon.host().run(program, words, TOOL_LIMIT)?.ok()?;
    serde_json::from_str(&said).map_err(|error| unexpected(&error.to_string(), &Value::from(said)))
}

fn unexpected(what: &str, said: &Value) -> Error {
    Error::Unexpected { what: what.to_owned(), detail: said.to_string() }
}

impl Run {
    fn predicted_ms(&self) -> u64 {
        self.predicted["copy_ms"]["expected"].as_u64().unwrap_or(0)
    }

    /// How much more, or less, than measured was predicted, percent.
    fn off_percent(&self) -> i64 {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX / 200);
        let (predicted, measured) = (signed(self.predicted_ms()), signed(self.copy_ms).max(1));
        (predicted - measured) * 100 / measured
    }

    fn is_near(&self) -> bool {
        self.off_percent().unsigned_abs() <= WITHIN_PERCENT
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.guest.to_string(),
            range(&self.predicted["copy_ms"]),
            self.copy_ms.to_string(),
            format!("{:+}", self.off_percent()),
            range(&self.predicted["pause_ms"]),
            self.pause_ms.to_string(),
            format!("{:.1}", self.load),
        ]
    }
}

/// `120 (90 … 200)`.
fn range(range: &Value) -> String {
    let high = range["high"].as_u64().map_or_else(|| "open".to_owned(), |high| high.to_string());
    format!("{} ({} … {high})", range["expected"], range["low"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prediction_is_near_within_its_bounds() {
        let guest = Guest { memory_mib: 256, linux: None };
        let run = |expected: u64, copy_ms| Run {
            guest,
            predicted: json!({
                "copy_ms": {"expected": expected, "low": 1, "high": 9},
                "pause_ms": {"expected": 5, "low": 1, "high": null},
            }),
            copy_ms,
            pause_ms: 6,
            load: 0.5,
        };
        assert!(run(130, 100).is_near() && run(70, 100).is_near());
        assert!(!run(131, 100).is_near() && !run(69, 100).is_near() && !run(5, 0).is_near());
        let row = run(120, 100).row();
        assert_eq!(row[1..], ["120 (1 … 9)", "100", "+20", "5 (1 … open)", "6", "0.5"]);
    }
}
