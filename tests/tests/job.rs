//! The job of a migration: its figures, its limits, and how it is given up.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use ferry_testkit::deadline::wait_until;
use ferry_testkit::serial::Serial;
use ferry_testkit::tree::Tree;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::events::Events;
use ferry_tests::{Pair, SOON};

/// The client drives both daemons, or the source daemon does.
const MODES: [&str; 2] = ["--verbose", "--p2p"];

const CANCELED: &str = "operation aborted: job 'migration out' canceled by client";

fn beating() -> (Pair, Serial) {
    let pair = Pair::new(&Pair::distribution()).expect("two hosts");
    let serial = pair.boot_sector("vm").expect("a guest that beats");
    (pair, serial)
}

/// virsh ends, and says that the job was canceled.
fn is_canceled(copy: &Tree) {
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 1");
    assert!(copy.log_tail(5).contains(CANCELED), "{}", copy.log_tail(5));
}

#[test]
fn an_abort_leaves_everything_as_it_was() {
    let (pair, serial) = beating();
    let virsh = pair.virsh(0);
    let ears = [0, 1].map(|number| Events::on(&pair, number).unwrap());
    for mode in MODES {
        let copy = pair.slow_copy("vm", &["--persistent", "--undefinesource", mode]).unwrap();
        virsh.ok(["domjobabort", "vm"]).unwrap();
        is_canceled(&copy);
        pair.stayed("vm", &serial);
        assert_eq!(virsh.field(&["dominfo", "vm"], "Persistent"), "yes");
        for words in [&["domjobinfo", "vm"][..], &["domjobinfo", "vm", "--completed"]] {
            assert!(virsh.field(words, "Job type").starts_with("None"), "{words:?}");
        }
        virsh.refused(&["domjobabort", "vm"], "no job is active on the domain");
    }
    assert_eq!(ears[0].lifecycle("vm"), Vec::<String>::new(), "the guest noticed nothing");
    ears[1].wait_lifecycle("vm", "Stopped Failed").unwrap();
    assert_eq!(ears[1].lifecycle("vm"), ["Started Migrated", "Stopped Failed"].repeat(2));
    for ear in &ears {
        assert!(ear.named("job-completed", "vm").is_empty(), "{}", ear.text());
    }
    // And it may go all the same.
    virsh.ok(["migrate", "vm", &pair.uri(1), "--live", "--unsafe"]).unwrap();
    pair.moved(0, "vm", "running (migrated)", &serial);
}

/// From the first moment that there is a job: the destination may still be making ready.
#[test]
fn an_abort_at_any_moment_ends_in_one_of_two_ways() {
    let (pair, serial) = beating();
    let (virsh, uri) = (pair.virsh(0), pair.uri(1));
    virsh.ok(["migrate-setmaxdowntime", "vm", "1"]).unwrap();
    for round in 0..8 {
        let words = ["migrate", "vm", &uri, "--live", "--unsafe", "--bandwidth", "1", MODES[round % 2]];
        let copy = virsh.start(words, "copy").unwrap();
        // The first abort that finds a job counts.
        wait_until("a job to abort", SOON, || virsh.ok(["domjobabort", "vm"]).is_ok()).unwrap();
        is_canceled(&copy);
        pair.stayed("vm", &serial);
    }
}

#[test]
fn figures_while_it_runs_and_afterwards() {
    let (pair, serial) = beating();
    let (virsh, there) = (pair.virsh(0), pair.virsh(1));
    let copy = pair.slow_copy("vm", &["--p2p"]).unwrap();
    let info = |virsh: &ferry_testkit::virsh::Virsh, key| virsh.field(&["domjobinfo", "vm"], key);
    assert!(info(&virsh, "Job type").starts_with("Unbounded"));
    assert_eq!(info(&virsh, "Operation"), "Outgoing migration");
    for key in ["Time elapsed", "Data processed", "Data remaining", "Memory total", "Iteration", "Setup time"]
    {
        assert!(!info(&virsh, key).is_empty(), "{key}");
    }
    there.refused(&["domjobinfo", "vm"], "migration statistics are available only on the source host");
    pair.let_go("vm").unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
    pair.moved(0, "vm", "running (migrated)", &serial);

    // Once on each side, unless it is to be kept.
    virsh.refused(&["domjobinfo", "vm"], "domain is not running");
    for (virsh, operation) in [(&virsh, "Outgoing migration"), (&there, "Incoming migration")] {
        let kept = ["domjobinfo", "vm", "--completed", "--keep-completed"];
        for words in [&kept[..], &kept[..3]] {
            assert!(virsh.field(words, "Job type").starts_with("Completed"), "{words:?}");
            if words.len() == kept.len() {
                assert_eq!(virsh.field(words, "Operation"), operation);
            }
        }
        assert!(virsh.field(&kept[..3], "Job type").starts_with("None"));
    }
}

