//! The other daemon of a migration speaks: our own program's one procedure.
//!
//! Whoever does not know the secret is answered like one who speaks of a migration that nobody knows here.

use ferry_migration::MigrationId;
use ferry_migration::journal::Status;
use ferry_migration::message::Word;
use ferry_rpc::error::Error;
use ferry_rpc::proto::{HandoverTell, HandoverTellReply};

use super::Context;
use crate::driver::migrate::Beside;
use crate::driver::{Request, Told};
use crate::handover::Answer;
use crate::{handover, restart};

/// Hands a word to the domain that it is about, and answers with what its driver says.
pub(super) async fn tell(context: Context, call: HandoverTell) -> Result<HandoverTellReply, Error> {
    let host = context.host.uuid;
    let Some(word) = handover::known(call.word) else {
        return Ok(handover::reply(&call, host, Answer::default()));
    };
    let id = MigrationId::from_bytes(call.migration);
    let answer = match context.host.registry.by_migration(id) {
        None => {
            let known = from_journal(&context, &call, word).await?;
            known.unwrap_or_else(|| Answer::of(word.of_stranger()))
        }
        Some(driver) => {
            let told = Told { id, word, call: call.clone() };
            driver.ask(|reply| Request::Told { told, reply }).await?
        }
    };
    Ok(handover::reply(&call, host, answer))
}

/// A migration that only the journal knows any more: its other side may not have heard how it ended. Nothing for one
/// that the journal does not know, or of whose secret the caller knows nothing.
async fn from_journal(context: &Context, call: &HandoverTell, word: Word) -> Result<Option<Answer>, Error> {
    let migration = u128::from_be_bytes(call.migration);
    let entries = context.host.store(move |store| store.journal_of(migration)).await?;
    let beside = entries.last().and_then(|last| serde_json::from_value::<Beside>(last.body.clone()).ok());
    let Some(Beside { secret, .. }) = beside.filter(|beside| handover::is_sealed(call, &beside.secret))
    else {
        return Ok(None);
    };
    let records = entries.iter().map(restart::record).collect::<Result<Vec<_>, _>>();
    let status = records.ok().and_then(|records| Status::fold(records).ok().flatten());
    let answer = match status {
        Some(Status::Source(status)) => status.answer(word),
        Some(Status::Destination(status)) => status.answer(word),
        // Damaged: whatever it was, it is not unknown here.
        None => return Ok(Some(Answer::default().known_by(&secret))),
    };
    if answer.settled {
        context.host.store(move |store| store.purge(migration)).await?;
    }
    Ok(Some(Answer::of(answer.say).known_by(&secret)))
}
