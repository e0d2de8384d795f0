//! Completion and command line against stock's results in `../shared/xml-samples`, when that folder is there.
//!
//! A sample whose definition has an element that is not supported yet must be refused with that element's
//! name; every other one must come out as stock's does. The table of all samples is printed.

use std::path::PathBuf;

use ferry_domxml::{Domain, FormatOptions};
use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::{Origin, complete, validate};
use serde_json::Value;

use super::common::{capabilities, counted, differences, fill_in, line, normal, without_host};

/// Samples with something that is not supported yet, and a word of it.
const REFUSED: &[(&str, &str)] = &[];

fn folder() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/xml-samples");
    path.is_dir().then_some(path)
}

/// The samples' definitions, where they are, in the order of their names.
pub(crate) fn inputs() -> Vec<String> {
    let Some(folder) = folder() else { return Vec::new() };
    let read = |name: &String| std::fs::read_to_string(folder.join(format!("{name}.xml"))).unwrap();
    names(&folder).iter().map(read).collect()
}

#[test]
fn samples_become_what_stock_makes_of_them() {
    let Some(folder) = folder() else {
        eprintln!("../shared/xml-samples is not there: passed by");
        return;
    };
    let capabilities = capabilities("10.0");
    let names = names(&folder);
    assert!(names.len() >= 40, "only {} samples", names.len());

    let (mut same, mut refused) = (0, 0);
    let mut failed = Vec::new();
    for name in &names {
        let read = |suffix: &str| std::fs::read_to_string(folder.join(format!("{name}{suffix}"))).ok();
        let verdict = sample(
            &read(".xml").unwrap(),
            &read(".out.xml").unwrap(),
            || {
                let (launched, text) = match read(".launch.json") {
                    Some(text) => (true, text),
                    None => (false, read(".args.json").unwrap()),
                };
                (launched, serde_json::from_str::<Value>(&text).unwrap()["normal"].clone())
            },
            &capabilities,
        );
        let expected = REFUSED.iter().find(|(refused, _)| refused == name);
        let ok = match (&verdict, expected) {
            (Verdict::Same, None) => true,
            (Verdict::Refused(text), Some((_, word))) => text.contains(word),
            (Verdict::Same | Verdict::Refused(_) | Verdict::Differs(_), _) => false,
        };
        println!("{name:32} {verdict}");
        match verdict {
            Verdict::Same => same += 1,
            Verdict::Refused(_) => refused += 1,
            Verdict::Differs(_) => {}
        }
        if !ok {
            failed.push(name);
        }
    }
    println!("{} samples on QEMU 10.0: {same} the same, {refused} refused by name", names.len());
    assert!(same >= 36, "only {same} are the same");
    assert!(failed.is_empty(), "not as expected: {failed:?}");
}

/// With the older QEMU: by what that binary has. Each device that stock gives the sample is there, in its place; what the binary
/// has not is refused by name.
#[test]
fn samples_keep_their_devices_on_7_2() {
    let Some(folder) = folder() else {
        eprintln!("../shared/xml-samples is not there: passed by");
        return;
    };
    let capabilities = capabilities("7.2");
    let (mut same, mut refused, mut failed) = (0, 0, Vec::new());
    for (name, text) in names(&folder).iter().zip(inputs()) {
        let launched = [".launch.json", ".args.json"].map(|suffix| folder.join(format!("{name}{suffix}")));
        let expected = launched.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap();
        let expected = serde_json::from_str::<Value>(&expected).unwrap()["normal"]["device"].clone();
        match devices(&text, &capabilities) {
            Err(word) => {
                println!("{name:32} refused: {word}");
                refused += 1;
            }
            Ok(ours) => {
                let places = places(&expected);
                let missing: Vec<_> = places.iter().filter(|place| !ours.contains(place)).collect();
                if missing.is_empty() && ours.len() == places.len() {
                    println!("{name:32} the same {} devices", ours.len());
                    same += 1;
                } else {
                    println!("{name:32} differs: {missing:?} against {ours:?}");
                    failed.push(name.clone());
                }
            }
        }
    }
    println!("on QEMU 7.2: {same} have the same devices, {refused} refused by name");
    assert!(failed.is_empty(), "not as expected: {failed:?}");
    assert!(same >= 36, "only {same}");
}

/// The devices of a definition's command line.
fn devices(text: &str, capabilities: &Capabilities) -> Result<Vec<String>, String> {
    let mut domain = Domain::parse(text).map_err(|error| error.to_string())?;
    domain.check_supported().map_err(|error| error.to_string())?;
    domain.devices.emulator.get_or_insert("/usr/bin/qemu-system-x86_64".to_owned());
    complete(&mut domain, capabilities, Origin::Define, &mut counted()).map_err(|error| error.to_string())?;
    validate(&domain, capabilities).map_err(|error| error.to_string())?;
    Ok(places(&normal(&line(&domain, capabilities).argv)["device"]))
}

/// What each device is, its name and where it is.
fn places(devices: &Value) -> Vec<String> {
    let word = |device: &Value, key: &str| device[key].as_str().unwrap_or("-").to_owned();
    let place =
        |device: &Value| ["driver", "id", "bus", "addr", "port"].map(|key| word(device, key)).join(" ");
    devices.as_array().unwrap().iter().map(place).collect()
}

/// The names of all samples.
fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_str()?.strip_suffix(".out.xml").map(str::to_owned)
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    names
}

enum Verdict {
    Same,
    Differs(Vec<String>),
    Refused(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Same => out.write_str("same"),
            Self::Refused(text) => write!(out, "refused: {text}"),
            Self::Differs(where_) => {
                out.write_str("differs")?;
                where_.iter().try_for_each(|place| write!(out, "\n    {place}"))
            }
        }
    }
}

fn sample(
    text: &str,
    expected: &str,
    normal_form: impl FnOnce() -> (bool, Value),
    capabilities: &Capabilities,
) -> Verdict {
    let mut domain = Domain::parse(text).unwrap();
    if let Err(refused) = domain.check_supported() {
        return Verdict::Refused(refused.to_string());
    }
    if let Err(refused) = fill_in(&mut domain, capabilities) {
        return Verdict::Refused(refused);
    }
    let mut differing = Vec::new();
    if let Err(refused) = validate(&domain, capabilities) {
        differing.push(format!("validate: {refused}"));
    }
    let ours = domain.format(FormatOptions::INACTIVE);
    let theirs = Domain::parse(expected).unwrap().format(FormatOptions::INACTIVE);
    differing.extend(lines(&ours, &theirs));

    let mut again = domain.clone();
    complete(&mut again, capabilities, Origin::Define, &mut counted()).unwrap();
    if again != domain {
        differing.push("completing it again changes it".to_owned());
    }

    let (launched, expected) = normal_form();
    let mut line = line(&domain, capabilities);
    if !launched {
        // The conversion does not look into images.
        line.argv.iter_mut().for_each(|word| *word = word.replace(",\"backing\":null", ""));
    }
    differing.extend(differences(&without_host(normal(&line.argv)), &without_host(expected)));
    if differing.is_empty() { Verdict::Same } else { Verdict::Differs(differing) }
}

/// Lines that only one of two texts has.
fn lines(ours: &str, theirs: &str) -> Vec<String> {
    if ours == theirs {
        return Vec::new();
    }
    let only = |sign, one: &str, other: &str| -> Vec<String> {
        let other: Vec<&str> = other.lines().collect();
        one.lines().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    let mut differing = only('+', ours, theirs);
    differing.extend(only('-', theirs, ours));
    if differing.is_empty() {
        differing.push("XML lines in another order".to_owned());
    }
    differing
}
