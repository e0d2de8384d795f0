//! The bench runs to its end and reports on everyone who ran. What it measured is not looked at: tests do not depend on
//! the clock.

use std::process::Command;

#[test]
fn one_round_of_a_tiny_guest_gives_a_report() {
    let output = Command::new(env!("CARGO_BIN_EXE_ferry-bench"))
        .args([
            "--rounds",
            "1",
            "--warm-up",
            "0",
            "--memory-mib",
            "32",
            "--only",
            "ferry,floor",
            "--markdown",
        ])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    for row in ["| Ferry, direct ", "| floor "] {
        let line = report.lines().find(|line| line.starts_with(row));
        let cells: Vec<&str> = line.unwrap_or_else(|| panic!("no {row:?} in {report}")).split('|').collect();
        // Everyone who ran has figures; only how long it took to run after loading is not known of the floor.
        assert!(cells[2..10].iter().all(|cell| cell.contains('…')), "{report}");
    }
    assert!(report.contains("Guest: 32 MiB"), "{report}");
}
