//! An element being read: what has been taken from it and what is left.

use std::collections::BTreeMap;

use super::{Kept, Refusal, Rest, Value, ValueError};
use crate::reader::shorten;
use crate::{Element, Node, ParseError};

/// Hands out attributes and children once each.
pub(crate) struct Input<'a> {
    element: &'a Element,
    attributes_taken: Vec<bool>,
    children_taken: Vec<bool>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(element: &'a Element) -> Self {
        Self {
            element,
            attributes_taken: vec![false; element.attributes.len()],
            children_taken: vec![false; element.children.len()],
        }
    }

    /// The element's name, for error texts.
    pub(crate) fn name(&self) -> &'a str {
        &self.element.name
    }

    /// The value of an attribute that has not been taken.
    pub(crate) fn peek(&self, name: &str) -> Option<&'a str> {
        let index = self.attribute_index(name)?;
        Some(&self.element.attributes[index].1)
    }

    /// Takes the attribute `name` as a `T`. `Ok(None)`: it is not there, or its word is not known and stays.
    pub(crate) fn attribute<T: Value>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(index) = self.attribute_index(name) else { return Ok(None) };
        let text = &self.element.attributes[index].1;
        match T::parse(text) {
            Ok(value) => {
                self.attributes_taken[index] = true;
                Ok(Some(value))
            }
            Err(ValueError::Unknown) => Ok(None),
            Err(ValueError::Invalid) => Err(self.invalid_attribute(name, text)),
        }
    }

    /// Takes an attribute without which the element means nothing.
    pub(crate) fn required<T: Value>(&mut self, name: &'static str) -> Result<T, Refusal> {
        if self.attribute_index(name).is_none() {
            return Err(self.missing(name));
        }
        self.attribute(name)?.ok_or(Refusal::Unmodelled)
    }

    /// Takes an attribute that has a default when it is absent (but not when its word is unknown).
    pub(crate) fn attribute_or<T: Value>(&mut self, name: &str, default: T) -> Result<T, Refusal> {
        match self.peek(name) {
            None => Ok(default),
            Some(_) => self.attribute(name)?.ok_or(Refusal::Unmodelled),
        }
    }

    /// Offers the untaken children called `name` to `read`; a child is taken when `read` makes something of it.
    pub(crate) fn each<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&Element) -> Result<T, Refusal>,
    ) -> Result<Vec<T>, Refusal> {
        let mut found = Vec::new();
        for (index, node) in self.element.children.iter().enumerate() {
            let Node::Element(child) = node else { continue };
            if child.name != name || self.children_taken[index] {
                continue;
            }
            match read(child) {
                Ok(value) => {
                    self.children_taken[index] = true;
                    found.push(value);
                }
                Err(Refusal::Unmodelled) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Like [`Input::each`] for at most one: the first child called `name`. A second one stays.
    pub(crate) fn first<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Element) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        let untaken = &self.children_taken;
        let found = self.element.children.iter().enumerate().find_map(|(index, node)| match node {
            Node::Element(child) if child.name == name && !untaken[index] => Some((index, child)),
            Node::Element(_) | Node::Text(_) | Node::Comment(_) | Node::Instruction(_) => None,
        });
        let Some((index, child)) = found else { return Ok(None) };
        match read(child) {
            Ok(value) => {
                self.children_taken[index] = true;
                Ok(Some(value))
            }
            Err(Refusal::Unmodelled) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the element's own text as a `T`. `None`: blank, or a word that is not known.
    pub(crate) fn text<T: Value>(&mut self) -> Result<Option<T>, Refusal> {
        let text = self.element.text();
        if text.trim().is_empty() {
            return Ok(None);
        }
        match T::parse(&text) {
            Ok(value) => {
                for (node, taken) in self.element.children.iter().zip(&mut self.children_taken) {
                    *taken |= matches!(node, Node::Text(_));
                }
                Ok(Some(value))
            }
            Err(ValueError::Unknown) => Ok(None),
            Err(ValueError::Invalid) => Err(self.invalid_text(&text)),
        }
    }

    /// What has not been taken. Comments and instructions inside modelled elements are not kept.
    pub(crate) fn rest(&self) -> Rest {
        let attributes = self.element.attributes.iter().zip(&self.attributes_taken);
        let mut rest = Rest {
            attributes: attributes.filter(|(_, taken)| !**taken).map(|(entry, _)| entry.clone()).collect(),
            children: Vec::new(),
        };
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (node, taken) in self.element.children.iter().zip(&self.children_taken) {
            let place = match node {
                Node::Element(child) => {
                    let count = seen.entry(&child.name).or_default();
                    *count += 1;
                    *count - 1
                }
                Node::Text(_) | Node::Comment(_) | Node::Instruction(_) => 0,
            };
            if !taken && is_content(node) {
                rest.children.push(Kept { node: node.clone(), place });
            }
        }
        // Their order means nothing, but two definitions that say the same are to be equal.
        rest.attributes.sort();
        rest.children.sort_by(|one, other| one.name().cmp(&other.name()));
        rest
    }

    /// For types without a [`Rest`]: anything left over means that the element is not understood.
    pub(crate) fn finish(&self) -> Result<(), Refusal> {
        match self.rest().is_empty() {
            true => Ok(()),
            false => Err(Refusal::Unmodelled),
        }
    }

    pub(crate) fn has_child(&self, name: &str) -> bool {
        self.element.child(name).is_some()
    }

    /// No text of its own.
    pub(crate) fn is_blank(&self) -> bool {
        self.element.text().trim().is_empty()
    }

    pub(crate) fn missing_child(&self, child: &'static str) -> Refusal {
        Refusal::Invalid(match (self.name(), child) {
            ("disk", "target") => ParseError::MissingTarget,
            (parent, element) => ParseError::MissingElement { element, parent: parent.to_owned() },
        })
    }

    pub(crate) fn missing(&self, attribute: &str) -> Refusal {
        let (attribute, element) = (attribute.to_owned(), self.name().to_owned());
        Refusal::Invalid(ParseError::MissingAttribute { attribute, element })
    }

    pub(crate) fn invalid_attribute(&self, attribute: &str, value: &str) -> Refusal {
        Refusal::Invalid(ParseError::InvalidAttribute {
            attribute: attribute.to_owned(),
            element: self.name().to_owned(),
            value: shorten(value),
        })
    }

    pub(crate) fn invalid_text(&self, value: &str) -> Refusal {
        Refusal::Invalid(ParseError::InvalidText { element: self.name().to_owned(), value: shorten(value) })
    }

    fn attribute_index(&self, name: &str) -> Option<usize> {
        let index = self.element.attributes.iter().position(|(key, _)| key == name)?;
        (!self.attributes_taken[index]).then_some(index)
    }
}

fn is_content(node: &Node) -> bool {
    match node {
        Node::Element(_) => true,
        Node::Text(text) => !text.trim().is_empty(),
        Node::Comment(_) | Node::Instruction(_) => false,
    }
}
