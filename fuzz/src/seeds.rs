//! Inputs that make sense, for random ones to start from.

use ferry_rpc::header::Header;
use ferry_rpc::proto::{Arguments, ConnectOpen, DomainLookupByName, DomainMigrateBegin3Params, DomainRef};
use ferry_rpc::{ParamValue, Procedure, TypedParam};

fn frame(procedure: i32, kind: i32, serial: u32, status: i32, payload: &[u8]) -> Vec<u8> {
    let header = Header { program: 0x2000_8086, version: 1, procedure, kind, serial, status };
    header.frame(payload).unwrap_or_default()
}

fn call<T: Arguments>(serial: u32, arguments: &T) -> Vec<u8> {
    frame(T::PROCEDURE.number(), 0, serial, 0, &ferry_xdr::to_bytes(arguments).unwrap_or_default())
}

fn begin() -> DomainMigrateBegin3Params {
    let domain = DomainRef { name: "vm".to_owned(), uuid: ferry_domxml::Uuid::nil(), id: 1 };
    DomainMigrateBegin3Params { domain, params: parameters(), flags: ferry_rpc::flags::MigrateFlags::LIVE }
}

fn parameters() -> Vec<TypedParam> {
    let named = |name, value: ParamValue| TypedParam::new(name, value);
    vec![
        named("migrate_uri", "tcp:beta:49152".into()),
        named("destination_name", "vm2".into()),
        named("bandwidth", 100_u64.into()),
        named("parallel.connections", 4.into()),
        named("migrate_disks", "vda".into()),
    ]
}

/// A short conversation of a client.
pub(crate) fn server_session() -> Vec<Vec<u8>> {
    let open =
        ConnectOpen { name: Some("qemu:///system".to_owned()), flags: ferry_rpc::flags::OpenFlags::NONE };
    let lookup = DomainLookupByName { name: "vm".to_owned() };
    let talk = [
        vec![30],
        frame(66, 0, 0, 0, &[]),
        frame(60, 0, 1, 0, &10_u32.to_be_bytes()),
        call(2, &open),
        call(3, &lookup),
        call(4, &begin()),
        frame(201, 0, 5, 0, &[]),
        frame(201, 3, 5, 2, b"root"),
        frame(201, 3, 5, 0, &[]),
        frame(443, 4, 6, 0, &[0, 0, 0, 1]),
        vec![0],
        frame(4, 0, 7, 0, &[]),
    ];
    vec![talk.concat()]
}

/// A short conversation of a server.
pub(crate) fn client_session() -> Vec<Vec<u8>> {
    let talk = [
        vec![30],
        frame(201, 1, 0, 0, &[]),
        frame(4, 1, 1, 0, &7_u64.to_be_bytes()),
        frame(201, 3, 0, 2, b"login"),
        frame(318, 2, 1, 0, &[0; 40]),
        frame(201, 3, 0, 2, &[]),
        frame(201, 3, 0, 0, &[]),
    ];
    vec![talk.concat()]
}

/// Zeros, and ones, for every procedure: most layouts accept them.
pub(crate) fn layouts() -> Vec<Vec<u8>> {
    let choices = 0..u16::try_from(2 * Procedure::ALL.len()).unwrap_or(u16::MAX);
    let words = [0_u32, 1].map(|word| word.to_be_bytes().repeat(40));
    choices
        .flat_map(|choice| words.iter().map(move |words| [&choice.to_be_bytes(), &words[..]].concat()))
        .collect()
}

/// Parameters in front of which phase and flags stand.
pub(crate) fn params() -> Vec<Vec<u8>> {
    let mut writer = ferry_xdr::Writer::after(vec![2, 0, 0, 0, 1]);
    let array = <ferry_xdr::Array<64> as ferry_xdr::Codec<Vec<TypedParam>>>::encode;
    array(&parameters(), &mut writer).map(|()| vec![writer.into_bytes()]).unwrap_or_default()
}

/// URIs of every form.
pub(crate) fn uri() -> Vec<Vec<u8>> {
    let uris = [
        "qemu:///system",
        "qemu+unix:///session?socket=/run/a%20b",
        "qemu+tcp://[2001:db8::7]:16509/system",
        "qemu+tcp://beta/system",
    ];
    uris.map(|uri| uri.as_bytes().to_vec()).to_vec()
}

/// A small server guest.
pub(crate) fn domain_xml() -> Vec<Vec<u8>> {
    vec![include_bytes!("seeds/domain.xml").to_vec()]
}

/// A cookie with most of what the phases read.
pub(crate) fn cookie() -> Vec<Vec<u8>> {
    vec![[include_bytes!("seeds/cookie.xml").as_slice(), &[0]].concat()]
}

/// A greeting, an event, a reply.
pub(crate) fn qmp() -> Vec<Vec<u8>> {
    let talk = concat!(
        r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#,
        "\r\n{\"return\": {}}\r\n",
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION", "data": {"status": "active"}}"#,
        "\r\n{\"return\": {}, \"id\": \"x\"}\r\n",
    );
    vec![[&[20], talk.as_bytes()].concat()]
}
