//! What this daemon writes into cookies, and what it takes from those that it is sent.
//!
//! The form is `ferry_migration::cookie`'s. Between two Ferry hosts the cookie carries names and proofs in an element
//! of our own; a stock peer passes over it, and a cookie without it means that the peer proves nothing.

use ferry_domxml::FormatOptions;
use ferry_migration::cookie::{
    Capability, Common, Cookie, Expected, Feature, Handover, Machine, Reader, Says,
};
use ferry_migration::overlay::Overlay;
use ferry_migration::params::Request as Parameters;
use ferry_migration::plan::BestEffort;
use ferry_migration::{Evidence, MigrationId, Peer};
use ferry_rpc::error::Error;
use ferry_rpc::flags::MigrateFlags;
use uuid::Uuid;

use super::{Migration, Names};
use crate::driver::Driver;
use crate::handover::Peer as Other;

/// What this side switches on by itself, as the source or as the destination.
const AUTO_SOURCE: &str = "pause-before-switchover";
const AUTO_DESTINATION: &str = "late-block-activate";

/// What Prepare learns from Begin's cookie.
pub(super) struct Offer {
    /// The guest's name on the source, when the cookie says it.
    pub(super) source_name: Option<String>,
    pub(super) hostname: Option<String>,
    /// The names of the migration; nothing from a stock source.
    pub(super) names: Option<Names>,
    /// Images of the guest that hold nothing but bitmaps.
    pub(super) overlays: Vec<Overlay>,
    /// What the guest's machine is made of; nothing from a stock source.
    pub(super) machine: Option<Machine>,
    /// Where the source's daemon can be asked.
    pub(super) peer: Option<Other>,
    /// What the source is when it cannot be asked.
    pub(super) without_address: Peer,
}

/// What Perform learns from Prepare's cookie.
pub(super) struct Answered {
    /// Which migration the destination has prepared for; nothing from a stock one.
    pub(super) id: Option<MigrationId>,
    /// What stands there for the guest's images that hold nothing but bitmaps.
    pub(super) overlays: Vec<Overlay>,
    /// Where the destination's daemon can be asked.
    pub(super) peer: Option<Other>,
    /// What the destination is when it cannot be asked.
    pub(super) without_address: Peer,
}

/// What Finish learns from Perform's cookie.
pub(super) struct Delivery {
    pub(super) evidence: Evidence,
    /// The definition to keep, when the source sent one.
    pub(super) persistent: Option<String>,
    pub(super) stats: Option<ferry_migration::stats::JobStats>,
}

impl Delivery {
    /// What an unreadable or empty cookie says.
    pub(super) fn nothing() -> Delivery {
        Delivery { evidence: Evidence::None, persistent: None, stats: None }
    }
}

/// Begin's cookie.
pub(super) fn begin(
    driver: &Driver,
    names: &Names,
    parameters: &Parameters,
    overlays: Vec<Overlay>,
) -> Vec<u8> {
    let mut cookie = Cookie::new(common(driver));
    cookie.features.push(Feature::Lockstate);
    cookie.handover = Some(Handover { overlays, ..handover(driver, names, None) });
    if !parameters.is_offline() {
        cookie.capabilities = Some(capabilities(driver, AUTO_SOURCE));
        cookie.machine = driver.machine();
        cookie.cpu = driver
            .guest
            .as_ref()
            .and_then(|guest| guest.domain.cpu.as_ref())
            .map(ferry_domxml::cpu::Cpu::to_xml);
    }
    cookie.to_bytes()
}

/// Prepare's cookie. `overlays`: what stands here for the guest's images that hold nothing but bitmaps; none when only the
/// definition comes.
pub(super) fn prepared(
    driver: &Driver,
    source_name: &str,
    names: Option<&Names>,
    overlays: Option<&[Overlay]>,
) -> Vec<u8> {
    let mut cookie = Cookie::new(Common { name: source_name.to_owned(), ..common(driver) });
    cookie.handover = names.map(|names| Handover {
        overlays: overlays.unwrap_or_default().to_vec(),
        ..handover(driver, names, None)
    });
    if overlays.is_some() {
        cookie.capabilities = Some(capabilities(driver, AUTO_DESTINATION));
    }
    cookie.to_bytes()
}

