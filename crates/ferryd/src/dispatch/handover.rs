//! The other daemon of a migration speaks: our own program's one procedure.
//!
//! Whoever does not know the secret is answered like one who speaks of a migration that nobody knows here.

use ferry_migration::journal::SourceStatus;
use ferry_migration::message::Word;
use ferry_migration::{MigrationId, Secret};
use ferry_rpc::error::Error;
use ferry_rpc::proto::{HandoverTell, HandoverTellReply};
use ferry_store::Role;

use super::Context;
use crate::driver::migrate::Beside;
use crate::driver::{Request, Told};
use crate::handover;

/// Hands a word to the domain that it is about, and answers with what its driver says.
pub(super) async fn tell(context: Context, call: HandoverTell) -> Result<HandoverTellReply, Error> {
    let host = context.host.uuid;
    let Some(word) = handover::known(call.word) else {
        return Ok(HandoverTellReply { host, words: Vec::new() });
    };
    let id = MigrationId::from_bytes(call.migration);
    let words = match context.host.registry.by_migration(id) {
        None => match settled_long_ago(&context, &call, word).await? {
            Some(answer) => vec![answer],
            None => word.of_stranger().into_iter().collect(),
        },
        Some(driver) => {
            let secret = Secret::from_bytes(call.secret.0);
            let told = Told { id, secret, host: call.host, word, cookie: call.cookie.0 };
            driver.ask(|reply| Request::Told { told, reply }).await?
        }
    };
    Ok(HandoverTellReply { host, words: words.into_iter().map(|word| word.number().into()).collect() })
}

/// A migration whose end this side has recorded and put away: its other side may not have heard that.
async fn settled_long_ago(context: &Context, call: &HandoverTell, word: Word) -> Result<Option<Word>, Error> {
    let migration = u128::from_be_bytes(call.migration);
    let entries = context.host.store(move |store| store.journal_of(migration)).await?;
    let done = entries.last().filter(|last| last.role == Role::Source && last.kind == "Done");
    let Some(beside) = done.and_then(|last| serde_json::from_value::<Beside>(last.body.clone()).ok()) else {
        return Ok(None);
    };
    let authentic = beside.secret.matches(&Secret::from_bytes(call.secret.0));
    Ok(authentic.then(|| SourceStatus::Done.answer(word).say).flatten())
}
