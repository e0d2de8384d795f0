//! The cookie codec: what we write is read back, what stock writes is read, what is hostile is refused.

use super::*;
use crate::overlay::Overlay;
use crate::stats::{Delta, Memory, Progress, Timeline};
use ferry_rpc::{Error, ErrorCode, Origin};

fn uuid(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

fn expected() -> Expected<'static> {
    Expected { name: Some("vm"), uuid: Some(uuid(1)), host_uuid: uuid(9) }
}

fn common() -> Common {
    Common { name: "vm".into(), uuid: uuid(1), hostname: "alpha".into(), host_uuid: uuid(2) }
}

fn handover(says: Option<Says>) -> Handover {
    Handover {
        id: MigrationId::from_bytes([7; 16]),
        epoch: Epoch(3),
        secret: Secret::from_bytes([8; 16]),
        addresses: vec!["tcp:alpha:16509".into(), "unix:/run/a&b".into()],
        says,
        overlays: vec![Overlay {
            disk: "vda".into(),
            node: Some("libvirt-1-format".into()),
            size: 1 << 20,
            data: "/images/a 'raw'".into(),
            bitmaps: vec!["b0".into(), "<b1>".into()],
        }],
    }
}

fn stats() -> JobStats {
    let mut stats = JobStats::started(1_700_000_000_000);
    stats.kind = ferry_rpc::values::JobType::COMPLETED;
    stats.timeline = Timeline { started: 1_700_000_000_000, stopped: Some(5), sent: Some(6) };
    stats.time_elapsed_ms = 4587;
    stats.downtime_ms = Some(278);
    stats.delta = Some(Delta(-8));
    stats.progress = Progress {
        memory: Some(Memory { total: 9, processed: 8, iteration: 3, page_size: 4096, ..Memory::default() }),
        downtime_ms: Some(278),
        setup_ms: Some(2),
        ..Progress::default()
    };
    stats
}

/// The smallest cookie, with `extra` inside.
fn with(extra: &str) -> Vec<u8> {
    let (guest, host) = (uuid(1), uuid(2));
    format!(
        "<qemu-migration><name>vm</name><uuid>{guest}</uuid><hostname>alpha</hostname><hostuuid>{host}</hostuuid>\
         {extra}</qemu-migration>\0"
    )
    .into_bytes()
}

fn parse(bytes: &[u8], reader: Reader) -> Result<Option<Cookie>, CookieError> {
    Cookie::parse(bytes, reader, &expected())
}

#[test]
fn each_phase_reads_back_what_it_takes() {
    let capabilities = vec![Capability { name: "pause-before-switchover".into(), auto: true }];
    let begin = Cookie {
        features: vec![Feature::Lockstate],
        handover: Some(handover(None)),
        machine: Some(Machine {
            devices: vec!["virtio-blk-pci at bus=pci.0 addr=0x4".into(), "pvpanic".into()],
            lacks: vec!["avx512f".into()],
        }),
        cpu: Some("<cpu mode='custom'><model>qemu64</model></cpu>".into()),
        capabilities: Some(capabilities.clone()),
        ..Cookie::new(common())
    };
    assert_eq!(parse(&begin.to_bytes(), Reader::Prepare), Ok(Some(begin)));

    let prepare = Cookie {
        handover: Some(handover(None)),
        capabilities: Some(capabilities),
        graphics: Some(Graphics { kind: "spice".into(), port: 5900, listen: "::".into(), tls_port: None }),
        ..Cookie::new(common())
    };
    assert_eq!(parse(&prepare.to_bytes(), Reader::Perform), Ok(Some(prepare)));

    let perform = Cookie {
        features: vec![Feature::Persistent],
        handover: Some(handover(Some(Says::Granted))),
        persistent: Some("<domain type='qemu'><name>a &amp; b</name></domain>".into()),
        statistics: Some(stats()),
        ..Cookie::new(common())
    };
    assert_eq!(parse(&perform.to_bytes(), Reader::Finish), Ok(Some(perform)));

    let finish = Cookie {
        handover: Some(handover(Some(Says::Running))),
        statistics: Some(stats()),
        ..Cookie::new(common())
    };
    assert_eq!(parse(&finish.to_bytes(), Reader::Confirm), Ok(Some(finish)));
}

