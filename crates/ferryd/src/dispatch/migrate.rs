//! The phases of a migration, in both forms of the protocol: with typed parameters, and with plain fields.
//!
//! A call is checked by `ferry_migration::params`, then handed to the domain's driver. Perform with PEER2PEER is the
//! whole migration: this daemon then coordinates it itself ([`crate::peer`]).

use std::time::Duration;

use ferry_domxml::{Domain, FormatOptions, abi};
use ferry_migration::Evidence;
use ferry_migration::checks::{self, Ask, Finding, allowed};
use ferry_migration::params::{self, Phase, Request as Parameters};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::MigrateFlags;
use ferry_rpc::proto::{
    Cookie, DomainMigrateBegin3, DomainMigrateBegin3Params, DomainMigrateConfirm3,
    DomainMigrateConfirm3Params, DomainMigrateFinish3, DomainMigrateFinish3Params, DomainMigratePerform3,
    DomainMigratePerform3Params, DomainMigratePrepare3, DomainMigratePrepare3Params,
    DomainMigratePrepareTunnel3, DomainMigratePrepareTunnel3Params, DomainMigrateStartPostCopy, DomainRef,
    MigrateBeginReply, MigrateFinishReply, MigratePrepareReply,
};

use super::{Context, uuid_of};
use crate::driver::Request;
use crate::driver::migrate::MigrateRequest;
use crate::host::Host;
use crate::perform::hook;
use crate::{peer, refuse};

/// Source: whether the guest may leave, and as what.
pub(super) async fn begin(
    context: Context,
    call: DomainMigrateBegin3Params,
) -> Result<MigrateBeginReply, Error> {
    let parameters = Parameters::parse(Phase::Begin, &call.params, call.flags)?;
    begin_with(context, &call.domain, parameters).await
}

/// The same in the older form.
pub(super) async fn begin_plain(
    context: Context,
    call: DomainMigrateBegin3,
) -> Result<MigrateBeginReply, Error> {
    let plain =
        params::from_plain(call.xml.as_deref(), None, call.destination_name.as_deref(), call.bandwidth);
    let parameters = Parameters::parse(Phase::Begin, &plain, params::plain_flags(call.flags)?)?;
    begin_with(context, &call.domain, parameters).await
}

async fn begin_with(
    context: Context,
    domain: &DomainRef,
    parameters: Parameters,
) -> Result<MigrateBeginReply, Error> {
    let client = context.client.clone();
    let begun = context
        .domain(domain)?
        .ask(|reply| Request::Migrate(MigrateRequest::Begin { parameters, client, reply }))
        .await?;
    Ok(MigrateBeginReply { cookie: Cookie(begun.cookie), xml: begun.xml })
}

/// Destination: a QEMU that listens.
pub(super) async fn prepare(
    context: Context,
    call: DomainMigratePrepare3Params,
) -> Result<MigratePrepareReply, Error> {
    let parameters = Parameters::parse(Phase::Prepare, &call.params, call.flags)?;
    prepare_with(context, parameters, call.cookie).await
}

/// The same in the older form.
pub(super) async fn prepare_plain(
    context: Context,
    call: DomainMigratePrepare3,
) -> Result<MigratePrepareReply, Error> {
    let plain = params::from_plain(
        Some(&call.xml),
        call.uri.as_deref(),
        call.destination_name.as_deref(),
        call.bandwidth,
    );
    let parameters = Parameters::parse(Phase::Prepare, &plain, params::plain_flags(call.flags)?)?;
    prepare_with(context, parameters, call.cookie).await
}

async fn prepare_with(
    context: Context,
    parameters: Parameters,
    cookie: Cookie,
) -> Result<MigratePrepareReply, Error> {
    let domain = arriving(&context.host, &parameters).await?;
    let uuid = uuid_of(&domain)?;
    let claim = context.host.claim(uuid, &domain.name)?;
    let client = context.client.clone();
    let (cookie, domain) = (cookie.0, Box::new(Domain::inactive(&domain)));
    let prepared = claim
        .handle()
        .ask(|reply| Request::Migrate(MigrateRequest::Prepare { parameters, cookie, domain, client, reply }))
        .await?;
    Ok(MigratePrepareReply { cookie: Cookie(prepared.cookie), uri: prepared.uri })
}

