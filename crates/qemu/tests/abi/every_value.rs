//! Every attribute and every text that any of our definitions has, with a value that cannot be right: each is refused with an error
//! that names it, wherever that is found out before the start; but for those that may be anything.
//!
//! What the error says of one value in particular stands in domxml's `bad_values`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ferry_domxml::{Domain, Element, Node};
use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::{command_line, validate};

use super::common::{capabilities, fill_in, launch, started};
use super::corpus_lines;

/// No number, no word of any table, no path.
const WRONG: &str = "no such value";

/// Places that take any text, by the end of their path: nothing of the definition says what is right there.
const FREE: &[&str] = &[
    // Names that somebody gives.
    "name",
    "alias/@name",
    "target/@name",
    "group_name",
    "snapshot/@name",
    "iqn/@name",
    "@username",
    "secret/@usage",
    "filesystem/target/@dir",
    // Paths: what is not there is found when the guest starts.
    "@path",
    "@file",
    "@socket",
    "@dev",
    "@tty",
    "@template",
    "path",
    "emulator",
    "os/loader",
    "os/nvram",
    "rng/backend",
    // What is on the host or in the network.
    "source/@bridge",
    "source/@network",
    "source/@host",
    "source/@service",
    "source/@name",
    "source/@query",
    "host/@name",
    // Words for the guest, or for QEMU.
    "entry",
    "disk/serial",
    "disk/product",
    "qemu:arg/@value",
    "qemu:env/@value",
    // What limits QEMU on this host and changes nothing for the guest: kept and not applied.
    "cputune/shares",
    "vcpusched/@priority",
    "vcpusched/@scheduler",
    "vcpusched/@vcpus",
    "resource/partition",
    "seclabel/@model",
    "seclabel/@type",
];

/// Places that look like one of those and are none.
const NOT_FREE: &[&str] = &["devices/disk/target/@dev"];

/// A place in a definition: the names on the way, and the attribute or nothing for the text.
type Place = (Vec<String>, Option<String>);

/// All definitions that the tests have.
fn texts(capabilities: &Capabilities) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.join("../domxml/tests/fixtures"), root.join("tests/fixtures")];
    let paths =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let mut texts: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .map(|path| fs::read_to_string(path).unwrap())
        .filter(|text| refusal(text, capabilities).is_none())
        .collect();
    texts.sort();
    texts
}

/// Why there is no such guest: what is said when it is defined, and when its command line is made.
fn refusal(text: &str, capabilities: &Capabilities) -> Option<String> {
    let mut domain = match Domain::parse(text) {
        Ok(domain) => domain,
        Err(refused) => return Some(refused.to_string()),
    };
    if let Err(refused) = domain.check_supported() {
        return Some(refused.to_string());
    }
    if let Err(refused) = fill_in(&mut domain, capabilities) {
        return Some(refused);
    }
    corpus_lines::choose_firmware(&mut domain);
    if let Err(refused) = validate(&domain, capabilities) {
        return Some(refused.to_string());
    }
    let live = started(&domain, capabilities);
    command_line(&live, capabilities, &launch(&live)).err().map(|refused| refused.to_string())
}

/// Every place of an element and of those below it, with how to reach it: the numbers of the children.
fn places(element: &Element, path: &[String], way: &[usize], found: &mut BTreeMap<Place, Vec<usize>>) {
    let path = [path, std::slice::from_ref(&element.name)].concat();
    for (name, _) in element.attributes.iter().filter(|(name, _)| !name.starts_with("xmlns")) {
        found.entry((path.clone(), Some(name.clone()))).or_insert_with(|| way.to_vec());
    }
    if element.elements().next().is_none() && !element.text().trim().is_empty() {
        found.entry((path.clone(), None)).or_insert_with(|| way.to_vec());
    }
    for (at, child) in element.children.iter().enumerate() {
        if let Node::Element(child) = child
            && child.name != "metadata"
        {
            places(child, &path, &[way, &[at]].concat(), found);
        }
    }
}

/// The definition with the wrong value there.
fn spoiled(root: &Element, way: &[usize], attribute: Option<&str>) -> String {
    let mut root = root.clone();
    let mut element = &mut root;
    for at in way {
        let Node::Element(child) = &mut element.children[*at] else { panic!("the way leads over elements") };
        element = child;
    }
    match attribute {
        Some(name) => {
            element.attributes.iter_mut().find(|(other, _)| other == name).unwrap().1 = WRONG.to_owned()
        }
        None => element.children = vec![Node::Text(WRONG.to_owned())],
    }
    root.format()
}

#[test]
fn what_cannot_be_right_is_refused_by_its_name() {
    let (mut tried, mut accepted, mut unnamed) = (BTreeMap::new(), Vec::new(), Vec::new());
    let capabilities = capabilities("7.2");
    for text in texts(&capabilities) {
        let root = Element::parse(&text).unwrap();
        let mut found = BTreeMap::new();
        places(&root, &[], &[], &mut found);
        for ((path, attribute), way) in found {
            let place = format!(
                "{}{}",
                path[1..].join("/"),
                attribute.as_ref().map_or(String::new(), |name| format!("/@{name}"))
            );
            if tried.insert(place.clone(), ()).is_some() {
                continue;
            }
            let is_free = FREE.iter().any(|free| place == *free || place.ends_with(&format!("/{free}")))
                && !NOT_FREE.contains(&place.as_str());
            let spoiled = spoiled(&root, &way, attribute.as_deref());
            match refusal(&spoiled, &capabilities) {
                _ if is_free => {}
                None => accepted.push(place),
                Some(error) => {
                    let element = path.last().unwrap();
                    let names = [attribute.as_deref().unwrap_or(element), element, WRONG];
                    if !names.iter().any(|name| error.contains(name)) {
                        unnamed.push(format!("{place}: {error}"));
                    }
                }
            }
        }
    }
    assert!(tried.len() > 300, "only {} places", tried.len());
    assert!(accepted.is_empty(), "accepted, {} of {}:\n{}", accepted.len(), tried.len(), accepted.join("\n"));
    assert!(unnamed.is_empty(), "refused without a name:\n{}", unnamed.join("\n"));
}
