//! `ferry plan`, and the look that `ferry migrate` takes before it goes: what a migration would meet, asked of both hosts,
//! with nothing begun.
//!
//! The hosts find the obstacles with the code that would refuse the migration itself; here they are put together and
//! shown. [`ask`] asks a host that runs ferryd, [`stock`] one that does not, [`show`] is what is seen of it all.

mod ask;
mod show;
mod stock;

use ferry_client::{Connection, Transport, Uri};
use ferry_migration::checks::fits::{self, Offset};
use ferry_migration::checks::{Finding, Severity};
use ferry_migration::predict::Prediction;
use ferry_rpc::proto::{DomainRef, PlanFinding, PlanLeavingReply};
use ferry_rpc::{Error, ErrorCode, Origin, TypedParam, flags::MigrateFlags};
use uuid::Uuid;

use crate::cli::{self, Migrate};
use crate::failure::{Cause, Failure, advice};
use crate::guests::close;
use crate::migrate::order;
use crate::{host, place, say};

pub(crate) use ask::Target;
pub(crate) use show::{Foreseen, Shown, Times};

/// How far a plan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Whether it would go.
    Checks,
    /// Also what it would take: a second of measuring.
    Prediction,
}

/// The migration that is thought of.
#[derive(Clone, Debug)]
pub(crate) struct Thought {
    pub(crate) domain: DomainRef,
    pub(crate) flags: MigrateFlags,
    pub(crate) params: Vec<TypedParam>,
}

/// Shows everything that stands in the way. A migration that would not go is a refusal.
pub(crate) async fn plan(source_uri: &Uri, options: &cli::Plan) -> Result<(), Failure> {
    let migrate = &options.migrate;
    let (flags, params) = (order::flags(migrate), order::params(migrate)?);
    let source = host::open(source_uri).await?;
    let domain = host::find(&source, &migrate.guest).await?;
    let depth = if options.no_prediction { Depth::Checks } else { Depth::Prediction };
    let target = target(migrate).await?;
    let thought = Thought { domain, flags, params };
    let looked = ask::look(&source, &thought, &target, depth).await;
    if let Target::Direct(connection) = target {
        close(connection).await;
    }
    close(source).await;
    let mut plan = looked.map_err(|error| cannot(&thought.domain, error))?;
    plan.destination.clone_from(&migrate.destination);
    plan.on_one_machine = [Ok(source_uri.clone()), place::host(&migrate.destination)]
        .iter()
        .all(|uri| uri.as_ref().is_ok_and(|uri| matches!(uri.transport(), Transport::Unix { .. })));
    if migrate.json {
        say(plan.json());
    } else {
        say(&plan);
    }
    plan.verdict()
}

/// How the destination is asked: from here, or by the source that coordinates.
async fn target(options: &Migrate) -> Result<Target, Failure> {
    if options.p2p {
        let uri = order::peer(&options.destination).map_err(|error| crate::no_host(&error))?;
        return Ok(Target::Peer(uri));
    }
    let uri = place::host(&options.destination).map_err(|error| crate::no_host(&error))?;
    Ok(match host::open(&uri).await {
        Ok(connection) => Target::Direct(connection),
        Err(failure) => Target::Unreached(Box::new(failure)),
    })
}

/// The look before a migration. `None` when the source runs no ferryd, or has more to say against the call itself than a
/// plan could: then its phases say it.
pub(crate) async fn before(
    source: &Connection,
    thought: &Thought,
    target: &Target,
    depth: Depth,
) -> Option<Plan> {
    ask::look(source, thought, target, depth).await.ok()
}

fn cannot(domain: &DomainRef, error: ferry_client::CallError) -> Failure {
    let stock = ask::is_stock(&error);
    let failure = Failure::refused(format!("cannot plan for '{}'", domain.name), error);
    if stock { failure.next("only a host that runs ferryd can be asked for a plan") } else { failure }
}

/// What the destination says.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) findings: Vec<PlanFinding>,
    /// Why it was not asked, or what of it is not known.
    unknown: Option<String>,
    /// It runs ferryd; whether its daemon has an address at which the other can ask.
    has_address: Option<bool>,
}

impl Side {
    fn not_asked(why: impl Into<String>) -> Side {
        Side { unknown: Some(why.into()), ..Side::default() }
    }

