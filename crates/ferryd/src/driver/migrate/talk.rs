//! What the two daemons of a migration say to each other, as a driver hears and says it.
//!
//! A word from outside counts only with the migration's secret. While the other side is being answered, what the
//! machine wants to say goes into the answer, so that one reachable side is enough for both.

use std::time::Duration;

use ferry_migration::MigrationId;
use ferry_migration::message::Word;
use ferry_migration::{destination, source};
use tokio::time::Instant;

use super::{Migration, Names, RETRY_FIRST, RETRY_LAST};
use crate::driver::{Driver, Request, Told};
use crate::handover::{self, Answer, Credentials, Line, Peer};

/// The other daemon of one migration, and when to speak to it again.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    /// Who it is; nothing for a stock host.
    pub(super) peer: Option<Peer>,
    line: Option<Line>,
    /// It has spoken with the right secret: it is a Ferry, and one of us can reach the other.
    pub(super) heard: bool,
    /// When the other daemon last answered a word.
    answered: Option<Instant>,
    /// When the other daemon last said something by itself.
    told: Option<Instant>,
    /// How long until what is outstanding is said again: short at first, for a lost message, then patient.
    pause: Option<Duration>,
}

impl Conversation {
    /// A conversation with `peer`, as its cookie describes it.
    pub(super) fn with(peer: Option<Peer>, names: Option<&Names>, host: uuid::Uuid) -> Conversation {
        let line = match (&peer, names) {
            (Some(peer), Some(names)) => {
                let credentials = Credentials { id: names.id, secret: names.secret.clone(), host };
                Line::open(peer, credentials)
            }
            (None, _) | (_, None) => None,
        };
        Conversation { peer, line, heard: false, answered: None, told: None, pause: None }
    }

    /// Whether the other daemon answers. One word is said that changes nothing.
    pub(super) async fn reaches(&mut self) -> bool {
        if let Some(line) = &self.line {
            self.heard |= line.say(Word::Ask, Vec::new()).await.is_some();
        }
        self.heard
    }

    /// Whether words can be said and have been answered since then; `None` when nobody is there to answer.
    pub(super) fn answered_since(&self, then: Instant) -> Option<bool> {
        self.line.is_some().then(|| self.answered.is_some_and(|at| at >= then))
    }

    /// When to say again what is outstanding.
    pub(super) fn next_retry(&mut self) -> Instant {
        let pause = self.pause.map_or(RETRY_FIRST, |last| (last * 2).min(RETRY_LAST));
        self.pause = Some(pause);
        Instant::now() + pause
    }

    /// Something has changed: a lost message is noticed soon again.
    pub(super) fn impatient(&mut self) {
        self.pause = None;
    }
}

impl Driver {
    /// The other daemon says something. What this side says to it is the answer.
    pub(in crate::driver) async fn told(&mut self, told: Told) -> Answer {
        let is_offered =
            |names: &&Names| names.id == told.id && handover::is_sealed(&told.call, &names.secret);
        if let Some(Names { secret, .. }) = self.offered.as_ref().filter(is_offered) {
            let secret = secret.clone();
            // Begin was answered, and Perform has not opened the migration yet.
            self.offer_heard = true;
            let word = match told.word {
                // Nothing was begun, so there is nothing to keep; nobody is prepared for these names any more.
                Word::Declined => {
                    self.offered = None;
                    self.host.registry.strike(told.id);
                    Some(Word::Settled)
                }
                _ => None,
            };
            return Answer::of(word).known_by(&secret);
        }
        let Some(at) = self.place_of(told.id) else { return Answer::of(told.word.of_stranger()) };
        let secret = self.at(at).and_then(|migration| {
            let secret = &migration.names()?.secret;
            let peer = migration.conversation().peer.as_ref();
            let is_peers = peer.is_none_or(|peer| peer.host == told.call.host);
            (is_peers && handover::is_sealed(&told.call, secret)).then(|| secret.clone())
        });
        let Some(secret) = secret else {
            tracing::warn!(domain = %self.name, from = %told.call.host, "somebody without the secret speaks of a migration");
            return Answer::of(told.word.of_stranger());
        };
        self.bring_forward(at);
        let mut silence = Duration::ZERO;
        if let Some(migration) = &mut self.migration {
            let conversation = migration.conversation_mut();
            conversation.heard = true;
            silence = conversation.told.replace(Instant::now()).map_or(silence, |last| last.elapsed());
        }
        self.end_silence(silence, false).await;
        if told.word == Word::Granted && !told.call.cookie.0.is_empty() {
            self.take_delivery(&told.call.cookie.0);
        }
        self.answering = Some(Vec::new());
        self.drive_told(told.word).await;
        let mut words = self.answering.take().unwrap_or_default();
        if words.is_empty() {
            words.extend(self.migration.as_ref().and_then(Migration::outstanding));
        }
        // Whoever starts on a grant may never see Finish, and its cookie.
        let cookie = if words.contains(&Word::Granted) { self.grant_cookie() } else { Vec::new() };
        self.send_back(at);
        Answer { words, cookie, ..Answer::default() }.known_by(&secret)
    }

