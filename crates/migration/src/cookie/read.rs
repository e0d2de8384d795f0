//! Bytes from a peer into a [`Cookie`], bounded and with stock's refusals. Called by the driver.

use ferry_domxml::{Element, Node, ParseError, Uuid};
use ferry_rpc::{Error, ErrorCode, Origin};

use crate::overlay::{BITMAPS_MAX, OVERLAYS_MAX, Overlay};

use super::{
    ADDRESSES_MAX, BYTES_MAX, Capability, Common, Cookie, Feature, Graphics, Handover, MACHINE_MAX, Machine,
    NAMESPACE, Says, statistics,
};

/// Longest control address, bytes.
const ADDRESS_MAX: usize = 256;
/// Most capabilities that are read; QEMU knows about 25.
const CAPABILITIES_MAX: usize = 256;

/// Who reads the cookie: each phase takes features and elements of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reader {
    /// The destination, at Prepare.
    Prepare,
    /// The source, at Perform.
    Perform,
    /// The destination, at Finish.
    Finish,
    /// The source, at Confirm.
    Confirm,
}

impl Reader {
    const fn accepts(self, feature: Feature) -> bool {
        use Feature as F;
        match self {
            Self::Prepare => matches!(
                feature,
                F::Lockstate
                    | F::Nbd
                    | F::MemoryHotplug
                    | F::CpuHotplug
                    | F::Cpu
                    | F::Capabilities
                    | F::BlockDirtyBitmaps
            ),
            Self::Perform => {
                matches!(feature, F::Graphics | F::Capabilities | F::BlockDirtyBitmaps | F::Nbd)
            }
            Self::Finish => matches!(feature, F::Network | F::Statistics | F::Nbd | F::Persistent),
            Self::Confirm => matches!(feature, F::Statistics),
        }
    }
}

/// What the reader holds the cookie against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The guest's name on the source; not checked when it is not known yet.
    pub name: Option<&'a str>,
    /// The guest's UUID; not checked when it is not known yet.
    pub uuid: Option<Uuid>,
    /// The reader's own host UUID.
    pub host_uuid: Uuid,
}

/// Why a cookie is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// Above the wire's limit.
    #[error("migration cookie of {0} bytes exceeds {BYTES_MAX}")]
    TooLarge(usize),
    /// The last byte is not a NUL.
    #[error("Migration cookie was not NULL terminated")]
    NotTerminated,
    /// Not XML.
    #[error("(qemu_migration_cookie): {0}")]
    Xml(ParseError),
    /// Not text.
    #[error("(qemu_migration_cookie): not UTF-8")]
    NotText,
    /// A mandatory element is missing.
    #[error("missing {0} element in migration data")]
    Missing(&'static str),
    /// A UUID that is none.
    #[error("malformed {0} element in migration data")]
    Malformed(&'static str),
    /// Another guest's name.
    #[error("Incoming cookie data had unexpected name {found} vs {expected}")]
    Name {
        /// As sent.
        found: String,
        /// The guest's.
        expected: String,
    },
    /// Another guest's UUID.
    #[error("Incoming cookie data had unexpected UUID {found} vs {expected}")]
    GuestUuid {
        /// As sent.
        found: Uuid,
        /// The guest's.
        expected: Uuid,
    },
    /// The sender is this host.
    #[error("Attempt to migrate guest to the same host {0}")]
    SameHost(Uuid),
    /// A feature without a name.
    #[error("Missing feature name")]
    FeatureWithoutName,
    /// A feature that nobody knows.
    #[error("Unknown migration cookie feature {0}")]
    UnknownFeature(String),
    /// A feature that this phase does not take.
    #[error("Unsupported migration cookie feature {0}")]
    UnsupportedFeature(&'static str),
    /// Our own element is not as we write it.
    #[error("malformed ferry:handover element in migration data")]
    Handover,
    /// The same of what the machine is made of.
    #[error("malformed ferry:machine element in migration data")]
    Machine,
}

impl From<CookieError> for Error {
    fn from(error: CookieError) -> Self {
        let text = error.to_string();
        match error {
            CookieError::TooLarge(_) => Self::of(ErrorCode::RPC, Origin::RPC, text),
            CookieError::Xml(_) | CookieError::NotText => {
                Self::new(ErrorCode::XML_DETAIL, Origin::QEMU, text)
            }
            CookieError::NotTerminated
            | CookieError::Missing(_)
            | CookieError::Malformed(_)
            | CookieError::Name { .. }
            | CookieError::GuestUuid { .. }
            | CookieError::SameHost(_)
            | CookieError::FeatureWithoutName
            | CookieError::UnknownFeature(_)
            | CookieError::UnsupportedFeature(_)
            | CookieError::Handover
            | CookieError::Machine => Self::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text),
        }
    }
}

impl Cookie {
    /// Reads what a peer sent. `Ok(None)` for an empty cookie, which says nothing.
    pub fn parse(bytes: &[u8], reader: Reader, expected: &Expected<'_>) -> Result<Option<Self>, CookieError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() > BYTES_MAX {
            return Err(CookieError::TooLarge(bytes.len()));
        }
        let Some((0, text)) = bytes.split_last() else { return Err(CookieError::NotTerminated) };
        // What follows an earlier NUL is not part of the text.
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| CookieError::NotText)?;
        let root = Element::parse(text).map_err(CookieError::Xml)?;

        let common = read_common(&root, expected)?;
        let features = read_features(&root, reader)?;
        let handover = root.child("ferry:handover").map(read_handover).transpose()?.flatten();
        let machine = root.child("ferry:machine").map(read_machine).transpose()?.flatten();
        let wants = |feature| reader.accepts(feature);
        let kept = |name| root.child(name).map(to_text);
        Ok(Some(Self {
            common,
            features,
            handover,
            machine,
            cpu: if wants(Feature::Cpu) { kept("cpu") } else { None },
            capabilities: if wants(Feature::Capabilities) {
                root.child("capabilities").map(read_capabilities)
            } else {
                None
            },
            persistent: if wants(Feature::Persistent) { kept("domain") } else { None },
            statistics: if wants(Feature::Statistics) {
                root.child("statistics").map(read_statistics)
            } else {
                None
            },
            graphics: if wants(Feature::Graphics) {
                root.child("graphics").and_then(read_graphics)
            } else {
                None
            },
        }))
    }
}