    /// Only what it is itself; all else follows from it.
    fn same_host(host: Uuid) -> Side {
        let text = format!("Attempt to migrate guest to the same host {host}");
        let mut same = of_error(&Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text));
        "name another host: the guest is on this one already".clone_into(&mut same.remedy);
        Side { findings: vec![same], ..Side::default() }
    }
}

fn of_error(error: &Error) -> PlanFinding {
    PlanFinding {
        warns: false,
        code: error.code.0,
        origin: error.origin.0,
        message: error.message.clone(),
        remedy: advice(error).unwrap_or_default().to_owned(),
    }
}

/// As a host would say it.
fn of_finding(finding: &Finding) -> PlanFinding {
    PlanFinding {
        warns: finding.severity == Severity::Warning,
        remedy: finding.remedy.to_owned(),
        ..of_error(&match finding.severity {
            Severity::Refusal => finding.error(),
            Severity::Warning => Error::new(finding.code, Origin::QEMU, &*finding.text),
        })
    }
}

/// Both hosts' words.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) guest: String,
    pub(crate) destination: String,
    /// Both daemons are reached by sockets of this machine, and so they reach each other.
    on_one_machine: bool,
    pub(crate) leaving: PlanLeavingReply,
    pub(crate) arriving: Side,
    /// What the source met on the way to the destination, and what both together show.
    pub(crate) between: Vec<PlanFinding>,
    /// The destination's clock against the source's.
    skew: Option<Offset>,
    pub(crate) prediction: Option<Prediction>,
    /// Why there is none, when one was asked for.
    unpredicted: Option<String>,
}

impl Plan {
    /// Everything, in the order in which it is shown.
    fn findings(&self) -> impl Iterator<Item = (&'static str, &PlanFinding)> {
        let of = |host: &'static str| move |finding| (host, finding);
        let (source, destination) = (self.leaving.findings.iter(), self.arriving.findings.iter());
        source
            .map(of("source"))
            .chain(destination.map(of("destination")))
            .chain(self.between.iter().map(of("between")))
    }

    fn refusals(&self) -> Vec<&PlanFinding> {
        self.findings().map(|(_, finding)| finding).filter(|finding| !finding.warns).collect()
    }

    /// What the operator should know of a migration that goes.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = &PlanFinding> {
        self.findings().map(|(_, finding)| finding).filter(|finding| finding.warns)
    }

    fn compare_clocks(&mut self, skew: Offset) {
        self.skew = Some(skew);
        self.between.extend(fits::clock(skew).as_ref().map(of_finding));
    }

    fn guarantee(&self) -> &'static str {
        match self.arriving.has_address {
            None => {
                "best effort: nothing can be proven with a host that does not run ferryd, or cannot be asked"
            }
            Some(there) if there || self.leaving.has_address || self.on_one_machine => {
                "proven, if one daemon reaches the other: the guest never runs on both hosts"
            }
            Some(_) => "best effort: neither daemon has an address at which the other could ask",
        }
    }

    fn verdict(&self) -> Result<(), Failure> {
        let problems = match self.refusals().len() {
            0 => return Ok(()),
            1 => "1 problem".to_owned(),
            several => format!("{several} problems"),
        };
        Err(Failure::refused(format!("'{}' would not go to {}", self.guest, self.destination), problems)
            .guest("untouched on the source"))
    }

    /// The refusal of a migration that was to go: the first problem with its code and text, the others behind it, and what
    /// helps against each.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        let refusals = self.refusals();
        let (first, others) = refusals.split_first()?;
        let mut text = first.message.clone();
        for other in others {
            text.push_str("; also: ");
            text.push_str(&other.message);
        }
        let error = Error::new(ErrorCode(first.code), Origin(first.origin), text);
        let doing = format!("cannot migrate '{}'", self.guest);
        let failure = Failure::refused(doing, Cause::Wire(error)).guest("untouched on the source");
        let mut remedies: Vec<&str> = Vec::new();
        for finding in refusals.iter().filter(|finding| !finding.remedy.is_empty()) {
            if !remedies.contains(&finding.remedy.as_str()) {
                remedies.push(&finding.remedy);
            }
        }
        Some(if remedies.is_empty() { failure } else { failure.next(remedies.join("\n         ")) })
    }
}

#[cfg(test)]
mod tests;
