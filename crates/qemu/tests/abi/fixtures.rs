//! Our own definitions with what becomes of them: `NAME.xml`, `NAME.out.xml`, `NAME.argv` (an argument a
//! line). With `UPDATE_FIXTURES` set the results are written instead of compared; look at the difference
//! before it is committed.

use std::path::{Path, PathBuf};

use ferry_domxml::address::{Address, PciAddress};
use ferry_domxml::{Domain, FormatOptions};
use ferry_qemu::{Origin, command_line, complete, validate};

use super::common::{absent, capabilities, counted, defined, launch, line, started};

/// The fixtures' folder.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The names of all fixtures.
pub(crate) fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let inputs = entries.filter_map(|entry| {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".xml")?;
        (!name.ends_with(".out")).then(|| name.to_owned())
    });
    let mut names: Vec<String> = inputs.collect();
    names.sort();
    names
}

/// A fixture's definition.
pub(crate) fn input(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.xml"))).unwrap()
}

#[test]
fn fixtures_become_what_they_became() {
    let capabilities = capabilities("7.2");
    let names = names();
    assert!(names.len() >= 16, "only {} fixtures", names.len());
    let mut changed = Vec::new();
    for name in names {
        let text = input(&name);
        Domain::parse(&text).unwrap().check_supported().unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let domain = defined(&text, &capabilities);
        validate(&domain, &capabilities).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let mut argv = line(&domain, &capabilities).argv.join("\n");
        argv.push('\n');
        for (suffix, ours) in [("out.xml", domain.format(FormatOptions::INACTIVE)), ("argv", argv)] {
            let path = folder().join(format!("{name}.{suffix}"));
            if std::env::var_os("UPDATE_FIXTURES").is_some() {
                std::fs::write(&path, &ours).unwrap();
            } else if std::fs::read_to_string(&path).unwrap_or_default() != ours {
                changed.push(format!("{name}.{suffix}:\n{ours}"));
            }
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n\n"));
}

/// The stored lines are of 7.2; the newer one gives every device too.
#[test]
fn fixtures_get_every_device() {
    for version in ["7.2", "10.0"] {
        let capabilities = capabilities(version);
        let mut missing = Vec::new();
        for name in names() {
            let live = started(&defined(&input(&name), &capabilities), &capabilities);
            let line = command_line(&live, &capabilities, &launch(&live)).unwrap();
            missing.extend(absent(&live, &line.argv).into_iter().map(|id| format!("{name}: {id}")));
        }
        println!("{} definitions of our own on QEMU {version}: every device of each is there", names().len());
        assert!(missing.is_empty(), "{missing:?}");
    }
}

#[test]
fn completing_what_is_complete_changes_nothing() {
    for version in ["7.2", "10.0"] {
        let capabilities = capabilities(version);
        for name in names() {
            let domain = defined(&input(&name), &capabilities);
            for origin in [Origin::Define, Origin::Migration] {
                let mut again = domain.clone();
                complete(&mut again, &capabilities, origin, &mut counted()).unwrap();
                assert_eq!(again, domain, "{name} on {version}, {origin:?}");
            }
            let text = domain.format(FormatOptions::INACTIVE);
            let mut read = Domain::parse(&text).unwrap();
            complete(&mut read, &capabilities, Origin::Define, &mut counted()).unwrap();
            assert_eq!(read.format(FormatOptions::INACTIVE), text, "{name} on {version}, written and read");
        }
    }
}

/// A card that is added to a definition takes a free place and moves nobody.
#[test]
fn a_new_card_moves_no_old_address() {
    let capabilities = capabilities("10.0");
    for name in names() {
        let before = defined(&input(&name), &capabilities);
        let mut after = before.clone();
        let card =
            "<domain type='qemu'><name>x</name><memory>1</memory><vcpu>1</vcpu><os><type>hvm</type></os>
                    <devices><interface type='user'><model type='virtio'/></interface></devices></domain>";
        let card = Domain::parse(card).unwrap().devices.interfaces.remove(0);
        after.devices.interfaces.insert(0, card);
        complete(&mut after, &capabilities, Origin::Define, &mut counted()).unwrap();
        let card = after.devices.interfaces.remove(0);
        assert!(card.info.pci().is_some() && card.mac.is_some(), "{name}");
        let new = places(&after);
        for place in places(&before) {
            assert!(new.contains(&place), "{name}: {place:?} has moved");
        }
    }
}

/// Every address. That a slot has more than one function now is no move.
fn places(domain: &Domain) -> Vec<Address> {
    let mut domain = domain.clone();
    let addresses = domain.devices.infos_mut().into_iter().filter_map(|info| info.address.clone());
    let addresses = addresses.map(|address| match address {
        Address::Pci(pci) => Address::Pci(PciAddress { multifunction: None, ..pci }),
        other => other,
    });
    addresses.collect()
}