#[test]
fn what_a_machine_is_made_of_is_bounded_and_nothing_else() {
    let element =
        |inner: &str| with(&format!("<ferry:machine xmlns:ferry='{NAMESPACE}'>{inner}</ferry:machine>"));
    let read = |bytes: &[u8]| parse(bytes, Reader::Prepare).map(|cookie| cookie.unwrap().machine);
    assert_eq!(read(&with("")), Ok(None));
    assert_eq!(read(&element("")), Ok(Some(Machine::default())));
    assert_eq!(read(&with("<ferry:machine xmlns:ferry='later'><x/></ferry:machine>")), Ok(None));
    for bad in [
        "<ferry:device/>".to_owned(),
        "<ferry:other>a</ferry:other>".to_owned(),
        format!("<ferry:device>{}</ferry:device>", "a".repeat(257)),
        "<ferry:lacks>a</ferry:lacks>".repeat(MACHINE_MAX + 1),
    ] {
        assert_eq!(read(&element(&bad)), Err(CookieError::Machine), "{bad:.60}");
    }
}

#[test]
fn the_layout_is_frozen() {
    let cookie = Cookie {
        features: vec![Feature::Lockstate],
        handover: Some(handover(Some(Says::Granted))),
        ..Cookie::new(common())
    };
    let text = String::from_utf8(cookie.to_bytes()).unwrap();
    let golden = "<qemu-migration>
  <name>vm</name>
  <uuid>01010101-0101-0101-0101-010101010101</uuid>
  <hostname>alpha</hostname>
  <hostuuid>02020202-0202-0202-0202-020202020202</hostuuid>
  <feature name='lockstate'/>
  <ferry:handover xmlns:ferry='https://github.com/ferry-vm/ferry/ns/handover/1' id='07070707070707070707070707070707' epoch='3' secret='08080808080808080808080808080808'>
    <ferry:address>tcp:alpha:16509</ferry:address>
    <ferry:address>unix:/run/a&amp;b</ferry:address>
    <ferry:says>granted</ferry:says>
    <ferry:overlay disk='vda' size='1048576' data='/images/a &apos;raw&apos;' node='libvirt-1-format'>
      <ferry:bitmap>b0</ferry:bitmap>
      <ferry:bitmap>&lt;b1&gt;</ferry:bitmap>
    </ferry:overlay>
  </ferry:handover>
</qemu-migration>
\0";
    assert_eq!(text, golden);
}

#[test]
fn an_empty_cookie_says_nothing() {
    for reader in [Reader::Prepare, Reader::Perform, Reader::Finish, Reader::Confirm] {
        assert_eq!(parse(b"", reader), Ok(None));
    }
}

#[test]
fn what_stock_writes_is_read_and_what_is_not_ours_is_passed_over() {
    let extra = "<feature name='lockstate'/><feature name='cpu-hotplug'/><lockstate driver='x'/>\
                 <nbd port='49153'><disk target='vda' capacity='33554432'/></nbd><future a='b'>x</future>\
                 <capabilities><cap name='xbzrle' auto='no'/><cap auto='no'/><other/></capabilities>";
    let cookie = parse(&with(extra), Reader::Prepare).unwrap().unwrap();
    assert_eq!(cookie.features, [Feature::Lockstate, Feature::CpuHotplug]);
    assert_eq!(cookie.capabilities.unwrap(), [Capability { name: "xbzrle".into(), auto: false }]);
    assert_eq!(cookie.handover, None);
}

#[test]
fn refusals_have_the_codes_of_stock() {
    let code = |bytes: &[u8], reader| {
        let error = Error::from(parse(bytes, reader).unwrap_err());
        (error.code, error.origin)
    };
    let internal = (ErrorCode::INTERNAL_ERROR, Origin::QEMU);
    assert_eq!(code(b"<qemu-migration/>", Reader::Prepare), internal);
    assert_eq!(code(b"<qemu-migration/>\0", Reader::Prepare), internal);
    assert_eq!(code(b"hello\0", Reader::Prepare), (ErrorCode::XML_DETAIL, Origin::QEMU));
    assert_eq!(code(b"\xff\xfe\0", Reader::Prepare), (ErrorCode::XML_DETAIL, Origin::QEMU));
    assert_eq!(code(&with("<feature/>"), Reader::Prepare), internal);
    assert_eq!(code(&with("<feature name='nonsense'/>"), Reader::Prepare), internal);
    assert_eq!(code(&with("<feature name='persistent'/>"), Reader::Prepare), internal);
    assert_eq!(code(&vec![0; BYTES_MAX + 1], Reader::Prepare), (ErrorCode::RPC, Origin::RPC));
}

