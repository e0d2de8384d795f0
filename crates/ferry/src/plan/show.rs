//! A plan for people, and for programs. The shape of the latter is told in docs/plan.md.

use std::fmt;
use std::time::Duration;

use ferry_migration::predict::{End, Prediction, Range};
use ferry_rpc::proto::{PlanDisk, PlanFinding};
use serde_json::{Value, json};

use super::Plan;
use crate::migrate::figures::{Bytes, Span};

impl Plan {
    /// The findings alone.
    pub(crate) fn json_findings(&self) -> Vec<Value> {
        let finding = |(host, finding): (&'static str, &PlanFinding)| {
            json!({
                "host": host,
                "severity": if finding.warns { "warning" } else { "refusal" },
                "code": finding.code,
                "text": finding.message,
                "remedy": remedy(finding),
            })
        };
        self.findings().map(finding).collect()
    }

    pub(super) fn json(&self) -> Value {
        let disk = |disk: &PlanDisk| {
            json!({
                "disk": disk.target,
                "role": disk.role,
                "place": disk.place,
                "kind": disk.kind,
                "sharing": some(&disk.sharing),
                "cache": disk.cache,
                "safe": disk.safe,
                "why": disk.why,
                "remedy": some(&disk.remedy),
            })
        };
        json!({
            "guest": self.guest,
            "destination": self.destination,
            "would_go": self.refusals().is_empty(),
            "guarantee": self.guarantee(),
            "destination_unknown": self.arriving.unknown,
            "findings": self.json_findings(),
            "disks": self.leaving.disks.iter().map(disk).collect::<Vec<_>>(),
            "devices": self.leaving.guest.devices,
            "clock_skew_us": self.skew.map(|skew| json!({"ahead": skew.ahead, "within": skew.within})),
            "prediction": self.prediction,
            "unpredicted": self.unpredicted,
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "source:")?;
        list(f, &self.leaving.findings)?;
        writeln!(f, "destination {}:", self.destination)?;
        match (&self.arriving.unknown, self.arriving.findings.is_empty()) {
            // What it was not asked, nobody vouches for.
            (Some(_), true) if self.arriving.has_address.is_none() => {}
            (Some(_) | None, _) => list(f, &self.arriving.findings)?,
        }
        if let Some(why) = &self.arriving.unknown {
            writeln!(f, "  not asked: {why}")?;
        }
        if !self.between.is_empty() {
            writeln!(f, "between the two:")?;
            list(f, &self.between)?;
        }
        if !self.leaving.disks.is_empty() {
            writeln!(f, "disks:")?;
            self.leaving.disks.iter().try_for_each(|disk| writeln!(f, "  {}", Disk(disk)))?;
        }
        match self.leaving.guest.devices.len() {
            0 => {}
            count => writeln!(f, "devices: {count}, with their places in --json")?,
        }
        write!(f, "guarantee: {}", self.guarantee())?;
        if let Some(prediction) = &self.prediction {
            write!(f, "\n{}", Foreseen(prediction))?;
        }
        if let Some(why) = &self.unpredicted {
            write!(f, "\nprediction: none: {why}")?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, findings: &[PlanFinding]) -> fmt::Result {
    if findings.iter().all(|finding| finding.warns) {
        writeln!(f, "  nothing stands in the way")?;
    }
    findings.iter().try_for_each(|finding| writeln!(f, "{}", Shown(finding)))
}

/// A finding with its remedy.
pub(crate) struct Shown<'a>(pub(crate) &'a PlanFinding);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlanFinding { warns, code, message, .. } = self.0;
        if *warns {
            write!(f, "  ! {message}")?;
        } else {
            write!(f, "  - {message} [{code}]")?;
        }
        match remedy(self.0) {
            Some(remedy) => write!(f, "\n    remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

struct Disk<'a>(&'a PlanDisk);

impl fmt::Display for Disk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlanDisk { target, role, place, kind, sharing, cache, safe, why, .. } = self.0;
        write!(f, "{target} {role} {place} on {kind}")?;
        if !sharing.is_empty() {
            write!(f, " ({sharing})")?;
        }
        let verdict = if *safe { "safe" } else { "unsafe" };
        write!(f, ", cache {cache}: {verdict}: {why}")
    }
}

/// What it would take.
pub(crate) struct Foreseen<'a>(pub(crate) &'a Prediction);

impl fmt::Display for Foreseen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prediction { end, copy_ms, pause_ms, bytes, passes, rate, probed, past, guest, advice } = self.0;
        let passes = if *passes == 1 { "1 pass".to_owned() } else { format!("{passes} passes") };
        f.write_str("prediction: ")?;
        match end {
            End::Converges => {}
            End::Postcopy => f.write_str("with a switch to post-copy after the first pass, ")?,
            End::Stopped => f.write_str("the guest stands still for all of the copy, ")?,
            End::DoesNotConverge => f.write_str(
                "it is not expected to end by itself: the guest writes to its memory about as fast as it is sent; one pass: ",
            )?,
        }
        write!(f, "copy {}", Times(copy_ms))?;
        if let (Some(pause), true) = (pause_ms, *end != End::DoesNotConverge) {
            write!(f, ", pause {}", Times(pause))?;
        }
        write!(f, ", {} in {passes} at {}/s", Bytes(bytes.expected), Bytes(*rate))?;
        write!(f, "\n  from: {} of {} in use", Bytes(guest.used), Bytes(guest.total))?;
        match guest.dirty {
            _ if !guest.runs => f.write_str(", the guest stands still")?,
            Some(dirty) => write!(f, ", {}/s written to", Bytes(dirty))?,
            None => f.write_str(", its writing not known")?,
        }
        match probed {
            Some(probed) => write!(f, ", {}/s got across in a short probe", Bytes(*probed))?,
            None => f.write_str(", the way not probed")?,
        }
        match past {
            0 => f.write_str(", no earlier copy between these hosts")?,
            1 => f.write_str(", one earlier copy between these hosts")?,
            several => write!(f, ", {several} earlier copies between these hosts")?,
        }
        advice.iter().try_for_each(|advice| write!(f, "\n  advice: {advice}"))
    }
}

/// `1.20 s (0.90 s to 2.10 s)`.
pub(crate) struct Times<'a>(pub(crate) &'a Range);

impl fmt::Display for Times<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |ms| Span(Duration::from_millis(ms));
        let Range { low, expected, high } = *self.0;
        write!(f, "{} (from {}", span(expected), span(low))?;
        match high {
            Some(high) => write!(f, " to {})", span(high)),
            None => f.write_str(", open-ended)"),
        }
    }
}

fn remedy(finding: &PlanFinding) -> Option<&str> {
    some(&finding.remedy)
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