/// Perform's cookie: with the grant, when the right was given away.
pub(super) fn performed(driver: &Driver) -> Vec<u8> {
    let mut cookie = Cookie::new(common(driver));
    if let Some(Migration::Out(outgoing)) = &driver.migration {
        cookie.handover = Some(handover(driver, &outgoing.names, Some(Says::Granted)));
        cookie.statistics = Some(outgoing.stats);
        if outgoing.parameters().flags.contains(MigrateFlags::PERSIST_DEST) {
            cookie.features.push(Feature::Persistent);
            cookie.persistent = driver.persistent_xml(outgoing.parameters());
        }
    }
    cookie.to_bytes()
}

/// Finish's cookie: with the proof that the guest runs here.
pub(super) fn arrived(driver: &Driver, says: Says) -> Vec<u8> {
    let mut cookie = Cookie::new(common(driver));
    if let Some(Migration::In(incoming)) = &driver.migration {
        cookie.common.name.clone_from(&incoming.source_name);
        cookie.handover = incoming.shared_names().map(|names| handover(driver, names, Some(says)));
        cookie.statistics = incoming.stats;
    }
    cookie.to_bytes()
}

/// Finish's cookie of a definition that arrived without its guest.
pub(super) fn arrived_offline(driver: &Driver, source_name: &str) -> Vec<u8> {
    Cookie::new(Common { name: source_name.to_owned(), ..common(driver) }).to_bytes()
}

/// Prepare reads Begin's cookie. `name` is the guest's here, which need not be the one there.
pub(super) fn read_begun(driver: &Driver, bytes: &[u8]) -> Result<Offer, Error> {
    let expected = Expected { name: None, uuid: Some(driver.uuid), host_uuid: driver.host.uuid };
    let Some(cookie) = Cookie::parse(bytes, Reader::Prepare, &expected)? else {
        return Ok(Offer {
            source_name: None,
            hostname: None,
            names: None,
            overlays: Vec::new(),
            machine: None,
            peer: None,
            without_address: Peer::Mute(BestEffort::CookieLost),
        });
    };
    let overlays = cookie.handover.as_ref().map(|handover| handover.overlays.clone()).unwrap_or_default();
    let (peer, without_address) = other(driver, &cookie);
    let machine = cookie.machine;
    let names = cookie.handover.map(|handover| Names {
        id: handover.id,
        epoch: handover.epoch,
        secret: handover.secret,
    });
    Ok(Offer {
        source_name: Some(cookie.common.name),
        hostname: Some(cookie.common.hostname),
        names,
        overlays,
        machine,
        peer,
        without_address,
    })
}

/// Perform reads Prepare's cookie: who is at the other end.
pub(super) fn read_prepared(driver: &Driver, bytes: &[u8]) -> Result<Answered, Error> {
    let Some(cookie) = Cookie::parse(bytes, Reader::Perform, &expected(driver))? else {
        let without_address = Peer::Mute(BestEffort::CookieLost);
        return Ok(Answered { id: None, overlays: Vec::new(), peer: None, without_address });
    };
    let (peer, without_address) = other(driver, &cookie);
    let id = cookie.handover.as_ref().map(|handover| handover.id);
    let overlays = cookie.handover.map(|handover| handover.overlays).unwrap_or_default();
    Ok(Answered { id, overlays, peer, without_address })
}

/// Finish reads Perform's cookie.
pub(super) fn read_performed(driver: &Driver, bytes: &[u8]) -> Result<Delivery, Error> {
    let (name, names) = match &driver.migration {
        Some(Migration::In(incoming)) => (Some(incoming.source_name.as_str()), incoming.shared_names()),
        Some(Migration::Out(_)) | None => (None, None),
    };
    let expected = Expected { name, uuid: Some(driver.uuid), host_uuid: driver.host.uuid };
    let Some(cookie) = Cookie::parse(bytes, Reader::Finish, &expected)? else {
        return Ok(Delivery::nothing());
    };
    let evidence = proof(cookie.handover.as_ref(), names);
    Ok(Delivery { evidence, persistent: cookie.persistent, stats: cookie.statistics })
}

