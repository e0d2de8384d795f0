//! The roads of the source, step by step; the explorations in `tests/handover` have the crossings.

use super::Effect as E;
use super::Input as I;
use super::{Answer, Call, Ended, Fate, Refusal, Report, Source};
use crate::journal::SourceRecord as R;
use crate::message::Word;
use crate::plan::BestEffort;
use crate::{Coordination, Doubt, Evidence, GuestIs, MigrationId, Peer, Plan, Standing, Why, Written};

const PLAN: Plan = Plan {
    coordination: Coordination::Direct,
    live: true,
    postcopy: false,
    leave_paused: false,
    was_running: true,
};
const YES: I = I::Journaled(Written::Yes);
const NO: I = I::Journaled(Written::No);

/// A source that has been through these inputs, and what it did on the last one.
fn after(plan: Plan, inputs: &[I]) -> (Source, Vec<E>) {
    let start = Source::begin(MigrationId::from_bytes([1; 16]), plan);
    inputs.iter().fold(start, |(source, _), input| {
        let phase = source.phase_name();
        source.step(*input).unwrap_or_else(|denied| panic!("{input:?} when {phase}: {denied}"))
    })
}

fn copying() -> Vec<I> {
    vec![YES, I::Perform(Peer::Ferry), YES]
}

fn complete() -> Vec<I> {
    [copying(), vec![I::Qemu(Report::PreSwitchover), I::Probed(Written::Yes), I::Qemu(Report::Completed)]]
        .concat()
}

fn granted() -> Vec<I> {
    [complete(), vec![YES]].concat()
}

#[track_caller]
fn did(plan: Plan, inputs: &[I], expected: &[E]) {
    assert_eq!(after(plan, inputs).1, expected, "{inputs:?}");
}

#[track_caller]
fn denied(inputs: &[I], input: I) -> Refusal {
    after(PLAN, inputs).0.step(input).expect_err("it is denied").refusal
}

#[test]
fn what_is_stuck_on_its_way_is_called_back_before_it_is_granted() {
    let switching = [copying(), vec![I::Qemu(Report::PreSwitchover), I::Probed(Written::Yes)]].concat();
    let stuck = [switching.clone(), vec![I::Deadline]].concat();
    // As if the user had called it off, only that nobody waits for an answer.
    let aborted = after(PLAN, &[switching, vec![I::Abort]].concat()).1;
    let (machine, effects) = after(PLAN, &stuck);
    assert_eq!(effects[..], aborted[1..]);
    assert!(!machine.is_switching());
    // It may come through all the same: what is on record says whose guest it is.
    let late = [stuck, vec![YES, I::Qemu(Report::Completed)]].concat();
    assert_ne!(after(PLAN, &late).0.standing(), Standing::HandedOver);
}

#[test]
fn the_plain_road() {
    let started = Source::begin(MigrationId::from_bytes([1; 16]), PLAN).1;
    assert_eq!(started, [E::Journal(R::Begun)]);
    did(PLAN, &[YES], &[E::Answer(Answer::Ok(Call::Begin))]);
    did(PLAN, &[YES, I::Perform(Peer::Ferry)], &[E::Journal(R::Begun)]);
    did(PLAN, &copying(), &[E::StartCopy]);
    did(PLAN, &[copying(), vec![I::Qemu(Report::PreSwitchover)]].concat(), &[E::Probe]);
    did(PLAN, &complete(), &[E::Journal(R::Granted)]);
    let told =
        [E::Tell(Word::Granted), E::Answer(Answer::Ok(Call::Perform)), E::Answer(Answer::Ok(Call::Resolve))];
    did(PLAN, &granted(), &told);
    let confirm = I::Confirm { cancelled: false, evidence: Evidence::Running };
    did(PLAN, &[granted(), vec![confirm]].concat(), &[E::Journal(R::Done)]);
    let (source, effects) = after(PLAN, &[granted(), vec![confirm, YES]].concat());
    assert_eq!(effects[0], E::EndQemu);
    assert!(effects.contains(&E::Answer(Answer::Confirm(Fate::Moved))));
    assert_eq!(effects.last(), Some(&E::Finished(Ended::Moved)));
    assert_eq!(source.standing(), Standing::Away);
}