/// The definition of a guest that arrives, as it is to run here: complete, and with the say of this host's hook.
async fn arriving(host: &Host, parameters: &Parameters) -> Result<Domain, Error> {
    let sent = parameters.destination_xml.as_deref().unwrap_or_default();
    let mut domain = complete(host, sent, parameters).await?;
    if let Some(name) = &parameters.destination_name {
        domain.name.clone_from(name);
    }
    let Some(program) = &host.config.migration_hook else { return Ok(domain) };
    let limit = Duration::from_secs(host.config.migration_hook_seconds);
    let asked = hook::ask(program, limit, &domain.name, &domain.format(FormatOptions::MIGRATION)).await;
    match asked.map_err(refuse::hook)? {
        None => Ok(domain),
        Some(xml) => {
            let changed = complete(host, &xml, parameters).await?;
            // It may change what the host gives, as the user may with a definition of his own, and no more.
            abi::check(&domain, &changed).map_err(refuse::abi)?;
            tracing::info!(domain = domain.name, hook = %program.display(), "the hook has changed the definition");
            Ok(changed)
        }
    }
}

/// Completes a definition, after a look at what in it could never have come here: a source may be older, or not have
/// looked.
async fn complete(host: &Host, xml: &str, parameters: &Parameters) -> Result<Domain, Error> {
    if let Some(error) = checks::refusal(&shown(&refuse::parse(xml)?, parameters)) {
        return Err(error);
    }
    host.complete_arriving(xml).await
}

/// What the definition of a guest that arrives shows that cannot be migrated.
pub(super) fn shown(domain: &Domain, parameters: &Parameters) -> Vec<Finding> {
    allowed::findings(domain, &allowed::Facts::default(), Ask::of(parameters.flags))
}

/// Tunnelled migration is refused by its name.
pub(super) async fn prepare_tunnel(
    _context: Context,
    call: DomainMigratePrepareTunnel3Params,
) -> Result<Cookie, Error> {
    Parameters::parse(Phase::Perform, &call.params, call.flags.with(MigrateFlags::TUNNELLED))?;
    Err(no_tunnel())
}

/// The same in the older form.
pub(super) async fn prepare_tunnel_plain(
    _context: Context,
    _call: DomainMigratePrepareTunnel3,
) -> Result<Cookie, Error> {
    Err(no_tunnel())
}

fn no_tunnel() -> Error {
    let text = "tunnelled migration (VIR_MIGRATE_TUNNELLED) is not supported";
    Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text)
}

/// Source: the copy; or, peer to peer, all of it.
pub(super) async fn perform(context: Context, call: DomainMigratePerform3Params) -> Result<Cookie, Error> {
    let parameters = Parameters::parse(Phase::Perform, &call.params, call.flags);
    let parameters = performable(&context, &call.domain, parameters).await?;
    perform_with(context, &call.domain, call.destination_uri, parameters, call.params, call.cookie).await
}

/// The same in the older form.
pub(super) async fn perform_plain(context: Context, call: DomainMigratePerform3) -> Result<Cookie, Error> {
    let plain = params::from_plain(
        call.xml.as_deref(),
        call.uri.as_deref(),
        call.destination_name.as_deref(),
        call.bandwidth,
    );
    let parameters =
        params::plain_flags(call.flags).and_then(|flags| Parameters::parse(Phase::Perform, &plain, flags));
    let parameters = performable(&context, &call.domain, parameters).await?;
    perform_with(context, &call.domain, call.destination_uri, parameters, plain, call.cookie).await
}

/// A call that is refused as it stands ends what its caller's Begin has opened: no Confirm follows.
async fn performable(
    context: &Context,
    domain: &DomainRef,
    parameters: Result<Parameters, Error>,
) -> Result<Parameters, Error> {
    if parameters.is_err()
        && let Ok(handle) = context.domain(domain)
    {
        let client = context.client.clone();
        handle.ask(|reply| Request::Migrate(MigrateRequest::NotPerformed { client, reply })).await?;
    }
    parameters
}