/// Confirm reads Finish's cookie: what it proves, and the destination's figures.
pub(super) fn read_arrived(
    driver: &Driver,
    bytes: &[u8],
) -> Result<(Evidence, Option<ferry_migration::stats::JobStats>), Error> {
    let Some(cookie) = Cookie::parse(bytes, Reader::Confirm, &expected(driver))? else {
        return Ok((Evidence::None, None));
    };
    let names = match &driver.migration {
        Some(Migration::Out(outgoing)) => Some(&outgoing.names),
        Some(Migration::In(_)) | None => None,
    };
    Ok((proof(cookie.handover.as_ref(), names), cookie.statistics))
}

fn proof(handover: Option<&Handover>, names: Option<&Names>) -> Evidence {
    match (handover, names) {
        (Some(handover), Some(names)) => handover.evidence(names.id, &names.secret),
        (None, _) | (_, None) => Evidence::None,
    }
}

/// Who speaks: a Ferry names the migration in its cookie, and says where it can be asked.
fn other(driver: &Driver, cookie: &Cookie) -> (Option<Other>, Peer) {
    match &cookie.handover {
        None => (None, Peer::Mute(BestEffort::Stock)),
        Some(handover) => {
            // Where all hosts have their socket, this one would only reach itself.
            let own = crate::handover::addresses(&driver.host);
            let others = handover.addresses.iter().filter(|address| !own.contains(address));
            let peer = Other { host: cookie.common.host_uuid, addresses: others.cloned().collect() };
            (Some(peer), Peer::Mute(BestEffort::NoAddress))
        }
    }
}

/// Whether a cookie of Begin is about a later migration of this guest than `epoch`, from the host `from`.
pub(super) fn is_later(bytes: &[u8], host: Uuid, epoch: ferry_migration::Epoch, from: Uuid) -> bool {
    let anyone = Expected { name: None, uuid: None, host_uuid: host };
    let Ok(Some(cookie)) = Cookie::parse(bytes, Reader::Prepare, &anyone) else { return false };
    let later = cookie.handover.as_ref().is_some_and(|handover| handover.epoch > epoch);
    later && cookie.common.host_uuid == from
}

fn expected(driver: &Driver) -> Expected<'_> {
    Expected { name: Some(&driver.name), uuid: Some(driver.uuid), host_uuid: driver.host.uuid }
}

fn common(driver: &Driver) -> Common {
    Common {
        name: driver.name.clone(),
        uuid: driver.uuid,
        hostname: driver.host.hostname.clone(),
        host_uuid: Uuid::clone(&driver.host.uuid),
    }
}

fn handover(driver: &Driver, names: &Names, says: Option<Says>) -> Handover {
    Handover {
        id: names.id,
        epoch: names.epoch,
        secret: names.secret.clone(),
        addresses: crate::handover::addresses(&driver.host),
        says,
        overlays: Vec::new(),
    }
}

/// A stock source of 11.3 that finds this in our cookie switches it on, and then waits for a word of QEMU's that one
/// without it never sends. We do not switch it on, so we do not name it.
const SWITCHOVER_ACK: &str = "switchover-ack";

/// What this side's QEMU can do. Both ends must have what one of them uses.
fn capabilities(driver: &Driver, auto: &str) -> Vec<Capability> {
    let Some(guest) = &driver.guest else { return Vec::new() };
    let known = guest.capabilities.migration_capabilities.iter();
    known
        .map(|capability| capability.to_string())
        .filter(|name| name != SWITCHOVER_ACK)
        .map(|name| Capability { auto: name == auto, name })
        .collect()
}

impl Driver {
    /// The definition to keep on the destination: the caller's, else the kept one, else the running one.
    pub(super) fn persistent_xml(&self, parameters: &Parameters) -> Option<String> {
        if let Some(xml) = &parameters.persistent_xml {
            return Some(xml.clone());
        }
        let running = self.guest.as_ref().map(|guest| &guest.domain);
        let options = FormatOptions { inactive: true, secure: true, migratable: true };
        self.config.as_ref().or(running).map(|domain| domain.format(options))
    }
}
