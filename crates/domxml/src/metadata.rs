//! `<metadata>`: other programs' data, kept as it came.

use crate::model::{Flatten, Input, Output, Refusal};
use crate::writer::write_opaque;
use crate::{Element, Node};

/// Other programs' data. Every entry has a namespace of its own; we read none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The whole element, attributes included.
    pub element: Element,
}

impl Metadata {
    /// The top-level entries.
    pub fn entries(&self) -> impl Iterator<Item = &Element> {
        self.element.elements()
    }

    /// The first entry in the namespace `uri` as a document of its own. As stock answers it: names in that
    /// namespace lose their prefix.
    pub fn entry(&self, uri: &str) -> Option<String> {
        let entry = self.entries().find(|entry| {
            let declaration = declaration(entry);
            entry.attribute(&declaration).or_else(|| self.element.attribute(&declaration)) == Some(uri)
        })?;
        let own = declaration(entry);
        let mut document = without_prefix(entry, own.strip_prefix("xmlns:"));
        document.attributes.retain(|(name, _)| *name != own);
        // What it borrows from the metadata around it has to come along.
        for (name, value) in &self.element.attributes {
            let is_used = name.strip_prefix("xmlns:").is_some_and(|prefix| uses_prefix(&document, prefix));
            if is_used && document.attribute(name).is_none() {
                document.attributes.push((name.clone(), value.clone()));
            }
        }
        Some(write_opaque(&document))
    }

    /// Takes away every entry in the namespace `uri`.
    pub fn remove(&mut self, uri: &str) {
        let around = self.element.clone();
        self.element.children.retain(|node| match node {
            Node::Element(entry) => {
                let declaration = declaration(entry);
                entry.attribute(&declaration).or_else(|| around.attribute(&declaration)) != Some(uri)
            }
            Node::Text(_) | Node::Comment(_) | Node::Instruction(_) => true,
        });
    }

    /// Adds an entry and puts it, with all in it that has no namespace yet, into the namespace `uri` under `prefix`. False,
    /// and nothing is added, when that is no prefix.
    pub fn add(&mut self, mut entry: Element, prefix: &str, uri: &str) -> bool {
        let letter = |c: char| c.is_alphabetic() || c == '_';
        let fits = |c: char| letter(c) || c.is_ascii_digit() || c == '-' || c == '.';
        if !prefix.starts_with(letter)
            || !prefix.chars().all(fits)
            || prefix.to_lowercase().starts_with("xml")
        {
            return false;
        }
        put_prefix(&mut entry, prefix);
        entry.attributes.insert(0, (format!("xmlns:{prefix}"), uri.to_owned()));
        self.element.children.push(Node::Element(entry));
        true
    }
}

fn put_prefix(element: &mut Element, prefix: &str) {
    if element.attribute("xmlns").is_some() {
        return;
    }
    if !element.name.contains(':') {
        element.name = format!("{prefix}:{}", element.name);
    }
    for node in &mut element.children {
        if let Node::Element(child) = node {
            put_prefix(child, prefix);
        }
    }
}

impl Flatten for Option<Metadata> {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        input.first("metadata", |element| Ok(Metadata { element: element.clone() }))
    }

    fn put(&self, out: &mut Output) {
        if let Some(metadata) = self {
            out.opaque(&Node::Element(metadata.element.clone()));
        }
    }
}

/// Moves namespaces that the root declares to where they are used, as stock does: to the metadata. One that is
/// used elsewhere stays; one that is used nowhere means nothing and goes.
pub(crate) fn settle_namespaces(root: &mut Element) {
    let (namespaces, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut root.attributes).into_iter().partition(|(name, _)| name.starts_with("xmlns"));
    root.attributes = others;
    for (declaration, uri) in namespaces {
        let prefix = declaration.strip_prefix("xmlns:").unwrap_or_default();
        let mut stays = prefix.is_empty();
        for node in &mut root.children {
            let Node::Element(child) = node else { continue };
            if !uses_prefix(child, prefix) {
                continue;
            }
            match child.name == "metadata" {
                true if child.attribute(&declaration).is_none() => {
                    child.attributes.push((declaration.clone(), uri.clone()));
                }
                true => {}
                false => stays = true,
            }
        }
        if stays {
            root.attributes.push((declaration, uri));
        }
    }
}