async fn perform_with(
    context: Context,
    domain: &DomainRef,
    destination: Option<String>,
    parameters: Parameters,
    given: Vec<ferry_rpc::TypedParam>,
    cookie: Cookie,
) -> Result<Cookie, Error> {
    let handle = context.domain(domain)?;
    if parameters.flags.contains(MigrateFlags::PEER2PEER) {
        let Some(destination) = destination else {
            let text = "no destination URI for a peer-to-peer migration";
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
        };
        peer::migrate(&context.host, handle, &destination, parameters, given).await?;
        // The source settled everything itself; the client has nothing to pass on.
        return Ok(Cookie(Vec::new()));
    }
    let (client, cookie) = (context.client.clone(), cookie.0);
    let performed = handle
        .ask(|reply| Request::Migrate(MigrateRequest::Perform { parameters, cookie, client, reply }))
        .await?;
    Ok(Cookie(performed))
}

/// Destination: start the guest, or clean up.
pub(super) async fn finish(
    context: Context,
    call: DomainMigrateFinish3Params,
) -> Result<MigrateFinishReply, Error> {
    let parameters = Parameters::parse(Phase::Finish, &call.params, call.flags)?;
    finish_with(context, parameters, call.cookie, call.cancelled).await
}

/// The same in the older form.
pub(super) async fn finish_plain(
    context: Context,
    call: DomainMigrateFinish3,
) -> Result<MigrateFinishReply, Error> {
    let plain = params::from_plain(None, call.uri.as_deref(), Some(&call.destination_name), 0);
    let parameters = Parameters::parse(Phase::Finish, &plain, params::plain_flags(call.flags)?)?;
    finish_with(context, parameters, call.cookie, call.cancelled).await
}

async fn finish_with(
    context: Context,
    parameters: Parameters,
    cookie: Cookie,
    cancelled: bool,
) -> Result<MigrateFinishReply, Error> {
    let name = parameters.destination_name.clone().unwrap_or_default();
    let handle = context.host.registry.by_name_or_arriving(&name)?;
    let cookie = cookie.0;
    let arrived = handle
        .ask(|reply| Request::Migrate(MigrateRequest::Finish { parameters, cookie, cancelled, reply }))
        .await?;
    Ok(MigrateFinishReply { domain: arrived.domain, cookie: Cookie(arrived.cookie) })
}

/// Source: let the guest go, or keep it.
pub(super) async fn confirm(context: Context, call: DomainMigrateConfirm3Params) -> Result<(), Error> {
    let parameters = Parameters::parse(Phase::Confirm, &call.params, call.flags)?;
    confirm_with(context, &call.domain, parameters, call.cookie, call.cancelled).await
}

/// The same in the older form.
pub(super) async fn confirm_plain(context: Context, call: DomainMigrateConfirm3) -> Result<(), Error> {
    let parameters = Parameters::parse(Phase::Confirm, &[], params::plain_flags(call.flags)?)?;
    confirm_with(context, &call.domain, parameters, call.cookie, call.cancelled).await
}

async fn confirm_with(
    context: Context,
    domain: &DomainRef,
    parameters: Parameters,
    cookie: Cookie,
    cancelled: bool,
) -> Result<(), Error> {
    let cookie = cookie.0;
    // The two daemons may have settled it between themselves, and the domain be gone from here.
    let handle = context.host.registry.by_uuid_or_gone(domain.uuid, &domain.name)?;
    let evidence = Evidence::None;
    handle
        .ask(|reply| {
            Request::Migrate(MigrateRequest::Confirm { parameters, cookie, cancelled, evidence, reply })
        })
        .await
}

/// Source: switch a copy that was started with POSTCOPY.
pub(super) async fn start_postcopy(context: Context, call: DomainMigrateStartPostCopy) -> Result<(), Error> {
    super::accept_flags(call.flags, 0, "qemuDomainMigrateStartPostCopy")?;
    context.domain(&call.domain)?.ask(|reply| Request::StartPostcopy { reply }).await
}
