//! Post-copy by a user's hand: breaking the channel (`domjobabort --postcopy`), and going on with a migration whose channel
//! is broken (`migrate --postcopy-resume`).
//!
//! A channel that a user has broken is made anew by nobody else: it is *held*, and the destination is told so. Going on is
//! a round of all five calls for the migration that is under way. Its Prepare has QEMU listen, and its Perform asks for no
//! more than what [`super::postcopy`] does by itself: whichever of the two is first, there is one try at a time, and both
//! see what came of it. Finish and Confirm are the machines' again, which take each call any number of times.

use std::time::Duration;

use ferry_domxml::FormatOptions;
use ferry_migration::Peer;
use ferry_migration::params::Request as Parameters;
use ferry_migration::uri::{self, DataUri, Listen};
use ferry_migration::wire::{Context, Direction, NotResumable};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use tokio::time::Instant;

use super::postcopy::Memory;
use super::{Begun, Migration, Prepared, cookies};
use crate::driver::{Driver, Reply, answer};
use crate::listen::Client;
use crate::perform::network;
use crate::refuse;

/// How long a Perform by hand waits for the channel.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long QEMU may take to notice that its channel is broken, and how soon it is asked again.
const NOTICE: Duration = Duration::from_secs(2);
/// See [`NOTICE`].
const NOTICE_PAUSE: Duration = Duration::from_millis(10);

