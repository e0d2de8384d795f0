//! What comes in wrong: a clear error or a closed connection, bounded memory, and nobody else harmed.
//!
//! Each case runs against a daemon with a running guest and another client, and says how much memory the daemon may take
//! for it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::time::{Duration, Instant};

use ferry_rpc::flags::{AffectFlags, ListFlags, MigrateFlags, StartFlags, XmlFlags};
use ferry_rpc::header::{FRAME_MAX, Header, PAYLOAD_MAX};
use ferry_rpc::procedure::{Access, Procedure};
use ferry_rpc::proto::{
    ConnectDomainEventCallbackRegisterAny, ConnectListAllDomains, ConnectSupportsFeature, Cookie,
    DomainCreateXml, DomainDefineXml, DomainGetState, DomainGetXmlDesc, DomainLookupByName,
    DomainMigrateBegin3Params, DomainMigrateConfirm3Params, DomainMigrateFinish3Params,
    DomainMigratePerform3Params, DomainMigratePrepare3Params, DomainRef, DomainSetMetadata,
    MigrateBeginReply, layouts,
};
use ferry_rpc::typed_param::TypedParam;
use ferry_rpc::values::{DomainState, EventId, Feature, MetadataKind};
use ferry_testkit::deadline::wait_until;
use ferry_testkit::ferryd::{Ferryd, Options};
use ferry_testkit::serial::Serial;
use ferry_tests::aftermath::Asking as _;
use ferry_tests::wire::{Answer, Wire};
use ferry_tests::{Pair, SOON};

/// How long another client may wait for an answer about a guest.
const PATIENCE: Duration = Duration::from_secs(5);

/// Codes and origins of refusals.
const UNDECODABLE: Answer = Answer::Refused(39, 7);
const MALFORMED: (i32, i32) = (35, 5);
const XML_ERROR: (i32, i32) = (27, 20);

/// MiB that a case may take which sends little.
const LITTLE: u64 = 16;

/// A daemon with a running guest and a client that was there before.
struct Scene {
    pair: Pair,
    serial: Serial,
    bystander: Wire,
    guest: DomainRef,
}

impl Scene {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let tools = Pair::distribution();
        let pair = Pair::with([&tools, &tools], [options, Options::default()]).unwrap();
        let serial = pair.boot_sector("vm").unwrap();
        let mut bystander = Wire::open(pair.daemon(0));
        let guest = bystander.ask(&DomainLookupByName { name: "vm".to_owned() }).unwrap();
        Self { pair, serial, bystander, guest }
    }

    fn daemon(&self) -> &Ferryd {
        self.pair.daemon(0)
    }

    /// A client of the first daemon.
    fn client(&self) -> Wire {
        Wire::open(self.daemon())
    }

    /// Does something to a daemon for which it may take `mib` MiB, and sees to it that nobody was harmed.
    fn case<T>(&mut self, what: &str, mib: u64, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = [0, 1].map(|number| forget_peak(self.pair.daemon(number)));
        let done = act(self);
        self.is_unharmed(what);
        for (number, before) in before.into_iter().enumerate() {
            let taken = (memory(self.pair.daemon(number), "VmHWM:") - before) / 1024;
            assert!(taken <= mib, "{what}: daemon {number} took {taken} MiB");
        }
        done
    }

    fn is_unharmed(&mut self, what: &str) {
        for number in [0, 1] {
            assert_eq!(self.pair.daemon(number).ended(), None, "{what}");
        }
        let asked = Instant::now();
        let state = self.bystander.ask(&DomainGetState { domain: self.guest.clone(), flags: 0 });
        assert_eq!(state.unwrap().state, DomainState::RUNNING, "{what}");
        assert!(asked.elapsed() < PATIENCE, "{what}: another client waited {:?}", asked.elapsed());
        self.serial.wait_beats_on(self.pair.ear(0), 20, SOON).expect(what);
    }
}

