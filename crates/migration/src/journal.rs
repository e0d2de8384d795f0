//! What each side writes down before it acts, and what the records of one migration add up to.
//!
//! Called by the driver (which stores the records through `store`) and by [`crate::recovery`]. It refuses to
//! know how records are stored: it is told them in the order in which they were written.
//!
//! ```text
//! source:       Begun -> Granted(Ahead) -> Done   destination: Prepared -> Starting -> Running
//!                  \        \       ^                             \           \
//!                   `-> Kept <'······'  (operator)                 `-> Declined <'
//! Kept, Running and Declined -> Acknowledged, when the other side knows the end; the records may then be dropped
//! ```

use serde::{Deserialize, Serialize};

use crate::message::Word;

/// A record of either side, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// A record of the source.
    Source(SourceRecord),
    /// A record of the destination.
    Destination(DestinationRecord),
}

/// What the source writes, each synced before its act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceRecord {
    /// Before Begin answers.
    Begun,
    /// The right goes to the destination: QEMU has reported `completed`, or the operator says so.
    Granted,
    /// Post-copy: the same, written before the switch and told only past it.
    GrantedAhead,
    /// The right stays here, or came back. Before the guest is resumed.
    Kept,
    /// The destination runs the guest. Before QEMU is ended.
    Done,
    /// The destination knows that the right was kept.
    Acknowledged,
}

/// What the destination writes, each synced before its act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DestinationRecord {
    /// Before QEMU is launched, and so before Prepare answers.
    Prepared,
    /// Before the CPUs are started.
    Starting,
    /// After the CPUs were seen running, before success is reported.
    Running,
    /// No CPU ran here and none will.
    Declined,
    /// The source knows the end.
    Acknowledged,
}

/// Where the source stands by its records alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SourceStatus {
    /// Nothing was granted.
    Begun,
    /// The right was given away; nothing further is known.
    Granted,
    /// The switch to post-copy was wanted; whether it was made, and the grant told, is not known.
    GrantedAhead,
    /// The guest stays here; the destination may not know it yet.
    Kept,
    /// The guest runs on the destination. Kept for its questions and to keep the guest from being started here: it may
    /// be dropped when the guest has come back, or by age.
    Done,
    /// The guest stays here, and both sides know it: the records may be dropped.
    Settled,
}

/// Where the destination stands by its records alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DestinationStatus {
    /// A QEMU may be waiting or loading; no CPU was started.
    Prepared,
    /// The CPUs may have run.
    Starting,
    /// The guest runs, or ran, here; the source may not know it yet.
    Running,
    /// It will never run here; the source may not know it yet.
    Declined,
    /// Both sides know that the guest came here.
    SettledRunning,
    /// Both sides know that it did not.
    SettledDeclined,
}

/// Two records that cannot follow each other: the journal is damaged, or this code is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// A source's record after this status.
    #[error("migration journal: {record:?} cannot follow {status:?} on the source")]
    Source {
        /// Where the records before it had led; nothing if it is the first.
        status: Option<SourceStatus>,
        /// The record that does not fit.
        record: SourceRecord,
    },
    /// A destination's record after this status.
    #[error("migration journal: {record:?} cannot follow {status:?} on the destination")]
    Destination {
        /// Where the records before it had led; nothing if it is the first.
        status: Option<DestinationStatus>,
        /// The record that does not fit.
        record: DestinationRecord,
    },
    /// Records of both sides under one id. A guest cannot migrate to its own host.
    #[error("migration journal: records of a source and of a destination under one id")]
    BothSides,
}

impl SourceStatus {
    /// Folds the records of one migration, in the order in which they were written.
    /// `None` when there are none. A repeated record changes nothing: a write may be repeated after a crash.
    pub fn fold(records: impl IntoIterator<Item = SourceRecord>) -> Result<Option<Self>, Impossible> {
        records.into_iter().try_fold(None, |status, record| Self::after(status, record).map(Some))
    }

    /// The status after one more record.
    pub fn after(status: Option<Self>, record: SourceRecord) -> Result<Self, Impossible> {
        use SourceRecord as R;
        match (status, record) {
            (None | Some(Self::Begun), R::Begun) => Ok(Self::Begun),
            (Some(Self::Begun | Self::Granted | Self::GrantedAhead), R::Granted) => Ok(Self::Granted),
            (Some(Self::Begun | Self::GrantedAhead), R::GrantedAhead) => Ok(Self::GrantedAhead),
            (Some(Self::Begun | Self::Granted | Self::GrantedAhead | Self::Kept), R::Kept) => Ok(Self::Kept),
            // After Kept: QEMU died before the guest had gone on, and an operator let the destination have it.
            (Some(Self::Granted | Self::GrantedAhead | Self::Kept | Self::Done), R::Done) => Ok(Self::Done),
            (Some(Self::Kept | Self::Settled), R::Acknowledged) => Ok(Self::Settled),
            (None, R::Granted | R::GrantedAhead | R::Kept | R::Done | R::Acknowledged)
            | (Some(Self::Begun), R::Done | R::Acknowledged)
            | (Some(Self::Granted), R::Begun | R::GrantedAhead | R::Acknowledged)
            | (Some(Self::GrantedAhead), R::Begun | R::Acknowledged)
            | (Some(Self::Kept), R::Begun | R::Granted | R::GrantedAhead)
            | (Some(Self::Done), R::Begun | R::Granted | R::GrantedAhead | R::Kept | R::Acknowledged)
            | (Some(Self::Settled), R::Begun | R::Granted | R::GrantedAhead | R::Kept | R::Done) => {
                Err(Impossible::Source { status, record })
            }
        }
    }
}

