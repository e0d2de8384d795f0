//! A migration that is only thought of: each host says everything that stands in its way, and changes nothing.
//!
//! ```text
//!   PlanLeaving (source) ──definition, machine──> PlanArriving (destination) ──door──> PlanProbe (source)
//!                                                  └ or, peer to peer, PlanPeer (source), which asks it in turn
//! ```
//!
//! Called by `ferry plan` and, before it goes, by `ferry migrate`. What a real Begin or Prepare would refuse is found by
//! the same code; only that they stop at what they cannot go past. [`door`] is the short look at the memory's way,
//! [`measure`] what a prediction is made of, and [`memory`] the part of it that looks at the guest's own.

mod door;
mod measure;
mod memory;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferry_client::{CallError, Connection, OpenOptions, Uri};
use ferry_domxml::Domain;
use ferry_migration::checks::disks::Row;
use ferry_migration::checks::{Ask, Finding, Severity, fits};
use ferry_migration::cookie::Machine;
use ferry_migration::overlay::Overlay;
use ferry_migration::params::{Phase, Request as Parameters};
use ferry_migration::predict::{self, Prediction};
use ferry_qemu::capabilities::Capabilities;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    PlanArriving, PlanArrivingReply, PlanDisk, PlanDoor, PlanFinding, PlanGuest, PlanLeaving,
    PlanLeavingReply, PlanOverlay, PlanPeer, PlanPeerReply, PlanProbe, PlanProbeReply,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Context, uuid_of};
use crate::driver::{Predicted, Request};
use crate::handover;
use crate::host::Host;
use crate::perform::{fit, launch};
use crate::refuse;

/// How long a destination may take to be connected to, for a plan.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// How long a look at the images of a guest that is thought of may take.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// How many such looks may be out at once.
static LOOKS: Semaphore = Semaphore::const_new(16);

/// The source's part.
pub(super) async fn leaving(context: Context, call: PlanLeaving) -> Result<PlanLeavingReply, Error> {
    let received_us = now_us();
    let parameters = Box::new(Parameters::parse(Phase::Begin, &call.params, call.flags)?);
    let handle = context.domain(&call.domain)?;
    let leaving = handle.ask(|reply| Request::PlanLeaving { parameters, reply }).await?;
    let refused = leaving.refused.map(|error| refusal(error, ""));
    let findings = refused.into_iter().chain(leaving.findings.iter().map(shown)).collect();
    let Machine { devices, lacks } = leaving.machine.unwrap_or_default();
    let overlays = leaving.overlays.into_iter();
    let overlays =
        overlays.map(|Overlay { disk, size, data, .. }| PlanOverlay { disk, size, data }).collect();
    Ok(PlanLeavingReply {
        host: context.host.uuid,
        has_address: has_address(&context.host),
        received_us,
        xml: leaving.xml,
        guest: PlanGuest { devices, lacks, overlays },
        findings,
        disks: leaving.disks.into_iter().map(disk).collect(),
        answered_us: now_us(),
    })
}

/// The destination's part.
pub(super) async fn arriving(context: Context, call: PlanArriving) -> Result<PlanArrivingReply, Error> {
    let received_us = now_us();
    let parameters = Parameters::parse(Phase::Prepare, &call.params, call.flags)?;
    let host = &context.host;
    let mut reply = PlanArrivingReply {
        host: host.uuid,
        has_address: has_address(host),
        received_us,
        answered_us: 0,
        findings: obstacles(host, &parameters, call.guest).await,
        door: None,
        unprobed: String::new(),
    };
    if call.opens_door && !parameters.is_offline() {
        match door::open(host, &parameters).await {
            Ok(door::Door::Open(door)) => reply.door = Some(door),
            Ok(door::Door::None(why)) => why.clone_into(&mut reply.unprobed),
            Err(error) => reply.findings.push(refusal(
                error,
                "free a port of the range between `migration_port_min` and `migration_port_max` of its ferryd.toml, or \
                 widen it; see that --listen-address is one of its own",
            )),
        }
    }
    reply.answered_us = now_us();
    Ok(reply)
}

