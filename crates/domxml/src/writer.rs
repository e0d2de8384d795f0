//! An open element ([`Output`]) into text, laid out as stock does: two spaces a level, single quotes.
//!
//! Metadata follows the XML library that stock hands it to: double quotes, and only what must be is escaped.

use crate::model::{Output, Piece};
use crate::{Element, Node};

/// The document, with a line break at its end.
pub(crate) fn write_document(root: &Output) -> String {
    let mut text = String::new();
    write_output(&mut text, root, 0);
    text
}

/// A kept element as a document of its own, with a line break at its end.
pub(crate) fn write_element_document(root: &Element) -> String {
    let mut text = String::new();
    write_element(&mut text, root, 0, Style::Stock);
    text
}

/// One element in the library's style, without a line break at its end.
pub(crate) fn write_opaque(element: &Element) -> String {
    let mut text = String::new();
    write_element(&mut text, element, 0, Style::Library);
    text.truncate(text.trim_end().len());
    text
}

fn write_output(text: &mut String, output: &Output, depth: usize) {
    open(text, &output.name, depth);
    for (name, value, _) in &output.attributes {
        attribute(text, name, value, Style::Stock);
    }
    let inline = output.children.iter().any(|piece| {
        matches!(piece, Piece::Text(_) | Piece::Kept(Node::Text(_)) | Piece::Opaque(Node::Text(_)))
    });
    content(text, &output.name, depth, inline, output.children.iter(), |text, piece, depth| match piece {
        Piece::Modelled(output) => write_output(text, output, depth),
        Piece::Text(value) => escape(text, value, Style::Stock, false),
        Piece::Kept(node) => write_node(text, node, depth, Style::Stock),
        Piece::Opaque(node) => write_node(text, node, depth, Style::Library),
    });
}

fn write_element(text: &mut String, element: &Element, depth: usize, style: Style) {
    open(text, &element.name, depth);
    for (name, value) in &element.attributes {
        attribute(text, name, value, style);
    }
    let inline = element.children.iter().any(|node| matches!(node, Node::Text(_)));
    content(text, &element.name, depth, inline, element.children.iter(), |text, node, depth| {
        write_node(text, node, depth, style);
    });
}

fn write_node(text: &mut String, node: &Node, depth: usize, style: Style) {
    match node {
        Node::Element(element) => write_element(text, element, depth, style),
        Node::Text(value) => escape(text, value, style, false),
        Node::Comment(value) => {
            indent(text, depth);
            text.extend(["<!--", value, "-->"]);
            end_line(text, depth);
        }
        Node::Instruction(value) => {
            indent(text, depth);
            text.extend(["<?", value, "?>"]);
            end_line(text, depth);
        }
    }
}

/// Everything from the end of the start tag to the end of the element. Beside text there is no layout.
fn content<T>(
    text: &mut String,
    name: &str,
    depth: usize,
    inline: bool,
    children: impl ExactSizeIterator<Item = T>,
    write: impl Fn(&mut String, T, usize),
) {
    if children.len() == 0 {
        text.push_str("/>");
        end_line(text, depth);
        return;
    }
    text.push('>');
    if inline || depth == INLINE {
        children.for_each(|child| write(text, child, INLINE));
    } else {
        text.push('\n');
        children.for_each(|child| write(text, child, depth + 1));
        indent(text, depth);
    }
    text.extend(["</", name, ">"]);
    end_line(text, depth);
}

/// The depth of everything that stands beside text.
const INLINE: usize = usize::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Stock,
    Library,
}

fn open(text: &mut String, name: &str, depth: usize) {
    indent(text, depth);
    text.extend(["<", name]);
}

fn attribute(text: &mut String, name: &str, value: &str, style: Style) {
    let quote = if style == Style::Stock { "'" } else { "\"" };
    text.extend([" ", name, "=", quote]);
    escape(text, value, style, true);
    text.push_str(quote);
}

fn indent(text: &mut String, depth: usize) {
    if depth != INLINE {
        text.extend(std::iter::repeat_n("  ", depth));
    }
}

fn end_line(text: &mut String, depth: usize) {
    if depth != INLINE {
        text.push('\n');
    }
}

/// White space that a reader would change goes as a number.
fn escape(text: &mut String, value: &str, style: Style, in_attribute: bool) {
    for character in value.chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\'' if style == Style::Stock => text.push_str("&apos;"),
            '"' if style == Style::Stock || in_attribute => text.push_str("&quot;"),
            '\n' if in_attribute => text.push_str("&#10;"),
            '\t' if in_attribute => text.push_str("&#9;"),
            '\r' => text.push_str("&#13;"),
            character => text.push(character),
        }
    }
}
