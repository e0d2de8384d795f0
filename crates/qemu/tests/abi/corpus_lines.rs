//! The 200 definitions of [`corpus`](super::corpus) by what each QEMU has: completed, nothing of what they say is lost, and the
//! command line has every device. [`accepted`](super::accepted) starts them, and so does a daemon in the end-to-end tests.

use ferry_domxml::{Domain, Element, FormatOptions};
use ferry_qemu::firmware::{self, Descriptor};
use ferry_qemu::{command_line, validate};

use super::common::{absent, capabilities, defined, launch, started};
use super::corpus::{self, kept};

/// A host's firmware.
const FIRMWARE: &str = r#"{
    "description": "", "interface-types": ["uefi"], "tags": [], "features": [],
    "mapping": {"device": "flash", "executable": {"filename": "/fw/code", "format": "raw"},
                "nvram-template": {"filename": "/fw/vars", "format": "raw"}},
    "targets": [{"architecture": "x86_64", "machines": ["pc-*"]}]
}"#;

/// The host's firmware, where the host is to choose.
pub(crate) fn choose_firmware(domain: &mut Domain) {
    firmware::choose(domain, &[Descriptor::parse(FIRMWARE).unwrap()], "/vars").unwrap();
}

/// What becomes of each on this QEMU; the number of those that are as they should be.
#[expect(clippy::print_stdout, reason = "the count is what `./dev proof` shows")]
fn proven(version: &str) -> usize {
    let capabilities = capabilities(version);
    let mut failed = Vec::new();
    let definitions = corpus::all();
    for definition in &definitions {
        let mut found = Vec::new();
        if let Err(refused) = Domain::parse(&definition.xml).unwrap().check_supported() {
            failed.push(format!("{}: {refused}", definition.name));
            continue;
        }
        let mut domain = defined(&definition.xml, &capabilities);
        choose_firmware(&mut domain);
        let text = domain.format(FormatOptions { secure: true, ..FormatOptions::INACTIVE });
        let elements = [definition.xml.as_str(), &text].map(|text| Element::parse(text).unwrap());
        found.extend(kept::lost(&elements[0], &elements[1]).into_iter().map(|loss| format!("lost: {loss}")));
        found.extend(validate(&domain, &capabilities).err().map(|refused| refused.to_string()));
        let live = started(&domain, &capabilities);
        match command_line(&live, &capabilities, &launch(&live)) {
            Ok(line) => {
                found.extend(absent(&live, &line.argv).into_iter().map(|id| format!("no device {id}")))
            }
            Err(refused) => found.push(refused.to_string()),
        }
        if !found.is_empty() {
            failed.push(format!("{}:\n    {}", definition.name, found.join("\n    ")));
        }
    }
    println!(
        "{} of {} whole definitions keep all they say and get every device on QEMU {version}",
        definitions.len() - failed.len(),
        definitions.len()
    );
    assert!(failed.is_empty(), "{} of them do not:\n{}", failed.len(), failed.join("\n"));
    definitions.len()
}

#[test]
fn corpus_keeps_what_it_says_and_gets_every_device_on_7_2() {
    assert_eq!(proven("7.2"), 200);
}

#[test]
fn corpus_keeps_what_it_says_and_gets_every_device_on_10_0() {
    assert_eq!(proven("10.0"), 200);
}
