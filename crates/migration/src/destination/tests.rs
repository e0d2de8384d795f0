//! The roads of the destination, step by step; the explorations in `tests/handover` have the crossings.

use super::Effect as E;
use super::Input as I;
use super::{Answer, Call, Destination, Ended, Fate, Refusal, Report};
use crate::journal::DestinationRecord as R;
use crate::message::Word;
use crate::plan::BestEffort;
use crate::{Coordination, Doubt, Evidence, MigrationId, Peer, Plan, Standing, Why, Written};

const PLAN: Plan = Plan {
    coordination: Coordination::Direct,
    live: true,
    postcopy: false,
    leave_paused: false,
    was_running: true,
};
const MUTE: Peer = Peer::Mute(BestEffort::Stock);
const YES: I = I::Journaled(Written::Yes);
const NO: I = I::Journaled(Written::No);

/// A destination that has been through these inputs, and what it did on the last one.
fn after(plan: Plan, peer: Peer, inputs: &[I]) -> (Destination, Vec<E>) {
    let start = Destination::prepare(MigrationId::from_bytes([1; 16]), plan, peer);
    inputs.iter().fold(start, |(destination, _), input| {
        let phase = destination.phase_name();
        destination.step(*input).unwrap_or_else(|denied| panic!("{input:?} when {phase}: {denied}"))
    })
}

fn incoming() -> Vec<I> {
    vec![YES, I::Qemu(Report::Listening)]
}

fn complete() -> Vec<I> {
    [incoming(), vec![I::Qemu(Report::Complete)]].concat()
}

fn starting() -> Vec<I> {
    [complete(), vec![I::Told(Word::Granted), YES]].concat()
}

#[track_caller]
fn did(inputs: &[I], expected: &[E]) {
    assert_eq!(after(PLAN, Peer::Ferry, inputs).1, expected, "{inputs:?}");
}

const FINISH: I = I::Finish { cancelled: false, evidence: Evidence::Granted };
const CANCEL: I = I::Finish { cancelled: true, evidence: Evidence::None };

#[test]
fn the_plain_road() {
    let started = Destination::prepare(MigrationId::from_bytes([1; 16]), PLAN, Peer::Ferry).1;
    assert_eq!(started, [E::Journal(R::Prepared)]);
    did(&[YES], &[E::Launch]);
    did(&incoming(), &[E::Answer(Answer::Ok(Call::Prepare))]);
    did(&complete(), &[]);
    did(&[complete(), vec![FINISH]].concat(), &[E::Journal(R::Starting)]);
    did(&starting(), &[E::StartCpus]);
    let resumed = [starting(), vec![I::Qemu(Report::Resumed)]].concat();
    did(&resumed, &[E::Journal(R::Running)]);
    let (destination, effects) = after(PLAN, Peer::Ferry, &[resumed, vec![YES]].concat());
    assert_eq!(effects[..2], [E::Tell(Word::Running), E::Answer(Answer::Finish(Fate::Arrived))]);
    assert_eq!(effects.last(), Some(&E::Finished(Ended::Arrived)));
    assert_eq!(destination.standing(), Standing::Here);
    let (destination, effects) = destination.step(I::Told(Word::Settled)).expect("an event");
    assert_eq!(effects, [E::Journal(R::Acknowledged)]);
    assert!(destination.is_over());
}

#[test]
fn a_grant_that_comes_first_waits_for_the_state() {
    let early = [incoming(), vec![I::Told(Word::Granted)]].concat();
    did(&early, &[]);
    did(&[early.clone(), vec![CANCEL]].concat(), &[]);
    did(&[early, vec![I::Qemu(Report::Complete)]].concat(), &[E::Journal(R::Starting)]);
}

#[test]
fn a_state_that_is_stuck_on_its_way_is_offered_back() {
    let stalled = [incoming(), vec![I::Told(Word::Granted), I::Retry]].concat();
    did(&stalled, &[E::Tell(Word::CannotStart)]);
    did(&[stalled.clone(), vec![I::Told(Word::TakeBack)]].concat(), &[E::EndQemu]);
    did(&[stalled, vec![I::Qemu(Report::Complete)]].concat(), &[E::Journal(R::Starting)]);
    // With post-copy allowed, the source knows whether there was a switch.
    let postcopy = Plan { postcopy: true, ..PLAN };
    let waiting = [incoming(), vec![I::Told(Word::Granted), I::Retry]].concat();
    assert_eq!(after(postcopy, Peer::Ferry, &waiting).1, [E::Tell(Word::CannotStart)]);
}

