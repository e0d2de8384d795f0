//! The calls of a migration one by one, with typed parameters, as a test wants them: in turn or not.

use ferry_rpc::TypedParam;
use ferry_rpc::error::Error;
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::proto::{
    Cookie, DomainLookupByName, DomainMigrateBegin3Params, DomainMigrateConfirm3Params,
    DomainMigrateFinish3Params, DomainMigratePerform3Params, DomainMigratePrepare3Params, DomainRef,
    MigrateBeginReply, MigrateFinishReply, MigratePrepareReply,
};

use crate::Pair;
use crate::wire::Wire;

/// What a stock client asks for in a direct migration.
const FLAGS: MigrateFlags =
    MigrateFlags::LIVE.with(MigrateFlags::UNSAFE).with(MigrateFlags::CHANGE_PROTECTION);

/// A client that migrates the domain `vm`, with a connection to each host. Every call gives the daemon's refusal, and panics
/// when there is no answer.
#[derive(Debug)]
pub struct Client {
    source: Wire,
    destination: Wire,
    /// The guest, as the source knew it.
    pub domain: DomainRef,
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "the protocol's calls, and its refusals")]
impl Client {
    /// From host `from` to the other one.
    ///
    /// # Panics
    /// When the source does not know the domain.
    pub fn new(pair: &Pair, from: usize) -> Self {
        let mut source = Wire::open(pair.daemon(from));
        let domain = source.ask(&DomainLookupByName { name: "vm".to_owned() }).expect("the domain");
        Self { source, destination: Wire::open(pair.daemon(1 - from)), domain }
    }

    /// The same client's next life: connections of its own, and the guest that it knew.
    pub fn again(pair: &Pair, from: usize, domain: DomainRef) -> Self {
        let wire = |number| Wire::open(pair.daemon(number));
        Self { source: wire(from), destination: wire(1 - from), domain }
    }

    pub fn begin(&mut self) -> Result<MigrateBeginReply, Error> {
        let domain = self.domain.clone();
        self.source.ask(&DomainMigrateBegin3Params { domain, params: Vec::new(), flags: FLAGS })
    }

    pub fn prepare(&mut self, begun: &MigrateBeginReply) -> Result<MigratePrepareReply, Error> {
        let params = vec![TypedParam::new("destination_xml", begun.xml.as_str())];
        let flags = FLAGS.without(MigrateFlags::CHANGE_PROTECTION);
        self.destination.ask(&DomainMigratePrepare3Params { params, cookie: begun.cookie.clone(), flags })
    }

    pub fn perform(&mut self, prepared: &MigratePrepareReply, more: &[TypedParam]) -> Result<Cookie, Error> {
        let mut params = more.to_vec();
        params.extend(prepared.uri.as_deref().map(|uri| TypedParam::new("migrate_uri", uri)));
        self.source.ask(&DomainMigratePerform3Params {
            domain: self.domain.clone(),
            destination_uri: None,
            params,
            cookie: prepared.cookie.clone(),
            flags: FLAGS,
        })
    }

    pub fn finish(&mut self, cookie: &Cookie, cancelled: bool) -> Result<MigrateFinishReply, Error> {
        let params = vec![TypedParam::new("destination_name", "vm")];
        let flags = FLAGS.without(MigrateFlags::CHANGE_PROTECTION);
        let cookie = cookie.clone();
        self.destination.ask(&DomainMigrateFinish3Params { params, cookie, flags, cancelled })
    }

    pub fn confirm(&mut self, cookie: &Cookie, cancelled: bool) -> Result<(), Error> {
        let (domain, cookie) = (self.domain.clone(), cookie.clone());
        let params = Vec::new();
        self.source.ask(&DomainMigrateConfirm3Params { domain, params, cookie, flags: FLAGS, cancelled })
    }

    /// All of them up to Finish: the guest runs on the destination, and the source has not been told by the client.
    pub fn move_unconfirmed(&mut self) -> Result<MigrateFinishReply, Error> {
        let begun = self.begin()?;
        let prepared = self.prepare(&begun)?;
        let performed = self.perform(&prepared, &[])?;
        self.finish(&performed, false)
    }
}
