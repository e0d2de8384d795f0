//! Refusal of what is not supported: nothing in a definition is dropped, so what we cannot give is an error.
//!
//! Every element, attribute and word that the model does not know was kept in a `Rest`. Here each of them is
//! looked up in a short table of things that do not change the guest; whatever is not in it is refused by its
//! path. The daemon calls it at define, at create and before it takes a guest in.

use std::fmt;

use crate::model::{Output, Piece};
use crate::reader::shorten;
use crate::storage::{BackingStore, Location, Source};
use crate::{Domain, Element, FormatOptions, Node};

/// What stands in the way. On the wire: code 67, `unsupported configuration: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Where: `devices/disk[2]/driver`. Numbers count from 1 and are left out where there is only one.
    pub path: String,
    /// What it is.
    pub what: What,
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An element, with the beginning of it as written.
    Element(String),
    /// An attribute, or a value of it, as written.
    Attribute {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Text where there should be none.
    Text(String),
    /// Something that is modelled, with the reason why it is refused all the same.
    Modelled(&'static str),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            What::Element(text) => write!(f, "unsupported configuration: element '{path}': {text}"),
            What::Attribute { name, value } => {
                write!(f, "unsupported configuration: attribute '{path}/@{name}' with value '{value}'")
            }
            What::Text(text) => write!(f, "unsupported configuration: text in element '{path}': {text}"),
            What::Modelled(reason) => write!(f, "unsupported configuration: element '{path}': {reason}"),
        }
    }
}

impl std::error::Error for Unsupported {}

/// Elements that are kept and do not change the guest, and why that is so. A `*` is any one name.
const HARMLESS: &[(&str, &str)] = &[
    ("seclabel", "confines QEMU on one host; a host without that security driver has nothing to apply"),
    ("resource", "names a control group of one host"),
    ("cputune", "shares of the host's processors; the guest's own count is elsewhere"),
    ("memtune", "limits on QEMU's use of host memory"),
    ("blkiotune", "shares of the host's disks"),
    ("devices/disk/source/seclabel", "confines QEMU's use of one file on one host"),
    ("devices/*/source/seclabel", "confines QEMU's use of one socket or file on one host"),
];

impl Domain {
    /// Refuses the first thing, in the order of the XML, that we keep but cannot give to the guest.
    pub fn check_supported(&self) -> Result<(), Unsupported> {
        check_modelled(self)?;
        let root = self.open(FormatOptions::LIVE);
        let mut path = Path::default();
        check_output(&root, &mut path)
    }
}

/// What the model knows and we refuse all the same.
fn check_modelled(domain: &Domain) -> Result<(), Unsupported> {
    for (index, disk) in domain.devices.disks.iter().enumerate() {
        let refused = |reason| {
            let path = format!("devices/disk[{}]/source", index + 1);
            Err(Unsupported { path, what: What::Modelled(reason) })
        };
        let mut sources: Vec<&Source> = vec![&disk.source];
        let mut below = disk.backing_store.as_ref();
        while let Some(BackingStore::Image(image)) = below {
            sources.push(&image.source);
            below = image.backing_store.as_ref();
        }
        if sources.iter().any(|source| matches!(source.location, Location::Volume { .. })) {
            return refused("disk type 'volume' needs a storage pool, and there are none");
        }
    }
    Ok(())
}

fn check_output<'a>(output: &'a Output, path: &mut Path<'a>) -> Result<(), Unsupported> {
    // A namespace does nothing; what is in it is looked at like everything else.
    let is_refused = |(name, _, kept): &&(String, String, bool)| *kept && !name.starts_with("xmlns:");
    if let Some((name, value, _)) = output.attributes.iter().find(is_refused) {
        let what = What::Attribute { name: shorten(name), value: shorten(value) };
        return Err(Unsupported { path: path.to_string(), what });
    }
    for (index, piece) in output.children.iter().enumerate() {
        match piece {
            Piece::Text(_) | Piece::Opaque(_) => {}
            Piece::Modelled(child) => {
                path.0.push((output, index));
                check_output(child, path)?;
                path.0.pop();
            }
            Piece::Kept(Node::Element(element)) => {
                path.0.push((output, index));
                if !path.is_harmless() {
                    let text = shorten(&flat(element));
                    return Err(Unsupported { path: path.to_string(), what: What::Element(text) });
                }
                path.0.pop();
            }
            Piece::Kept(Node::Text(text)) => {
                let what = What::Text(shorten(text.trim()));
                return Err(Unsupported { path: path.to_string(), what });
            }
            Piece::Kept(Node::Comment(_) | Node::Instruction(_)) => {}
        }
    }
    Ok(())
}

/// The way from the root to the element in hand: every step is a parent and the place of the child in it.
#[derive(Default)]
struct Path<'a>(Vec<(&'a Output, usize)>);

impl Path<'_> {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(parent, index)| parent.children[*index].name().unwrap_or_default())
    }

    fn is_harmless(&self) -> bool {
        HARMLESS.iter().any(|(pattern, _)| {
            let mut names = self.names();
            pattern.split('/').all(|wanted| names.next().is_some_and(|name| wanted == "*" || wanted == name))
                && names.next().is_none()
        })
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("domain");
        }
        for (level, (parent, index)) in self.0.iter().enumerate() {
            let name = parent.children[*index].name();
            let namesakes = |pieces: &[Piece]| pieces.iter().filter(|piece| piece.name() == name).count();
            let separator = if level == 0 { "" } else { "/" };
            write!(f, "{separator}{}", name.unwrap_or_default())?;
            if namesakes(&parent.children) > 1 {
                write!(f, "[{}]", namesakes(&parent.children[..=*index]))?;
            }
        }
        Ok(())
    }
}

/// An element on one line, for an error text that is cut off anyway.
fn flat(element: &Element) -> String {
    let mut text = format!("<{}", element.name);
    for (name, value) in &element.attributes {
        text.extend([" ", name, "='", value, "'"]);
    }
    text.push('>');
    for child in element.elements().take(4) {
        text.push_str(&flat(child));
    }
    text
}
