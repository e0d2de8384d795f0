//! XML text into an [`Element`] tree, within bounds. Called by `Domain::parse`; knows nothing about domains.
//!
//! What it reads comes from clients and peers: no document type, no entities but the five of XML, and bounds
//! on bytes, levels, nodes and attributes, so that memory is bounded by the size of what was sent.

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::{Element, Node, ParseError};

/// Largest document, bytes. libvirt's largest string on the wire is as long.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most levels of elements.
pub const MAX_DEPTH: usize = 128;
/// Most elements, attributes and pieces of text together.
pub const MAX_NODES: usize = 200_000;
/// Most attributes of one element.
pub const MAX_ATTRIBUTES: usize = 256;

/// Reads one document.
pub fn read_document(text: &str) -> Result<Element, ParseError> {
    if text.len() > MAX_BYTES {
        return Err(ParseError::TooLarge { what: "bytes", limit: MAX_BYTES });
    }
    Builder::new(text).build()
}

struct Builder<'a> {
    text: &'a str,
    reader: quick_xml::Reader<&'a [u8]>,
    /// The elements that are open, outermost first.
    open: Vec<Element>,
    root: Option<Element>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        let mut reader = quick_xml::Reader::from_str(text);
        reader.config_mut().check_comments = true;
        Self { text, reader, open: Vec::new(), root: None, nodes: 0 }
    }

    fn build(mut self) -> Result<Element, ParseError> {
        if let Some(at) = self.text.find(|c| !is_xml_char(c)) {
            return Err(self.malformed_at(at, "character that XML does not allow"));
        }
        loop {
            let event = self.reader.read_event().map_err(|error| self.malformed(error))?;
            match event {
                Event::Start(start) => {
                    let element = self.start(&start)?;
                    self.open.push(element);
                }
                Event::Empty(start) => {
                    let element = self.start(&start)?;
                    self.close(element);
                }
                Event::End(_) => {
                    if let Some(element) = self.open.pop() {
                        self.close(element);
                    }
                }
                Event::Text(piece) => self.append_text(&piece.xml10_content())?,
                Event::CData(piece) => self.append_text(&piece.xml10_content())?,
                Event::GeneralRef(reference) => {
                    let character = self.resolve(&reference)?;
                    self.append_text(character.encode_utf8(&mut [0; 4]))?;
                }
                Event::Comment(piece) => self.append(Node::Comment(piece.xml10_content().into_owned()))?,
                Event::PI(piece) => self.append(Node::Instruction(piece.into_inner().into_owned()))?,
                Event::Decl(declaration) => match declaration.encoding() {
                    None => {}
                    Some(Ok(encoding)) if is_utf8(&encoding) => {}
                    Some(_) => return Err(self.malformed("the document must be in UTF-8")),
                },
                Event::DocType(_) => return Err(self.malformed("document types are not accepted")),
                Event::Eof => break,
            }
        }
        match (self.open.pop(), self.root.take()) {
            (Some(open), _) => {
                Err(self.malformed(format!("Premature end of data in tag {}", shorten(&open.name))))
            }
            (None, None) => Err(self.malformed("Start tag expected, '<' not found")),
            (None, Some(root)) => Ok(root),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<Element, ParseError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(ParseError::TooLarge { what: "levels", limit: MAX_DEPTH });
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(self.malformed("Extra content at the end of the document"));
        }
        self.count()?;
        let mut element = Element::new(self.name(start.name().as_ref())?);
        // The parser's own check compares every pair, and here the peer chooses how many there are.
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| self.malformed(error))?;
            if element.attributes.len() >= MAX_ATTRIBUTES {
                return Err(ParseError::TooLarge { what: "attributes in an element", limit: MAX_ATTRIBUTES });
            }
            self.count()?;
            let name = self.name(attribute.key.as_ref())?;
            if element.attribute(&name).is_some() {
                return Err(self.malformed(format!("Attribute {} redefined", shorten(&name))));
            }
            let value =
                attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| self.malformed(error))?;
            if attribute.value.contains('<') || !value.chars().all(is_xml_char) {
                return Err(self.malformed("character that an attribute value does not allow"));
            }
            element.attributes.push((name, value.into_owned()));
        }
        Ok(element)
    }

    fn close(&mut self, mut element: Element) {
        drop_layout(&mut element);
        match self.open.last_mut() {
            Some(parent) => parent.children.push(Node::Element(element)),
            None => self.root = Some(element),
        }
    }

    fn append(&mut self, node: Node) -> Result<(), ParseError> {
        self.count()?;
        // Before and after the root there is nothing that we keep.
        if let Some(parent) = self.open.last_mut() {
            parent.children.push(node);
        }
        Ok(())
    }

    fn append_text(&mut self, piece: &str) -> Result<(), ParseError> {
        let Some(parent) = self.open.last_mut() else {
            return match piece.trim().is_empty() {
                true => Ok(()),
                false if self.root.is_none() => Err(self.malformed("Start tag expected, '<' not found")),
                false => Err(self.malformed("Extra content at the end of the document")),
            };
        };
        if let Some(Node::Text(text)) = parent.children.last_mut() {
            text.push_str(piece);
            return Ok(());
        }
        self.append(Node::Text(piece.to_owned()))
    }

    fn resolve(&self, reference: &BytesRef<'_>) -> Result<char, ParseError> {
        if let Some(character) = reference.resolve_char_ref().map_err(|error| self.malformed(error))? {
            return match is_xml_char(character) {
                true => Ok(character),
                false => Err(self.malformed("character that XML does not allow")),
            };
        }
        let name = reference.xml10_content();
        let character = resolve_predefined_entity(&name).and_then(|text| text.chars().next());
        character.ok_or_else(|| self.malformed(format!("Entity '{}' not defined", shorten(&name))))
    }

    fn name(&self, name: &str) -> Result<String, ParseError> {
        let mut characters = name.chars();
        let starts = characters.next().is_some_and(|c| c.is_alphabetic() || c == '_' || c == ':');
        if starts && characters.all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '\u{b7}'))
        {
            return Ok(name.to_owned());
        }
        Err(self.malformed(format!("'{}' is not a name", shorten(name))))
    }

    fn count(&mut self) -> Result<(), ParseError> {
        self.nodes += 1;
        match self.nodes > MAX_NODES {
            true => Err(ParseError::TooLarge { what: "nodes", limit: MAX_NODES }),
            false => Ok(()),
        }
    }

    fn malformed(&self, reason: impl ToString) -> ParseError {
        self.malformed_at(self.reader.buffer_position() as usize, reason)
    }

    fn malformed_at(&self, position: usize, reason: impl ToString) -> ParseError {
        let before = self.text.as_bytes().get(..position).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        ParseError::Malformed { line, reason: shorten(&reason.to_string()) }
    }
}

