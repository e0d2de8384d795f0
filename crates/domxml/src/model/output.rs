//! An element being written, which still knows what in it was modelled and what was only kept.

use std::collections::{BTreeMap, VecDeque};

use super::{Kept, Model, Rest, Value};
use crate::{Element, FormatOptions, Node};

/// An open element. The text writer prints it; `check_supported` looks for what was kept.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) name: String,
    /// Name, value, and whether it was only kept.
    pub(crate) attributes: Vec<(String, String, bool)>,
    pub(crate) children: Vec<Piece>,
    options: FormatOptions,
}

/// One piece of an open element's content.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Modelled, with kept parts possibly inside.
    Modelled(Output),
    /// The text of a modelled element.
    Text(String),
    /// Kept as it came.
    Kept(Node),
    /// Opaque by contract (metadata): written like kept parts, refused by nobody.
    Opaque(Node),
}

impl Piece {
    /// The name of the element, if it is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Modelled(output) => Some(&output.name),
            Self::Kept(Node::Element(element)) | Self::Opaque(Node::Element(element)) => Some(&element.name),
            Self::Text(_) | Self::Kept(_) | Self::Opaque(_) => None,
        }
    }
}

impl Output {
    pub(crate) fn new(name: &str, options: FormatOptions) -> Self {
        Self { name: name.to_owned(), attributes: Vec::new(), children: Vec::new(), options }
    }

    pub(crate) fn options(&self) -> FormatOptions {
        self.options
    }

    pub(crate) fn attribute(&mut self, name: &str, value: &impl Value) {
        self.attributes.push((name.to_owned(), value.to_text(), false));
    }

    pub(crate) fn optional(&mut self, name: &str, value: &Option<impl Value>) {
        if let Some(value) = value {
            self.attribute(name, value);
        }
    }

    pub(crate) fn text(&mut self, value: &impl Value) {
        self.children.push(Piece::Text(value.to_text()));
    }

    /// A child element written by `fill`.
    pub(crate) fn child(&mut self, name: &str, fill: impl FnOnce(&mut Output)) {
        let mut child = Output::new(name, self.options);
        fill(&mut child);
        self.children.push(Piece::Modelled(child));
    }

    pub(crate) fn model(&mut self, name: &str, model: &impl Model) {
        self.child(name, |out| model.write(out));
    }

    pub(crate) fn push(&mut self, child: Output) {
        self.children.push(Piece::Modelled(child));
    }

    pub(crate) fn opaque(&mut self, node: &Node) {
        self.children.push(Piece::Opaque(node.clone()));
    }

    pub(crate) fn rest(&mut self, rest: &Rest) {
        self.attributes
            .extend(rest.attributes.iter().map(|(name, value)| (name.clone(), value.clone(), true)));
        self.merge(&rest.children);
    }

    /// Puts kept content back: an element before the one that it stood before among its namesakes, all else at
    /// the end.
    fn merge(&mut self, kept: &[Kept]) {
        // By name: which kept elements wait, and how many of that name have been put out.
        let mut waiting: BTreeMap<&str, (VecDeque<usize>, usize)> = BTreeMap::new();
        for (index, piece) in kept.iter().enumerate() {
            if let Some(name) = piece.name() {
                waiting.entry(name).or_default().0.push_back(index);
            }
        }
        let mut is_placed = vec![false; kept.len()];
        for child in std::mem::take(&mut self.children) {
            if let Some((queue, count)) = child.name().and_then(|name| waiting.get_mut(name)) {
                while let Some(&index) = queue.front()
                    && kept[index].place <= *count
                {
                    queue.pop_front();
                    self.children.push(Piece::Kept(kept[index].node.clone()));
                    is_placed[index] = true;
                    *count += 1;
                }
                *count += 1;
            }
            self.children.push(child);
        }
        let left = kept.iter().zip(is_placed).filter(|(_, is_placed)| !is_placed);
        self.children.extend(left.map(|(piece, _)| Piece::Kept(piece.node.clone())));
    }

    /// Brings the children into the order of `names`; unknown names go last, equals keep their order.
    pub(crate) fn sort_children(&mut self, names: &[&str]) {
        let rank = |name: &str| names.iter().position(|known| *known == name).unwrap_or(names.len());
        self.children.sort_by_key(|piece| piece.name().map_or(names.len(), rank));
    }

    /// Brings the attributes into the order of `names`; unknown names go last, equals keep their order.
    pub(crate) fn sort_attributes(&mut self, names: &[&str]) {
        self.attributes
            .sort_by_key(|(name, ..)| names.iter().position(|known| known == name).unwrap_or(names.len()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.children.is_empty()
    }

    /// The same without the knowledge of what was modelled.
    pub(crate) fn into_element(self) -> Element {
        let children = self.children.into_iter().map(|piece| match piece {
            Piece::Modelled(output) => Node::Element(output.into_element()),
            Piece::Text(text) => Node::Text(text),
            Piece::Kept(node) | Piece::Opaque(node) => node,
        });
        Element {
            name: self.name,
            attributes: self.attributes.into_iter().map(|(name, value, _)| (name, value)).collect(),
            children: children.collect(),
        }
    }
}
