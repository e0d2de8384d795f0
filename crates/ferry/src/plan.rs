//! `ferry plan`: what a migration would meet, asked of both hosts, with nothing begun.
//!
//! The hosts find the obstacles with the code that would refuse the migration itself; here they are put together and
//! shown. A destination that runs no ferryd cannot be asked, and that is said.

use std::fmt;

use ferry_client::{CallError, Connection, Uri};
use ferry_migration::coordinator::{Call, Carry};
use ferry_rpc::proto::{DomainRef, PlanArriving, PlanFinding, PlanLeaving, PlanReply};
use ferry_rpc::{Error, ErrorCode, Origin};
use serde_json::{Value, json};

use crate::cli::Migrate;
use crate::failure::{Failure, advice};
use crate::guests::close;
use crate::migrate::order;
use crate::{host, place, say};

/// Shows everything that stands in the way. A migration that would not go is a refusal.
pub(crate) async fn plan(source_uri: &Uri, options: &Migrate) -> Result<(), Failure> {
    let (flags, params) = (order::flags(options), order::params(options)?);
    let mut carry = Carry::new(flags, params.clone());
    let source = host::open(source_uri).await?;
    let domain = host::find(&source, &options.guest).await?;
    let call = PlanLeaving { domain: domain.clone(), params: params.clone(), flags };
    let leaving = source.call(&call).await;
    close(source).await;
    let leaving = leaving.map_err(|error| cannot(&domain, error))?;

    if let Some(xml) = &leaving.xml {
        carry.begun(xml, Vec::new());
    }
    let arriving = match &leaving.xml {
        Some(_) => ask_destination(options, &carry, &domain, &leaving).await,
        None => Side::not_asked("the source has no definition to show it"),
    };
    let plan = Plan { guest: domain.name, destination: options.destination.clone(), leaving, arriving };
    if options.json {
        say(plan.json());
    } else {
        say(&plan);
    }
    plan.verdict()
}

fn cannot(domain: &DomainRef, error: CallError) -> Failure {
    let stock = is_stock(&error);
    let failure = Failure::refused(format!("cannot plan for '{}'", domain.name), error);
    if stock { failure.next("only a host that runs ferryd can be asked for a plan") } else { failure }
}

/// A host that does not know our program.
fn is_stock(error: &CallError) -> bool {
    matches!(error, CallError::Remote(Error { code: ErrorCode::RPC, .. }))
}

async fn ask_destination(options: &Migrate, carry: &Carry, domain: &DomainRef, leaving: &PlanReply) -> Side {
    let connection = match place::host(&options.destination) {
        Ok(uri) => host::open(&uri).await,
        Err(error) => Err(Failure::refused("cannot tell the destination", error.to_string())),
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(_) if options.p2p => {
            return Side::not_asked(
                "it cannot be reached from here; whether the source reaches it is not known",
            );
        }
        Err(failure) => return Side { findings: vec![unreachable(&failure)], ..Side::default() },
    };
    let side = match arrive(&connection, carry, domain).await {
        Ok(reply) => Side::of(reply, leaving),
        Err(error) if is_stock(&error) => {
            Side::not_asked("it runs no ferryd: what it would refuse shows only when it does")
        }
        Err(error) => Side { findings: vec![of_error(&error.to_wire())], ..Side::default() },
    };
    close(connection).await;
    side
}

async fn arrive(connection: &Connection, carry: &Carry, domain: &DomainRef) -> Result<PlanReply, CallError> {
    let (params, flags) = (carry.params(Call::Prepare, &domain.name), carry.flags(Call::Prepare));
    connection.call(&PlanArriving { params, flags }).await
}

fn unreachable(failure: &Failure) -> PlanFinding {
    let text = failure.to_string();
    let first = text.lines().next().unwrap_or_default().to_owned();
    PlanFinding {
        code: ErrorCode::NO_CONNECT.0,
        message: first,
        remedy: failure.next.clone().unwrap_or_default(),
    }
}

fn of_error(error: &Error) -> PlanFinding {
    PlanFinding { code: error.code.0, message: error.message.clone(), remedy: String::new() }
}

/// What the destination says.
#[derive(Debug, Default)]
struct Side {
    findings: Vec<PlanFinding>,
    /// Why it was not asked.
    unknown: Option<String>,
    /// It runs ferryd; whether its daemon has an address at which the other can ask.
    has_address: Option<bool>,
}

impl Side {
    fn not_asked(why: &str) -> Side {
        Side { unknown: Some(why.to_owned()), ..Side::default() }
    }

    fn of(reply: PlanReply, leaving: &PlanReply) -> Side {
        let mut findings = reply.findings;
        if reply.host == leaving.host {
            let text = format!("Attempt to migrate guest to the same host {}", reply.host);
            let mut same = of_error(&Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text));
            "name another host: the guest is on this one already".clone_into(&mut same.remedy);
            // All else follows from it.
            findings = vec![same];
        }
        Side { findings, unknown: None, has_address: Some(reply.has_address) }
    }
}

/// Both hosts' words.
struct Plan {
    guest: String,
    destination: String,
    leaving: PlanReply,
    arriving: Side,
}

