//! Every combination of record, QEMU and peer's answer: each has a row, each row is needed, and the machines do what
//! the tables say.

use super::*;
use crate::destination::Destination;
use crate::journal::{DestinationRecord, SourceRecord};
use crate::message::Word;
use crate::plan::BestEffort;
use crate::source::Source;
use crate::{MigrationId, Written};

const ID: MigrationId = MigrationId::from_bytes([1; 16]);
const SOURCES: [SourceStatus; 6] = [S::Begun, S::Granted, S::GrantedAhead, S::Kept, S::Done, S::Settled];
const DESTINATIONS: [DestinationStatus; 6] =
    [D::Prepared, D::Starting, D::Running, D::Declined, D::SettledRunning, D::SettledDeclined];
const PEERS: [Peer; 2] = [Peer::Ferry, Peer::Mute(BestEffort::Stock)];

fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for coordination in [Coordination::Direct, Coordination::PeerToPeer] {
        for bits in 0..8_u8 {
            plans.push(Plan {
                coordination,
                live: true,
                postcopy: bits & 1 != 0,
                leave_paused: bits & 2 != 0,
                was_running: bits & 4 != 0,
            });
        }
    }
    plans
}

#[test]
fn every_combination_has_a_row_and_every_row_is_needed() {
    let (mut source_rows, mut destination_rows) = (vec![false; SOURCE.len()], vec![false; DESTINATION.len()]);
    for plan in plans() {
        for peer in PEERS {
            for status in SOURCES {
                for seen in source::Seen::ALL {
                    let case = first(SOURCE, status, seen, &plan, Some(peer));
                    let case = case.unwrap_or_else(|| panic!("{status:?} {seen:?} {plan:?}"));
                    source_rows[SOURCE.iter().position(|row| row.story == case.story).unwrap()] = true;
                }
            }
            for status in DESTINATIONS {
                for seen in destination::Seen::ALL {
                    let case = first(DESTINATION, status, seen, &plan, Some(peer));
                    let case = case.unwrap_or_else(|| panic!("{status:?} {seen:?} {plan:?}"));
                    destination_rows[DESTINATION.iter().position(|row| row.story == case.story).unwrap()] =
                        true;
                }
            }
        }
    }
    assert!(source_rows.iter().all(|used| *used), "{source_rows:?}");
    assert!(destination_rows.iter().all(|used| *used), "{destination_rows:?}");
}

/// What the peer's word leads to, as far as the guest is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Nothing changes.
    Waits,
    /// The source writes Done and ends QEMU.
    LetsGo,
    /// The source writes Kept: the guest goes on here.
    Keeps,
    /// The source asks QEMU before it says anything.
    Looks,
    /// The destination writes Starting.
    Starts,
    /// The destination ends what it has, or writes Declined.
    Declines,
    /// It says what it said before.
    Repeats(Word),
    /// It says so, and writes that both know it.
    Settles(Word),
    /// It writes that both know it.
    Notes,
    /// Two hosts have the guest by an operator's word.
    Shouts(Word),
}