impl Driver {
    /// Abort with POSTCOPY: the channel is broken, and stays so until a user goes on.
    pub(in crate::driver) async fn break_by_hand(&mut self, reply: Reply<()>) {
        let memory = match &self.migration {
            Some(Migration::Out(outgoing)) if outgoing.machine.is_granted() => outgoing.rest.memory,
            Some(Migration::Out(_) | Migration::In(_)) | None => Memory::Ahead,
        };
        let broken = match memory {
            Memory::Moving => self.break_channel().await,
            Memory::Broken => Ok(()),
            Memory::Ahead | Memory::Whole => {
                let text = "current job is not outgoing migration in post-copy mode";
                Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text))
            }
        };
        if let Err(error) = broken {
            return answer(reply, Err(error));
        }
        tracing::info!(domain = %self.name, "post-copy: a user breaks the channel");
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.rest.hold();
            outgoing.rest.by_hand = None;
            // Whoever waits for this migration waits for a user now.
            outgoing.perform.answer(Err(broken_off(Direction::Out)));
            outgoing.confirm.answer(Err(broken_off(Direction::Out)));
        }
        self.tell(ferry_migration::message::Word::Held);
        self.answer(reply, Ok(()));
    }

    /// The source says that its user has broken the channel.
    pub(super) fn told_to_hold(&mut self) {
        if let Some(Migration::In(incoming)) = &mut self.migration
            && incoming.rest.is_split()
        {
            incoming.rest.hold();
        }
        self.end_wait_for_rest();
    }

    /// Nobody waits for the rest of the memory when only a user's hand, or nothing at all, can bring it.
    pub(super) fn end_wait_for_rest(&mut self) {
        let Some(Migration::In(incoming)) = &mut self.migration else { return };
        let is_mute = matches!(incoming.machine.peer(), Peer::Mute(_));
        let rest = &incoming.rest;
        // Once QEMU listens again, a user is on the way, and the channel may stand at the source's end already.
        let is_alone = is_mute && !rest.listens() || incoming.machine.is_over();
        let is_broken = rest.memory == Memory::Broken && is_alone;
        if is_broken || rest.is_split() && rest.held {
            incoming.finish.answer(Err(broken_off(Direction::In)));
        }
    }

    /// Begin of another try: the names are those of the migration that is under way.
    pub(super) async fn begin_again(&mut self, parameters: Parameters, client: Client, reply: Reply<Begun>) {
        let begun = self.offer_again(&parameters);
        if begun.is_ok() {
            self.watch(client.clone());
            if let Some(Migration::Out(outgoing)) = &mut self.migration {
                outgoing.client = Some(client.id());
                outgoing.confirm.answer(Err(broken_off(Direction::Out)));
            }
        }
        self.answer(reply, begun);
    }

    fn offer_again(&self, parameters: &Parameters) -> Result<Begun, Error> {
        let guest = self.running()?;
        let not = |why| Err(self.context().not_resumable(why));
        let outgoing = match &self.migration {
            Some(Migration::Out(outgoing)) if outgoing.job_open => outgoing,
            Some(Migration::Out(_) | Migration::In(_)) | None => return not(NotResumable::NotLeaving),
        };
        match outgoing.rest.memory {
            Memory::Ahead => return not(NotResumable::NotPostcopy),
            Memory::Moving | Memory::Whole => return not(NotResumable::NotBroken),
            Memory::Broken if outgoing.rest.by_hand.is_some() => return not(NotResumable::UnderWay),
            Memory::Broken => {}
        }
        let cookie = cookies::begin(self, &outgoing.names, parameters, Vec::new());
        Ok(Begun { cookie, xml: guest.domain.format(FormatOptions::MIGRATION) })
    }

    /// Prepare of another try: QEMU listens again.
    pub(super) async fn prepare_again(
        &mut self,
        parameters: Parameters,
        cookie: Vec<u8>,
        client: Client,
        reply: Reply<Prepared>,
    ) {
        let outcome = match self.accept_again(&cookie) {
            Ok(()) => self.listen_by_hand(&parameters).await,
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            self.watch(client.clone());
            if let Some(Migration::In(incoming)) = &mut self.migration {
                incoming.client = Some(client.id());
                incoming.rest.held = false;
                // An earlier coordinator has been succeeded.
                incoming.finish.answer(Err(broken_off(Direction::In)));
            }
        }
        self.answer(reply, outcome);
    }

    /// Whether this is the migration that the source speaks of, and broken.
    fn accept_again(&self, cookie: &[u8]) -> Result<(), Error> {
        let not = |why| Err(self.context().not_resumable(why));
        let incoming = match &self.migration {
            Some(Migration::In(incoming)) if self.holds_its_guest() => incoming,
            Some(Migration::In(_) | Migration::Out(_)) | None => return not(NotResumable::NotArriving),
        };
        let offered = cookies::read_begun(self, cookie)?.names;
        let same = match (incoming.shared_names(), &offered) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.id == theirs.id && ours.secret.matches(&theirs.secret),
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            return not(NotResumable::Another);
        }
        match incoming.rest.memory {
            Memory::Ahead => not(NotResumable::NotPostcopy),
            Memory::Moving | Memory::Broken | Memory::Whole => Ok(()),
        }
    }

    async fn listen_by_hand(&mut self, parameters: &Parameters) -> Result<Prepared, Error> {
        let wished = parameters.data_uri()?;
        let Some(Migration::In(incoming)) = &mut self.migration else {
            return Err(refuse::internal("the migration has ended"));
        };
        let is_mute = matches!(incoming.machine.peer(), Peer::Mute(_));
        let present = incoming.rest.uri.clone();
        let port = present.as_deref().and_then(port_of).unwrap_or(0);
        let is_free = matches!(wished, None | Some(DataUri::Tcp { port: None, .. }));
        let listening = match present.clone().filter(|_| is_free && parameters.listen_address.is_none()) {
            Some(present) => present,
            None => {
                let any = self.host.config.migration_address.as_deref().unwrap_or(network::any_address());
                Listen::plan(wished.as_ref(), parameters.listen_address.as_deref())?.qemu_incoming(any, port)
            }
        };
        match incoming.rest.memory {
            // The daemons were quicker; or only the source has noticed yet, and says so when it comes to Perform.
            Memory::Moving if !is_mute => {}
            Memory::Ahead | Memory::Whole => {}
            Memory::Moving | Memory::Broken if !incoming.rest.listens() => {
                if incoming.rest.memory == Memory::Moving {
                    self.break_channel().await?;
                }
                self.listen_soon(listening).await?;
            }
            Memory::Moving | Memory::Broken if present.as_ref() != Some(&listening) => {
                let text = format!(
                    "QEMU of domain '{}' listens for the rest of its memory at {} already",
                    self.name,
                    present.unwrap_or_default()
                );
                return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
            }
            Memory::Moving | Memory::Broken => {}
        }
        let Some(Migration::In(incoming)) = &self.migration else {
            return Err(refuse::internal("the migration has ended"));
        };
        let cookie =
            cookies::prepared(self, &incoming.source_name, incoming.shared_names(), Some(&incoming.overlays));
        let host = self.host.config.migration_host.clone().unwrap_or_else(|| self.host.hostname.clone());
        let uri = match &incoming.rest.uri {
            Some(path) if path.starts_with("unix:") && wished.is_none() => Some(path.clone()),
            Some(_) | None => uri::uri_out(parameters.migrate_uri.as_deref(), wished.as_ref(), &host, port),
        };
        Ok(Prepared { cookie, uri })
    }

    /// Has QEMU listen, which refuses until it has noticed itself that its channel is broken.
    async fn listen_soon(&mut self, uri: String) -> Result<(), Error> {
        let patience = Instant::now() + NOTICE;
        while let Err(error) = self.listen_again(uri.clone()).await {
            if Instant::now() > patience {
                return Err(error);
            }
            tokio::time::sleep(NOTICE_PAUSE).await;
        }
        if let Some(Migration::In(incoming)) = &mut self.migration {
            incoming.rest.listens_at(uri);
        }
        Ok(())
    }

    /// Perform of another try: answered once memory moves again.
    pub(super) async fn perform_again(&mut self, parameters: Parameters, reply: Reply<Vec<u8>>) {
        let wished = match parameters.data_uri() {
            Ok(wished) => wished.map(|uri| uri.qemu_connect()).transpose(),
            Err(error) => return answer(reply, Err(error)),
        };
        let wished = match wished {
            Ok(wished) => wished,
            Err(error) => return answer(reply, Err(error.into())),
        };
        let now = Instant::now();
        let not = |driver: &Driver, why| Err(driver.context().not_resumable(why));
        let Some(Migration::Out(outgoing)) = &mut self.migration else {
            return answer(reply, not(self, NotResumable::NotLeaving));
        };
        match outgoing.rest.memory {
            Memory::Ahead => answer(reply, not(self, NotResumable::NotPostcopy)),
            // The daemons were quicker.
            Memory::Moving | Memory::Whole => {
                let cookie = self.grant_cookie();
                self.answer(reply, Ok(cookie));
            }
            Memory::Broken if outgoing.rest.by_hand.is_some() => {
                answer(reply, not(self, NotResumable::UnderWay));
            }
            Memory::Broken => {
                tracing::info!(domain = %self.name, "post-copy: a user goes on");
                // A destination that has no words for it has said so by answering Prepare.
                let says = matches!(outgoing.machine.peer(), Some(Peer::Ferry));
                outgoing.rest.go_on(wished, !says, now + PATIENCE);
                outgoing.perform.set(reply);
            }
        }
    }

    /// Tells who waits in Perform what has become of the channel.
    pub(super) fn answer_by_hand(&mut self, memory: Memory) {
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        if outgoing.rest.by_hand.take().is_none() {
            return;
        }
        match memory {
            Memory::Moving | Memory::Whole => {
                let cookie = self.grant_cookie();
                if let Some(Migration::Out(outgoing)) = &mut self.migration {
                    outgoing.perform.answer(Ok(cookie));
                }
            }
            Memory::Broken | Memory::Ahead => outgoing.perform.answer(Err(broken_off(Direction::Out))),
        }
    }

    /// Whether a Confirm that says "cancelled" only tells that the rest of the memory waits for another try.
    pub(super) fn is_broken_off(&self, parameters: &Parameters) -> bool {
        let Some(Migration::Out(outgoing)) = &self.migration else { return false };
        let rest = &outgoing.rest;
        let is_mute = matches!(outgoing.machine.peer(), Some(Peer::Mute(_)));
        rest.is_split() && (rest.held || parameters.resumes() || is_mute && rest.memory == Memory::Broken)
    }

    fn context(&self) -> Context<'_> {
        Context { domain: &self.name, qemu_error: None, io_error: false }
    }
}

/// What a caller is told whose migration stops between two hosts.
pub(super) fn broken_off(direction: Direction) -> Error {
    ferry_migration::wire::broken_off(direction)
}

/// The port of a TCP address of QEMU's.
fn port_of(address: &str) -> Option<u16> {
    address
        .strip_prefix("tcp:")
        .and_then(|rest| rest.rsplit_once(':'))
        .and_then(|(_, port)| port.parse().ok())
}
