//! What a plan shows of its parts.

use super::*;
use ferry_migration::predict::{Guest, Link, Wish, predict};
use ferry_rpc::proto::{PlanDisk, PlanGuest};
use serde_json::json;

fn finding(code: ErrorCode, message: &str, remedy: &str) -> PlanFinding {
    PlanFinding {
        warns: false,
        code: code.0,
        origin: Origin::QEMU.0,
        message: message.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn plan(findings: Vec<PlanFinding>, arriving: Side) -> Plan {
    let leaving = PlanLeavingReply {
        host: Uuid::from_u128(1),
        has_address: false,
        received_us: 0,
        answered_us: 0,
        xml: None,
        guest: PlanGuest { devices: vec!["pvpanic".to_owned()], lacks: Vec::new(), overlays: Vec::new() },
        findings,
        disks: Vec::new(),
    };
    Plan {
        guest: "vm".to_owned(),
        destination: "beta".to_owned(),
        on_one_machine: false,
        leaving,
        arriving,
        between: Vec::new(),
        skew: None,
        prediction: None,
        unpredicted: None,
    }
}

fn asked(findings: Vec<PlanFinding>) -> Side {
    Side { findings, unknown: None, has_address: Some(false) }
}

#[test]
fn every_problem_is_shown_with_its_remedy() {
    let shared = finding(ErrorCode::MIGRATE_UNSAFE, "Unsafe migration: a", "share it");
    let model = of_error(&Error::new(ErrorCode::CPU_INCOMPATIBLE, Origin::QEMU, "no such CPU"));
    let plan = plan(vec![shared], asked(vec![model]));
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
fn a_refusal_has_the_first_code_all_texts_and_each_remedy_once() {
    let one = finding(ErrorCode::MIGRATE_UNSAFE, "Unsafe migration: a", "share it");
    let other = finding(ErrorCode::MIGRATE_UNSAFE, "Unsafe migration: b", "share it");
    let failure = plan(vec![one], asked(vec![other])).refusal().unwrap();
    assert_eq!(
        failure.to_string(),
        "cannot migrate 'vm': Unsafe migration: a; also: Unsafe migration: b [81/10]\n  guest: untouched on the source\n  \
         next:  share it"
    );
    assert_eq!(plan(Vec::new(), asked(Vec::new())).refusal(), None);
}

#[test]
fn a_warning_is_shown_and_holds_nothing_up() {
    let mut plan = plan(Vec::new(), asked(Vec::new()));
    plan.compare_clocks(Offset { ahead: 5_000_000, within: 100 });
    let text = plan.to_string();
    assert!(text.contains(
        "between the two:\n  nothing stands in the way\n  ! the destination's clock is 5.000 s ahead"
    ));
    assert!(plan.verdict().is_ok() && plan.refusal().is_none());
    assert_eq!(plan.warnings().count(), 1);
    let json = plan.json();
    assert_eq!((&json["would_go"], &json["findings"][0]["severity"]), (&json!(true), &json!("warning")));
    assert_eq!(json["clock_skew_us"], json!({"ahead": 5_000_000, "within": 100}));
}

#[test]
fn what_cannot_be_asked_is_said_and_holds_nothing_up() {
    let plan = plan(Vec::new(), Side::not_asked("it runs no ferryd"));
    let text = plan.to_string();
    assert!(text.contains("  nothing stands in the way\ndestination beta:\n  not asked: it runs no ferryd"));
    assert!(plan.guarantee().starts_with("best effort") && plan.verdict().is_ok());
}

#[test]
fn the_same_host_is_one_problem_and_not_ten() {
    let side = Side::same_host(Uuid::from_u128(1));
    assert_eq!(side.findings.len(), 1);
    assert!(side.findings[0].message.contains("same host") && !side.findings[0].remedy.is_empty());
}

#[test]
fn an_address_on_either_side_is_enough_for_a_proof() {
    let there = Side { has_address: Some(true), ..Side::default() };
    assert!(plan(Vec::new(), there).guarantee().starts_with("proven"));
    let mut neighbours = plan(Vec::new(), asked(Vec::new()));
    assert!(neighbours.guarantee().starts_with("best effort"));
    neighbours.on_one_machine = true;
    assert!(neighbours.guarantee().starts_with("proven"));
}

#[test]
fn each_disk_has_a_line_with_its_verdict() {
    let mut plan = plan(Vec::new(), asked(Vec::new()));
    plan.leaving.disks.push(PlanDisk {
        target: "vda".to_owned(),
        role: "image".to_owned(),
        place: "/nfs/a".to_owned(),
        kind: "nfs4".to_owned(),
        sharing: "shared".to_owned(),
        cache: "none".to_owned(),
        safe: true,
        why: "nothing stale can stay in a cache".to_owned(),
        remedy: String::new(),
    });
    let line =
        "disks:\n  vda image /nfs/a on nfs4 (shared), cache none: safe: nothing stale can stay in a cache\n";
    assert!(plan.to_string().contains(line), "{plan}");
    assert_eq!(plan.json()["disks"][0]["remedy"], json!(null));
}

#[test]
fn a_prediction_says_what_it_was_made_of() {
    let guest = Guest { total: 1 << 30, used: 600 << 20, dirty: Some(0), runs: true };
    let link = Link { probed: Some(100 << 20), past: Vec::new() };
    let live = Wish { live: true, ..Wish::default() };
    let mut plan = plan(Vec::new(), asked(Vec::new()));
    plan.prediction = Some(predict(&guest, &link, &live));
    let text = plan.to_string();
    for part in [
        "prediction: copy 6.",
        ", pause ",
        " in 1 pass at 100.0 MiB/s",
        "from: 600.0 MiB of 1.0 GiB in use, 0 B/s written to, 100.0 MiB/s got across in a short probe, no earlier copy",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(plan.json()["prediction"]["end"], json!("converges"));
    let busy = Guest { dirty: Some(500 << 20), ..guest };
    plan.prediction = Some(predict(&busy, &link, &live));
    let text = plan.to_string();
    assert!(text.contains("not expected to end by itself") && text.contains("open-ended"), "{text}");
    assert!(text.contains("\n  advice: ") && !text.contains("pause "), "{text}");
}