fn read_common(root: &Element, expected: &Expected<'_>) -> Result<Common, CookieError> {
    let text = |name: &'static str| {
        root.child(name)
            .map(|element| element.text().trim().to_owned())
            .filter(|text| !text.is_empty())
            .ok_or(CookieError::Missing(name))
    };
    let uuid = |name: &'static str| Uuid::parse_str(&text(name)?).map_err(|_| CookieError::Malformed(name));
    let common = Common {
        name: text("name")?,
        uuid: uuid("uuid")?,
        hostname: text("hostname")?,
        host_uuid: uuid("hostuuid")?,
    };
    if let Some(name) = expected.name
        && name != common.name
    {
        return Err(CookieError::Name { found: shorten(&common.name), expected: name.to_owned() });
    }
    if let Some(uuid) = expected.uuid
        && uuid != common.uuid
    {
        return Err(CookieError::GuestUuid { found: common.uuid, expected: uuid });
    }
    if common.host_uuid == expected.host_uuid {
        return Err(CookieError::SameHost(common.host_uuid));
    }
    Ok(common)
}

fn read_features(root: &Element, reader: Reader) -> Result<Vec<Feature>, CookieError> {
    let mut features = Vec::new();
    for element in root.elements().filter(|element| element.name == "feature") {
        let name = element.attribute("name").ok_or(CookieError::FeatureWithoutName)?;
        let feature = Feature::ALL
            .into_iter()
            .find(|feature| feature.name() == name)
            .ok_or_else(|| CookieError::UnknownFeature(shorten(name)))?;
        if !reader.accepts(feature) {
            return Err(CookieError::UnsupportedFeature(feature.name()));
        }
        if !features.contains(&feature) {
            features.push(feature);
        }
    }
    Ok(features)
}

