//! `ferry migrate`: connects, carries the migration out, prints the result.
//!
//! [`order`] is what was asked, [`run`] does it, [`figures`] and [`show`] are what is seen of it, [`settle`] finds out
//! where the guest is when it did not work.

pub(crate) mod figures;
pub(crate) mod order;
pub(crate) mod run;
mod settle;
pub(crate) mod show;

use ferry_client::coordinate::Request;
use ferry_client::{CallError, Connection, Uri};
use ferry_rpc::values::Feature;
use ferry_rpc::{Error, ErrorCode, Origin};
use serde_json::{Value, json};

use crate::cli::{Go, Migrate};
use crate::failure::{Cause, Exit, Failure};
use crate::guests::close;
use crate::interrupt::Interrupts;
use crate::plan::{self, Depth, Foreseen, Plan, Shown, Target, Thought};
use crate::{host, no_host, place, say};
use figures::{Bytes, Figures, Span};
use run::{Moved, Order, Way, carry_out};

/// Migrates a guest.
pub(crate) async fn migrate(source: Uri, go: &Go) -> Result<(), Failure> {
    let options = &go.migrate;
    let mut plan = None;
    let result = attempt(source, go, &mut plan).await;
    if options.json {
        say(report(options, &result, plan.as_ref()));
    } else if let (Ok((moved, destination)), false) = (&result, options.quiet) {
        say(sentence(&options.guest, destination, moved));
    }
    result.map(drop)
}

/// The migration, and the destination's address. `plan` is given what both hosts had to say before.
async fn attempt(source_uri: Uri, go: &Go, plan: &mut Option<Plan>) -> Result<(Moved, String), Failure> {
    let options = &go.migrate;
    let params = order::params(options)?;
    let flags = order::flags(options);
    let destination = Destination::read(options)?;

    let source = host::open(&source_uri).await?;
    let domain = host::find(&source, &options.guest).await?;
    let mut request = Request { domain, flags, params };
    let way = connect(&source, &mut request, destination).await?;
    let name = way.destination();
    if !go.no_plan {
        *plan = look(&source, &request, &way, go).await;
        if let Some(refusal) = plan.as_ref().and_then(Plan::refusal) {
            if let Way::Direct(connection, _) = way {
                close(connection).await;
            }
            close(source).await;
            return Err(refusal);
        }
    }

    let mut interrupts = Interrupts::listen()
        .map_err(|error| Failure::refused("cannot listen to signals", error.to_string()))?;
    let mut watcher = show::watcher(&request.domain.name, options.quiet);
    let order = Order { source: source.clone(), source_uri, way, request, patience: options.timeout };
    let moved = carry_out(order, watcher.as_mut(), Some(&mut interrupts)).await;
    drop(watcher);
    close(source).await;
    moved.map(|moved| (moved, name))
}

/// What both hosts have to say before anything is begun. What only warns is said at once.
async fn look(source: &Connection, request: &Request, way: &Way, go: &Go) -> Option<Plan> {
    let target = match way {
        Way::Direct(connection, _) => Target::Direct(connection.clone()),
        Way::PeerToPeer(uri) => Target::Peer(uri.clone()),
    };
    let depth = if go.predict { Depth::Prediction } else { Depth::Checks };
    let Request { domain, flags, params } = request.clone();
    let plan = plan::before(source, &Thought { domain, flags, params }, &target, depth).await?;
    if !go.migrate.quiet {
        for warning in plan.warnings() {
            show::line(&Shown(warning).to_string());
        }
        if let Some(prediction) = &plan.prediction {
            show::line(&Foreseen(prediction).to_string());
        }
    }
    Some(plan)
}

/// Where to, before anybody was asked.
enum Destination {
    Direct(Uri),
    PeerToPeer(String),
}

impl Destination {
    fn read(options: &Migrate) -> Result<Self, Failure> {
        let read = if options.p2p {
            order::peer(&options.destination).map(Self::PeerToPeer)
        } else {
            place::host(&options.destination).map(Self::Direct)
        };
        read.map_err(|error| no_host(&error))
    }
}

