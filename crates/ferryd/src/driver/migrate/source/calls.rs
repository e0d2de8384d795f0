//! What is asked of the source: Begin, Perform, Confirm, abort, post-copy, destroy.

use ferry_domain::Operation;
use ferry_domxml::{Domain, FormatOptions};
use ferry_migration::overlay::Overlay;
use ferry_migration::params::Request as Parameters;
use ferry_migration::plan::BestEffort;
use ferry_migration::source::Input;
use ferry_migration::wire::Direction;
use ferry_migration::{Evidence, Peer};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::MigrateFlags;

use super::super::by_hand::broken_off;
use super::super::overlays::to_send;
use super::super::{Begun, Conversation, Migration, Names, cookies};
use crate::driver::migrate::cookies::Answered;
use crate::driver::{Driver, Reply, answer};
use crate::listen::Client;
use crate::refuse;

impl Driver {
    /// Begin: checks whether the guest may leave, and says what the destination is to make ready for.
    pub(in crate::driver) async fn begin(
        &mut self,
        parameters: Parameters,
        client: Client,
        reply: Reply<Begun>,
    ) {
        self.recall_epoch().await;
        let overlays = match self.overlays().await {
            Ok(overlays) => overlays,
            Err(error) => return answer(reply, Err(error)),
        };
        let begun = match self.offer(&parameters, overlays.clone()) {
            Ok(begun) => begun,
            Err(error) => return answer(reply, Err(error)),
        };
        if let Err(error) = self.check_leaving(parameters.flags, &overlays, None).await {
            return answer(reply, Err(error));
        }
        let names = begun.1;
        if parameters.is_offline() || !parameters.flags.contains(MigrateFlags::CHANGE_PROTECTION) {
            // No job: the call may be repeated, and Perform opens the migration under these names.
            self.host.registry.enlist(names.id, self.uuid);
            if let Some(earlier) = self.offered.replace(names) {
                self.host.registry.strike(earlier.id);
            }
            self.offer_heard = false;
            return self.answer(reply, Ok(begun.0));
        }
        self.watch(client.clone());
        self.open(names, parameters, Some(client.id()));
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.begun = Some(begun.0);
            outgoing.begin.set(reply);
        }
        self.start_source().await;
    }

    /// Perform: copies memory and state to where the destination listens.
    pub(in crate::driver) async fn perform(
        &mut self,
        parameters: Parameters,
        cookie: Vec<u8>,
        client: Client,
        reply: Reply<Vec<u8>>,
    ) {
        if let Err(error) = self.running() {
            return answer(reply, Err(error));
        }
        let looked = async {
            let overlays = self.overlays().await?;
            // First what this host sees; an unreadable cookie says nothing of the other.
            let prepared = cookies::read_prepared(self, &cookie);
            let there = prepared.as_ref().map(|prepared| &*prepared.overlays).unwrap_or_default();
            self.check_leaving(parameters.flags, &overlays, Some(there)).await?;
            let bitmaps = to_send(overlays, there);
            Ok((prepared?, bitmaps))
        };
        let (prepared, bitmaps) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                self.never_performed(&client).await;
                return answer(reply, Err(error));
            }
        };
        self.recall_epoch().await;
        // One that has ended lingers for its coordinator's sake; it is not this one.
        let begun = match &self.migration {
            Some(Migration::Out(outgoing)) if outgoing.job_open => Some(outgoing.names.id),
            Some(Migration::Out(_) | Migration::In(_)) | None => None,
        };
        let ours = begun.or_else(|| self.offered.as_ref().map(|names| names.id));
        if prepared.id.is_some() && prepared.id != ours {
            // Two that call it by different names could never settle who has the guest.
            let text = format!("the destination is prepared for another migration of domain '{}'", self.name);
            self.never_performed(&client).await;
            return answer(reply, Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)));
        }
        if begun.is_none() {
            if let Err(error) = self.admit(Operation::MigrateOut) {
                return answer(reply, Err(error));
            }
            let names = self.offered.take().unwrap_or_else(|| Names::new(self.epoch.next()));
            let heard = std::mem::take(&mut self.offer_heard);
            self.watch(client.clone());
            self.open(names, parameters.clone(), Some(client.id()));
            self.start_source().await;
            if let Some(Migration::Out(outgoing)) = &mut self.migration {
                outgoing.conversation.heard = heard;
            }
        }
        let peer = self.meet(prepared).await;
        let Some(Migration::Out(outgoing)) = &mut self.migration else {
            let text = "the migration could not be opened: its journal cannot be written";
            return answer(reply, Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text)));
        };
        // On record before the copy begins: a restarted daemon may have to make its channel anew.
        outgoing.rest.uri = parameters.data_uri().ok().flatten().and_then(|uri| uri.qemu_connect().ok());
        outgoing.parameters = parameters;
        outgoing.bitmaps = bitmaps;
        outgoing.perform.set(reply);
        self.call_source(Input::Perform(peer)).await;
    }

    /// A Perform is refused before it could begin: that ends what its caller's Begin has opened, for no Confirm follows.
    pub(in crate::driver) async fn never_performed(&mut self, client: &Client) {
        if let Some(Migration::Out(outgoing)) = &self.migration
            && outgoing.client == Some(client.id())
            && outgoing.machine.expects_perform()
        {
            self.drive_source(Input::Confirm { cancelled: true, evidence: Evidence::None }).await;
        }
    }

    /// Confirm: the coordinator's word about the destination. It counts as a question unless it is proven.
    pub(in crate::driver) async fn confirm(
        &mut self,
        parameters: Parameters,
        cookie: Vec<u8>,
        (cancelled, own): (bool, Evidence),
        reply: Reply<()>,
    ) {
        if parameters.is_offline() {
            let outcome = self.confirm_offline(&parameters, cancelled).await;
            return self.answer(reply, outcome);
        }
        if cancelled && self.is_broken_off(&parameters) {
            return answer(reply, Err(broken_off(Direction::Out)));
        }
        let (evidence, theirs) = match cookies::read_arrived(self, &cookie) {
            Ok(read) => read,
            // An unreadable cookie proves nothing; the call is still a question.
            Err(error) => {
                tracing::warn!(domain = %self.name, %error, "the confirm cookie is not readable");
                (Evidence::None, None)
            }
        };
        let Some(Migration::Out(outgoing)) = &mut self.migration else {
            let text = format!("domain '{}' is not being migrated", self.name);
            return answer(reply, Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text)));
        };
        // What was watched counts only for a destination that has no word of its own: a Ferry may know better.
        let is_mute = matches!(outgoing.machine.peer(), Some(Peer::Mute(_)));
        let evidence = if evidence == Evidence::None && is_mute { own } else { evidence };
        let undefine = if parameters.flags.contains(MigrateFlags::UNDEFINE_SOURCE) {
            MigrateFlags::UNDEFINE_SOURCE
        } else {
            MigrateFlags::NONE
        };
        outgoing.confirm.set(reply);
        outgoing.confirm_cancelled = cancelled;
        if let Some(theirs) = &theirs {
            outgoing.stats = outgoing.stats.completed_by(theirs);
            // The destination may have said itself that the guest runs: then the job is over, and only lacks this.
            if let Some(done) = &mut self.completed_job
                && done.timeline == outgoing.stats.timeline
            {
                *done = done.completed_by(theirs);
            }
        }
        outgoing.parameters.flags = outgoing.parameters.flags | undefine;
        self.call_source(Input::Confirm { cancelled, evidence }).await;
    }

    pub(in crate::driver) async fn confirm_offline(
        &mut self,
        parameters: &Parameters,
        cancelled: bool,
    ) -> Result<(), Error> {
        self.offered = None;
        let undefine = parameters.flags.contains(MigrateFlags::UNDEFINE_SOURCE);
        if !cancelled && undefine && self.config.is_some() && self.guest.is_none() {
            // What it left in files did not go with it.
            self.forget_definition(Vec::new()).await?;
        }
        Ok(())
    }

    /// Switches the copy to post-copy.
    pub(in crate::driver) async fn start_postcopy(&mut self, reply: Reply<()>) {
        if let Err(error) = self.admit(Operation::StartPostcopy) {
            return answer(reply, Err(error));
        }
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return };
        outgoing.postcopy.set(reply);
        self.call_source(Input::StartPostcopy).await;
    }

    /// Abort while the guest is leaving.
    pub(in crate::driver) async fn abort_leaving(&mut self, reply: Reply<()>) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.abort.set(reply);
            self.call_source(Input::Abort).await;
        }
    }

    /// Destroy while the guest is leaving.
    pub(in crate::driver) async fn destroy_leaving(&mut self, reply: Reply<()>) {
        if let Some(Migration::Out(outgoing)) = &mut self.migration {
            outgoing.destroy.set(reply);
            self.call_source(Input::Destroy).await;
        }
    }

    /// Makes an offer out of the running guest: cookie, definition and names.
    pub(in crate::driver) fn offer(
        &mut self,
        parameters: &Parameters,
        overlays: Vec<Overlay>,
    ) -> Result<(Begun, Names), Error> {
        self.admit(Operation::MigrateOut)?;
        let current = match (&self.guest, &self.config) {
            (Some(guest), _) => &guest.domain,
            (None, Some(config)) if parameters.is_offline() => config,
            (None, _) => return Err(refuse::not_running()),
        };
        let definition = match (&parameters.destination_xml, parameters.is_offline(), &self.config) {
            (Some(xml), _, _) => {
                let wished = refuse::parse(xml)?;
                ferry_domxml::abi::check(current, &wished).map_err(refuse::abi)?;
                wished
            }
            (None, true, Some(config)) => Domain::clone(config),
            (None, _, _) => Domain::clone(current),
        };
        let names = Names::new(self.epoch.next());
        let xml = definition.format(FormatOptions::MIGRATION);
        Ok((Begun { cookie: cookies::begin(self, &names, parameters, overlays), xml }, names))
    }

    /// Finds out who is at the other end, before anything depends on it.
    async fn meet(&mut self, prepared: Answered) -> Peer {
        let host = self.host.uuid;
        let Some(Migration::Out(outgoing)) = &mut self.migration else { return prepared.without_address };
        let heard = outgoing.conversation.heard;
        outgoing.conversation = Conversation::with(prepared.peer, Some(&outgoing.names), host);
        outgoing.conversation.heard = heard;
        let is_ferry = prepared.without_address == Peer::Mute(BestEffort::NoAddress);
        if is_ferry && outgoing.conversation.reaches().await { Peer::Ferry } else { prepared.without_address }
    }
}
