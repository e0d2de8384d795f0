//! `<metadata>`: other programs' data, kept as it came.

use crate::model::{Input, Model, Output, Refusal};
use crate::{Element, Node};

/// Other programs' data. Every entry has a namespace of its own; we read none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The whole element, attributes included.
    pub element: Element,
}

impl Model for Metadata {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(Self { element: input.whole().clone() })
    }

    fn write(&self, out: &mut Output) {
        let attributes = self.element.attributes.iter();
        out.attributes.extend(attributes.map(|(name, value)| (name.clone(), value.clone(), false)));
        for node in &self.element.children {
            out.opaque(node);
        }
    }
}

impl Metadata {
    /// The top-level entries.
    pub fn entries(&self) -> impl Iterator<Item = &Node> {
        self.element.children.iter()
    }
}
