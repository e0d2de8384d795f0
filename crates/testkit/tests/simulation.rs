//! Random schedules over two simulated hosts that run the daemons' own machines; see `ferry_testkit::simulation`.
//!
//! A schedule that breaks the promise is saved, and the test says where; the program `simulation` tells it again.

// Tests speak, and fail, outside of the test functions too.
#![allow(clippy::print_stdout, clippy::panic, clippy::expect_used)]

use std::path::Path;

use ferry_testkit::simulation::{Broken, Failure, Rules, Story, Violation, run, run_many};

const SCHEDULES: u64 = 100_000;

#[test]
fn the_promise_is_kept_whatever_happens() {
    let tally = run_many(0..SCHEDULES, &Rules::default());
    println!("seeds 0 to {}: {:?}", SCHEDULES - 1, tally.ended);
    if let Some(failure) = &tally.failure {
        let Failure { violation, story } = failure.as_ref();
        let place = saved(story);
        panic!(
            "{} of {SCHEDULES} fail; seed {}: {violation:?} after {} events, saved in {}:\n{}",
            tally.failed,
            story.seed(),
            story.len(),
            place.display(),
            story.tell().0
        );
    }
    // It was no quiet time: guests have moved in spite of it, and faults have cost some of them.
    let ended = tally.ended;
    assert!(ended.faults > SCHEDULES && ended.moved > SCHEDULES && ended.lost > 0, "{ended:?}");
}

/// Without this rule some schedule must break the promise.
#[track_caller]
fn fails(broken: Broken) -> Box<Failure> {
    let rules = Rules { broken: Some(broken), ..Rules::default() };
    let failure = (0..SCHEDULES).find_map(|seed| run(seed, &rules).err());
    let failure = failure.unwrap_or_else(|| panic!("{broken:?}: nothing goes wrong without the rule"));
    println!("{broken:?}: {:?}, seed {}", failure.violation, failure.story.seed());
    failure
}

#[test]
fn a_cancelled_confirm_is_a_question() {
    fails(Broken::ConfirmObeyed);
}

#[test]
fn only_the_last_migration_is_recovered_over_what_qemu_does_now() {
    fails(Broken::AllRecovered);
}

#[test]
fn whom_to_ask_is_on_record() {
    fails(Broken::PeerUnrecorded);
}

#[test]
fn absence_is_no_answer() {
    fails(Broken::AbsenceDeclines);
}

#[test]
fn a_seed_decides_everything_and_a_story_happens_again() {
    let rules = Rules { broken: Some(Broken::ConfirmObeyed), ..Rules::default() };
    let failure = fails(Broken::ConfirmObeyed);
    let again = run(failure.story.seed(), &rules).expect_err("the same schedule");
    assert_eq!((again.violation, &again.story), (failure.violation, &failure.story));

    let story = Story::load(&saved(&failure.story)).expect("what was just saved");
    assert_eq!(story, failure.story);
    let (told, violation): (_, Option<Violation>) = story.tell();
    assert_eq!(violation, Some(failure.violation), "{told}");
}

/// Where a story now lies.
fn saved(story: &Story) -> std::path::PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("simulation-{}.jsonl", story.seed()));
    story.save(&place).expect("the test's own folder can be written");
    place
}
