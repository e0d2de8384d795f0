//! What a client or a peer may send: never a panic, never more than its own size, always a clear error.

// Helpers of tests may fail like tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use ferry_domxml::{Domain, FormatOptions, ParseError, reader};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

fn domain(inside: &str) -> String {
    format!(
        "<domain type='qemu'><name>a</name><memory>65536</memory><os><type>hvm</type></os>{inside}</domain>"
    )
}

fn devices(inside: &str) -> String {
    domain(&format!("<devices>{inside}</devices>"))
}

fn refusal(text: &str) -> (u32, String) {
    match Domain::parse(text) {
        Err(error) => (error.code(), error.to_string()),
        Ok(domain) => panic!("accepted {text}: {domain:?}"),
    }
}

#[test]
fn what_is_no_domain_is_refused_with_the_code_and_text_of_stock() {
    let all = "<memory>1</memory><os><type>hvm</type></os>";
    let table: &[(String, u32, &str)] = &[
        ("hello".into(), 35, "(domain_definition):1: Start tag expected, '<' not found"),
        (
            "<domain type='qemu'>\n<name>".into(),
            35,
            "(domain_definition):2: Premature end of data in tag name",
        ),
        ("<domain type='qemu' type='kvm'/>".into(), 35, "(domain_definition):1: Attribute type redefined"),
        ("<network/>".into(), 27, "XML error: expecting root element of 'domain', not 'network'"),
        (format!("<domain>{all}</domain>"), 1, "internal error: missing domain type attribute"),
        (
            format!("<domain type='xen'><name>a</name>{all}</domain>"),
            67,
            "unsupported configuration: invalid domain type xen",
        ),
        (format!("<domain type='qemu'>{all}</domain>"), 21, "missing name information"),
        (format!("<domain type='qemu'><name/>{all}</domain>"), 21, "missing name information"),
        (
            format!("<domain type='qemu'><name>a/b</name>{all}</domain>"),
            27,
            "XML error: name a/b cannot contain '/'",
        ),
        (
            format!("<domain type='qemu'><name>..</name>{all}</domain>"),
            27,
            "XML error: name .. cannot contain '.'",
        ),
        (
            "<domain type='qemu'><name>a</name><os><type>hvm</type></os></domain>".into(),
            27,
            "XML error: Memory size must be specified via <memory> or in the <numa> configuration",
        ),
        (
            "<domain type='qemu'><name>a</name><memory>1</memory></domain>".into(),
            27,
            "XML error: an os <type> must be specified",
        ),
        (
            "<domain type='qemu'><name>a</name><memory>1</memory><os><type>exe</type></os></domain>".into(),
            16,
            "unknown OS type exe",
        ),
        (domain("<uuid>x</uuid>"), 27, "XML error: Invalid value 'x' for element 'uuid'"),
        (domain("<vcpu>0</vcpu>"), 27, "XML error: Invalid value '0' for element 'vcpu'"),
        (
            domain("<vcpu current='2'>1</vcpu>"),
            67,
            "unsupported configuration: maximum vCPU count must not be less than current vCPU count",
        ),
        (
            domain("<vcpu>3</vcpu><cpu><topology sockets='1' cores='2' threads='1'/></cpu>"),
            67,
            "unsupported configuration: CPU topology doesn't match maximum vcpu count",
        ),
        (
            devices("<disk type='file'><source file='/a'/></disk>"),
            20,
            "missing target information for device",
        ),
        (
            devices("<disk type='file'><target dev='vda'/></disk>"),
            19,
            "missing source information for device vda",
        ),
        (
            devices(
                "<disk><source file='/a'/><target dev='vda'/></disk><disk><source file='/b'/><target dev='vda'/></disk>",
            ),
            27,
            "XML error: target 'vda' duplicated for disk sources '/a' and '/b'",
        ),
        (
            devices("<interface type='bridge'/>"),
            27,
            "XML error: missing element 'source' in element 'interface'",
        ),
        (
            devices("<memballoon model='virtio'><address type='pci' slot='0x20'/></memballoon>"),
            27,
            "XML error: Invalid value for attribute 'slot' in element 'address': '0x20'.",
        ),
        (
            devices("<interface type='user'><mac address='01:00:00:00:00:01'/></interface>"),
            27,
            "XML error: Invalid value for attribute 'address' in element 'mac': '01:00:00:00:00:01'.",
        ),
        (
            devices(
                "<graphics type='vnc' listen='1.2.3.4'><listen type='address' address='1.2.3.5'/></graphics>",
            ),
            67,
            "unsupported configuration: graphics 'listen' attribute '1.2.3.4' must match 'address' attribute of first \
             listen element (found '1.2.3.5')",
        ),
        (
            devices(
                "<disk><source file='/a'/><target dev='vda'/><boot order='1'/></disk>\
                 <interface type='user'><boot order='1'/></interface>",
            ),
            67,
            "unsupported configuration: boot order '1' used for more than one device",
        ),
    ];
    for (text, code, expected) in table {
        assert_eq!(refusal(text), (*code, (*expected).to_owned()), "{text}");
    }
}