/// The attribute that declares the namespace of an element's name.
fn declaration(element: &Element) -> String {
    match element.name.split_once(':') {
        Some((prefix, _)) => format!("xmlns:{prefix}"),
        None => "xmlns".to_owned(),
    }
}

/// A copy in which no name has `prefix`.
fn without_prefix(element: &Element, prefix: Option<&str>) -> Element {
    let strip = |name: &str| match name.split_once(':') {
        Some((found, local)) if Some(found) == prefix => local.to_owned(),
        Some(_) | None => name.to_owned(),
    };
    let attributes = element.attributes.iter().map(|(name, value)| (strip(name), value.clone())).collect();
    let children = element.children.iter().map(|node| match node {
        Node::Element(child) => Node::Element(without_prefix(child, prefix)),
        Node::Text(_) | Node::Comment(_) | Node::Instruction(_) => node.clone(),
    });
    Element { name: strip(&element.name), attributes, children: children.collect() }
}

fn uses_prefix(element: &Element, prefix: &str) -> bool {
    let has_prefix = |name: &str| name.split_once(':').is_some_and(|(found, _)| found == prefix);
    has_prefix(&element.name)
        || element.attributes.iter().any(|(name, _)| has_prefix(name))
        || element.elements().any(|child| uses_prefix(child, prefix))
}

#[cfg(test)]
mod tests {
    use crate::Domain;

    #[test]
    fn an_entry_is_found_by_its_namespace_and_loses_its_prefix() {
        let text = "<domain type='qemu' xmlns:top='urn:top'><name>a</name><memory>1</memory><os><type>hvm</type></os>\
            <metadata><top:x top:y='1' z='2'><top:w/>t</top:x>\
            <app:foo xmlns:app='urn:foo' xmlns:o='urn:o' a='1'><app:bar o:q='1'>x</app:bar><o:p/><top:p/></app:foo>\
            <d xmlns='urn:default'><e/></d></metadata></domain>";
        let metadata = Domain::parse(text).unwrap().metadata.unwrap();
        let entry = |uri| metadata.entry(uri);
        assert_eq!(entry("urn:top").unwrap(), "<x y=\"1\" z=\"2\"><w/>t</x>");
        assert_eq!(
            entry("urn:foo").unwrap(),
            "<foo xmlns:o=\"urn:o\" a=\"1\" xmlns:top=\"urn:top\">\n  <bar o:q=\"1\">x</bar>\n  <o:p/>\n  <top:p/>\n</foo>"
        );
        assert_eq!(entry("urn:default").unwrap(), "<d>\n  <e/>\n</d>");
        assert_eq!(entry("urn:none"), None);
    }

    #[test]
    fn an_entry_is_added_under_a_prefix_and_taken_away_by_its_namespace() {
        let mut metadata = super::Metadata { element: crate::Element::new("metadata") };
        let entry = |text| crate::Element::parse(text).unwrap();
        assert!(metadata.add(
            entry("<a b='c'><d/><x:e xmlns:x='urn:x'/><f xmlns='urn:f'><g/></f></a>"),
            "k",
            "urn:k"
        ));
        assert!(metadata.add(entry("<a/>"), "l", "urn:l"));
        assert_eq!(
            metadata.element.format().trim_end(),
            "<metadata>\n  <k:a xmlns:k='urn:k' b='c'>\n    <k:d/>\n    <x:e xmlns:x='urn:x'/>\n    <f xmlns='urn:f'>\n      <g/>\n    </f>\n  </k:a>\n  <l:a xmlns:l='urn:l'/>\n</metadata>"
        );
        metadata.remove("urn:k");
        assert_eq!(metadata.entry("urn:k"), None);
        assert_eq!(metadata.entry("urn:l").unwrap(), "<a/>");
        for bad in ["", "k k", "1k", "k:l", "xmlns", "k\"", "<"] {
            assert!(!metadata.add(entry("<a/>"), bad, "urn:m"), "{bad:?}");
        }
    }
}
