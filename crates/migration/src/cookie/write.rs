//! A [`Cookie`] into its bytes. Called by the driver; knows the layout and nothing else.

use super::{Cookie, Graphics, Handover, Machine, NAMESPACE};
use crate::overlay::Overlay;

impl Cookie {
    /// The bytes as they travel, the trailing NUL included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = self.to_xml();
        text.push('\0');
        text.into_bytes()
    }

    fn to_xml(&self) -> String {
        let mut xml = String::from("<qemu-migration>\n");
        let common = &self.common;
        element(&mut xml, 1, "name", &common.name);
        element(&mut xml, 1, "uuid", &common.uuid.to_string());
        element(&mut xml, 1, "hostname", &common.hostname);
        element(&mut xml, 1, "hostuuid", &common.host_uuid.to_string());
        for feature in &self.features {
            open(&mut xml, 1, "feature", &[("name", feature.name())], "/>");
        }
        if let Some(handover) = &self.handover {
            write_handover(&mut xml, handover);
        }
        if let Some(machine) = &self.machine {
            write_machine(&mut xml, machine);
        }
        if let Some(graphics) = &self.graphics {
            write_graphics(&mut xml, graphics);
        }
        for kept in [&self.persistent, &self.cpu].into_iter().flatten() {
            embed(&mut xml, kept);
        }
        if let Some(statistics) = &self.statistics {
            xml.push_str("  <statistics>\n");
            for (name, value) in super::statistics::fields(statistics) {
                element(&mut xml, 2, name, &value.to_string());
            }
            xml.push_str("  </statistics>\n");
        }
        if let Some(capabilities) = &self.capabilities {
            xml.push_str("  <capabilities>\n");
            for capability in capabilities {
                let auto = if capability.auto { "yes" } else { "no" };
                open(&mut xml, 2, "cap", &[("name", &capability.name), ("auto", auto)], "/>");
            }
            xml.push_str("  </capabilities>\n");
        }
        xml.push_str("</qemu-migration>\n");
        xml
    }
}

fn write_handover(xml: &mut String, handover: &Handover) {
    let (id, epoch, secret) = (handover.id.to_string(), handover.epoch.to_string(), handover.secret.reveal());
    let attributes = [("xmlns:ferry", NAMESPACE), ("id", &id), ("epoch", &epoch), ("secret", &secret)];
    open(xml, 1, "ferry:handover", &attributes, ">");
    for address in &handover.addresses {
        element(xml, 2, "ferry:address", address);
    }
    if let Some(says) = handover.says {
        element(xml, 2, "ferry:says", says.text());
    }
    for overlay in &handover.overlays {
        write_overlay(xml, overlay);
    }
    xml.push_str("  </ferry:handover>\n");
}

fn write_overlay(xml: &mut String, overlay: &Overlay) {
    let size = overlay.size.to_string();
    let mut attributes = vec![("disk", overlay.disk.as_str()), ("size", &size), ("data", &overlay.data)];
    attributes.extend(overlay.node.as_deref().map(|node| ("node", node)));
    open(xml, 2, "ferry:overlay", &attributes, ">");
    for bitmap in &overlay.bitmaps {
        element(xml, 3, "ferry:bitmap", bitmap);
    }
    xml.push_str("    </ferry:overlay>\n");
}

fn write_machine(xml: &mut String, machine: &Machine) {
    open(xml, 1, "ferry:machine", &[("xmlns:ferry", NAMESPACE)], ">");
    for device in &machine.devices {
        element(xml, 2, "ferry:device", device);
    }
    for feature in &machine.lacks {
        element(xml, 2, "ferry:lacks", feature);
    }
    xml.push_str("  </ferry:machine>\n");
}

fn write_graphics(xml: &mut String, graphics: &Graphics) {
    let port = graphics.port.to_string();
    let tls_port = graphics.tls_port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let attributes = [
        ("type", graphics.kind.as_str()),
        ("port", &port),
        ("listen", &graphics.listen),
        ("tlsPort", &tls_port),
    ];
    open(xml, 1, "graphics", &attributes, "/>");
}

/// One element's text into the cookie, without an XML declaration before it.
fn embed(xml: &mut String, element: &str) {
    let text = element.trim();
    let text = match text.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>").map_or("", |(_, rest)| rest.trim_start()),
        None => text,
    };
    xml.push_str(text);
    xml.push('\n');
}

fn element(xml: &mut String, level: usize, name: &str, text: &str) {
    open(xml, level, name, &[], ">");
    xml.truncate(xml.len() - 1);
    escape(xml, text);
    xml.extend(["</", name, ">\n"]);
}

fn open(xml: &mut String, level: usize, name: &str, attributes: &[(&str, &str)], end: &str) {
    xml.extend(std::iter::repeat_n("  ", level));
    xml.extend(["<", name]);
    for (name, value) in attributes {
        xml.extend([" ", name, "='"]);
        escape(xml, value);
        xml.push('\'');
    }
    xml.extend([end, "\n"]);
}

pub(super) fn escape(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '&' => xml.push_str("&amp;"),
            '\'' => xml.push_str("&apos;"),
            '"' => xml.push_str("&quot;"),
            // An attribute's white space would be folded, and other control characters XML does not have.
            '\t' | '\n' | '\r' => xml.push_str(match c {
                '\t' => "&#9;",
                '\n' => "&#10;",
                _ => "&#13;",
            }),
            c if c.is_control() => xml.push(' '),
            c => xml.push(c),
        }
    }
}
