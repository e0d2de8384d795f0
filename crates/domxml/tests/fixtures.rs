//! Definitions in pairs: `NAME-in.xml` as somebody might write it, `NAME-out.xml` as it is written back. With
//! `UPDATE_FIXTURES` set the latter are written; look at the difference before it is committed.

// Helpers of tests may fail like tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use ferry_domxml::{Domain, FormatOptions};

const INACTIVE_SECURE: FormatOptions = FormatOptions { inactive: true, secure: true, migratable: false };

fn pairs() -> Vec<(String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut inputs: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with("-in.xml"))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 15);
    let read =
        |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    inputs
        .iter()
        .map(|input| {
            let name = input.file_name().unwrap().to_string_lossy().replace("-in.xml", "");
            let (text, out) = (read(input), input.with_file_name(format!("{name}-out.xml")));
            if std::env::var_os("UPDATE_FIXTURES").is_some() {
                std::fs::write(&out, Domain::parse(&text).unwrap().format(INACTIVE_SECURE)).unwrap();
            }
            (name, text, read(&out))
        })
        .collect()
}

#[test]
fn every_input_becomes_its_output() {
    for (name, input, output) in pairs() {
        let domain = Domain::parse(&input).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(domain.format(INACTIVE_SECURE), output, "{name}");
    }
}

#[test]
fn every_output_stays_as_it_is() {
    for (name, _, output) in pairs() {
        assert_eq!(Domain::parse(&output).unwrap().format(INACTIVE_SECURE), output, "{name}");
    }
}

#[test]
fn the_live_form_loses_nothing() {
    for (name, input, _) in pairs() {
        let domain = Domain::parse(&input).unwrap();
        let live = domain.format(FormatOptions { secure: true, ..FormatOptions::LIVE });
        let again = Domain::parse(&live).unwrap();
        assert_eq!(again.format(FormatOptions { secure: true, ..FormatOptions::LIVE }), live, "{name}");
        assert_eq!(again, domain, "{name}:\n{live}");
    }
}

#[test]
fn only_what_is_not_supported_is_refused() {
    for (name, input, _) in pairs() {
        let refused = Domain::parse(&input).unwrap().check_supported().is_err();
        assert_eq!(refused, name == "kept" || name == "not-given", "{name}");
    }
}

#[test]
fn a_password_is_written_into_secure_xml_only() {
    let (_, input, _) = pairs().into_iter().find(|(name, ..)| name == "display").unwrap();
    let domain = Domain::parse(&input).unwrap();
    assert!(!domain.format(FormatOptions::LIVE).contains("passwd"));
    assert!(!domain.format(FormatOptions::INACTIVE).contains("passwd"));
    assert!(domain.format(FormatOptions::MIGRATION).contains("passwd='se&apos;cret'"));
}

#[test]
fn what_was_found_at_start_is_not_in_the_definition() {
    let (_, input, output) = pairs().into_iter().find(|(name, ..)| name == "chain").unwrap();
    let mut domain = Domain::parse(&input).unwrap();
    assert!(output.contains("<backingStore/>") && output.contains("<dataStore"));
    let disk = &mut domain.devices.disks[0];
    disk.backing_detected = true;
    disk.source.data_store.as_mut().unwrap().detected = true;
    domain.devices.disks[1].backing_detected = true;
    let live = domain.format(FormatOptions::LIVE);
    assert!(live.contains("/srv/middle.qcow2") && live.contains("/dev/vg/top-data"), "{live}");
    let inactive = domain.format(FormatOptions::INACTIVE);
    assert!(!inactive.contains("backingStore") && !inactive.contains("dataStore"), "{inactive}");
}

#[test]
fn the_chipsets_watchdog_does_not_travel_unless_something_is_said_of_it() {
    let travels = |watchdogs: &str| {
        let text = format!(
            "<domain type='qemu'><name>a</name><memory>1</memory><os><type>hvm</type></os>\
             <devices>{watchdogs}</devices></domain>"
        );
        let domain = Domain::parse(&text).unwrap();
        assert_eq!(
            domain.format(FormatOptions::LIVE).matches("<watchdog").count(),
            watchdogs.matches('<').count()
        );
        domain.format(FormatOptions::MIGRATION).contains("itco")
    };
    assert!(!travels("<watchdog model='itco'/>"));
    assert!(!travels("<watchdog model='itco' action='reset'/>"));
    assert!(!travels("<watchdog model='i6300esb' action='pause'/><watchdog model='itco' action='pause'/>"));
    assert!(travels("<watchdog model='itco' action='pause'/>"));
}

#[test]
fn a_listen_address_from_the_configuration_does_not_travel() {
    let text = "<domain type='qemu'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>\
                <graphics type='vnc' listen='192.0.2.9'/></devices></domain>";
    let mut domain = Domain::parse(text).unwrap();
    assert!(domain.format(FormatOptions::MIGRATION).contains("192.0.2.9"));
    let ferry_domxml::Graphics::Vnc(vnc) = &mut domain.devices.graphics[0];
    vnc.listen_from_config = true;
    assert!(domain.format(FormatOptions::LIVE).contains("listen='192.0.2.9'"));
    assert!(!domain.format(FormatOptions::MIGRATION).contains("192.0.2.9"));
    assert!(!domain.format(FormatOptions::INACTIVE).contains("192.0.2.9"));
}