#[test]
fn another_guest_or_the_same_host_is_refused() {
    let bytes = Cookie::new(common()).to_bytes();
    let with = |expected: Expected<'_>| Cookie::parse(&bytes, Reader::Prepare, &expected);
    assert!(matches!(with(Expected { name: Some("other"), ..expected() }), Err(CookieError::Name { .. })));
    assert!(matches!(
        with(Expected { uuid: Some(uuid(5)), ..expected() }),
        Err(CookieError::GuestUuid { .. })
    ));
    let same = with(Expected { host_uuid: uuid(2), ..expected() }).unwrap_err();
    assert!(
        Error::from(same).message.starts_with("internal error: Attempt to migrate guest to the same host ")
    );
    assert!(with(Expected { name: None, uuid: None, host_uuid: uuid(9) }).is_ok());
}

#[test]
fn a_statement_counts_only_with_its_id_and_secret() {
    let (id, secret) = (MigrationId::from_bytes([7; 16]), Secret::from_bytes([8; 16]));
    let says = |says| handover(Some(says)).evidence(id, &secret);
    assert_eq!(says(Says::Granted), Evidence::Granted);
    assert_eq!(says(Says::Running), Evidence::Running);
    assert_eq!(says(Says::Declined), Evidence::Declined);
    assert_eq!(says(Says::InDoubt), Evidence::None);
    let running = handover(Some(Says::Running));
    assert_eq!(running.evidence(MigrationId::from_bytes([6; 16]), &secret), Evidence::None);
    assert_eq!(running.evidence(id, &Secret::from_bytes([0; 16])), Evidence::None);
}

#[test]
fn our_element_is_read_strictly_and_a_later_one_not_at_all() {
    let element = |attributes: &str, inner: &str| {
        with(&format!("<ferry:handover {attributes}>{inner}</ferry:handover>"))
    };
    let ours = format!("xmlns:ferry='{NAMESPACE}' id='{0}' epoch='1' secret='{0}'", "07".repeat(16));
    assert!(parse(&element(&ours, ""), Reader::Prepare).unwrap().unwrap().handover.is_some());
    for inner in [
        "<ferry:says>maybe</ferry:says>",
        "<ferry:more/>",
        "<ferry:address/>",
        &"<ferry:address>a</ferry:address>".repeat(9),
    ] {
        assert_eq!(parse(&element(&ours, inner), Reader::Prepare), Err(CookieError::Handover), "{inner}");
    }
    for wrong in [
        ours.replace("epoch='1'", "epoch='-1'"),
        ours.replace("id='07", "id='7"),
        ours.replace("secret", "x"),
    ] {
        assert_eq!(parse(&element(&wrong, ""), Reader::Prepare), Err(CookieError::Handover), "{wrong}");
    }
    let later = element("xmlns:ferry='https://example.org/2'", "<ferry:more/>");
    assert_eq!(parse(&later, Reader::Prepare).unwrap().unwrap().handover, None);
}

#[test]
fn hostile_input_is_refused_without_growing() {
    let deep = with(&"<a>".repeat(10_000));
    let bomb = b"<!DOCTYPE q [<!ENTITY a 'aaaaaaaaaa'>]><qemu-migration><name>&a;</name></qemu-migration>\0";
    for bytes in [deep.as_slice(), bomb, b"\0", b"<\0", b"<a><b></a>\0"] {
        assert!(parse(bytes, Reader::Finish).is_err());
    }
    let long = with(&format!("<feature name='{}'/>", "x".repeat(1_000_000)));
    assert!(parse(&long, Reader::Finish).unwrap_err().to_string().len() < 1_000);
}

#[test]
fn no_byte_flip_panics() {
    let whole = Cookie {
        handover: Some(handover(Some(Says::Granted))),
        persistent: Some("<domain><name>vm</name></domain>".into()),
        statistics: Some(stats()),
        ..Cookie::new(common())
    }
    .to_bytes();
    for at in 0..whole.len() {
        for value in [0, b'<', b'>', b'&', b'\'', 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let _ = parse(&bytes, Reader::Finish);
            let _ = parse(&bytes[..at], Reader::Finish);
        }
    }
}

#[test]
fn nothing_that_a_user_names_breaks_out_of_its_element() {
    let mut cookie = Cookie::new(common());
    cookie.common.name = "a<b>&'\"\n\u{1}é".into();
    cookie.common.hostname = "</hostname><hostuuid>x".into();
    let expected = Expected { name: None, ..expected() };
    let read = Cookie::parse(&cookie.to_bytes(), Reader::Perform, &expected).unwrap().unwrap();
    assert_eq!(read.common.hostname, cookie.common.hostname);
    assert_eq!(read.common.name, "a<b>&'\"\n é");
}