#[test]
fn memory_that_does_not_fit_is_refused() {
    for memory in
        ["<memory>18446744073709551615</memory>", "<memory unit='EiB'>16</memory>", "<memory>-1</memory>"]
    {
        let text = domain("").replace("<memory>65536</memory>", memory);
        assert!(matches!(Domain::parse(&text), Err(ParseError::InvalidText { .. })), "{memory}");
    }
    let text = domain("").replace("<memory>", "<memory unit='stone'>");
    assert!(matches!(Domain::parse(&text), Err(ParseError::InvalidAttribute { .. })));
}

#[test]
fn a_second_element_is_kept_and_refused_not_dropped() {
    let text = domain("<name>b</name>");
    let domain = Domain::parse(&text).unwrap();
    assert_eq!(domain.name, "a");
    assert!(domain.format(FormatOptions::LIVE).contains("<name>b</name>"));
    assert_eq!(
        domain.check_supported().unwrap_err().to_string(),
        "unsupported configuration: element 'name[2]': <name>"
    );
    let twice = devices("<memballoon model='virtio'/><memballoon model='none'/>");
    let error = Domain::parse(&twice).unwrap().check_supported().unwrap_err();
    assert_eq!(error.path, "devices/memballoon[2]");
}

#[test]
fn bytes_that_are_not_utf8_are_refused_with_their_line() {
    let error = Domain::parse_bytes(b"<domain>\n\xff</domain>").unwrap_err();
    assert_eq!(error.to_string(), "(domain_definition):2: the document must be in UTF-8");
    assert!(Domain::parse_bytes(b"<domain\0/>").is_err());
}

#[test]
fn ten_thousand_levels_and_bombs_are_refused() {
    let deep = domain(&format!("<metadata>{}", "<a>".repeat(10_000)));
    assert_eq!(refusal(&deep), (35, "(domain_definition): more than 128 levels".to_owned()));
    let bomb = format!(
        "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>{}",
        domain("<title>&b;</title>")
    );
    assert_eq!(refusal(&bomb), (35, "(domain_definition):1: document types are not accepted".to_owned()));
}

#[test]
fn as_many_devices_as_fit_are_handled_in_reasonable_time() {
    // Anything quadratic in the number of devices would take minutes here.
    let many = devices(&"<foo/><input type='mouse'/><serial type='pty'/>".repeat(25_000));
    assert!(many.len() < reader::MAX_BYTES);
    let domain = Domain::parse(&many).unwrap();
    assert_eq!(domain.devices.inputs.len(), 25_000);
    assert_eq!(domain.check_supported().unwrap_err().path, "devices/foo[1]");
    assert!(domain.format(FormatOptions::INACTIVE).len() > many.len());
    let disks: String = (0..20_000)
        .map(|number| format!("<disk><source file='/a'/><target dev='x{number}'/></disk>"))
        .collect();
    assert_eq!(Domain::parse(&devices(&disks)).unwrap().devices.disks.len(), 20_000);
}

#[test]
fn a_cpu_set_does_not_grow_with_its_numbers() {
    for cpuset in ["0-4294967295", "16384", "4-2", "", "^1", "1,^1", "a", "1--2", "-1"] {
        let text = domain(&format!("<vcpu cpuset='{cpuset}'>1</vcpu>"));
        assert!(matches!(Domain::parse(&text), Err(ParseError::InvalidAttribute { .. })), "{cpuset}");
    }
}