#[test]
fn a_complete_guest_is_let_go_only_on_the_sources_word() {
    let asks = [E::Tell(Word::Complete)];
    for input in [CANCEL, I::ClientGone, I::Retry, I::Finish { cancelled: false, evidence: Evidence::None }] {
        did(&[complete(), vec![input]].concat(), &asks);
    }
    let deadline = [E::Answer(Answer::InDoubt(Call::Finish, Doubt::NoGrant))];
    did(&[complete(), vec![I::Deadline]].concat(), &deadline);
    let refused = after(PLAN, Peer::Ferry, &complete()).0.step(I::Destroy).expect_err("denied");
    assert_eq!(refused.refusal, Refusal::HandingOver);
    did(&[complete(), vec![I::Told(Word::Kept)]].concat(), &[E::EndQemu]);
}

#[test]
fn what_was_never_started_ends_before_it_is_declined() {
    let kept = [incoming(), vec![CANCEL, I::Told(Word::Kept)]].concat();
    did(&kept, &[E::EndQemu]);
    let dead = [kept, vec![I::Qemu(Report::Died)]].concat();
    did(&dead, &[E::Journal(R::Declined)]);
    let (_, effects) = after(PLAN, Peer::Ferry, &[dead.clone(), vec![YES]].concat());
    assert!(effects.contains(&E::Answer(Answer::Finish(Fate::Declined(Why::SourceKept)))));
    assert_eq!(effects.last(), Some(&E::Finished(Ended::Declined(Why::SourceKept))));
    // Prepared and a dead QEMU say the same as a record that cannot be written.
    let (destination, effects) = after(PLAN, Peer::Ferry, &[dead, vec![NO]].concat());
    assert!(effects.contains(&E::Tell(Word::Declined)) && destination.wants_retry());
}

#[test]
fn a_cancelled_finish_is_a_question_while_the_state_is_incomplete() {
    did(&[incoming(), vec![CANCEL]].concat(), &[E::Tell(Word::Ask)]);
    did(&[incoming(), vec![CANCEL, I::Deadline]].concat(), &[E::EndQemu]);
    let postcopy = Plan { postcopy: true, ..PLAN };
    let (_, effects) = after(postcopy, Peer::Ferry, &[incoming(), vec![CANCEL, I::Deadline]].concat());
    assert_eq!(effects, [E::Answer(Answer::InDoubt(Call::Finish, Doubt::NoGrant))]);
}

#[test]
fn without_a_switch_and_without_a_source_nothing_is_waited_for() {
    let postcopy = Plan { postcopy: true, ..PLAN };
    let alone = [incoming(), vec![CANCEL, I::Told(Word::Gone), I::Deadline]].concat();
    assert_eq!(after(postcopy, Peer::Ferry, &alone).1, [E::EndQemu]);
    // What was on its way comes first.
    let whole = [incoming(), vec![CANCEL, I::Told(Word::Gone), I::Qemu(Report::Complete)]].concat();
    assert_eq!(after(postcopy, Peer::Ferry, &whole).1, [E::Tell(Word::Complete)]);
}

#[test]
fn a_refused_start_is_tried_again_or_given_back() {
    let cannot = |why| [E::Tell(Word::CannotStart), E::Answer(Answer::Failed(Call::Resolve, why))];
    let refused = [starting(), vec![I::Qemu(Report::StartRefused)]].concat();
    did(&refused, &cannot(Why::StartRefused));
    did(&[refused.clone(), vec![I::Retry]].concat(), &[E::Journal(R::Starting)]);
    did(&[refused.clone(), vec![I::Retry, YES]].concat(), &[E::StartCpus]);
    did(&[refused.clone(), vec![I::Told(Word::TakeBack)]].concat(), &[E::Journal(R::Declined)]);
    // Once it is being tried again, CPUs may run.
    did(&[refused, vec![I::Retry, YES, I::Told(Word::TakeBack)]].concat(), &[]);
    let unwritten = [complete(), vec![I::Told(Word::Granted), NO]].concat();
    did(&unwritten, &cannot(Why::JournalFull));
    did(&[unwritten, vec![I::Retry]].concat(), &[E::Journal(R::Starting)]);
}