/// The source's second part: the way for the memory, and what the copy will take.
pub(super) async fn probe(context: Context, call: PlanProbe) -> Result<PlanProbeReply, Error> {
    let parameters = Parameters::parse(Phase::Begin, &call.params, call.flags)?;
    let handle = context.domain(&call.domain)?;
    let view = handle.view();
    let bandwidth = measure::bandwidth(&parameters, &view);
    let mut reply =
        PlanProbeReply { findings: Vec::new(), prediction: String::new(), unpredicted: String::new() };
    let probing = probed(call.door.as_ref(), call.predicts.then_some(bandwidth));
    if !call.predicts {
        reply.findings.extend(probing.await.err().as_ref().map(shown));
        return Ok(reply);
    }
    let Some(live) = view.live.as_ref().filter(|_| !parameters.is_offline()) else {
        "no memory is copied".clone_into(&mut reply.unpredicted);
        return Ok(reply);
    };
    let running = measure::runs(&view);
    let (probed, guest, past) =
        tokio::join!(probing, measure::guest(live, running), measure::past(&context.host, call.destination));
    let probed = probed.unwrap_or_else(|finding| {
        reply.findings.push(shown(&finding));
        None
    });
    // What was found on the way is told, whatever becomes of the prediction.
    let past = match past {
        Ok(past) => past,
        Err(error) => {
            reply.unpredicted = error.message;
            return Ok(reply);
        }
    };
    let link = predict::Link { probed, past };
    match guest {
        Ok(guest) => {
            let prediction = predict::predict(&guest, &link, &measure::wish(&parameters, &view, bandwidth));
            reply.prediction = json(&prediction);
            let predicted = Predicted { destination: call.destination, prediction, at_ms: now_us() / 1000 };
            handle.tell(Request::Predicted(Box::new(predicted))).await;
        }
        Err(why) => reply.unpredicted = why,
    }
    Ok(reply)
}

/// Asks the destination in the way in which a peer-to-peer migration would.
pub(super) async fn peer(_context: Context, call: PlanPeer) -> Result<PlanPeerReply, Error> {
    let uri: Uri = call.uri.parse().map_err(|error: ferry_client::ParseUriError| error.to_wire())?;
    let dialled = tokio::time::timeout(DIAL_DEADLINE, Connection::open(&uri, OpenOptions::peer())).await;
    let connection = match dialled {
        Err(_) => {
            let text = format!("unable to connect to server at '{uri}': Connection timed out");
            return Err(Error::new(ErrorCode::SYSTEM_ERROR, Origin::RPC, text));
        }
        Ok(connection) => connection.map_err(|error| error.to_wire())?,
    };
    let PlanPeer { params, flags, guest, opens_door, .. } = call;
    let asked_us = now_us();
    let reply = connection.call(&PlanArriving { params, flags, guest, opens_door }).await;
    let heard_us = now_us();
    // The answer is here; how the connection ends changes nothing.
    let _ = connection.close().await;
    let reply = reply.map_err(|error: CallError| error.to_wire())?;
    Ok(PlanPeerReply { asked_us, heard_us, reply })
}

/// What a probe gets across, bytes per second; nothing where it was not to measure or there is no door.
async fn probed(door: Option<&PlanDoor>, measures: Option<Option<u64>>) -> Result<Option<u64>, Finding> {
    let Some(door) = door else { return Ok(None) };
    let speed = door::pass(door, measures).await;
    speed.map_err(|error| fits::unreachable(&door.uri, &refuse::chain(&error)))
}

/// What would keep a guest from arriving.
async fn obstacles(host: &Arc<Host>, parameters: &Parameters, guest: PlanGuest) -> Vec<PlanFinding> {
    let xml = parameters.destination_xml.as_deref().unwrap_or_default();
    let mut domain = match host.complete_arriving(xml).await {
        Ok(domain) => domain,
        // Nothing more can be known of a definition that cannot be read.
        Err(error) => {
            let shown_by_it = refuse::parse(xml).map(|domain| super::migrate::shown(&domain, parameters));
            let found = shown_by_it.iter().flatten().map(shown);
            return found.chain([refusal(error, "")]).collect();
        }
    };
    if let Some(name) = &parameters.destination_name {
        domain.name.clone_from(name);
    }
    let ask = Ask::of(parameters.flags);
    let mut found: Vec<_> = super::migrate::shown(&domain, parameters).iter().map(shown).collect();
    // The claim is given back at once: nothing is made of it.
    match uuid_of(&domain).and_then(|uuid| host.claim(uuid, &domain.name)) {
        Ok(claim) if claim.handle().view().live.is_some() && !ask.offline => {
            let text = format!("domain '{}' is already active", domain.name);
            let error = Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN, text);
            found.push(refusal(
                error,
                "the guest runs on the destination already: see which of the two is the one",
            ));
        }
        Ok(_) => {}
        Err(error) => found.push(refusal(error, "rename the guest for the destination: --dname NAME")),
    }
    if ask.offline {
        return found;
    }
    match host.capabilities(domain.devices.emulator.as_deref()).await {
        Ok(capabilities) => {
            let worker = Arc::clone(host);
            // A source that shows no device tells nothing of its guest.
            let source =
                (!guest.devices.is_empty()).then_some(Machine { devices: guest.devices, lacks: guest.lacks });
            found.extend(here(Arc::clone(host), domain.clone(), Arc::clone(&capabilities), source).await);
            // Who answers for the disks answers for these.
            let overlays = guest.overlays.into_iter().filter(|_| !ask.trust_disks);
            let overlays: Vec<Overlay> = overlays.map(overlay).collect();
            let looked = look(LOOK_LIMIT, move || {
                let misfits = fit::misfits(&domain, &overlays);
                (launch::rehearse(&worker, domain, &capabilities), misfits)
            });
            match looked.await {
                Ok((errors, misfits)) => {
                    found.extend(errors.into_iter().map(|error| refusal(error, "")));
                    found.extend(misfits.iter().map(shown));
                }
                Err(finding) => found.push(shown(&finding)),
            }
        }
        Err(error) => found.push(refusal(error, "")),
    }
    found
}