#[test]
fn a_guest_that_is_not_to_run_meanwhile_is_stopped_first() {
    did(Plan { live: false, ..PLAN }, &copying(), &[E::StopCpus, E::StartCopy]);
    did(Plan { live: false, was_running: false, ..PLAN }, &copying(), &[E::StartCopy]);
}

#[test]
fn abort_is_answered_at_once_and_keeps_before_it_cancels() {
    let aborted = [copying(), vec![I::Abort]].concat();
    did(PLAN, &aborted, &[E::Answer(Answer::Ok(Call::Abort)), E::Journal(R::Kept)]);
    did(PLAN, &[aborted.clone(), vec![YES]].concat(), &[E::CancelCopy]);
    let (source, effects) = after(PLAN, &[aborted, vec![YES, I::Qemu(Report::Cancelled)]].concat());
    assert_eq!(effects[..2], [E::Resume, E::Tell(Word::Kept)]);
    assert!(effects.contains(&E::Answer(Answer::Failed(Call::Perform, Why::Aborted))));
    assert_eq!(source.standing(), Standing::Here);
    // Before the copy, Perform fails with it.
    did(PLAN, &[YES, I::Abort, I::Perform(Peer::Ferry)], &[E::Journal(R::Kept)]);
}

#[test]
fn an_abort_that_came_too_late_for_qemu_is_told_once_the_guest_has_gone_on() {
    let late = [copying(), vec![I::Abort, YES, I::Qemu(Report::Completed)]].concat();
    let (_, effects) = after(PLAN, &late);
    assert!(effects.contains(&E::Resume) && !effects.contains(&E::Tell(Word::Kept)), "{effects:?}");
    let (_, effects) = after(PLAN, &[late.clone(), vec![I::Qemu(Report::Resumed)]].concat());
    assert!(effects.contains(&E::Tell(Word::Kept)), "{effects:?}");
    let (source, _) = after(PLAN, &[late, vec![I::Qemu(Report::Died)]].concat());
    assert_eq!(source.standing(), Standing::InDoubt(Doubt::SourceDied));
}

#[test]
fn only_a_direct_migration_ends_with_its_client() {
    did(PLAN, &[copying(), vec![I::ClientGone]].concat(), &[E::Journal(R::Kept)]);
    did(
        Plan { coordination: Coordination::PeerToPeer, ..PLAN },
        &[copying(), vec![I::ClientGone]].concat(),
        &[],
    );
    did(PLAN, &[granted(), vec![I::ClientGone]].concat(), &[]);
}

#[test]
fn a_journal_that_is_full_calls_off_while_it_is_cheap() {
    let probe = [copying(), vec![I::Qemu(Report::PreSwitchover), I::Probed(Written::No)]].concat();
    did(PLAN, &probe, &[E::Journal(R::Kept)]);
    did(PLAN, &[probe.clone(), vec![NO]].concat(), &[E::CancelCopy]);
    let (source, effects) = after(PLAN, &[probe, vec![NO, I::Qemu(Report::Cancelled)]].concat());
    assert!(
        effects.contains(&E::Resume) && !effects.contains(&E::Tell(Word::Kept)),
        "untold while unwritten"
    );
    assert!(source.wants_retry());
}

#[test]
fn complete_and_unwritten_the_destination_is_asked_to_decline() {
    let unwritten = [complete(), vec![NO, NO]].concat();
    let (source, effects) = after(PLAN, &unwritten);
    assert_eq!(effects.last(), Some(&E::QueryCopy));
    assert_eq!(source.standing(), Standing::InDoubt(Doubt::JournalFull));
    let alive = I::QemuNow(Report::Completed);
    did(PLAN, &[unwritten.clone(), vec![alive]].concat(), &[E::Tell(Word::TakeBack)]);
    let (_, effects) = after(PLAN, &[unwritten, vec![alive, I::Told(Word::Declined)]].concat());
    assert_eq!(effects[0], E::Resume);
}

