//! What an operator does to a running guest every day: the arguments as QEMU takes them, and answers that it gave.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use ferry_qmp::Command;
use ferry_qmp::commands::console::{Key, Screendump, SendKey, SetLink};
use ferry_qmp::commands::device::QueryIothreads;
use ferry_qmp::commands::media::{
    BlockSetIoThrottle, BlockdevCloseTray, BlockdevInsertMedium, BlockdevOpenTray, BlockdevRemoveMedium,
};
use ferry_qmp::commands::run::QueryHotpluggableCpus;
use serde_json::{Value, json};

fn shown<C: Command>(command: &C, name: &str, arguments: Value) {
    assert_eq!((C::NAME, serde_json::to_value(command).unwrap()), (name, arguments));
}

#[test]
fn keyboard_screen_and_cable() {
    shown(
        &SendKey { keys: vec![Key(29), Key(0xd3)], hold_time: Some(50) },
        "send-key",
        json!({"keys": [{"type": "number", "data": 29}, {"type": "number", "data": 211}], "hold-time": 50}),
    );
    shown(
        &Screendump { filename: "/s".to_owned(), device: None, head: None, format: Some("png".to_owned()) },
        "screendump",
        json!({"filename": "/s", "format": "png"}),
    );
    shown(&SetLink { name: "net0".to_owned(), up: false }, "set_link", json!({"name": "net0", "up": false}));
}

#[test]
fn a_medium_is_changed_and_a_drive_throttled() {
    let id = || "sata0-0-0".to_owned();
    shown(
        &BlockdevOpenTray { id: id(), force: true },
        "blockdev-open-tray",
        json!({"id": "sata0-0-0", "force": true}),
    );
    shown(&BlockdevRemoveMedium { id: id() }, "blockdev-remove-medium", json!({"id": "sata0-0-0"}));
    let insert = BlockdevInsertMedium { id: id(), node_name: "n".to_owned() };
    shown(&insert, "blockdev-insert-medium", json!({"id": "sata0-0-0", "node-name": "n"}));
    shown(&BlockdevCloseTray { id: id() }, "blockdev-close-tray", json!({"id": "sata0-0-0"}));
    shown(
        &BlockSetIoThrottle { id: id(), bps: 5, iops_rd_max: Some(9), ..BlockSetIoThrottle::default() },
        "block_set_io_throttle",
        json!({"id": "sata0-0-0", "bps": 5, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0,
               "iops_rd_max": 9}),
    );
}

fn reply<C: Command>(answer: Value) -> C::Reply {
    serde_json::from_value(answer).unwrap()
}

#[test]
fn places_for_processors_and_threads() {
    let cpus = reply::<QueryHotpluggableCpus>(json!([
        {"props": {"core-id": 0, "thread-id": 0, "socket-id": 1}, "vcpus-count": 1, "type": "qemu64-x86_64-cpu"},
        {"props": {"core-id": 0, "thread-id": 0, "socket-id": 0}, "vcpus-count": 1,
         "qom-path": "/machine/unattached/device[0]", "type": "qemu64-x86_64-cpu"}
    ]));
    assert_eq!((cpus[0].qom_path.as_deref(), cpus[0].props.socket_id), (None, Some(1)));
    assert_eq!(
        serde_json::to_value(cpus[0].props).unwrap(),
        json!({"core-id": 0, "thread-id": 0, "socket-id": 1})
    );
    let threads = reply::<QueryIothreads>(json!([
        {"poll-shrink": 0, "thread-id": 13, "aio-max-batch": 0, "poll-grow": 2, "poll-max-ns": 32768, "id": "iothread1"}
    ]));
    assert_eq!((threads[0].poll_max_ns, threads[0].poll_grow, threads[0].poll_shrink), (32768, 2, 0));
}