/// The source's answers: after this first action, this word, that.
fn source_then(action: SourceAction, status: SourceStatus, seen: source::Seen, word: Word) -> Then {
    use Then as T;
    let dead = seen == Q::Gone;
    match (action, word) {
        // Not begun to end: only the destination's giving up matters.
        (A::GoOn | A::LetGo, Word::Declined) => T::Keeps,
        (A::GoOn | A::LetGo, Word::Ask) => T::Repeats(Word::GoingOn),
        (A::GoOn | A::LetGo, _) => T::Waits,
        (A::Grant | A::TellGranted, Word::Running) if seen == Q::Postcopy => T::Waits,
        (A::Grant | A::TellGranted, Word::Running | Word::Ended) => T::LetsGo,
        // Both QEMUs are gone.
        (A::Grant | A::TellGranted, Word::MaybeRan) if dead => T::LetsGo,
        (A::Grant | A::TellGranted, Word::Declined) => T::Keeps,
        (A::Grant | A::TellGranted, Word::Complete | Word::Ask) => T::Repeats(Word::Granted),
        // Once the switch may have been made, QEMU here cannot take the guest back.
        (A::Grant | A::TellGranted, Word::CannotStart)
            if !dead && seen != Q::Postcopy && status != S::GrantedAhead =>
        {
            T::Looks
        }
        (A::Grant | A::TellGranted, _) => T::Waits,
        (A::AskBeforeTelling | A::SwitchAgain | A::GrantAhead, Word::Complete) => T::Looks,
        (A::AskBeforeTelling | A::SwitchAgain | A::GrantAhead, Word::Running) => T::Waits,
        (A::AskBeforeTelling | A::SwitchAgain | A::GrantAhead, Word::Ended) => T::LetsGo,
        (A::AskBeforeTelling | A::SwitchAgain | A::GrantAhead, Word::Declined) => T::Keeps,
        (A::AskBeforeTelling | A::SwitchAgain | A::GrantAhead, Word::Ask) => T::Repeats(Word::GoingOn),
        (A::AskBeforeTelling | A::SwitchAgain | A::GrantAhead, _) => T::Waits,
        (A::AskBegun | A::AskKept, Word::Declined | Word::Settled) => T::Keeps,
        (A::AskBegun | A::AskKept, Word::Ask) => T::Repeats(Word::Gone),
        // An operator has let it start there.
        (A::AskBegun, Word::Running | Word::Ended | Word::MaybeRan) => T::Repeats(Word::Granted),
        (A::AskKept, Word::Running | Word::Ended | Word::MaybeRan) => T::LetsGo,
        (A::AskBegun | A::AskKept, _) => T::Waits,
        (A::AskAhead, Word::Running | Word::Ended | Word::MaybeRan) => T::LetsGo,
        (A::AskAhead, Word::Declined) => T::Keeps,
        (A::AskAhead, _) => T::Waits,
        // The copy is being cancelled, or the guest resumed: the word is said when that is done.
        (A::CallOff | A::Cancel, _) => T::Waits,
        (A::KeepComplete | A::ResumeThenTell, Word::Declined) => T::Repeats(Word::Kept),
        (A::KeepComplete | A::ResumeThenTell, _) => T::Waits,
        (A::Keep | A::TellKept, Word::Declined | Word::Settled) => T::Settles(Word::Kept),
        (A::Keep | A::TellKept, Word::Running | Word::Ended) => T::Shouts(Word::Kept),
        (A::Keep | A::TellKept, Word::Ask | Word::Complete | Word::CannotStart | Word::MaybeRan) => {
            T::Repeats(Word::Kept)
        }
        (A::Keep | A::TellKept, _) => T::Waits,
        (A::Resume, Word::Running | Word::Ended) => T::Shouts(Word::Kept),
        (
            A::Resume,
            Word::Granted
            | Word::Kept
            | Word::TakeBack
            | Word::GoingOn
            | Word::Reconnect
            | Word::Gone
            | Word::Held,
        ) => T::Waits,
        (A::Resume, _) => T::Repeats(Word::Kept),
        (A::EndQemu | A::Answer, Word::Declined) => T::Shouts(Word::Settled),
        (
            A::EndQemu | A::Answer,
            Word::Granted
            | Word::Kept
            | Word::TakeBack
            | Word::Settled
            | Word::GoingOn
            | Word::Reconnect
            | Word::Gone
            | Word::Held,
        ) => T::Waits,
        (A::EndQemu | A::Answer, _) => T::Repeats(Word::Settled),
        (A::Nothing, _) => T::Waits,
    }
}

/// The destination's answers.
fn destination_then(action: DestinationAction, seen: destination::Seen, word: Word) -> Then {
    use Then as T;
    let ran = if seen == P::Gone { Word::Ended } else { Word::Running };
    match (action, word) {
        (B::AskOn, Word::Kept | Word::TakeBack) => T::Declines,
        (B::AskOn, _) => T::Waits,
        (B::TellComplete, Word::Granted) => T::Starts,
        (B::TellComplete, Word::Kept | Word::TakeBack) => T::Declines,
        (B::TellComplete, Word::Ask) => T::Repeats(Word::Complete),
        (B::TellComplete, _) => T::Waits,
        // `cont` is out: what comes of it is the answer.
        (B::StartAgain, _) => T::Waits,
        (B::Claim | B::TellRunning, Word::Settled) => T::Notes,
        (B::Claim | B::TellRunning, Word::Kept) => T::Shouts(ran),
        (B::Claim | B::TellRunning, Word::Granted | Word::Ask | Word::TakeBack) => T::Repeats(ran),
        (B::Claim | B::TellRunning, _) => T::Waits,
        (B::TellMaybeRan, Word::Kept) => T::Declines,
        (B::TellMaybeRan, Word::Granted | Word::Ask | Word::TakeBack) => T::Repeats(Word::MaybeRan),
        (B::TellMaybeRan, _) => T::Waits,
        (B::Decline | B::TellDeclined, Word::Kept) => T::Settles(Word::Declined),
        (B::Decline | B::TellDeclined, Word::Settled) => T::Notes,
        (B::Decline | B::TellDeclined | B::EndQemu, Word::Granted | Word::Ask | Word::TakeBack) => {
            T::Repeats(Word::Declined)
        }
        (B::EndQemu, Word::Kept) => T::Repeats(Word::Declined),
        (B::Decline | B::TellDeclined | B::EndQemu, _) => T::Waits,
        (B::EndThenDecline | B::Nothing, _) => T::Waits,
    }
}

/// Runs a source through the writes that it asks for; what it does at last.
fn settle_source(mut source: Source, mut effects: Vec<source::Effect>) -> (Source, Vec<source::Effect>) {
    let mut done = Vec::new();
    loop {
        done.append(&mut effects.clone());
        let input = match effects.last() {
            Some(source::Effect::Journal(_)) => source::Input::Journaled(Written::Yes),
            Some(source::Effect::Probe) => source::Input::Probed(Written::Yes),
            _ => return (source, done),
        };
        (source, effects) = source.step(input).unwrap();
    }
}

