//! What goes over the line, sealed: who sends it knows the migration's secret, and shows that without saying it.
//!
//! [`super::line`] seals calls and opens answers; [`crate::dispatch`] opens calls and seals answers. A call is sealed with
//! whatever it says; an answer with what it answers too, so that none is taken for another. A call may be repeated by
//! whoever has heard it: the machines expect that of a network.

use ferry_migration::message::Word;
use ferry_migration::{MigrationId, Proof, Secret};
use ferry_rpc::proto::{Cookie, HandoverTell, HandoverTellReply};
use uuid::Uuid;

/// What a daemon says to a word of the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) words: Vec<Word>,
    /// The cookie of Perform, beside a grant.
    pub(crate) cookie: Vec<u8>,
    /// For how long nothing at all had come from the other host before. A host whose daemon is away refuses, and so is
    /// not silent. Never told to the other side.
    pub(crate) silence: std::time::Duration,
    /// Whoever answers knows the migration.
    pub(crate) secret: Option<Secret>,
}

impl Answer {
    /// At most one word, and nothing beside it.
    pub(crate) fn of(word: Option<Word>) -> Answer {
        Answer { words: word.into_iter().collect(), ..Answer::default() }
    }

    /// By somebody who knows the migration.
    pub(crate) fn known_by(self, secret: &Secret) -> Answer {
        Answer { secret: Some(secret.clone()), ..self }
    }
}

/// A word to the other daemon, sealed. `nonce`: 16 fresh random bytes.
pub(super) fn call(
    id: MigrationId,
    secret: &Secret,
    host: Uuid,
    (word, cookie): (Word, Vec<u8>),
    nonce: [u8; 16],
) -> HandoverTell {
    let mut call = HandoverTell {
        migration: *id.as_bytes(),
        host,
        word: word.number().into(),
        nonce,
        proof: Proof::default().0,
        cookie: Cookie(cookie),
    };
    call.proof = with_parts(&call, |parts| secret.prove(parts)).0;
    call
}

/// Whether the caller knows the secret.
pub(crate) fn is_sealed(call: &HandoverTell, secret: &Secret) -> bool {
    with_parts(call, |parts| secret.confirms(parts, &Proof(call.proof)))
}

/// The answer to a call, sealed if this daemon knows the migration.
pub(crate) fn reply(call: &HandoverTell, host: Uuid, answer: Answer) -> HandoverTellReply {
    let words = answer.words.iter().map(|word| word.number().into()).collect();
    let mut reply =
        HandoverTellReply { host, words, proof: Proof::default().0, cookie: Cookie(answer.cookie) };
    if let Some(secret) = answer.secret {
        reply.proof = with_reply_parts(call, &reply, |parts| secret.prove(parts)).0;
    }
    reply
}

/// What an answer says that may be believed; nothing from another host than `peer`. One that does not know the migration
/// can say no more than that it has nothing to settle.
pub(super) fn open(
    call: &HandoverTell,
    reply: HandoverTellReply,
    secret: &Secret,
    peer: Uuid,
) -> Option<Answer> {
    if reply.host != peer {
        tracing::debug!(found = %reply.host, wanted = %peer, "another host answers at the peer's address");
        return None;
    }
    let sealed = with_reply_parts(call, &reply, |parts| secret.confirms(parts, &Proof(reply.proof)));
    let words = reply.words.iter().copied().filter_map(known);
    let words = words.filter(|word| sealed || *word == Word::Settled).collect();
    let cookie = if sealed { reply.cookie.0 } else { Vec::new() };
    Some(Answer { words, cookie, secret: sealed.then(|| secret.clone()), ..Answer::default() })
}

/// A word as it travels; `None` for one that this version does not know.
pub(crate) fn known(number: u32) -> Option<Word> {
    u8::try_from(number).ok().and_then(Word::from_number)
}

fn with_parts<T>(call: &HandoverTell, then: impl FnOnce(&[&[u8]]) -> T) -> T {
    let (host, word) = (call.host.as_bytes(), call.word.to_be_bytes());
    then(&[b"tell", &call.migration, host, &word, &call.nonce, &call.cookie.0])
}

fn with_reply_parts<T>(
    call: &HandoverTell,
    reply: &HandoverTellReply,
    then: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    let words: Vec<u8> = reply.words.iter().flat_map(|word| word.to_be_bytes()).collect();
    then(&[b"answer", &call.migration, reply.host.as_bytes(), &call.nonce, &words, &reply.cookie.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = Secret::from_bytes([5; 16]);
    const PEER: Uuid = Uuid::from_u128(2);

    fn ask(nonce: u8) -> HandoverTell {
        let id = MigrationId::from_bytes([1; 16]);
        call(id, &SECRET, Uuid::from_u128(1), (Word::Ask, Vec::new()), [nonce; 16])
    }

    fn declined() -> Answer {
        Answer { words: vec![Word::Declined, Word::Settled], cookie: vec![9], ..Answer::default() }
    }

    #[test]
    fn a_call_is_its_senders_only_as_it_was_sent() {
        assert!(is_sealed(&ask(3), &SECRET));
        assert!(!is_sealed(&ask(3), &Secret::from_bytes([6; 16])));
        let changes: [fn(&mut HandoverTell); 4] = [
            |call| call.word = Word::Declined.number().into(),
            |call| call.migration = [2; 16],
            |call| call.host = Uuid::from_u128(7),
            |call| call.cookie = Cookie(vec![1]),
        ];
        for change in changes {
            let mut call = ask(3);
            change(&mut call);
            assert!(!is_sealed(&call, &SECRET), "{call:?}");
        }
    }

    #[test]
    fn an_answer_counts_from_who_knows_the_secret_and_to_this_call_alone() {
        let sealed = |call: &HandoverTell| reply(call, PEER, declined().known_by(&SECRET));
        let opened = open(&ask(3), sealed(&ask(3)), &SECRET, PEER).unwrap();
        assert_eq!((opened.words, opened.cookie), (vec![Word::Declined, Word::Settled], vec![9]));
        // The peer's UUID is no secret; and an answer of before is none of now.
        let guessed = Answer { secret: Some(Secret::from_bytes([6; 16])), ..declined() };
        for reply in [reply(&ask(3), PEER, declined()), reply(&ask(3), PEER, guessed), sealed(&ask(4))] {
            let opened = open(&ask(3), reply, &SECRET, PEER).unwrap();
            assert_eq!((opened.words, opened.cookie), (vec![Word::Settled], vec![]));
        }
        let mut changed = sealed(&ask(3));
        changed.words = vec![Word::Running.number().into()];
        assert_eq!(open(&ask(3), changed, &SECRET, PEER).unwrap().words, []);
        assert_eq!(open(&ask(3), sealed(&ask(3)), &SECRET, Uuid::from_u128(8)), None);
    }
}
