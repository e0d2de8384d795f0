//! `<metadata>`: other programs' data, kept as it came.

use crate::model::{Flatten, Input, Output, Refusal};
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

fn uses_prefix(element: &Element, prefix: &str) -> bool {
    let has_prefix = |name: &str| name.split_once(':').is_some_and(|(found, _)| found == prefix);
    has_prefix(&element.name)
        || element.attributes.iter().any(|(name, _)| has_prefix(name))
        || element.elements().any(|child| uses_prefix(child, prefix))
}