    /// What the other daemon answered to `said`.
    pub(in crate::driver) async fn heard(&mut self, id: MigrationId, said: Word, answer: Answer) {
        if let Some(migration) = self.migration.as_mut().filter(|migration| migration.id() == id) {
            migration.conversation_mut().answered = Some(Instant::now());
            self.end_silence(answer.silence, true).await;
        }
        self.has_heard = Some(said);
        for word in answer.words {
            let Some(at) = self.place_of(id) else { break };
            self.bring_forward(at);
            if let Some(migration) = &mut self.migration {
                migration.conversation_mut().heard = true;
            }
            if word == Word::Granted && !answer.cookie.is_empty() {
                self.take_delivery(&answer.cookie);
            }
            self.drive_told(word).await;
            self.send_back(at);
        }
        self.has_heard = None;
    }

    /// [`ferry_migration::source::Effect::Tell`] and the destination's.
    pub(super) fn tell(&mut self, word: Word) {
        if let Some(answer) = &mut self.answering {
            return answer.push(word);
        }
        // It has this word and has answered it: were it said again, the two would go on for ever.
        if self.has_heard == Some(word) {
            return;
        }
        let cookie = if word == Word::Granted { self.grant_cookie() } else { Vec::new() };
        let (Some(migration), Some(me)) = (&self.migration, self.me.upgrade()) else { return };
        let Some(line) = &migration.conversation().line else { return };
        let (id, answer) = (migration.id(), line.say(word, cookie));
        tracing::debug!(domain = %self.name, %word, migration = %id, "telling the other daemon");
        tokio::spawn(async move {
            if let Some(answer) = answer.await {
                // A driver that has ended has nothing to hear.
                let _ = me.send(Request::Heard { id, said: word, answer }).await;
            }
        });
    }

    async fn drive_told(&mut self, word: Word) {
        tracing::debug!(domain = %self.name, %word, "the other daemon says");
        match word {
            Word::GoingOn => self.be_patient(),
            Word::Reconnect => return self.told_to_reconnect().await,
            Word::Held => return self.told_to_hold(),
            _ => {}
        }
        match &self.migration {
            Some(Migration::Out(_)) => self.drive_source(source::Input::Told(word)).await,
            Some(Migration::In(_)) => self.drive_destination(destination::Input::Told(word)).await,
            None => {}
        }
    }

    /// Where a migration is kept: nothing for the present one, else its place among those that settle.
    fn place_of(&self, id: MigrationId) -> Option<Option<usize>> {
        if self.migration.as_ref().is_some_and(|migration| migration.id() == id) {
            return Some(None);
        }
        self.settling.iter().position(|migration| migration.id() == id).map(Some)
    }

    fn at(&self, at: Option<usize>) -> Option<&Migration> {
        match at {
            None => self.migration.as_ref(),
            Some(at) => self.settling.get(at),
        }
    }

    /// Lets the hands of this driver work on a migration that settles; [`Driver::send_back`] puts it away again.
    pub(super) fn bring_forward(&mut self, at: Option<usize>) {
        if let Some(at) = at {
            let settling = self.settling.remove(at);
            let present = self.migration.replace(settling);
            self.waiting = present;
        }
    }

    /// See [`Driver::bring_forward`].
    pub(super) fn send_back(&mut self, at: Option<usize>) {
        if at.is_some() {
            self.settling.extend(self.migration.take());
            self.migration = self.waiting.take();
        }
    }

    /// QEMU is gone: earlier migrations that brought the guest into it, and whose source does not know it, say so.
    pub(in crate::driver) async fn settling_exit(&mut self, launch_id: &str) {
        let concerned = self.settling.iter().filter(|migration| migration.launch_id() == launch_id);
        let concerned: Vec<_> = concerned.map(Migration::id).collect();
        for id in concerned {
            let Some(at @ Some(_)) = self.place_of(id) else { continue };
            self.bring_forward(at);
            match &self.migration {
                Some(Migration::Out(_)) => self.drive_source(source::Input::Qemu(source::Report::Died)).await,
                Some(Migration::In(_)) => {
                    self.drive_destination(destination::Input::Qemu(destination::Report::Died)).await;
                }
                None => {}
            }
            self.send_back(at);
        }
    }

    /// A migration that has ended here and is not acknowledged yet makes room for the next.
    pub(super) fn make_room(&mut self) {
        match self.migration.take() {
            Some(ended) if ended.is_over() => self.host.registry.strike(ended.id()),
            Some(mut ended) => {
                // Whoever coordinated it has nothing more to ask.
                ended.forget_client();
                self.settling.push(ended);
            }
            None => {}
        }
    }
}

impl Driver {
    /// A Prepare of a newer epoch from the host that this guest was sent to: so it ran there. What was left open on
    /// this side is closed, and the guest may come back.
    pub(super) async fn came_back(&mut self, cookie: &[u8]) -> Result<(), ferry_rpc::Error> {
        let Some(Migration::Out(outgoing)) = &self.migration else { return Ok(()) };
        let Some(peer) = &outgoing.conversation.peer else { return Ok(()) };
        if super::cookies::is_later(cookie, self.host.uuid, outgoing.names.epoch, peer.host) {
            self.drive_source(source::Input::ComesBack).await;
        }
        Ok(())
    }
}