#[test]
fn after_the_grant_only_declined_or_the_operator_brings_it_back() {
    let again = [E::Tell(Word::Granted)];
    for evidence in [Evidence::None, Evidence::Granted] {
        for cancelled in [true, false] {
            did(PLAN, &[granted(), vec![I::Confirm { cancelled, evidence }]].concat(), &again);
        }
    }
    did(PLAN, &[granted(), vec![I::Told(Word::Declined)]].concat(), &[E::Journal(R::Kept)]);
    assert_eq!(denied(&granted(), I::Abort), Refusal::HandedOver);
    assert_eq!(denied(&granted(), I::Destroy), Refusal::HandedOver);
    assert_eq!(denied(&granted(), I::Resolve(GuestIs::Here)), Refusal::NotInDoubt);
    let doubt = [granted(), vec![I::Told(Word::MaybeRan)]].concat();
    assert_eq!(after(PLAN, &doubt).0.standing(), Standing::InDoubt(Doubt::MaybeRan));
    did(PLAN, &[doubt.clone(), vec![I::Resolve(GuestIs::Here)]].concat(), &[E::Journal(R::Kept)]);
    did(PLAN, &[doubt, vec![I::Resolve(GuestIs::There)]].concat(), &[E::Journal(R::Done)]);
}

#[test]
fn a_destination_that_cannot_start_is_asked_back_only_on_a_sign_of_life() {
    let cannot = [granted(), vec![I::Told(Word::CannotStart)]].concat();
    did(PLAN, &cannot, &[E::QueryCopy]);
    did(PLAN, &[cannot.clone(), vec![I::QemuNow(Report::Completed)]].concat(), &[E::Tell(Word::TakeBack)]);
    let (source, _) = after(PLAN, &[cannot, vec![I::QemuNow(Report::Died)]].concat());
    assert_eq!(source.standing(), Standing::InDoubt(Doubt::CannotStart));
}

#[test]
fn post_copy_is_granted_before_the_switch_and_told_past_it() {
    let plan = Plan { postcopy: true, ..PLAN };
    let wanted = [copying(), vec![I::StartPostcopy]].concat();
    did(plan, &wanted, &[E::Journal(R::GrantedAhead)]);
    let made = [wanted, vec![YES]].concat();
    did(plan, &made, &[E::SwitchToPostcopy, E::Answer(Answer::Ok(Call::StartPostcopy))]);
    let crossing = [made, vec![I::Qemu(Report::PreSwitchover), I::Qemu(Report::PostcopyActive)]].concat();
    did(plan, &crossing, &[]);
    let loaded = [crossing.clone(), vec![I::Told(Word::Complete)]].concat();
    did(plan, &loaded, &[E::QueryCopy]);
    let past = [loaded.clone(), vec![I::QemuNow(Report::PostcopyActive)]].concat();
    assert_eq!(after(plan, &past).1[0], E::Tell(Word::Granted));
    // Running alone does not end a QEMU that still holds pages.
    did(plan, &[past.clone(), vec![I::Told(Word::Running)]].concat(), &[]);
    let whole = [past.clone(), vec![I::Told(Word::Running), I::Qemu(Report::Completed)]].concat();
    did(plan, &whole, &[E::Journal(R::Done)]);
    did(plan, &[past, vec![I::Told(Word::Ended)]].concat(), &[E::Journal(R::Done)]);
    // The stream broke: QEMU has the guest back, and nothing was told.
    did(plan, &[loaded, vec![I::QemuNow(Report::Failed)]].concat(), &[E::Journal(R::Kept)]);
    assert_eq!(denied(&copying(), I::StartPostcopy), Refusal::NotPostcopy);
    assert_eq!(after(plan, &crossing).0.step(I::Abort).expect_err("denied").refusal, Refusal::InPostcopy);
}