impl DestinationStatus {
    /// Folds the records of one migration, in the order in which they were written.
    /// `None` when there are none. A repeated record changes nothing: a write may be repeated after a crash.
    pub fn fold(records: impl IntoIterator<Item = DestinationRecord>) -> Result<Option<Self>, Impossible> {
        records.into_iter().try_fold(None, |status, record| Self::after(status, record).map(Some))
    }

    /// The status after one more record.
    pub fn after(status: Option<Self>, record: DestinationRecord) -> Result<Self, Impossible> {
        use DestinationRecord as R;
        match (status, record) {
            (None | Some(Self::Prepared), R::Prepared) => Ok(Self::Prepared),
            // A Declined that was reported as not written, and so never told, is overtaken by what was done instead.
            (Some(Self::Prepared | Self::Starting | Self::Declined), R::Starting) => Ok(Self::Starting),
            (Some(Self::Starting | Self::Running | Self::Declined), R::Running) => Ok(Self::Running),
            (Some(Self::Prepared | Self::Starting | Self::Declined), R::Declined) => Ok(Self::Declined),
            (Some(Self::Running | Self::SettledRunning), R::Acknowledged) => Ok(Self::SettledRunning),
            (Some(Self::Declined | Self::SettledDeclined), R::Acknowledged) => Ok(Self::SettledDeclined),
            (None, R::Starting | R::Running | R::Declined | R::Acknowledged)
            | (Some(Self::Prepared), R::Running | R::Acknowledged)
            | (Some(Self::Starting), R::Prepared | R::Acknowledged)
            | (Some(Self::Running), R::Prepared | R::Starting | R::Declined)
            | (Some(Self::Declined), R::Prepared)
            | (
                Some(Self::SettledRunning | Self::SettledDeclined),
                R::Prepared | R::Starting | R::Running | R::Declined,
            ) => Err(Impossible::Destination { status, record }),
        }
    }
}

/// What a daemon answers that has only the records of a migration left: its machine is over, the guest may have
/// ended, been destroyed or undefined, or gone on to a third host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FromRecord {
    /// What to answer, if anything.
    pub say: Option<Word>,
    /// Both sides know the end now: write Acknowledged.
    pub settled: bool,
}

impl FromRecord {
    const fn say(word: Word) -> Self {
        Self { say: Some(word), settled: false }
    }

    const SILENT: Self = Self { say: None, settled: false };
}

impl SourceStatus {
    /// The answer to a word of the destination, from the record alone. Only for a migration whose machine is over:
    /// `Begun` and `Granted` belong to a living machine, and say nothing here.
    pub const fn answer(self, told: Word) -> FromRecord {
        match self {
            Self::Begun | Self::Granted | Self::GrantedAhead => FromRecord::SILENT,
            Self::Kept => match told {
                Word::Declined | Word::Settled => FromRecord { say: Some(Word::Kept), settled: true },
                Word::Ask
                | Word::Complete
                | Word::CannotStart
                | Word::MaybeRan
                | Word::Running
                | Word::Ended => FromRecord::say(Word::Kept),
                Word::Granted
                | Word::Kept
                | Word::TakeBack
                | Word::GoingOn
                | Word::Reconnect
                | Word::Gone
                | Word::Held => FromRecord::SILENT,
            },
            Self::Done => match told {
                Word::Running
                | Word::Ended
                | Word::Declined
                | Word::MaybeRan
                | Word::Ask
                | Word::Complete
                | Word::CannotStart => FromRecord::say(Word::Settled),
                Word::Granted
                | Word::Kept
                | Word::TakeBack
                | Word::Settled
                | Word::GoingOn
                | Word::Reconnect
                | Word::Gone
                | Word::Held => FromRecord::SILENT,
            },
            Self::Settled => match told {
                // Both had said that it stays.
                Word::Running | Word::Ended => FromRecord::SILENT,
                told => FromRecord { say: told.of_stranger(), settled: false },
            },
        }
    }
}

