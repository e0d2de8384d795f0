//! The generic XML tree: what the reader yields, and the form in which unmodelled parts are kept.
//!
//! Called by every family module through [`crate::model`]; it knows nothing about domains.

/// One XML element. Names keep their prefix (`nova:instance`); namespaces are attributes like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Qualified name as written.
    pub name: String,
    /// Attributes in the order written, values unescaped.
    pub attributes: Vec<(String, String)>,
    /// Content in the order written. Blank text between elements is not kept.
    pub children: Vec<Node>,
}

/// One piece of an element's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A nested element.
    Element(Element),
    /// Text or CDATA, unescaped.
    Text(String),
    /// A comment, without its delimiters.
    Comment(String),
    /// A processing instruction, without its delimiters.
    Instruction(String),
}

impl Element {
    /// Reads one document that is not a domain, within the same bounds as a domain's.
    pub fn parse(text: &str) -> Result<Self, crate::ParseError> {
        crate::reader::read_document(text)
    }

    /// An element with neither attributes nor content.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The element as a document, laid out as stock does: two spaces a level, single quotes.
    pub fn format(&self) -> String {
        crate::writer::write_element_document(self)
    }

    /// The value of the attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The nested elements, in order.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) | Node::Comment(_) | Node::Instruction(_) => None,
        })
    }

    /// The first nested element called `name`.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|element| element.name == name)
    }

    /// The text directly inside this element, pieces joined.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for node in &self.children {
            if let Node::Text(piece) = node {
                text.push_str(piece);
            }
        }
        text
    }
}