/// KiB that a process takes, from a line of its status.
fn memory(daemon: &Ferryd, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What the daemon takes now, KiB; its peak counts from here on.
fn forget_peak(daemon: &Ferryd) -> u64 {
    fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5").unwrap();
    memory(daemon, "VmHWM:")
}

fn bomb(document: &str) -> String {
    let mut text = String::from("<?xml version='1.0'?>\n<!DOCTYPE bomb [\n<!ENTITY e0 'boom'>\n");
    for level in 1..=40 {
        let before = format!("&e{};", level - 1).repeat(10);
        text += &format!("<!ENTITY e{level} '{before}'>\n");
    }
    text + "]>\n" + &document.replace("BOMB", "&e40;")
}

fn levels(count: usize) -> String {
    "<a>".repeat(count) + &"</a>".repeat(count)
}

/// Near the longest string of the wire.
const LONG: usize = 4_194_300;

#[test]
fn lengths_that_no_frame_has() {
    let mut scene = Scene::new();
    for word in [0, 27, u32::try_from(FRAME_MAX).unwrap() + 1, u32::MAX] {
        for open in [false, true] {
            scene.case(&format!("a frame of {word} bytes"), LITTLE, |scene| {
                let mut client = if open { scene.client() } else { Wire::connect(scene.daemon()).unwrap() };
                client.write(&word.to_be_bytes()).unwrap();
                assert!(client.is_closed_soon(), "{word}");
            });
        }
    }
    scene.case("the longest frame, announced only", LITTLE, |scene| {
        let mut client = scene.client();
        client.write(&u32::try_from(FRAME_MAX).unwrap().to_be_bytes()).unwrap();
        scene.is_unharmed("with the longest frame announced");
    });
    // Received once and handed on once.
    scene.case("the longest frame", 100, |scene| {
        let payload = vec![0xff; PAYLOAD_MAX];
        assert_eq!(scene.client().call(Procedure::DomainLookupByName, &payload), UNDECODABLE);
    });
}

#[test]
fn frames_that_mean_nothing() {
    let mut scene = Scene::new();
    let mut client = scene.client();
    let good = client.header(Procedure::ConnectGetHostname);
    for (what, header) in [
        ("a program that nobody has", Header { program: 0x1234_5678, ..good }),
        ("another version", Header { version: 2, ..good }),
        ("a procedure that nobody has", Header { procedure: 99_999, ..good }),
        ("a procedure below all", Header { procedure: -1, ..good }),
        ("an event called", Header { procedure: Procedure::DomainEventLifecycle.number(), ..good }),
        ("a call that failed", Header { status: 1, ..good }),
        ("a status that nobody knows", Header { status: 77, ..good }),
    ] {
        scene.case(what, LITTLE, |_| {
            assert_eq!(client.exchange(header, &[]), Answer::Refused(39, 7), "{what}");
        });
    }
    // Nothing that can be answered; the connection goes on.
    for kind in [1, 2, 3, 5, 6, 7, -1, i32::MAX] {
        scene.case(&format!("kind {kind}"), LITTLE, |_| {
            let frame = Header { kind, ..good }.frame(&[0xff; 64]).unwrap();
            client.write(&frame).unwrap();
            assert!(matches!(client.call(Procedure::ConnectGetHostname, &[]), Answer::Reply(_)), "{kind}");
        });
    }
    scene.case("a million descriptors", LITTLE, |scene| {
        let header = Header { kind: 4, ..good };
        assert_eq!(scene.client().exchange(header, &1_000_000_u32.to_be_bytes()), Answer::Closed);
    });
    scene.case("calls before the connection is open", LITTLE, |scene| {
        let mut stranger = Wire::connect(scene.daemon()).unwrap();
        for procedure in [Procedure::ConnectGetCapabilities, Procedure::DomainDestroy, Procedure::Resolve] {
            assert_eq!(stranger.call(procedure, &[0xff; 64]), Answer::Refused(1, 7), "{procedure:?}");
        }
    });
}

#[test]
fn arguments_that_are_none() {
    let mut scene = Scene::new();
    let mut client = scene.client();
    let whole = ferry_xdr::to_bytes(&DomainGetState { domain: scene.guest.clone(), flags: 0 }).unwrap();
    scene.case("truncated arguments", LITTLE, |_| {
        for len in 0..whole.len() {
            assert_eq!(client.call(Procedure::DomainGetState, &whole[..len]), UNDECODABLE, "{len} bytes");
        }
        assert!(matches!(client.call(Procedure::DomainGetState, &whole), Answer::Reply(_)));
    });
    // Every procedure there is, with nothing and with nonsense: what cannot be read is said to be so, and what is not
    // built is said to be so whatever comes with it.
    for filler in [&[][..], &[0xff; 4], &[0xff; 256], &[0; 4], &[0x7f; 4096]] {
        scene.case(&format!("{} bytes of {:?}", filler.len(), filler.first()), LITTLE, |_| {
            for layout in layouts().filter(|layout| layout.procedure.access() != Access::Event) {
                if (layout.arguments)(filler).is_ok() {
                    continue;
                }
                let answer = client.call(layout.procedure, filler);
                let expected = matches!(answer, UNDECODABLE | Answer::Refused(3, _));
                assert!(expected, "{:?}: {answer:?}", layout.procedure);
            }
        });
    }
    let guest = ferry_xdr::to_bytes(&scene.guest).unwrap();
    let million = 1_000_000_u32.to_be_bytes();
    for (what, procedure, payload) in [
        ("parameters", Procedure::DomainMigrateBegin3Params, [guest.clone(), million.to_vec()].concat()),
        ("parameters first", Procedure::DomainMigratePrepare3Params, million.to_vec()),
        ("keys", Procedure::DomainSendKey, [guest.clone(), vec![0; 8], million.to_vec()].concat()),
        ("domains", Procedure::ConnectGetAllDomainStats, million.to_vec()),
        ("bytes of a map", Procedure::DomainPinVcpu, [guest.clone(), vec![0; 4], million.to_vec()].concat()),
    ] {
        // Announced only, and there as well.
        for filling in [0, 4_000_000] {
            scene.case(&format!("a million {what}, {filling} bytes of them there"), 32, |_| {
                let payload = [payload.clone(), vec![0; filling]].concat();
                let answer = client.call(procedure, &payload);
                let expected = matches!(answer, UNDECODABLE | Answer::Refused(3, _));
                assert!(expected, "{what}: {answer:?}");
            });
        }
    }
}

#[test]
fn values_that_nobody_knows() {
    let mut scene = Scene::new();
    let mut client = scene.client();
    let guest = scene.guest.clone();
    scene.case("values without a meaning", LITTLE, |_| {
        let unknown = ConnectSupportsFeature { feature: Feature(9999) };
        assert_eq!(client.ask(&unknown), Ok(false));
        for event in [28, 9999, -1] {
            let call = ConnectDomainEventCallbackRegisterAny { event_id: EventId(event), domain: None };
            let refused = client.ask(&call).unwrap_err();
            assert!(refused.code.0 == 1 || refused.code.0 == 8, "{event}: {refused:?}");
        }
        let flags = ListFlags::from_bits(1 << 30);
        let refused = client.ask(&ConnectListAllDomains { need_results: true, flags }).unwrap_err();
        assert_eq!((refused.code.0, refused.origin.0), (8, 10), "{refused:?}");
        let flags = MigrateFlags::from_bits(1 << 31);
        let begin = DomainMigrateBegin3Params { domain: guest.clone(), params: Vec::new(), flags };
        assert_eq!(client.ask(&begin).unwrap_err().code.0, 8);
        let odd = [TypedParam::new("nonsense", 7), TypedParam::new("bandwidth", "much")];
        for (param, code) in odd.into_iter().zip([74, 8]) {
            let params = vec![param];
            let begin =
                DomainMigrateBegin3Params { domain: guest.clone(), params, flags: MigrateFlags::LIVE };
            assert_eq!(client.ask(&begin).unwrap_err().code.0, code);
        }
        let kind = MetadataKind(77);
        let (key, uri) = (None, None);
        let metadata = Some("x".to_owned());
        let flags = AffectFlags::NONE;
        let set = DomainSetMetadata { domain: guest.clone(), kind, metadata, key, uri, flags };
        assert_eq!(client.ask(&set).unwrap_err().code.0, 8);
    });
    // A typed parameter of a type that nobody knows, and an optional value that is neither there nor not there.
    let mut param = ferry_xdr::to_bytes(&guest).unwrap();
    param.extend(1_u32.to_be_bytes());
    param.extend([0, 0, 0, 1, b'x', 0, 0, 0]);
    param.extend(99_u32.to_be_bytes());
    param.extend([0; 16]);
    scene.case("encodings without a meaning", LITTLE, |_| {
        assert_eq!(client.call(Procedure::DomainMigrateBegin3Params, &param), UNDECODABLE);
        let open = [7_u32.to_be_bytes(), [0; 4], [0; 4]].concat();
        assert_eq!(client.call(Procedure::ConnectOpen, &open), UNDECODABLE);
        let not_text = [&[0, 0, 0, 4][..], &[0xff, 0xfe, 0, b'x']].concat();
        assert_eq!(client.call(Procedure::DomainLookupByName, &not_text), UNDECODABLE);
    });
}

#[test]
fn documents_that_nobody_should_read() {
    let mut scene = Scene::new();
    let mut client = scene.client();
    let domain = |inside: &str| {
        format!(
            "<domain type='qemu'><name>x</name><memory>32768</memory><os><type>hvm</type></os>{inside}</domain>"
        )
    };
    let many = |piece: &str, len: usize| domain(&piece.repeat(len / piece.len()));
    let room = LONG - 200;
    let attributes: String = (0..300_000).map(|number| format!(" a{number}=''")).collect();
    for (what, document, mib) in [
        ("an entity bomb", bomb(&domain("<title>BOMB</title>")), LITTLE),
        ("an entity from a file", bomb(&domain("<title>&x;</title>")), LITTLE),
        ("10,000 levels", domain(&levels(10_000)), LITTLE),
        ("a million levels", levels(LONG / 7), 64),
        ("a million levels that are never closed", "<a>".repeat(LONG / 3), 64),
        ("a million elements", many("<a/>", room), 128),
        ("a million comments", many("<!---->", room), 128),
        ("an element of 300,000 attributes", domain(&format!("<metadata{attributes}/>")), 64),
        ("a million references", domain(&format!("<title>{}", "&#1;".repeat(room / 4))), 64),
        ("references of nobody", domain(&format!("<title>{}", "&zz;".repeat(room / 4))), 64),
        ("4 MiB of one name", format!("<{}/>", "a".repeat(room)), 64),
        ("4 MiB of one title", domain(&format!("<title>{}</title>", "a".repeat(room))), 64),
        ("4 MiB of one attribute that does not end", format!("<domain x='{}", "a".repeat(room)), 64),
        ("not XML", "}".repeat(room), 64),
        ("nothing", String::new(), LITTLE),
    ] {
        scene.case(what, mib, |scene| {
            let metadata = DomainSetMetadata {
                domain: scene.guest.clone(),
                kind: MetadataKind::ELEMENT,
                metadata: Some(document.clone()),
                key: Some("x".to_owned()),
                uri: Some("http://example.org/x".to_owned()),
                flags: AffectFlags::LIVE,
            };
            let define = DomainDefineXml { xml: document.clone() };
            let create = DomainCreateXml { xml: document.clone(), flags: StartFlags::NONE };
            let mut refusals =
                vec![client.ask(&define).expect_err(what), client.ask(&create).expect_err(what)];
            // No text takes a piece of metadata away.
            if !document.is_empty() {
                refusals.push(client.ask(&metadata).expect_err(what));
            }
            for refused in refusals {
                let code = (refused.code.0, refused.origin.0);
                assert!([MALFORMED, XML_ERROR].contains(&code), "{what}: {refused:?}");
                assert!(refused.message.len() <= 16 * 1024, "{what}");
            }
        });
    }
    // Longer than any string of the wire.
    scene.case("30 MB", 100, |_| {
        let document = domain(&"<a/>".repeat(7_500_000));
        let mut payload = u32::try_from(document.len()).unwrap().to_be_bytes().to_vec();
        payload.extend(document.into_bytes());
        payload.resize(payload.len().next_multiple_of(4), 0);
        assert_eq!(client.call(Procedure::DomainDefineXml, &payload), UNDECODABLE);
    });
    assert_eq!(scene.pair.virsh(0).domains().unwrap(), ["vm"]);
    let hostile = scene.pair.lab().shared().join("hostile.xml");
    fs::write(&hostile, domain(&levels(10_000))).unwrap();
    scene.pair.virsh(0).refused(&["define", hostile.to_str().unwrap()], "error:");
}

/// A migration by hand, as far as its first two steps.
struct Half {
    source: Wire,
    destination: Wire,
    begun: MigrateBeginReply,
}

const FLAGS: MigrateFlags = MigrateFlags::LIVE.with(MigrateFlags::UNSAFE);
const PROTECTED: MigrateFlags = FLAGS.with(MigrateFlags::CHANGE_PROTECTION);

impl Half {
    fn begin(scene: &Scene) -> Self {
        let (mut source, destination) = (scene.client(), Wire::open(scene.pair.daemon(1)));
        let call =
            DomainMigrateBegin3Params { domain: scene.guest.clone(), params: Vec::new(), flags: PROTECTED };
        let begun = source.ask(&call).unwrap();
        Self { source, destination, begun }
    }

    /// Begin's cookie with one part replaced.
    fn forged(&self, from: &str, to: &str) -> Vec<u8> {
        let text = String::from_utf8(self.begun.cookie.0.clone()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        text.replacen(from, to, 1).into_bytes()
    }

    /// What stands between the tags of `name` in Begin's cookie.
    fn value(&self, name: &str) -> String {
        let text = String::from_utf8(self.begun.cookie.0.clone()).unwrap();
        let (_, rest) = text.split_once(&format!("<{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    }

    /// What a cookie may be and must not: a name, the bytes, the refusal's code.
    fn hostile(&self) -> Vec<(&'static str, Vec<u8>, i32)> {
        let terminated = |text: String| [text.into_bytes(), vec![0]].concat();
        let uuid = format!("<uuid>{}</uuid>", self.value("uuid"));
        vec![
            ("no NUL", b"<qemu-migration/>".to_vec(), 1),
            ("a NUL alone", vec![0], 35),
            ("not text", vec![0xff, 0xfe, 0xfd, 0], 35),
            ("not XML", terminated("}".repeat(LONG - 1)), 35),
            ("not closed", terminated("<qemu-migration><name>vm</name>".to_owned()), 35),
            ("an entity bomb", terminated(bomb("<qemu-migration>BOMB</qemu-migration>")), 35),
            ("10,000 levels", terminated(levels(10_000)), 35),
            ("a million elements", terminated(format!("<q>{}</q>", "<a/>".repeat(1_000_000))), 35),
            ("an empty element", terminated("<qemu-migration/>".to_owned()), 1),
            ("another guest", self.forged(&uuid, "<uuid>11111111-2222-4333-8444-555555555555</uuid>"), 1),
            ("no UUID at all", self.forged(&uuid, ""), 1),
            ("a UUID that is none", self.forged(&uuid, "<uuid>../../../etc/passwd</uuid>"), 1),
            ("a feature of nobody", self.forged("</name>", "</name><feature name='teleport'/>"), 1),
            ("a secret that is none", self.forged("secret='", "secret='zz"), 1),
            ("an epoch that is none", self.forged("epoch='", "epoch='-"), 1),
            (
                "a thousand addresses",
                self.forged(
                    "</ferry:handover>",
                    &("<ferry:address>tcp:h:1</ferry:address>".repeat(1000) + "</ferry:handover>"),
                ),
                1,
            ),
        ]
    }

    fn prepare(&mut self, cookie: Vec<u8>) -> Result<Vec<u8>, i32> {
        let params = vec![TypedParam::new("destination_xml", self.begun.xml.as_str())];
        let call = DomainMigratePrepare3Params { params, cookie: Cookie(cookie), flags: FLAGS };
        self.destination.ask(&call).map(|reply| reply.cookie.0).map_err(|error| error.code.0)
    }

    fn perform(&mut self, guest: &DomainRef, cookie: Vec<u8>) -> Result<(), i32> {
        let call = DomainMigratePerform3Params {
            domain: guest.clone(),
            destination_uri: None,
            params: vec![TypedParam::new("migrate_uri", "tcp:127.0.0.1:1")],
            cookie: Cookie(cookie),
            flags: PROTECTED,
        };
        self.source.ask(&call).map(drop).map_err(|error| error.code.0)
    }

    fn finish(&mut self, cookie: Vec<u8>, cancelled: bool) -> Result<(), i32> {
        let params = vec![TypedParam::new("destination_name", "vm")];
        let call = DomainMigrateFinish3Params { params, cookie: Cookie(cookie), flags: FLAGS, cancelled };
        self.destination.ask(&call).map(drop).map_err(|error| error.code.0)
    }

    fn confirm(&mut self, guest: &DomainRef, cookie: Vec<u8>, cancelled: bool) -> Result<(), i32> {
        let call = DomainMigrateConfirm3Params {
            domain: guest.clone(),
            params: Vec::new(),
            cookie: Cookie(cookie),
            flags: PROTECTED,
            cancelled,
        };
        self.source.ask(&call).map(drop).map_err(|error| error.code.0)
    }
}

/// The wire's bytes of a call whose cookie is longer than any: encoded without one, and one put in its place.
fn with_long_cookie(encoded: &[u8], behind: usize) -> Vec<u8> {
    let (front, back) = encoded.split_at(encoded.len() - behind);
    let len = 4_194_305_u32;
    let cookie = [&len.to_be_bytes()[..], &vec![b' '; len.next_multiple_of(4) as usize]].concat();
    [&front[..front.len() - 4], &cookie, back].concat()
}

#[test]
fn cookies_that_a_destination_should_not_swallow() {
    let mut scene = Scene::new();
    let mut half = Half::begin(&scene);
    let guest = scene.guest.clone();
    for (what, cookie, code) in half.hostile() {
        let refused = scene.case(what, 128, |_| half.prepare(cookie));
        assert_eq!(refused, Err(code), "{what}");
        scene.pair.is_clean(1, "vm");
    }
    let params = vec![TypedParam::new("destination_xml", half.begun.xml.as_str())];
    let call = DomainMigratePrepare3Params { params, cookie: Cookie::default(), flags: FLAGS };
    let long = with_long_cookie(&ferry_xdr::to_bytes(&call).unwrap(), 4);
    assert_eq!(half.destination.call(Procedure::DomainMigratePrepare3Params, &long), UNDECODABLE);

    // The daemon's own host: nobody migrates to where he is.
    let cookie = half.begun.cookie.0.clone();
    let mut own = Half { source: scene.client(), destination: scene.client(), begun: half.begun.clone() };
    assert_eq!(own.prepare(cookie.clone()), Err(1));
    scene.is_unharmed("after a migration to its own host");

    // No information at all is what an empty cookie says.
    half.prepare(Vec::new()).unwrap();
    assert_eq!(half.finish(vec![0xff; 9], true), Err(93));
    scene.pair.is_clean(1, "vm");

    // A Finish with nonsense decides nothing.
    half.prepare(cookie).unwrap();
    for (what, cookie, code) in half.hostile() {
        let refused = scene.case(what, 128, |_| half.finish(cookie, false));
        assert_eq!(refused, Err(code), "{what}");
    }
    assert_eq!(scene.pair.daemon(1).qemus().len(), 1, "it still waits for its guest");
    // As after any copy that failed: the source has said so, and the client calls it off.
    assert_eq!(half.perform(&guest, vec![0xff; 9]), Err(1));
    assert_eq!(half.finish(Vec::new(), true), Err(93));
    scene.pair.is_clean(1, "vm");
    scene.is_unharmed("after all");
    drop(half);
    scene.pair.virsh(0).ok(["migrate", "vm", &scene.pair.uri(1), "--live", "--unsafe"]).unwrap();
    scene.pair.moved(0, "vm", "running (migrated)", &scene.serial);
}

#[test]
fn cookies_that_a_source_should_not_swallow() {
    let mut scene = Scene::new();
    let guest = scene.guest.clone();
    let mut half = Half::begin(&scene);
    for (what, cookie, code) in half.hostile() {
        let refused = scene.case(what, 128, |_| half.perform(&guest, cookie));
        assert_eq!(refused, Err(code), "{what}");
        // It is over: the same client may begin anew on the same connection.
        let again = DomainMigrateBegin3Params { domain: guest.clone(), params: Vec::new(), flags: PROTECTED };
        half.begun = half.source.ask(&again).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    // A Confirm proves nothing by itself, whatever comes with it: nothing was copied, so the guest stays.
    for (what, cookie, _) in half.hostile() {
        scene.case(what, 128, |_| assert!(half.confirm(&guest, cookie, false).is_err(), "{what}"));
    }
    assert_eq!(half.confirm(&guest, vec![0xff; 9], true), Ok(()));
    scene.is_unharmed("after all");
    drop(half);
    scene.pair.stayed("vm", &scene.serial);
    scene.pair.virsh(0).ok(["migrate", "vm", &scene.pair.uri(1), "--live", "--unsafe"]).unwrap();
    scene.pair.moved(0, "vm", "running (migrated)", &scene.serial);
}

/// The last of all epochs, from a peer that lies: later migrations go all the same.
#[test]
fn an_epoch_at_its_top_stops_nobody() {
    let scene = Scene::new();
    let mut half = Half::begin(&scene);
    let text = String::from_utf8(half.begun.cookie.0.clone()).unwrap();
    let (_, epoch) = text.split_once("epoch='").unwrap();
    let epoch = format!("epoch='{}'", epoch.split_once('\'').unwrap().0);
    for top in [u64::MAX, i64::MAX as u64 + 1, i64::MAX as u64] {
        let cookie = half.forged(&epoch, &format!("epoch='{top}'"));
        let prepared = half.prepare(cookie);
        if prepared.is_ok() {
            assert_eq!(half.finish(Vec::new(), true), Err(93), "{top}");
        }
        scene.pair.is_clean(1, "vm");
    }
    drop(half);
    let ways = [(0, 1, "--verbose"), (1, 0, "--p2p"), (0, 1, "--p2p"), (1, 0, "--verbose")];
    for (from, to, mode) in ways {
        let words = ["migrate", "vm", &scene.pair.uri(to), "--live", "--unsafe", mode];
        scene.pair.virsh(from).ok(words).unwrap();
        scene.pair.moved(from, "vm", "running (migrated)", &scene.serial);
    }
}

/// Sockets of this process and of the daemon: the test's own limit may be as small as a shell's.
fn raise_own_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// A daemon that was started as from a shell, with the 1024 descriptors of old.
#[test]
fn a_thousand_idle_connections_and_frames_that_do_not_end() {
    raise_own_descriptors();
    let options = Options { descriptors: Some((256, 16384)), ..Options::default() };
    let mut scene = Scene::with(options);
    let began = Instant::now();
    let mut halves = scene.case("half frames", 64, |scene| {
        let head = scene.client().header(Procedure::DomainDefineXml).frame(&[b'<'; 4096]).unwrap();
        let cuts = [1, 3, 4, 5, 27, 28, 100, 4095];
        cuts.map(|cut| {
            let mut client = scene.client();
            client.write(&head[..cut]).unwrap();
            client
        })
    });
    let idle = scene.case("1,000 idle connections", 64, |scene| {
        let open = |number| match number % 2 {
            0 => Wire::connect(scene.daemon()).unwrap(),
            _ => scene.client(),
        };
        (0..1000).map(open).collect::<Vec<_>>()
    });
    scene.case("another client, and another guest", 64, |scene| {
        let virsh = scene.pair.virsh(0);
        let (domain, serial) = scene.pair.sector("other").unwrap();
        let xml = scene.pair.write("other", &domain.emulator(scene.pair.emulator())).unwrap();
        virsh.define_and_start("other", &xml).unwrap();
        serial.wait_beats_on(scene.pair.ear(0), 20, SOON).unwrap();
        virsh.ok(["destroy", "other"]).unwrap();
    });
    // Every one of them is served as if it were alone.
    let mut idle = idle;
    for client in idle.iter_mut().skip(1).step_by(100) {
        assert!(matches!(client.call(Procedure::ConnectGetHostname, &[]), Answer::Reply(_)));
    }
    scene.case("their end", LITTLE, |_| drop(idle));

    // Whoever began a frame has a minute for it.
    for client in &mut halves {
        wait_until("the end of half a frame", Duration::from_secs(90), || client.is_closed_soon()).unwrap();
    }
    assert!(began.elapsed() > Duration::from_secs(55), "{:?}", began.elapsed());
    scene.is_unharmed("after all");
}

/// Beyond its places a daemon sends clients away; those who may only look do not take the places of the others.
#[test]
fn more_clients_than_there_are_places_for() {
    raise_own_descriptors();
    let config = Some("max_clients = 20\n".to_owned());
    let mut scene = Scene::with(Options { config, ..Options::default() });
    let looking = scene.daemon().host().seen(scene.daemon().root().join("sock-ro"));
    let lookers = scene.case("lookers", LITTLE, |_| {
        (0..100).map(|_| Wire::connect_to(&looking).unwrap()).collect::<Vec<_>>()
    });
    let mut places = Vec::new();
    for mut looker in lookers {
        match looker.call(Procedure::AuthList, &[]) {
            Answer::Reply(_) => places.push(looker),
            Answer::Refused(code, origin) => assert_eq!((code, origin), (87, 7)),
            Answer::Closed => {}
        }
    }
    assert_eq!(places.len(), 20);
    // One is the bystander's.
    let mut clients = (1..20).map(|_| scene.client()).collect::<Vec<_>>();
    scene.case("one too many", LITTLE, |scene| {
        let mut late = Wire::connect(scene.daemon()).unwrap();
        assert_eq!(late.call(Procedure::AuthList, &[]), Answer::Refused(87, 7));
        assert!(late.is_closed_soon());
        scene.pair.virsh(0).refused(&["list"], "all places for clients are taken");
    });
    // A place that is free again is taken.
    drop(clients.pop());
    wait_until("a free place", SOON, || scene.pair.virsh(0).domains().is_ok()).unwrap();
}

/// Many clients, each within its own bounds, are not within the daemon's.
#[test]
fn what_all_clients_together_leave_with_the_daemon_is_bounded() {
    let mut scene = Scene::new();
    let frame = scene.client().header(Procedure::DomainDefineXml).frame(&vec![b'<'; 30 << 20]).unwrap();
    scene.case("48 clients with 30 MiB of a frame each", 640, |scene| {
        let mut clients = (0..48).map(|_| scene.client()).collect::<Vec<_>>();
        let sent =
            clients.iter_mut().filter_map(|client| client.write(&frame[..frame.len() - 1]).ok()).count();
        assert!((10..20).contains(&sent), "{sent} of them could send theirs");
        scene.is_unharmed("with all that it takes");
        // The others have room for what is usual.
        scene.pair.virsh(0).ok(["dumpxml", "vm"]).unwrap();
    });
    wait_until("the room given back", SOON, || scene.client().write(&frame).is_ok()).unwrap();
    // 200 answers of 2 MiB each, of which a connection holds 64 MiB at most, and 32 calls under way.
    let long = DomainSetMetadata {
        domain: scene.guest.clone(),
        kind: MetadataKind::DESCRIPTION,
        metadata: Some("x".repeat(2 << 20)),
        key: None,
        uri: None,
        flags: AffectFlags::LIVE,
    };
    scene.client().ask(&long).unwrap();
    let ask = DomainGetXmlDesc { domain: scene.guest.clone(), flags: XmlFlags::NONE };
    let ask = ferry_xdr::to_bytes(&ask).unwrap();
    scene.case("a client that does not read", 256, |scene| {
        let mut deaf = scene.client();
        let call = deaf.header(Procedure::DomainGetXmlDesc).frame(&ask).unwrap();
        deaf.write(&call.repeat(200)).unwrap();
        wait_until("the end of its connection", 3 * SOON, || deaf.write(&call).is_err()).unwrap();
    });
}