#[test]
fn toward_a_peer_that_proves_nothing_the_clients_no_is_a_doubt() {
    let mute = Peer::Mute(BestEffort::Stock);
    let granted: Vec<_> = granted()
        .into_iter()
        .map(|input| if matches!(input, I::Perform(_)) { I::Perform(mute) } else { input })
        .collect();
    let confirm = |cancelled, evidence| [granted.clone(), vec![I::Confirm { cancelled, evidence }]].concat();
    did(PLAN, &confirm(false, Evidence::None), &[E::Journal(R::Done)]);
    did(PLAN, &confirm(true, Evidence::NeverStarted), &[E::Journal(R::Kept)]);
    let (source, effects) = after(PLAN, &confirm(true, Evidence::None));
    assert_eq!(effects, [E::Answer(Answer::InDoubt(Call::Confirm, Doubt::NoEvidence))]);
    assert_eq!(source.standing(), Standing::InDoubt(Doubt::NoEvidence));
    assert_eq!(source.outstanding(), None);
}

#[test]
fn a_destroy_is_recorded_before_it_ends_qemu() {
    let destroyed = [copying(), vec![I::Destroy]].concat();
    did(PLAN, &destroyed, &[E::Journal(R::Kept)]);
    let (_, effects) = after(PLAN, &[destroyed.clone(), vec![YES]].concat());
    assert_eq!(effects[..2], [E::EndQemu, E::Answer(Answer::Ok(Call::Destroy))]);
    let (_, effects) = after(PLAN, &[destroyed, vec![NO]].concat());
    assert!(!effects.contains(&E::EndQemu), "{effects:?}");
    assert!(effects.contains(&E::Answer(Answer::Failed(Call::Destroy, Why::JournalFull))));
}

#[test]
fn a_guest_that_comes_back_proves_that_it_was_there() {
    did(PLAN, &[granted(), vec![I::ComesBack]].concat(), &[E::Journal(R::Done)]);
    assert_eq!(denied(&copying(), I::ComesBack), Refusal::OutOfOrder);
}

#[test]
fn a_done_that_cannot_be_written_ends_nothing_and_is_tried_again() {
    let unwritten = [granted(), vec![I::Told(Word::Running), NO]].concat();
    let (source, effects) = after(PLAN, &unwritten);
    assert_eq!(effects, [E::Answer(Answer::Failed(Call::Resolve, Why::JournalFull))]);
    assert!(source.wants_retry());
    did(PLAN, &[unwritten, vec![I::Retry]].concat(), &[E::Journal(R::Done)]);
}

#[test]
fn without_a_record_of_whom_to_ask_nothing_is_copied() {
    let performed = vec![YES, I::Perform(Peer::Ferry)];
    did(PLAN, &[performed.clone(), vec![NO]].concat(), &[E::Journal(R::Kept)]);
    let (_, effects) = after(PLAN, &[performed, vec![NO, YES]].concat());
    assert!(effects.contains(&E::Answer(Answer::Failed(Call::Perform, Why::JournalFull))), "{effects:?}");
}

#[test]
fn post_copy_is_not_hurried_by_a_waiting_confirm() {
    let plan = Plan { postcopy: true, ..PLAN };
    let switched = vec![I::StartPostcopy, YES, I::Told(Word::Complete), I::QemuNow(Report::PostcopyActive)];
    let ran = [copying(), switched, vec![I::Told(Word::Running)]].concat();
    did(plan, &[ran, vec![I::Deadline]].concat(), &[]);
}

#[test]
fn an_earlier_migration_is_settled_without_a_look_at_qemu() {
    use crate::journal::SourceStatus as S;
    let settle = |status| Source::settle(MigrationId::from_bytes([1; 16]), PLAN, Some(Peer::Ferry), status);
    for open in [S::Begun, S::Granted, S::GrantedAhead] {
        let (source, effects) = settle(open).expect("it is open");
        assert_eq!(effects, [E::Journal(R::Kept)]);
        assert_eq!(source.step(YES).expect("its turn").1, [E::Tell(Word::Kept)]);
    }
    let (source, effects) = settle(S::Kept).expect("the destination may not know");
    assert_eq!((source.standing(), effects), (Standing::Here, vec![E::Tell(Word::Kept)]));
    assert!(settle(S::Done).is_none() && settle(S::Settled).is_none());
}