#[test]
fn a_qemu_that_dies_as_it_starts_may_have_run() {
    let (destination, effects) =
        after(PLAN, Peer::Ferry, &[starting(), vec![I::Qemu(Report::Died)]].concat());
    assert_eq!(effects[0], E::Tell(Word::MaybeRan));
    assert_eq!(destination.standing(), Standing::InDoubt(Doubt::MaybeRan));
    did(&[complete(), vec![I::Qemu(Report::Died)]].concat(), &[E::Journal(R::Declined)]);
}

#[test]
fn a_guest_that_stays_paused_is_claimed_on_a_sign_of_life() {
    let plan = Plan { leave_paused: true, ..PLAN };
    let (_, effects) = after(plan, Peer::Ferry, &starting());
    assert_eq!(effects, [E::ProveAlive]);
    let (_, effects) = after(plan, Peer::Ferry, &[starting(), vec![I::Qemu(Report::Complete)]].concat());
    assert_eq!(effects, [E::Journal(R::Running)]);
    let (_, effects) = after(plan, Peer::Ferry, &[starting(), vec![I::Qemu(Report::Died)]].concat());
    assert_eq!(effects, [E::Journal(R::Declined)]);
    // One that lives and does not answer is asked again, and never started.
    let silent = [starting(), vec![I::Qemu(Report::StartRefused)]].concat();
    assert_eq!(after(plan, Peer::Ferry, &[silent, vec![I::Retry, YES]].concat()).1, [E::ProveAlive]);
}

#[test]
fn a_source_that_proves_nothing_is_taken_at_its_word() {
    let plain = I::Finish { cancelled: false, evidence: Evidence::None };
    let last = |inputs: &[I]| after(PLAN, MUTE, inputs).1;
    assert_eq!(last(&[complete(), vec![plain]].concat()), [E::Journal(R::Starting)]);
    assert_eq!(last(&[complete(), vec![CANCEL]].concat()), [E::EndQemu]);
    assert_eq!(last(&[incoming(), vec![I::ClientGone]].concat()), [E::EndQemu]);
}

#[test]
fn running_is_said_again_until_the_source_knows() {
    let running = [starting(), vec![I::Qemu(Report::Resumed), YES]].concat();
    for word in [Word::Granted, Word::Ask, Word::TakeBack] {
        did(&[running.clone(), vec![I::Told(word)]].concat(), &[E::Tell(Word::Running)]);
    }
    did(&[running.clone(), vec![I::Qemu(Report::Died)]].concat(), &[E::Tell(Word::Ended)]);
    did(&[running.clone(), vec![CANCEL]].concat(), &[E::Answer(Answer::Finish(Fate::Arrived))]);
    did(&[running, vec![I::Told(Word::Kept)]].concat(), &[E::Tell(Word::Running), E::Alarm]);
}

#[test]
fn an_earlier_migration_is_settled_without_a_look_at_qemu() {
    use crate::journal::DestinationStatus as S;
    let settle = |status, lives| {
        Destination::settle(MigrationId::from_bytes([1; 16]), PLAN, Peer::Ferry, status, lives)
    };
    let said = |status, lives| settle(status, lives).expect("the source may not know").1;
    assert_eq!(said(S::Prepared, false), [E::Journal(R::Declined)]);
    assert_eq!(said(S::Declined, false), [E::Tell(Word::Declined)]);
    assert_eq!(said(S::Running, true), [E::Tell(Word::Running)]);
    assert_eq!(said(S::Running, false), [E::Tell(Word::Ended)]);
    let (destination, _) = settle(S::Starting, true).expect("the source may not know");
    assert_eq!(destination.standing(), Standing::Here);
    let (_, effects) = destination.step(I::Retry).expect("an event");
    assert_eq!(effects, [E::Tell(Word::Running), E::Journal(R::Running)]);
    assert!(settle(S::SettledRunning, true).is_none() && settle(S::SettledDeclined, false).is_none());
}