impl Plan {
    fn problems(&self) -> usize {
        self.leaving.findings.len() + self.arriving.findings.len()
    }

    fn guarantee(&self) -> &'static str {
        match self.arriving.has_address {
            None => {
                "best effort: nothing can be proven with a host that does not run ferryd, or cannot be asked"
            }
            Some(there) if there || self.leaving.has_address => {
                "proven, if one daemon reaches the other: the guest never runs on both hosts"
            }
            Some(_) => "best effort: neither daemon has an address at which the other could ask",
        }
    }

    fn verdict(&self) -> Result<(), Failure> {
        let problems = match self.problems() {
            0 => return Ok(()),
            1 => "1 problem".to_owned(),
            several => format!("{several} problems"),
        };
        Err(Failure::refused(format!("'{}' would not go to {}", self.guest, self.destination), problems)
            .guest("untouched on the source"))
    }

    fn json(&self) -> Value {
        let side = |host: &'static str, findings: &[PlanFinding]| -> Vec<Value> {
            let one = |finding: &PlanFinding| {
                json!({
                    "host": host, "code": finding.code, "text": finding.message, "remedy": remedy(finding),
                })
            };
            findings.iter().map(one).collect()
        };
        let mut findings = side("source", &self.leaving.findings);
        findings.extend(side("destination", &self.arriving.findings));
        json!({
            "guest": self.guest,
            "destination": self.destination,
            "would_go": self.problems() == 0,
            "guarantee": self.guarantee(),
            "destination_unknown": self.arriving.unknown,
            "findings": findings,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "source:")?;
        list(f, &self.leaving.findings)?;
        writeln!(f, "destination {}:", self.destination)?;
        match &self.arriving.unknown {
            Some(why) => writeln!(f, "  not asked: {why}")?,
            None => list(f, &self.arriving.findings)?,
        }
        write!(f, "guarantee: {}", self.guarantee())
    }
}

fn list(f: &mut fmt::Formatter<'_>, findings: &[PlanFinding]) -> fmt::Result {
    if findings.is_empty() {
        return writeln!(f, "  nothing stands in the way");
    }
    for finding in findings {
        writeln!(f, "  - {} [{}]", finding.message, finding.code)?;
        if let Some(remedy) = remedy(finding) {
            writeln!(f, "    remedy: {remedy}")?;
        }
    }
    Ok(())
}

/// The host's advice, else what the code calls for.
fn remedy(finding: &PlanFinding) -> Option<String> {
    if !finding.remedy.is_empty() {
        return Some(finding.remedy.clone());
    }
    advice(&Error::new(ErrorCode(finding.code), Origin::QEMU, &*finding.message)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn finding(code: ErrorCode, message: &str, remedy: &str) -> PlanFinding {
        PlanFinding { code: code.0, message: message.to_owned(), remedy: remedy.to_owned() }
    }

    fn reply(host: u128, findings: Vec<PlanFinding>) -> PlanReply {
        PlanReply { host: Uuid::from_u128(host), has_address: false, xml: None, findings }
    }

    fn plan(leaving: Vec<PlanFinding>, arriving: Side) -> Plan {
        let leaving = reply(1, leaving);
        Plan { guest: "vm".to_owned(), destination: "beta".to_owned(), leaving, arriving }
    }

    #[test]
    fn every_problem_is_shown_with_its_remedy() {
        let shared = finding(ErrorCode::MIGRATE_UNSAFE, "Unsafe migration: a", "share it");
        let model = finding(ErrorCode::CPU_INCOMPATIBLE, "no such CPU", "");
        let plan = plan(vec![shared], Side::of(reply(2, vec![model]), &reply(1, Vec::new())));
        let text = plan.to_string();
        for part in [
            "source:\n  - Unsafe migration: a [81]\n    remedy: share it\n",
            "destination beta:\n  - no such CPU [91]\n    remedy: the destination's CPU lacks something",
            "guarantee: best effort: neither daemon has an address",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(plan.verdict().unwrap_err().to_string().contains("2 problems"));
        let json = plan.json();
        assert_eq!((&json["would_go"], json["findings"].as_array().unwrap().len()), (&json!(false), 2));
    }

    #[test]
    fn what_cannot_be_asked_is_said_and_holds_nothing_up() {
        let plan = plan(Vec::new(), Side::not_asked("it runs no ferryd"));
        let text = plan.to_string();
        assert!(
            text.contains("  nothing stands in the way\ndestination beta:\n  not asked: it runs no ferryd")
        );
        assert!(plan.guarantee().starts_with("best effort") && plan.verdict().is_ok());
    }

    #[test]
    fn the_same_host_is_one_problem_and_not_ten() {
        let active = finding(ErrorCode::OPERATION_INVALID, "domain 'vm' is already active", "");
        let side = Side::of(reply(1, vec![active]), &reply(1, Vec::new()));
        assert_eq!(side.findings.len(), 1);
        assert!(side.findings[0].message.contains("same host"));
    }

    #[test]
    fn an_address_on_either_side_is_enough_for_a_proof() {
        let mut there = Side::of(reply(2, Vec::new()), &reply(1, Vec::new()));
        there.has_address = Some(true);
        assert!(plan(Vec::new(), there).guarantee().starts_with("proven"));
    }
}