/// Connects to the destination when this tool coordinates, and asks the hosts whether they can.
async fn connect(
    source: &Connection,
    request: &mut Request,
    destination: Destination,
) -> Result<Way, Failure> {
    let cannot = |error| Failure::refused(format!("cannot migrate '{}'", request.domain.name), error);
    match destination {
        Destination::Direct(uri) => {
            let destination = host::open(&uri).await?;
            let name = request.domain.name.clone();
            let fit = request.fit(source, &destination).await;
            fit.map_err(|error| Failure::refused(format!("cannot migrate '{name}'"), error))?;
            Ok(Way::Direct(destination, uri))
        }
        Destination::PeerToPeer(uri) => {
            for (feature, what) in [
                (Feature::MIGRATION_P2P, "peer-to-peer migration"),
                (Feature::MIGRATION_PARAMS, "migration with typed parameters"),
            ] {
                if !source.supports(feature).await.map_err(cannot)? {
                    let text = format!("{what} is not supported by the source host");
                    let error = Error::new(ErrorCode::NO_SUPPORT, Origin::NONE, text);
                    return Err(cannot(CallError::Remote(error)));
                }
            }
            Ok(Way::PeerToPeer(uri))
        }
    }
}

/// The result for people.
pub(crate) fn sentence(guest: &str, destination: &str, moved: &Moved) -> String {
    let copied = moved.figures.map_or_else(String::new, |figures| format!(": {}", details(&figures)));
    format!("'{guest}' moved to {destination} in {}{copied}", Span(moved.total))
}

/// Pause, bytes and passes.
pub(crate) fn details(figures: &Figures) -> String {
    let pause = figures.pause_ms.map_or_else(String::new, |ms| format!("pause {ms} ms, "));
    let passes = if figures.passes == 1 { "pass" } else { "passes" };
    format!("{pause}{} sent in {} {passes}", Bytes(figures.sent), figures.passes)
}

/// The result for programs. Fields that are not known are null.
fn report(options: &Migrate, result: &Result<(Moved, String), Failure>, plan: Option<&Plan>) -> Value {
    let common = json!({
        "guest": options.guest,
        "destination": options.destination,
        "coordination": if options.p2p { "p2p" } else { "direct" },
        "findings": plan.map(Plan::json_findings),
        "predicted": plan.and_then(|plan| plan.prediction.as_ref()),
    });
    let rest = match result {
        Ok((moved, destination)) => json!({
            "outcome": "moved",
            "destination": destination,
            "total_ms": u64::try_from(moved.total.as_millis()).unwrap_or(u64::MAX),
            "pause_ms": moved.figures.and_then(|figures| figures.pause_ms),
            "bytes": moved.figures.map(|figures| figures.sent),
            "passes": moved.figures.map(|figures| figures.passes),
        }),
        Err(failure) => {
            let outcome = match failure.exit {
                Exit::Failed => "failed",
                Exit::Refused => "refused",
                Exit::InDoubt => "in-doubt",
            };
            let (code, origin, text) = match &failure.cause {
                Cause::Wire(error) => (Some(error.code.0), Some(error.origin.0), error.message.clone()),
                Cause::Here(text) => (None, None, text.clone()),
            };
            json!({
                "outcome": outcome,
                "error": { "code": code, "origin": origin, "text": text, "doing": failure.doing },
                "where": failure.guest,
                "next": failure.next,
            })
        }
    };
    let mut all = common;
    if let (Some(all), Value::Object(rest)) = (all.as_object_mut(), rest) {
        all.extend(rest);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;
    use std::time::Duration;

    fn options() -> Migrate {
        match Cli::try_parse_from(["ferry", "migrate", "vm", "/b", "--json"]).unwrap().command {
            Command::Migrate(go) => go.migrate,
            other => panic!("{other:?}"),
        }
    }

    fn moved() -> Moved {
        let figures = Figures { sent: 95_447_181, passes: 3, pause_ms: Some(23), ..Figures::default() };
        Moved { total: Duration::from_millis(1234), figures: Some(figures) }
    }

    #[test]
    fn the_result_line_has_time_pause_bytes_and_passes() {
        assert_eq!(
            sentence("vm", "qemu:///system", &moved()),
            "'vm' moved to qemu:///system in 1.23 s: pause 23 ms, 91.0 MiB sent in 3 passes"
        );
        let bare = Moved { figures: None, ..moved() };
        assert_eq!(sentence("vm", "b", &bare), "'vm' moved to b in 1.23 s");
    }

    #[test]
    fn programs_get_the_same_and_the_codes() {
        let result = Ok((moved(), "qemu:///system".to_owned()));
        let line = report(&options(), &result, None);
        assert_eq!(
            (&line["outcome"], &line["total_ms"], &line["pause_ms"]),
            (&json!("moved"), &json!(1234), &json!(23))
        );
        let error = Error::of(ErrorCode::OPERATION_ABORTED, Origin::QEMU, "so");
        let line = report(&options(), &Err(Failure::failed("x", error)), None);
        assert_eq!((&line["outcome"], &line["error"]["code"]), (&json!("failed"), &json!(78)));
        assert!(!line.to_string().contains('\n'));
    }
}
