//! Asks the two hosts, in the order in which a migration would.
//!
//! Clocks are compared as far as the way allows: this tool's clock with each host's, or, where the source asks, the source's
//! with the destination's.

use std::time::{SystemTime, UNIX_EPOCH};

use ferry_client::{CallError, Connection};
use ferry_migration::checks::fits::{Exchange, Offset};
use ferry_migration::coordinator::{Call, Carry};
use ferry_rpc::proto::{
    PlanArriving, PlanArrivingReply, PlanDoor, PlanGuest, PlanLeaving, PlanLeavingReply, PlanPeer, PlanProbe,
};
use ferry_rpc::{Error, ErrorCode, Origin};
use uuid::Uuid;

use super::{Depth, Plan, Side, Thought, of_error, stock};
use crate::failure::{Cause, Failure};
use crate::guests::close;
use crate::{host, place};

/// How the destination is reached.
pub(crate) enum Target {
    /// From here.
    Direct(Connection),
    /// By the source, at this address.
    Peer(String),
    /// Not at all, and this is why.
    Unreached(Box<Failure>),
}

/// Asks source, destination, and the source again.
pub(super) async fn look(
    source: &Connection,
    thought: &Thought,
    target: &Target,
    depth: Depth,
) -> Result<Plan, CallError> {
    let Thought { domain, flags, params } = thought;
    let asked = now_us();
    let call = PlanLeaving { domain: domain.clone(), params: params.clone(), flags: *flags };
    let leaving = source.call(&call).await?;
    let own = exchange(asked, leaving.received_us, leaving.answered_us, now_us()).offset();

    let mut carry = Carry::new(*flags, params.clone());
    let (side, answer) = match &leaving.xml {
        Some(xml) => {
            carry.begun(xml, Vec::new());
            let mut asking = Asking { source, carry: &carry, thought, leaving: &leaving };
            asking.destination(target, own).await
        }
        None => (Side::not_asked("the source has no definition to show it"), None),
    };
    let mut plan = Plan {
        guest: domain.name.clone(),
        destination: String::new(),
        on_one_machine: false,
        leaving,
        arriving: side,
        between: Vec::new(),
        skew: None,
        prediction: None,
        unpredicted: None,
    };
    let (destination, door) = match answer {
        Some(Answer { skew, host, door }) => {
            plan.compare_clocks(skew);
            (host, door)
        }
        None => (Uuid::nil(), None),
    };
    let predicts = depth == Depth::Prediction;
    let tries = door.is_some();
    if plan.leaving.xml.is_some() && (predicts || tries) {
        let call = PlanProbe {
            domain: domain.clone(),
            params: params.clone(),
            flags: *flags,
            destination,
            door,
            predicts,
        };
        match source.call(&call).await {
            Ok(probed) => {
                plan.between.extend(probed.findings);
                plan.prediction = serde_json::from_str(&probed.prediction).ok();
                plan.unpredicted = Some(probed.unpredicted).filter(|why| !why.is_empty());
            }
            Err(error) => {
                let why = error.to_string();
                if tries {
                    plan.arriving.unknown = Some(untried(&why));
                }
                plan.unpredicted = predicts.then_some(why);
            }
        }
    }
    Ok(plan)
}

/// What a ferryd at the other end has given for what comes next.
struct Answer {
    skew: Offset,
    host: Uuid,
    door: Option<PlanDoor>,
}

struct Asking<'a> {
    source: &'a Connection,
    carry: &'a Carry,
    thought: &'a Thought,
    leaving: &'a PlanLeavingReply,
}

impl Asking<'_> {
    async fn destination(&mut self, target: &Target, own: Offset) -> (Side, Option<Answer>) {
        match target {
            Target::Direct(connection) => {
                let asked = now_us();
                match connection.call(&self.arriving()).await {
                    Ok(reply) => {
                        let clock = exchange(asked, reply.received_us, reply.answered_us, now_us());
                        self.answered(reply, clock.offset().against(own))
                    }
                    Err(error) if is_stock(&error) => (self.stock(connection).await, None),
                    Err(error) => (refused(&error.to_wire()), None),
                }
            }
            Target::Peer(uri) => {
                let PlanArriving { params, flags, guest, opens_door } = self.arriving();
                let call = PlanPeer { uri: uri.clone(), params, flags, guest, opens_door };
                match self.source.call(&call).await {
                    Ok(peer) => {
                        let reply = peer.reply;
                        let clock =
                            exchange(peer.asked_us, reply.received_us, reply.answered_us, peer.heard_us);
                        self.answered(reply, clock.offset())
                    }
                    Err(error) if is_stock(&error) => (self.stock_from_here(uri).await, None),
                    Err(error) => (refused(&error.to_wire()), None),
                }
            }
            Target::Unreached(failure) => (refused(&failed(failure)), None),
        }
    }

    fn arriving(&self) -> PlanArriving {
        let name = &self.thought.domain.name;
        PlanArriving {
            params: self.carry.params(Call::Prepare, name),
            flags: self.carry.flags(Call::Prepare),
            guest: PlanGuest::clone(&self.leaving.guest),
            opens_door: true,
        }
    }

    fn answered(&self, reply: PlanArrivingReply, skew: Offset) -> (Side, Option<Answer>) {
        if reply.host == self.leaving.host {
            return (Side { has_address: Some(reply.has_address), ..Side::same_host(reply.host) }, None);
        }
        let unknown = (!reply.unprobed.is_empty()).then(|| untried(&reply.unprobed));
        let side = Side { findings: reply.findings, unknown, has_address: Some(reply.has_address) };
        (side, Some(Answer { skew, host: reply.host, door: reply.door }))
    }

    async fn stock(&self, connection: &Connection) -> Side {
        let name = self.thought.params.iter().find_map(|param| match &param.value {
            ferry_rpc::ParamValue::String(name)
                if param.name == ferry_migration::params::names::DESTINATION_NAME =>
            {
                Some(name.as_str())
            }
            _ => None,
        });
        stock::ask(connection, self.leaving.xml.as_deref().unwrap_or_default(), name).await
    }

    /// The source reaches it, and it does not know our program: its ordinary calls are asked from here, if it can be
    /// reached from here.
    async fn stock_from_here(&self, uri: &str) -> Side {
        let Ok(uri) = place::host(uri) else {
            return Side::not_asked("it runs no ferryd, and cannot be asked from here");
        };
        match host::open(&uri).await {
            Ok(connection) => {
                let side = self.stock(&connection).await;
                close(connection).await;
                side
            }
            Err(_) => Side::not_asked("it runs no ferryd, and cannot be asked from here"),
        }
    }
}

fn untried(why: &str) -> String {
    format!("the way for the memory was not tried: {why}")
}

fn refused(error: &Error) -> Side {
    Side { findings: vec![of_error(error)], ..Side::default() }
}

fn failed(failure: &Failure) -> Error {
    match &failure.cause {
        Cause::Wire(error) => error.clone(),
        Cause::Here(text) => Error::new(ErrorCode::NO_CONNECT, Origin::RPC, text.clone()),
    }
}

/// A host that does not know our program.
pub(super) fn is_stock(error: &CallError) -> bool {
    matches!(error, CallError::Remote(Error { code: ErrorCode::RPC, .. }))
}

const fn exchange(asked: u64, received: u64, answered: u64, heard: u64) -> Exchange {
    Exchange { asked, received, answered, heard }
}

/// Microseconds since 1970.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