impl DestinationStatus {
    /// The answer to a word of the source, from the record alone. Only for a migration whose machine is over:
    /// `Prepared` and `Starting` belong to a living machine, and say nothing here.
    pub const fn answer(self, told: Word) -> FromRecord {
        match self {
            Self::Prepared | Self::Starting => FromRecord::SILENT,
            Self::Running | Self::SettledRunning => match told {
                Word::Granted | Word::Ask | Word::TakeBack | Word::Kept => FromRecord::say(Word::Running),
                Word::Settled => FromRecord { say: None, settled: true },
                Word::Running
                | Word::Ended
                | Word::Declined
                | Word::MaybeRan
                | Word::Complete
                | Word::CannotStart
                | Word::GoingOn
                | Word::Reconnect
                | Word::Gone
                | Word::Held => FromRecord::SILENT,
            },
            Self::Declined | Self::SettledDeclined => match told {
                Word::Granted | Word::Ask | Word::TakeBack => FromRecord::say(Word::Declined),
                Word::Kept => FromRecord { say: Some(Word::Declined), settled: true },
                Word::Settled => FromRecord { say: None, settled: true },
                Word::Running
                | Word::Ended
                | Word::Declined
                | Word::MaybeRan
                | Word::Complete
                | Word::CannotStart
                | Word::GoingOn
                | Word::Reconnect
                | Word::Gone
                | Word::Held => FromRecord::SILENT,
            },
        }
    }
}

/// Where one migration stands on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// The guest was leaving.
    Source(SourceStatus),
    /// The guest was arriving.
    Destination(DestinationStatus),
}

impl Status {
    /// Folds the stored records of one migration id, in the order in which they were written.
    pub fn fold(records: impl IntoIterator<Item = Record>) -> Result<Option<Self>, Impossible> {
        records.into_iter().try_fold(None, |status, record| {
            Ok(Some(match (status, record) {
                (None, Record::Source(r)) => Self::Source(SourceStatus::after(None, r)?),
                (Some(Self::Source(s)), Record::Source(r)) => Self::Source(SourceStatus::after(Some(s), r)?),
                (None, Record::Destination(r)) => Self::Destination(DestinationStatus::after(None, r)?),
                (Some(Self::Destination(s)), Record::Destination(r)) => {
                    Self::Destination(DestinationStatus::after(Some(s), r)?)
                }
                (Some(Self::Source(_)), Record::Destination(_))
                | (Some(Self::Destination(_)), Record::Source(_)) => return Err(Impossible::BothSides),
            }))
        })
    }

    /// Whether the other side knows the end, so that the records may be dropped.
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Source(SourceStatus::Settled)
            | Self::Destination(DestinationStatus::SettledRunning | DestinationStatus::SettledDeclined) => {
                true
            }
            Self::Source(
                SourceStatus::Begun
                | SourceStatus::Granted
                | SourceStatus::GrantedAhead
                | SourceStatus::Kept
                | SourceStatus::Done,
            )
            | Self::Destination(
                DestinationStatus::Prepared
                | DestinationStatus::Starting
                | DestinationStatus::Running
                | DestinationStatus::Declined,
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DestinationRecord as D;
    use SourceRecord as S;

    #[test]
    fn whole_lives_fold() {
        assert_eq!(SourceStatus::fold([S::Begun, S::Granted, S::Done]), Ok(Some(SourceStatus::Done)));
        assert_eq!(
            SourceStatus::fold([S::Begun, S::Granted, S::Kept, S::Acknowledged]),
            Ok(Some(SourceStatus::Settled))
        );
        assert_eq!(
            DestinationStatus::fold([D::Prepared, D::Starting, D::Running, D::Acknowledged]),
            Ok(Some(DestinationStatus::SettledRunning))
        );
        assert_eq!(
            DestinationStatus::fold([D::Prepared, D::Starting, D::Declined]),
            Ok(Some(DestinationStatus::Declined))
        );
        assert_eq!(Status::fold([]), Ok(None));
    }

    #[test]
    fn every_repeated_record_changes_nothing() {
        let source = [S::Begun, S::Granted, S::Kept, S::Done, S::Acknowledged];
        for first in source {
            for second in source {
                let lives = [
                    vec![first],
                    vec![S::Begun, first],
                    vec![S::Begun, S::Granted, first],
                    vec![S::Begun, S::Granted, first, second],
                ];
                for life in lives {
                    let Ok(once) = SourceStatus::fold(life.clone()) else { continue };
                    let twice = life.iter().copied().chain(life.last().copied());
                    assert_eq!(SourceStatus::fold(twice), Ok(once), "{life:?}");
                }
            }
        }
    }

    #[test]
    fn what_contradicts_is_an_error() {
        for life in [
            &[S::Granted][..],
            &[S::Begun, S::Kept, S::Granted],
            &[S::Begun, S::Done],
            &[S::Begun, S::Granted, S::Done, S::Kept],
        ] {
            assert!(SourceStatus::fold(life.iter().copied()).is_err(), "{life:?}");
        }
        for life in [
            &[D::Running][..],
            &[D::Prepared, D::Running],
            &[D::Prepared, D::Starting, D::Running, D::Declined],
            &[D::Prepared, D::Declined, D::Prepared],
        ] {
            assert!(DestinationStatus::fold(life.iter().copied()).is_err(), "{life:?}");
        }
        assert_eq!(
            Status::fold([Record::Source(S::Begun), Record::Destination(D::Prepared)]),
            Err(Impossible::BothSides)
        );
    }
}
