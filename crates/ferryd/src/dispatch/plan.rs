//! A migration that is only thought of: each host says everything that stands in its way, and changes nothing.
//!
//! Called by `ferry plan`, first on the source, then with the definition that the source gives on the destination. What
//! a real Begin or Prepare would refuse is found by the same code; only that they stop at what they cannot go past.

use std::sync::Arc;

use ferry_migration::checks::{Ask, allowed};
use ferry_migration::params::{Phase, Request as Parameters};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{PlanArriving, PlanFinding, PlanLeaving, PlanReply};

use super::{Context, uuid_of};
use crate::driver::Request;
use crate::handover;
use crate::host::Host;
use crate::perform::launch;
use crate::refuse;

/// The source's part.
pub(super) async fn leaving(context: Context, call: PlanLeaving) -> Result<PlanReply, Error> {
    let parameters = Box::new(Parameters::parse(Phase::Begin, &call.params, call.flags)?);
    let handle = context.domain(&call.domain)?;
    let leaving = handle.ask(|reply| Request::PlanLeaving { parameters, reply }).await?;
    let findings = leaving.obstacles.into_iter().map(|(error, remedy)| finding(error, remedy)).collect();
    Ok(PlanReply { xml: leaving.xml, findings, ..reply(&context.host) })
}

/// The destination's part.
pub(super) async fn arriving(context: Context, call: PlanArriving) -> Result<PlanReply, Error> {
    let parameters = Parameters::parse(Phase::Prepare, &call.params, call.flags)?;
    let findings = obstacles(&context.host, &parameters).await;
    Ok(PlanReply { findings, ..reply(&context.host) })
}

/// What would keep a guest from arriving.
async fn obstacles(host: &Arc<Host>, parameters: &Parameters) -> Vec<PlanFinding> {
    let xml = parameters.destination_xml.as_deref().unwrap_or_default();
    let mut domain = match host.complete_arriving(xml).await {
        Ok(domain) => domain,
        // Nothing more can be known of a definition that cannot be read.
        Err(error) => {
            let shown = refuse::parse(xml).map(|domain| super::migrate::shown(&domain, parameters));
            let shown = shown.into_iter().flatten().map(|shown| finding(shown.error(), shown.remedy));
            return shown.chain([finding(error, "")]).collect();
        }
    };
    if let Some(name) = &parameters.destination_name {
        domain.name.clone_from(name);
    }
    let ask = Ask::of(parameters.flags);
    let shown = allowed::findings(&domain, &allowed::Facts::default(), ask);
    let mut found: Vec<_> = shown.iter().map(|shown| finding(shown.error(), shown.remedy)).collect();
    // The claim is given back at once: nothing is made of it.
    match uuid_of(&domain).and_then(|uuid| host.claim(uuid, &domain.name)) {
        Ok(claim) if claim.handle().view().live.is_some() && !ask.offline => {
            let text = format!("domain '{}' is already active", domain.name);
            let error = Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN, text);
            found.push(finding(
                error,
                "the guest runs on the destination already: see which of the two is the one",
            ));
        }
        Ok(_) => {}
        Err(error) => found.push(finding(error, "rename the guest for the destination: --dname NAME")),
    }
    if ask.offline {
        return found;
    }
    match host.capabilities(domain.devices.emulator.as_deref()).await {
        Ok(capabilities) => {
            let worker = Arc::clone(host);
            let rehearsed =
                tokio::task::spawn_blocking(move || launch::rehearse(&worker, domain, &capabilities)).await;
            let errors = rehearsed.unwrap_or_else(|_| vec![refuse::internal("the daemon is stopping")]);
            found.extend(errors.into_iter().map(|error| finding(error, "")));
        }
        Err(error) => found.push(finding(error, "")),
    }
    found
}

fn reply(host: &Host) -> PlanReply {
    let has_address = handover::addresses(host).iter().any(|address| address.starts_with("tcp:"));
    PlanReply { host: host.uuid, has_address, xml: None, findings: Vec::new() }
}

fn finding(error: Error, remedy: &str) -> PlanFinding {
    PlanFinding { code: error.code.0, message: error.message, remedy: remedy.to_owned() }
}
