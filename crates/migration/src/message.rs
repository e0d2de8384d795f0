//! What the two daemons of one migration tell each other beside the cookies.
//!
//! Every message names the migration, may be lost, repeated or late, and is authenticated by the secret that
//! travelled in the cookie (the transport's matter). Called by both machines and by ferryd's control program.
//!
//! | message | from | means |
//! |---|---|---|
//! | Granted | source | the right is yours, on record here; the cookie of Perform travels along |
//! | Kept | source | the right is here for good, on record |
//! | TakeBack | source | QEMU lives here and would go on: decline, if no CPU of yours can have run |
//! | Ask | either | what do you know? |
//! | Running | destination | the CPUs run, or ran, there |
//! | Declined | destination | no CPU ran and none will, on record |
//! | MaybeRan | destination | QEMU died between the start and the proof of it |
//! | Complete | destination | the state is whole there; waiting for the source's word |
//! | CannotStart | destination | QEMU or the journal refused the start; no CPU ran |
//! | Settled | either | the end is known here too: do not tell it again |
//! | GoingOn | source | the copy is under way: wait |
//! | Reconnect | either | post-copy: the channel was given up there; the destination's: and QEMU listens again (the driver's matter) |
//! | Held | source | post-copy: a user has broken the channel, and it waits for a user's hand (the driver's matter) |
//! | Gone | source | QEMU died here, and no switch to post-copy had been made: what is not whole now never will be |
//! | Ended | destination | the CPUs ran there, and their QEMU is gone: nothing is needed from the source any more |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::MigrationId;

/// One message about one migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The migration it speaks of. A receiver that has no record of it says nothing but [`Word::of_stranger`].
    pub id: MigrationId,
    /// What is said.
    pub word: Word,
}

/// What a message says; the module's table has the meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Word {
    /// Source: the right is the destination's.
    Granted = 1,
    /// Source: the right is here for good.
    Kept = 2,
    /// Source: decline if no CPU can have run there.
    TakeBack = 3,
    /// Either: what do you know?
    Ask = 4,
    /// Destination: the CPUs run, or ran, there.
    Running = 5,
    /// Destination: no CPU ran and none will.
    Declined = 6,
    /// Destination: QEMU died between the start and its proof.
    MaybeRan = 7,
    /// Destination: the state is whole, the right is missing.
    Complete = 8,
    /// Destination: the start was refused; no CPU ran.
    CannotStart = 9,
    /// Either: the end is known here too.
    Settled = 10,
    /// Destination: the CPUs ran there, and their QEMU is gone.
    Ended = 11,
    /// Source: the copy is under way, nothing is decided.
    GoingOn = 12,
    /// Either: the channel of post-copy was given up there; from the destination: and QEMU listens for a new one. The
    /// machines pass over it.
    Reconnect = 13,
    /// Source: QEMU died here, and no switch to post-copy had been made.
    Gone = 14,
    /// Source: a user has broken the channel of post-copy, and it waits for a user's hand. The machines pass over it.
    Held = 15,
}

impl Word {
    /// All words, in the order of their numbers on the wire.
    pub const ALL: [Self; 15] = [
        Self::Granted,
        Self::Kept,
        Self::TakeBack,
        Self::Ask,
        Self::Running,
        Self::Declined,
        Self::MaybeRan,
        Self::Complete,
        Self::CannotStart,
        Self::Settled,
        Self::Ended,
        Self::GoingOn,
        Self::Reconnect,
        Self::Gone,
        Self::Held,
    ];

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The word with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.number() == number)
    }

    /// What a daemon without any record of the migration answers. Absence proves nothing, so it speaks only
    /// where nothing hangs on it: to let the other side drop the record of an end. A machine for which the answer
    /// would matter (granted, or complete and not granted) passes over `Settled`.
    pub const fn of_stranger(self) -> Option<Self> {
        match self {
            Self::Kept | Self::Declined | Self::Ask | Self::Running | Self::Ended => Some(Self::Settled),
            Self::Granted
            | Self::TakeBack
            | Self::MaybeRan
            | Self::Complete
            | Self::CannotStart
            | Self::Settled
            | Self::GoingOn
            | Self::Reconnect
            | Self::Gone
            | Self::Held => None,
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Granted => "granted",
            Self::Kept => "kept",
            Self::TakeBack => "take-back",
            Self::Ask => "ask",
            Self::Running => "running",
            Self::Declined => "declined",
            Self::MaybeRan => "maybe-ran",
            Self::Complete => "complete",
            Self::CannotStart => "cannot-start",
            Self::Settled => "settled",
            Self::Ended => "ended",
            Self::GoingOn => "going-on",
            Self::Reconnect => "reconnect",
            Self::Gone => "gone",
            Self::Held => "held",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_frozen_and_unique() {
        assert_eq!(Word::ALL.map(Word::number), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        for word in Word::ALL {
            assert_eq!(Word::from_number(word.number()), Some(word));
        }
        assert_eq!(Word::from_number(0), None);
        assert_eq!(Word::from_number(16), None);
    }

    #[test]
    fn a_stranger_never_says_what_lets_a_guest_start() {
        for word in Word::ALL {
            assert!(matches!(word.of_stranger(), None | Some(Word::Settled)), "{word}");
        }
    }
}
