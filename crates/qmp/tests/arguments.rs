//! The arguments of commands as QEMU's schema has them, for those that no recorded conversation shows.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use ferry_qmp::Command;
use ferry_qmp::commands::block::{
    BlockDirtyBitmapAdd, BlockDirtyBitmapMerge, BlockExportAdd, BlockdevAdd, BlockdevDel, NbdServerStart,
    NbdServerStop, Transaction, TransactionAction,
};
use ferry_qmp::commands::device::{ChardevAdd, ObjectAdd, QomSet};
use ferry_qmp::commands::fd::{AddFd, RemoveFd};
use ferry_qmp::commands::guest::{
    AnnounceSelf, Balloon, DisplayProtocol, ExpirePassword, HumanMonitorCommand, SetPassword,
};
use ferry_qmp::commands::introspect::{
    CpuExpansion, CpuModel, QomListTypes, QueryCommandLineOptions, QueryCpuModelExpansion,
};
use ferry_qmp::commands::migration::{
    ChannelType, Migrate, MigrateIncoming, MigrateRecover, MigrateSetParameters, MigrationAddress,
    MigrationChannel, MigrationMode, MigrationParameters, SocketAddress,
};
use serde_json::{Map, Value, json};

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn shown<C: Command>(command: &C, name: &str, arguments: Value) {
    assert_eq!((C::NAME, serde_json::to_value(command).unwrap()), (name, arguments));
}

#[test]
fn migration() {
    let inet = SocketAddress::Inet { host: "192.0.2.7".to_owned(), port: "49152".to_owned() };
    let main = |addr| Some(vec![MigrationChannel { channel_type: ChannelType::Main, addr }]);
    shown(
        &Migrate { channels: main(MigrationAddress::Socket(inet)), ..Default::default() },
        "migrate",
        json!({"channels": [{"channel-type": "main",
            "addr": {"transport": "socket", "type": "inet", "host": "192.0.2.7", "port": "49152"}}]}),
    );
    let file = MigrationAddress::File { filename: "/dev/fdset/1".to_owned(), offset: 4096 };
    shown(
        &MigrateIncoming { channels: main(file), exit_on_error: Some(false), ..Default::default() },
        "migrate-incoming",
        json!({"channels": [{"channel-type": "main",
            "addr": {"transport": "file", "filename": "/dev/fdset/1", "offset": 4096}}], "exit-on-error": false}),
    );
    let exec = MigrationAddress::Exec { args: vec!["/bin/cat".to_owned()] };
    shown(
        &Migrate { channels: main(exec), resume: Some(true), ..Default::default() },
        "migrate",
        json!({"channels": [{"channel-type": "main", "addr": {"transport": "exec", "args": ["/bin/cat"]}}],
            "resume": true}),
    );
    shown(&MigrateRecover { uri: "unix:/x".to_owned() }, "migrate-recover", json!({"uri": "unix:/x"}));
    let parameters = MigrationParameters {
        mode: Some(MigrationMode::CprTransfer),
        tls_creds: Some(String::new()),
        multifd_zstd_level: Some(20),
        ..Default::default()
    };
    shown(
        &MigrateSetParameters(parameters),
        "migrate-set-parameters",
        json!({"mode": "cpr-transfer", "tls-creds": "", "multifd-zstd-level": 20}),
    );
    shown(&MigrateSetParameters::default(), "migrate-set-parameters", json!({}));
}

#[test]
fn addresses_of_another_version_are_kept() {
    for address in [
        json!({"type": "fd", "str": "m"}),
        json!({"type": "vsock", "cid": "3", "port": "1"}),
        json!({"type": "unix", "path": "x", "abstract": true}),
        json!({"type": "carrier-pigeon", "name": "Speckled Jim"}),
    ] {
        let read: SocketAddress = serde_json::from_value(address.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), address);
        assert_eq!(matches!(read, SocketAddress::Other(_)), address["type"] == "carrier-pigeon");
    }
}