/// Pieces of which definitions are made, right and wrong ones.
fn fragment() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "disk",
        "source",
        "target",
        "driver",
        "address",
        "alias",
        "backingStore",
        "format",
        "controller",
        "model",
        "interface",
        "mac",
        "graphics",
        "listen",
        "serial",
        "console",
        "channel",
        "log",
        "protocol",
        "memballoon",
        "stats",
        "rng",
        "backend",
        "rate",
        "cpu",
        "topology",
        "feature",
        "clock",
        "timer",
        "vcpu",
        "memory",
        "video",
        "readonly",
        "boot",
        "metadata",
        "x:y",
        "devices",
        "os",
        "type",
        "name",
    ]);
    let names = prop::sample::select(vec![
        "type",
        "device",
        "dev",
        "bus",
        "file",
        "slot",
        "function",
        "model",
        "index",
        "name",
        "path",
        "mode",
        "port",
        "address",
        "unit",
        "queues",
        "offset",
        "adjustment",
        "listen",
        "autoport",
        "cpuset",
        "period",
        "x:y",
    ]);
    let values = prop_oneof![
        prop::sample::select(vec![
            "",
            "pci",
            "drive",
            "usb",
            "virtio",
            "file",
            "block",
            "volume",
            "pty",
            "unix",
            "tcp",
            "vnc",
            "on",
            "yes",
            "0",
            "-1",
            "0x1f",
            "18446744073709551616",
            "1-4,^2",
            "vda",
            "hvm",
            "reset",
            "variable",
            "&lt;",
            "&#9;",
            "address",
            "00:00:00:00:00:00",
            "1.2.3",
            "qemu",
            "utc",
            "random",
            "hd",
        ])
        .prop_map(str::to_owned),
        "[ -%(-;=?-~\u{e9}]{0,8}",
    ];
    let attributes = prop::collection::btree_map(names, values.clone(), 0..4).prop_map(|attributes| {
        attributes.into_iter().map(|(name, value)| format!(" {name}='{value}'")).collect::<String>()
    });
    let leaf = (words.clone(), attributes.clone(), values)
        .prop_map(|(word, attributes, text)| format!("<{word}{attributes}>{text}</{word}>"));
    leaf.prop_recursive(4, 32, 5, move |inner| {
        (words.clone(), attributes.clone(), prop::collection::vec(inner, 0..5))
            .prop_map(|(word, attributes, inner)| format!("<{word}{attributes}>{}</{word}>", inner.concat()))
    })
}

/// A definition with something cut out, doubled or overwritten.
fn mutation() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<&'static str> = vec![
        include_str!("fixtures/disks-in.xml"),
        include_str!("fixtures/chain-in.xml"),
        include_str!("fixtures/interfaces-in.xml"),
        include_str!("fixtures/chardevs-in.xml"),
        include_str!("fixtures/controllers-in.xml"),
        include_str!("fixtures/metadata-in.xml"),
        include_str!("fixtures/kept-in.xml"),
        include_str!("fixtures/live-in.xml"),
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..40, prop_oneof![Just(vec![]), any::<Vec<u8>>()]);
    (prop::sample::select(texts), prop::collection::vec(edit, 1..4)).prop_map(|(text, edits)| {
        let mut bytes = text.as_bytes().to_vec();
        for (start, length, replacement) in edits {
            let start = start.index(bytes.len().max(1)).min(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, replacement);
        }
        bytes
    })
}

/// What holds for whatever is accepted.
fn accepted_is_stable(text: &[u8]) {
    let Ok(domain) = Domain::parse_bytes(text) else { return };
    let _ = domain.check_supported();
    for options in [FormatOptions::LIVE, FormatOptions::INACTIVE, FormatOptions::MIGRATION] {
        let once = domain.format(options);
        let again = Domain::parse(&once).unwrap_or_else(|error| panic!("{error}\n{once}"));
        // What is refused is never kept: that it can be written and read is all that it needs.
        if domain.check_supported().is_ok() {
            assert_eq!(again.format(options), once);
            assert_eq!(again.check_supported(), Ok(()), "{once}");
        }
    }
}

proptest! {
    #[test]
    fn anything_at_all_is_answered(bytes in any::<Vec<u8>>()) {
        accepted_is_stable(&bytes);
    }

    #[test]
    fn mutated_definitions_are_refused_or_stable(bytes in mutation()) {
        accepted_is_stable(&bytes);
    }

    #[test]
    fn made_up_definitions_are_refused_or_stable(inside in prop::collection::vec(fragment(), 0..4), in_devices in any::<bool>()) {
        let inside = inside.concat();
        accepted_is_stable(if in_devices { devices(&inside) } else { domain(&inside) }.as_bytes());
    }
}