/// Blank text between elements is layout; blank text alone, or beside other text, is content.
fn drop_layout(element: &mut Element) {
    let is_text = |node: &Node| matches!(node, Node::Text(_));
    let has_text =
        element.children.iter().any(|node| matches!(node, Node::Text(text) if !text.trim().is_empty()));
    if !has_text && !element.children.iter().all(is_text) {
        element.children.retain(|node| !is_text(node));
    }
}

fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn is_utf8(encoding: &str) -> bool {
    ["utf-8", "utf8", "us-ascii"].iter().any(|known| encoding.eq_ignore_ascii_case(known))
}

/// What a peer wrote goes into an error text, but not megabytes of it.
pub(crate) fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn malformed(text: &str) -> String {
        match read_document(text) {
            Err(ParseError::Malformed { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_tree_has_content_but_no_layout() {
        let root = read_document(
            "<?xml version='1.0'?>\n<a x='1&amp;2'>\n  <b> t&#65;<![CDATA[<]]> </b>\n  <!-- c -->\n</a>\n",
        );
        let root = root.unwrap();
        assert_eq!(root.attribute("x"), Some("1&2"));
        assert_eq!(root.children.len(), 2, "{root:?}");
        assert_eq!(root.child("b").unwrap().text(), " tA< ");
        assert_eq!(root.children[1], Node::Comment(" c ".into()));
    }

    #[test]
    fn the_line_of_an_error_is_told() {
        let error = read_document("<a>\n\n<b></c></a>").unwrap_err();
        assert!(matches!(error, ParseError::Malformed { line: 3, .. }), "{error:?}");
    }

    #[test]
    fn entities_and_document_types_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b 'bbbbbbbbbb'><!ENTITY c '&b;&b;&b;&b;'>]><a>&c;</a>";
        assert_eq!(malformed(bomb), "document types are not accepted");
        assert_eq!(malformed("<a>&b;</a>"), "Entity 'b' not defined");
        assert!(malformed("<a x='&b;'/>").contains('b'));
    }

    #[test]
    fn bounds_hold() {
        let too_large = |text: &str, expected: &str| match read_document(text) {
            Err(ParseError::TooLarge { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        };
        too_large(&"<a>".repeat(10_000), "levels");
        too_large(&format!("<a>{}</a>", "<b/>".repeat(MAX_NODES)), "nodes");
        too_large(&format!("<a x='{}'/>", "x".repeat(MAX_BYTES)), "bytes");
        let attributes: String = (0..=MAX_ATTRIBUTES).map(|number| format!(" a{number}=''")).collect();
        too_large(&format!("<a{attributes}/>"), "attributes in an element");
        let huge = format!("<a x='{}'/>", "x".repeat(MAX_BYTES - 100));
        assert_eq!(read_document(&huge).unwrap().attribute("x").unwrap().len(), MAX_BYTES - 100);
    }

    #[test]
    fn what_is_not_xml_is_refused() {
        for text in [
            "",
            " ",
            "hello",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>x",
            "<a x='1' x='2'/>",
            "<a x=1/>",
            "<a x/>",
            "<a x='<'/>",
            "<1/>",
            "<a 1='x'/>",
            "<a>&#0;</a>",
            "<a x='&#1;'/>",
            "<a>\0</a>",
            "<a>\u{ffff}</a>",
            "<a>&amp</a>",
            "<a",
            "<!-- x",
            "<a><!-- -- --></a>",
            "<?xml version='1.0' encoding='latin1'?><a/>",
        ] {
            assert!(matches!(read_document(text), Err(ParseError::Malformed { .. })), "{text:?}");
        }
    }

    #[test]
    fn error_texts_stay_short() {
        let error = read_document(&format!("<a>&{};</a>", "x".repeat(1_000_000))).unwrap_err();
        assert!(error.to_string().len() < 1_000);
    }
}