#[test]
fn devices_and_objects() {
    let node = json!({"driver": "file", "node-name": "n", "filename": "/x"});
    shown(&BlockdevAdd(map(node.clone())), "blockdev-add", node);
    shown(&BlockdevDel { node_name: "n".to_owned() }, "blockdev-del", json!({"node-name": "n"}));
    shown(
        &NbdServerStart { path: "/s".to_owned() },
        "nbd-server-start",
        json!({"addr": {"type": "unix", "data": {"path": "/s"}}}),
    );
    shown(
        &BlockExportAdd { id: "e".to_owned(), node_name: "n".to_owned(), writable: false },
        "block-export-add",
        json!({"type": "nbd", "id": "e", "node-name": "n", "writable": false}),
    );
    shown(&NbdServerStop, "nbd-server-stop", json!({}));
    shown(
        &ObjectAdd {
            qom_type: "iothread".to_owned(),
            id: "iothread1".to_owned(),
            properties: map(json!({"poll-max-ns": 0})),
        },
        "object-add",
        json!({"qom-type": "iothread", "id": "iothread1", "poll-max-ns": 0}),
    );
    shown(
        &ChardevAdd { id: "c".to_owned(), backend: json!({"type": "pty", "data": {}}) },
        "chardev-add",
        json!({"id": "c", "backend": {"type": "pty", "data": {}}}),
    );
    shown(
        &QomSet { path: "/objects/t".to_owned(), property: "x".to_owned(), value: json!(null) },
        "qom-set",
        json!({"path": "/objects/t", "property": "x", "value": null}),
    );
    shown(&AddFd { fdset_id: Some(1), opaque: None }, "add-fd", json!({"fdset-id": 1}));
    shown(&RemoveFd { fdset_id: 1, fd: Some(30) }, "remove-fd", json!({"fdset-id": 1, "fd": 30}));
}

#[test]
fn guest_and_introspection() {
    shown(&Balloon { value: 1 << 30 }, "balloon", json!({"value": 1 << 30}));
    shown(
        &AnnounceSelf { initial: 50, max: 550, rounds: 5, step: 100, interfaces: None },
        "announce-self",
        json!({"initial": 50, "max": 550, "rounds": 5, "step": 100}),
    );
    shown(
        &ExpirePassword { protocol: DisplayProtocol::Vnc, time: "+30".to_owned() },
        "expire_password",
        json!({"protocol": "vnc", "time": "+30"}),
    );
    shown(
        &HumanMonitorCommand { command_line: "info status".to_owned() },
        "human-monitor-command",
        json!({"command-line": "info status"}),
    );
    shown(&QueryCommandLineOptions::default(), "query-command-line-options", json!({}));
    shown(
        &QomListTypes { implements: Some("device".to_owned()), include_abstract: Some(false) },
        "qom-list-types",
        json!({"implements": "device", "abstract": false}),
    );
    let model = CpuModel { name: "max".to_owned(), props: map(json!({"migratable": true})) };
    shown(
        &QueryCpuModelExpansion { kind: CpuExpansion::Full, model },
        "query-cpu-model-expansion",
        json!({"type": "full", "model": {"name": "max", "props": {"migratable": true}}}),
    );
}

#[test]
fn secrets_are_sent_and_never_printed() {
    let secret = "correct horse";
    let password = SetPassword {
        protocol: DisplayProtocol::Vnc,
        password: secret.to_owned(),
        connected: Some("keep".to_owned()),
    };
    shown(&password, "set_password", json!({"protocol": "vnc", "password": secret, "connected": "keep"}));
    let object = ObjectAdd {
        qom_type: "secret".to_owned(),
        id: "s".to_owned(),
        properties: map(json!({"data": secret})),
    };
    let mut session = ferry_qmp::Session::new(0);
    session.execute(&password).unwrap();
    session.execute(&object).unwrap();
    session
        .handle_bytes(b"{\"QMP\":{\"version\":{\"qemu\":{\"major\":8,\"minor\":0,\"micro\":0}}}}\n")
        .unwrap();
    let mut printed = format!("{password:?} {object:?} {session:?}");
    session.poll_output().unwrap();
    session.handle_bytes(b"{\"return\":{}}\n").unwrap();
    let output = session.poll_output().unwrap();
    assert!(String::from_utf8(output.bytes.clone()).unwrap().contains(secret));
    printed += &format!("{output:?}");
    assert!(!printed.contains(secret) && !printed.contains("99, 111, 114, 114"), "{printed}");
}

#[test]
fn several_steps_as_one() {
    let (node, name) = ("n".to_owned(), "b".to_owned());
    let add = BlockDirtyBitmapAdd {
        node: node.clone(),
        name: name.clone(),
        granularity: 65536,
        persistent: true,
        disabled: false,
    };
    let merge = BlockDirtyBitmapMerge { node, target: name, bitmaps: vec!["a".to_owned()] };
    let actions =
        vec![TransactionAction::BlockDirtyBitmapAdd(add), TransactionAction::BlockDirtyBitmapMerge(merge)];
    shown(
        &Transaction { actions },
        "transaction",
        json!({"actions": [
            {"type": "block-dirty-bitmap-add",
             "data": {"node": "n", "name": "b", "granularity": 65536, "persistent": true, "disabled": false}},
            {"type": "block-dirty-bitmap-merge", "data": {"node": "n", "target": "b", "bitmaps": ["a"]}},
        ]}),
    );
}