/// Our element; one of a later namespace is not ours to read.
fn read_handover(element: &Element) -> Result<Option<Handover>, CookieError> {
    if element.attribute("xmlns:ferry") != Some(NAMESPACE) {
        return Ok(None);
    }
    let attribute = |name| element.attribute(name).ok_or(CookieError::Handover);
    let mut addresses = Vec::new();
    let mut says = None;
    let mut overlays = Vec::new();
    for child in element.elements() {
        match child.name.as_str() {
            "ferry:address" => {
                let address = child.text().trim().to_owned();
                if addresses.len() == ADDRESSES_MAX || address.is_empty() || address.len() > ADDRESS_MAX {
                    return Err(CookieError::Handover);
                }
                addresses.push(address);
            }
            "ferry:says" => {
                let text = child.text();
                let known = Says::ALL.into_iter().find(|says| says.text() == text.trim());
                says = Some(known.ok_or(CookieError::Handover)?);
            }
            "ferry:overlay" if overlays.len() < OVERLAYS_MAX => overlays.push(read_overlay(child)?),
            _ => return Err(CookieError::Handover),
        }
    }
    Ok(Some(Handover {
        id: attribute("id")?.parse().map_err(|_| CookieError::Handover)?,
        epoch: crate::Epoch(attribute("epoch")?.parse().map_err(|_| CookieError::Handover)?),
        secret: attribute("secret")?.parse().map_err(|_| CookieError::Handover)?,
        addresses,
        says,
        overlays,
    }))
}

fn read_overlay(element: &Element) -> Result<Overlay, CookieError> {
    let attribute = |name| element.attribute(name).ok_or(CookieError::Handover);
    let bitmaps: Vec<String> = element.elements().map(Element::text).collect();
    if bitmaps.len() > BITMAPS_MAX || element.elements().any(|child| child.name != "ferry:bitmap") {
        return Err(CookieError::Handover);
    }
    Ok(Overlay {
        disk: attribute("disk")?.to_owned(),
        node: element.attribute("node").map(str::to_owned),
        size: attribute("size")?.parse().map_err(|_| CookieError::Handover)?,
        data: attribute("data")?.to_owned(),
        bitmaps,
    })
}

/// The same for what the machine is made of.
fn read_machine(element: &Element) -> Result<Option<Machine>, CookieError> {
    /// Longest word about a device, bytes.
    const WORD_MAX: usize = 256;
    if element.attribute("xmlns:ferry") != Some(NAMESPACE) {
        return Ok(None);
    }
    let mut machine = Machine::default();
    for child in element.elements() {
        let list = match child.name.as_str() {
            "ferry:device" => &mut machine.devices,
            "ferry:lacks" => &mut machine.lacks,
            _ => return Err(CookieError::Machine),
        };
        let word = child.text().trim().to_owned();
        if list.len() == MACHINE_MAX || word.is_empty() || word.len() > WORD_MAX {
            return Err(CookieError::Machine);
        }
        list.push(word);
    }
    Ok(Some(machine))
}

/// Capabilities without a name, or above a bound that no hypervisor reaches, are passed over.
fn read_capabilities(element: &Element) -> Vec<Capability> {
    element
        .elements()
        .filter(|child| child.name == "cap")
        .filter_map(|child| {
            let name = child.attribute("name")?.to_owned();
            Some(Capability { name, auto: child.attribute("auto") == Some("yes") })
        })
        .take(CAPABILITIES_MAX)
        .collect()
}

fn read_statistics(element: &Element) -> crate::stats::JobStats {
    statistics::from_fields(|name| element.child(name)?.text().trim().parse().ok())
}

fn read_graphics(element: &Element) -> Option<Graphics> {
    Some(Graphics {
        kind: element.attribute("type")?.to_owned(),
        port: element.attribute("port")?.parse().ok()?,
        listen: element.attribute("listen")?.to_owned(),
        tls_port: element.attribute("tlsPort").and_then(|port| port.parse().ok()),
    })
}

/// An element as text again: the parts of a cookie that others read.
fn to_text(element: &Element) -> String {
    let mut text = String::new();
    write_element(&mut text, element);
    text
}

fn write_element(text: &mut String, element: &Element) {
    use super::write::escape;
    text.extend(["<", &element.name]);
    for (name, value) in &element.attributes {
        text.extend([" ", name, "='"]);
        escape(text, value);
        text.push('\'');
    }
    if element.children.is_empty() {
        text.push_str("/>");
        return;
    }
    text.push('>');
    for child in &element.children {
        match child {
            Node::Element(child) => write_element(text, child),
            Node::Text(content) => escape(text, content),
            Node::Comment(content) => text.extend(["<!--", content, "-->"]),
            Node::Instruction(content) => text.extend(["<?", content, "?>"]),
        }
    }
    text.extend(["</", &element.name, ">"]);
}

/// What a peer wrote goes into an error text, but not megabytes of it.
fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}