/// Both sides name the pause that the guest's own lines show.
#[test]
fn the_pause_that_is_told_is_the_one_that_was() {
    let (pair, serial) = beating();
    let mark = serial.mark();
    // A last pass of a quarter of a second: longer than anything else in it.
    let copy = pair.slow_copy("vm", &[]).unwrap();
    pair.let_go("vm").unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
    pair.moved(0, "vm", "running (migrated)", &serial);
    let told = [0, 1].map(|number| {
        let words = ["domjobinfo", "vm", "--completed"];
        let text = pair.virsh(number).field(&words, "Total downtime");
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    });
    if !pair.host(0).is_isolated() {
        return;
    }
    let verdict = serial.verdict_since(mark);
    let [pause] = &verdict.moves[..] else { panic!("one move: {verdict:?}") };
    let seen = u64::try_from(pause.length.as_millis()).unwrap();
    for told in told {
        assert!(told > 0 && told <= seen + 50, "told {told} ms, seen {seen} ms");
        assert!(told + 150 >= seen, "told {told} ms, seen {seen} ms");
    }
}

#[test]
fn limits_are_kept_and_change_a_copy_that_runs() {
    let (pair, serial) = beating();
    let virsh = pair.virsh(0);
    assert_eq!(virsh.ok(["migrate-getspeed", "vm"]).unwrap(), "8796093022207");
    assert_eq!(virsh.ok(["migrate-getmaxdowntime", "vm"]).unwrap(), "300");
    virsh.ok(["migrate-setspeed", "vm", "1"]).unwrap();
    assert_eq!(virsh.ok(["migrate-getspeed", "vm"]).unwrap(), "1");
    virsh.refused(
        &["migrate-setspeed", "vm", "8796093022208"],
        "numerical overflow: bandwidth must be less than 8796093022208",
    );
    virsh.refused(&["migrate-setmaxdowntime", "vm", "0"], "migrate: Invalid downtime");
    virsh.ok(["migrate-setmaxdowntime", "vm", "1"]).unwrap();
    assert_eq!(virsh.ok(["migrate-getmaxdowntime", "vm"]).unwrap(), "1");

    // The stored speed holds the copy back without another word.
    let uri = pair.uri(1);
    let copy = virsh.start(["migrate", "vm", &uri, "--live", "--unsafe"], "copy").unwrap();
    ferry_tests::copying::until_copying(&virsh, "vm").unwrap();
    let speed = virsh.field(&["domjobinfo", "vm"], "Data remaining");
    assert!(!speed.starts_with("0.000"), "{speed}");
    virsh.ok(["migrate-setspeed", "vm", "1000"]).unwrap();
    assert_eq!(copy.wait_end(SOON).unwrap(), "exit code 0", "{}", copy.log_tail(5));
    pair.moved(0, "vm", "running (migrated)", &serial);

    for words in [&["migrate-setmaxdowntime", "vm", "3"][..], &["migrate-getmaxdowntime", "vm"]] {
        virsh.refused(words, "domain is not running");
    }
    virsh.ok(["migrate-setspeed", "vm", "33"]).unwrap();
    assert_eq!(virsh.ok(["migrate-getspeed", "vm"]).unwrap(), "33");
}

#[test]
fn the_destination_cannot_abort_and_a_second_migration_cannot_begin() {
    let (pair, serial) = beating();
    for mode in MODES {
        let copy = pair.slow_copy("vm", &[mode]).unwrap();
        pair.virsh(1).refused(&["domjobabort", "vm"], "cannot acquire state change lock");
        for second in MODES {
            pair.virsh(0).refused(
                &["migrate", "vm", &pair.uri(1), "--live", "--unsafe", second],
                "another migration job is already running for domain 'vm'",
            );
        }
        assert_eq!(copy.ended(), None, "the first goes on");
        pair.virsh(0).ok(["domjobabort", "vm"]).unwrap();
        is_canceled(&copy);
        pair.stayed("vm", &serial);
    }
}