fn settle_destination(
    mut destination: Destination,
    mut effects: Vec<destination::Effect>,
) -> (Destination, Vec<destination::Effect>) {
    let mut done = Vec::new();
    loop {
        done.append(&mut effects.clone());
        let input = match effects.last() {
            Some(destination::Effect::Journal(_)) => destination::Input::Journaled(Written::Yes),
            _ => return (destination, done),
        };
        (destination, effects) = destination.step(input).unwrap();
    }
}

fn source_did(effects: &[source::Effect]) -> Then {
    use source::Effect as E;
    let told = effects.iter().find_map(|effect| match effect {
        E::Tell(word) => Some(*word),
        _ => None,
    });
    if effects.contains(&E::Journal(SourceRecord::Done)) {
        Then::LetsGo
    } else if effects.contains(&E::Journal(SourceRecord::Kept)) {
        Then::Keeps
    } else if effects.contains(&E::QueryCopy) {
        Then::Looks
    } else if effects.contains(&E::Alarm) {
        Then::Shouts(told.unwrap())
    } else if effects.contains(&E::Journal(SourceRecord::Acknowledged)) {
        Then::Settles(told.unwrap())
    } else {
        told.map_or(Then::Waits, Then::Repeats)
    }
}

fn destination_did(effects: &[destination::Effect]) -> Then {
    use destination::Effect as E;
    let told = effects.iter().find_map(|effect| match effect {
        E::Tell(word) => Some(*word),
        _ => None,
    });
    if effects.contains(&E::Journal(DestinationRecord::Starting)) {
        Then::Starts
    } else if effects.contains(&E::Journal(DestinationRecord::Declined)) || effects.contains(&E::EndQemu) {
        Then::Declines
    } else if effects.contains(&E::Alarm) {
        Then::Shouts(told.unwrap())
    } else if effects.contains(&E::Journal(DestinationRecord::Acknowledged)) {
        told.map_or(Then::Notes, Then::Settles)
    } else {
        told.map_or(Then::Waits, Then::Repeats)
    }
}

#[test]
fn a_restarted_source_answers_every_word_as_the_table_says() {
    for plan in plans() {
        for status in SOURCES {
            for seen in source::Seen::ALL {
                let action = source(status, seen, &plan, Some(Peer::Ferry));
                let Some((machine, effects)) = Source::recover(ID, plan, Some(Peer::Ferry), status, seen)
                else {
                    assert_eq!(action, SourceAction::Nothing, "{status:?} {seen:?}");
                    continue;
                };
                let (machine, _) = settle_source(machine, effects);
                for word in Word::ALL {
                    let (next, effects) = machine.clone().step(source::Input::Told(word)).unwrap();
                    let (_, done) = settle_source(next, effects);
                    // A guest that was paused before has nothing to resume, and is back at once.
                    let action = match action {
                        A::KeepComplete | A::ResumeThenTell if !plan.was_running => A::TellKept,
                        other => other,
                    };
                    let told = (status, seen, plan, word);
                    assert_eq!(source_did(&done), source_then(action, status, seen, word), "{told:?}");
                }
            }
        }
    }
}

#[test]
fn a_restarted_destination_answers_every_word_as_the_table_says() {
    for plan in plans() {
        for status in DESTINATIONS {
            for seen in destination::Seen::ALL {
                let action = destination(status, seen, &plan, Peer::Ferry);
                let Some((machine, effects)) = Destination::recover(ID, plan, Peer::Ferry, status, seen)
                else {
                    assert_eq!(action, DestinationAction::Nothing, "{status:?} {seen:?}");
                    continue;
                };
                let (machine, _) = settle_destination(machine, effects);
                for word in Word::ALL {
                    let (next, effects) = machine.clone().step(destination::Input::Told(word)).unwrap();
                    let (_, done) = settle_destination(next, effects);
                    let told = (status, seen, plan, word);
                    assert_eq!(destination_did(&done), destination_then(action, seen, word), "{told:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_said_to_a_peer_that_cannot_hear() {
    let mute = Peer::Mute(BestEffort::Stock);
    for plan in plans() {
        for status in SOURCES {
            for seen in source::Seen::ALL {
                if let Some((machine, effects)) = Source::recover(ID, plan, Some(mute), status, seen) {
                    let (machine, done) = settle_source(machine, effects);
                    assert!(
                        !done.iter().any(|effect| matches!(effect, source::Effect::Tell(_))),
                        "{status:?} {seen:?}"
                    );
                    assert_eq!(machine.outstanding(), None);
                }
            }
        }
        for status in DESTINATIONS {
            for seen in destination::Seen::ALL {
                if let Some((machine, effects)) = Destination::recover(ID, plan, mute, status, seen) {
                    let (machine, done) = settle_destination(machine, effects);
                    assert!(!done.iter().any(|effect| matches!(effect, destination::Effect::Tell(_))));
                    assert_eq!(machine.outstanding(), None);
                }
            }
        }
    }
}