/// What this host has for the guest, as far as no image tells it.
async fn here(
    host: Arc<Host>,
    domain: Domain,
    capabilities: Arc<Capabilities>,
    source: Option<Machine>,
) -> Vec<PlanFinding> {
    let look = move || fit::findings(&host, &domain, &capabilities, source.as_ref());
    match tokio::task::spawn_blocking(look).await {
        Ok(found) => found.iter().map(shown).collect(),
        Err(_) => vec![refusal(refuse::internal("the daemon is stopping"), "")],
    }
}

/// Looks at images of this host, which may lie where a dead server keeps whoever looks: so it is done by a thread of its own,
/// that nobody waits for longer than `limit`, and of which no more than [`LOOKS`] are out.
async fn look<T: Send + 'static>(
    limit: Duration,
    what: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Finding> {
    let deadline = Instant::now() + limit;
    let Ok(Ok(permit)) = timeout_at(deadline, LOOKS.acquire()).await else {
        return Err(fits::not_looked_at());
    };
    let (tell, told) = oneshot::channel();
    let look = move || {
        let _permit = permit;
        // Nobody may be waiting any more.
        let _ = tell.send(what());
    };
    if thread::Builder::new().name("plan".to_owned()).spawn(look).is_err() {
        return Err(fits::not_looked_at());
    }
    match timeout_at(deadline, told).await {
        Ok(Ok(seen)) => Ok(seen),
        _ => Err(fits::silent(limit.as_secs())),
    }
}

fn has_address(host: &Host) -> bool {
    handover::addresses(host).iter().any(|address| address.starts_with("tcp:"))
}

fn refusal(error: Error, remedy: &str) -> PlanFinding {
    PlanFinding {
        warns: false,
        code: error.code.0,
        origin: error.origin.0,
        message: error.message,
        remedy: remedy.to_owned(),
    }
}

fn shown(finding: &Finding) -> PlanFinding {
    let Finding { severity, remedy, .. } = finding;
    let message = match severity {
        Severity::Refusal => finding.error().message,
        // Nobody is to take it for the error that it is not.
        Severity::Warning => finding.text.clone(),
    };
    PlanFinding {
        warns: *severity == Severity::Warning,
        code: finding.code.0,
        origin: finding.error().origin.0,
        message,
        remedy: (*remedy).to_owned(),
    }
}

/// An image of bitmaps as a plan tells of it: which bitmaps it has is left for QEMU to compare.
fn overlay(told: PlanOverlay) -> Overlay {
    let PlanOverlay { disk, size, data } = told;
    Overlay { disk, node: None, size, data, bitmaps: Vec::new() }
}

fn disk(row: Row) -> PlanDisk {
    let is_refused = row.finding.as_ref().is_some_and(|finding| finding.severity == Severity::Refusal);
    PlanDisk {
        target: row.target,
        role: row.role.as_str().to_owned(),
        place: row.place,
        kind: row.kind,
        sharing: row.sharing.map_or("", |sharing| sharing.as_str()).to_owned(),
        cache: row.cache,
        safe: !is_refused,
        why: row.why,
        remedy: row.finding.map_or("", |finding| finding.remedy).to_owned(),
    }
}

/// Our own types always have a JSON form.
fn json(prediction: &Prediction) -> String {
    serde_json::to_string(prediction).unwrap_or_default()
}

/// Microseconds since 1970.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_system_that_does_not_answer_is_said_to() {
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let found = look(Duration::ZERO, move || answered.recv()).await.unwrap_err();
        assert_eq!((found.severity, found.code), (Severity::Refusal, ErrorCode::OPERATION_TIMEOUT));
        assert!(found.text.contains("do not answer within 0 s"), "{found:?}");
        let all = LOOKS.acquire_many(15).await.unwrap();
        let found = look(Duration::ZERO, || 7).await.unwrap_err();
        assert_eq!(
            found.severity,
            Severity::Warning,
            "the one that is still out holds the last place: {found:?}"
        );
        answer.send(()).unwrap();
        assert_eq!(look(Duration::from_secs(60), || 7).await.unwrap(), 7);
        drop(all);
    }
}
