//! Every sample of stock's test data: parses, loses nothing, keeps stock's order, and is refused by name when
//! something in it is not supported. Passes by when the folder of samples is not there.

// Helpers of tests may fail like tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use ferry_domxml::reader::read_document;
use ferry_domxml::{Domain, Element, FormatOptions, abi};

fn samples(suffix: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/xml-samples");
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_output = |path: &PathBuf| path.to_string_lossy().ends_with(".out.xml");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .filter(|path| is_output(path) == (suffix == ".out.xml"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 40, "samples that end with {suffix}");
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().replace(suffix, "");
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_output_of_stock_formats_back_to_itself() {
    for (name, text) in samples(".out.xml") {
        assert_eq!(Domain::parse(&text).unwrap().format(FormatOptions::INACTIVE), text, "{name}");
    }
}

/// Every attribute and text of a tree with the names of the elements above it.
fn facts(element: &Element, above: &str, found: &mut Vec<String>) {
    let path = format!("{above}/{}", element.name);
    found.push(path.clone());
    for (name, value) in &element.attributes {
        found.push(format!("{path}/@{name} = {value}"));
    }
    if !element.text().trim().is_empty() {
        found.push(format!("{path} = {}", element.text()));
    }
    element.elements().for_each(|child| facts(child, &path, found));
}

fn facts_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    facts(&read_document(text).unwrap(), "", &mut found);
    found
}

/// Facts of inputs that stock, and so do we, write in another way.
const REWRITTEN: &[&str] = &[
    // Numbers of addresses are written in hexadecimal.
    "/domain/devices/memballoon/address/@",
    // Without a path it says nothing.
    "/domain/devices/channel/source",
];

#[test]
fn nothing_of_an_input_is_lost() {
    for (name, text) in samples(".xml") {
        let domain = Domain::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let output = domain.format(FormatOptions { secure: true, ..FormatOptions::LIVE });
        let mut left = facts_of(&output);
        for fact in facts_of(&text) {
            match left.iter().position(|other| *other == fact) {
                Some(index) => {
                    left.remove(index);
                }
                None => {
                    assert!(REWRITTEN.iter().any(|start| fact.starts_with(start)), "{name}: {fact}\n{output}")
                }
            }
        }
        assert_eq!(Domain::parse(&output).unwrap(), domain, "{name}");
    }
}

/// The samples that are not supported, and the part that stops each.
const REFUSED: &[(&str, &str)] = &[];

#[test]
fn a_sample_is_supported_or_refused_by_name() {
    for suffix in [".xml", ".out.xml"] {
        for (name, text) in samples(suffix) {
            let refused = REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, path)| *path);
            let found = Domain::parse(&text).unwrap().check_supported().err().map(|error| error.path);
            assert_eq!(found.as_deref(), refused, "{name}{suffix}");
        }
    }
}

#[test]
fn a_sample_is_the_same_to_the_guest_as_itself() {
    for (name, text) in samples(".out.xml") {
        let domain = Domain::parse(&text).unwrap();
        assert_eq!(abi::check(&domain, &domain.inactive()), Ok(()), "{name}");
    }
}
