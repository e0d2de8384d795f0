//! `ferry history`: what a host remembers of the migrations that it took part in.
//!
//! Only a ferryd keeps a history.

use std::fmt;
use std::time::Duration;

use ferry_client::Uri;
use ferry_migration::predict::Prediction;
use ferry_rpc::proto::{DomainRef, History, HistoryEntry};
use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli;
use crate::failure::Failure;
use crate::guests::close;
use crate::host;
use crate::migrate::figures::{Bytes, Span};
use crate::plan::Times;
use crate::say;

/// Most that a ferryd answers with.
const ENTRIES_MAX: u32 = 1024;

/// Prints the last migrations, newest first.
pub(crate) async fn history(uri: &Uri, options: &cli::History) -> Result<(), Failure> {
    let connection = host::open(uri).await?;
    let uuid = options.guest.as_deref().and_then(|guest| Uuid::parse_str(guest).ok());
    // A name is looked for here, since the host may not know the guest any more.
    let by_name = options.guest.as_deref().filter(|_| uuid.is_none());
    let call = History {
        domain: uuid.map(|uuid| DomainRef { name: uuid.to_string(), uuid, id: -1 }),
        limit: if by_name.is_some() { ENTRIES_MAX } else { options.limit },
    };
    let answer = connection.call(&call).await;
    let entries = answer.map_err(|error| Failure::refused("cannot read the history", error))?.entries;
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let picked = entries.iter().filter(|entry| by_name.is_none_or(|name| entry.name == name)).take(limit);
    for entry in picked {
        if options.json {
            say(json(entry));
        } else {
            say(Shown(entry));
        }
    }
    close(connection).await;
    Ok(())
}

/// An entry for programs.
fn json(entry: &HistoryEntry) -> Value {
    json!({
        "migration": Uuid::from_bytes(entry.migration).simple().to_string(),
        "domain": entry.domain.to_string(),
        "name": entry.name,
        "direction": if entry.outgoing { "out" } else { "in" },
        "peer": entry.peer,
        "started_ms": entry.started_ms,
        "ended_ms": entry.ended_ms,
        "result": entry.result,
        "guarantee": entry.guarantee,
        "statistics": statistics(entry),
    })
}

/// The figures; an empty object when the host sent something else.
fn statistics(entry: &HistoryEntry) -> Value {
    serde_json::from_str(&entry.statistics).unwrap_or_else(|_| json!({}))
}

/// An entry for people: a line for what and when, one for how it ended, one for what is promised.
struct Shown<'a>(&'a HistoryEntry);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(entry) = *self;
        let way = if entry.outgoing { "to" } else { "from" };
        let peer = if entry.peer.is_empty() { "an unnamed host" } else { &entry.peer };
        write!(f, "{}  {} {way} {peer}", when(entry.started_ms), entry.name)?;
        if let Some(ended) = entry.ended_ms {
            let took = Duration::from_millis(ended.saturating_sub(entry.started_ms));
            write!(f, ", took {}", Span(took))?;
        }
        let figures = statistics(entry);
        let number = |name: &str| figures.get(name).and_then(Value::as_u64);
        if let Some(pause) = number("downtime_ms") {
            write!(f, ", guest paused for {}", Span(Duration::from_millis(pause)))?;
        }
        if let Some(sent) = number("memory_processed").filter(|sent| *sent > 0) {
            write!(f, ", {} of memory sent", Bytes(sent))?;
        }
        if let Ok(foreseen) = serde_json::from_value::<Prediction>(figures["predicted"].clone()) {
            let span = |ms| Span(Duration::from_millis(ms));
            write!(f, "\n  predicted: copy {}", Times(&foreseen.copy_ms))?;
            if let Some(pause) = &foreseen.pause_ms {
                write!(f, ", pause {}", Times(pause))?;
            }
            if let Some(copy) = number("copy_ms") {
                write!(f, "; measured: copy {}", span(copy))?;
            }
        }
        write!(f, "\n  result:    {}", entry.result)?;
        write!(f, "\n  guarantee: {}", entry.guarantee)
    }
}

/// A time in UTC, to the second: hosts are compared by it.
fn when(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let rounded = stamp.and_then(|stamp| stamp.round(Unit::Second).ok());
    rounded.map_or_else(|| format!("{ms} ms"), |stamp| stamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> HistoryEntry {
        HistoryEntry {
            migration: [7; 16],
            domain: Uuid::from_u128(5),
            name: "guest1".to_owned(),
            outgoing: true,
            peer: "tcp://192.0.2.2:49152".to_owned(),
            started_ms: 1_700_000_000_400,
            ended_ms: Some(1_700_000_002_900),
            result: "moved".to_owned(),
            guarantee: "proven".to_owned(),
            statistics: r#"{"downtime_ms":9,"memory_processed":1048576}"#.to_owned(),
        }
    }

    #[test]
    fn an_entry_says_what_when_how_and_what_is_promised() {
        assert_eq!(
            Shown(&entry()).to_string(),
            "2023-11-14T22:13:20Z  guest1 to tcp://192.0.2.2:49152, took 2.50 s, guest paused for 9 ms, 1.0 MiB of \
             memory sent\n  result:    moved\n  guarantee: proven"
        );
    }

    #[test]
    fn what_a_plan_has_predicted_stands_beside_what_came() {
        let range = serde_json::json!({"low": 900, "expected": 1200, "high": null});
        let guest = serde_json::json!({"total": 4, "used": 3, "dirty": null, "runs": true});
        let predicted = serde_json::json!({
            "end": "converges", "copy_ms": range, "pause_ms": range, "bytes": range, "passes": 1, "rate": 1,
            "probed": null, "past": 0, "guest": guest, "advice": [],
        });
        let statistics = serde_json::json!({"copy_ms": 1300, "predicted": predicted}).to_string();
        let shown = Shown(&HistoryEntry { statistics, ..entry() }).to_string();
        let line = "\n  predicted: copy 1.20 s (from 900 ms, open-ended), pause 1.20 s (from 900 ms, open-ended); measured: \
                    copy 1.30 s\n  result:    moved";
        assert!(shown.contains(line), "{shown}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let entry = HistoryEntry {
            outgoing: false,
            peer: String::new(),
            started_ms: u64::MAX,
            ended_ms: None,
            statistics: "nonsense".to_owned(),
            ..entry()
        };
        assert_eq!(
            Shown(&entry).to_string(),
            "18446744073709551615 ms  guest1 from an unnamed host\n  result:    moved\n  guarantee: proven"
        );
    }

    #[test]
    fn programs_get_every_field() {
        let json = json(&entry());
        assert_eq!(json["migration"], "07".repeat(16));
        assert_eq!((&json["direction"], &json["ended_ms"]), (&json!("out"), &json!(1_700_000_002_900_u64)));
        assert_eq!(json["statistics"]["downtime_ms"], 9);
    }
}
