//! What a definition says, and whether it is still said after a daemon has completed it.

use ferry_domxml::Element;

/// Elements that say nothing when they are empty, and may be left out then.
const SAY_NOTHING: &[&str] = &["title", "baseBoard", "chassis", "entry", "source", "cpu"];

/// Elements whose text is an amount, which is told in KiB.
const AMOUNTS: &[&str] = &["memory", "currentMemory"];

/// Everything that `given` says and `found` does not: elements, attributes, texts, as paths. Additions are no loss, and neither
/// is another way to write a number.
pub(crate) fn lost(given: &Element, found: &Element) -> Vec<String> {
    let mut losses = Vec::new();
    compare(&given.name, given, found, &mut losses);
    losses
}

fn compare(path: &str, given: &Element, found: &Element, losses: &mut Vec<String>) {
    for (name, value) in &given.attributes {
        let is_kept = match (given.name.as_str(), name.as_str()) {
            // An alias of machines is settled, and so is a name that is to be made up.
            ("type", "machine") => found.attribute(name).is_some_and(|found| found.starts_with("pc-")),
            ("target", "dev") if value.starts_with("vnet") => true,
            ("target", "tray") if value == "closed" => true,
            (amount, "unit") if AMOUNTS.contains(&amount) => true,
            _ if name.starts_with("xmlns") => true,
            _ => found.attribute(name).is_some_and(|found| is_same(value, found)),
        };
        if !is_kept {
            losses.push(format!("{path}/@{name}='{value}', now {:?}", found.attribute(name)));
        }
    }
    let (said, kept) = (given.text(), found.text());
    if !AMOUNTS.contains(&given.name.as_str()) && !said.trim().is_empty() && said.trim() != kept.trim() {
        losses.push(format!("{path}: {said:?}, now {kept:?}"));
    }
    let mut left: Vec<&Element> = found.elements().collect();
    for child in given.elements() {
        let path = format!("{path}/{}", child.name);
        let is_empty = child.attributes.is_empty()
            && child.elements().next().is_none()
            && child.text().trim().is_empty();
        let only = |name: &str, value: &str| match child.attributes.as_slice() {
            [(only, given)] => only == name && given.starts_with(value),
            _ => false,
        };
        let says_nothing = (is_empty || child.name == "entry" && child.text().trim().is_empty())
            && SAY_NOTHING.contains(&child.name.as_str())
            // A socket whose place is the daemon's to choose, a name that is to be made up.
            || child.name == "source" && only("mode", "bind")
            || child.name == "target" && only("dev", "vnet");
        // The one that keeps most of it.
        let best = left
            .iter()
            .enumerate()
            .filter(|(_, other)| other.name == child.name)
            .map(|(at, other)| {
                let mut losses = Vec::new();
                compare(&path, child, other, &mut losses);
                (at, losses)
            })
            .min_by_key(|(_, losses)| losses.len());
        match best {
            Some((at, found)) => {
                left.remove(at);
                losses.extend(found);
            }
            None if says_nothing => {}
            None => losses.push(format!("{path}, which is gone")),
        }
    }
}

/// The same text, or the same number.
fn is_same(given: &str, found: &str) -> bool {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    given == found || number(given).is_some_and(|given| number(found) == Some(given))
}

#[test]
fn what_is_gone_or_changed_is_found() {
    let parse = |text: &str| Element::parse(text).unwrap();
    let given = parse("<a x='0x0a'><b/><memory unit='MiB'>1</memory><c d='1'>t</c><title/></a>");
    let kept = parse("<a x='10' y='2'><c d='1'>t</c><c d='2'>t</c><b/><memory unit='KiB'>1024</memory></a>");
    assert_eq!(lost(&given, &kept), Vec::<String>::new());
    let other = parse("<a x='11'><memory unit='KiB'>1024</memory><c d='2'>u</c></a>");
    assert_eq!(lost(&given, &other).len(), 4, "{:?}", lost(&given, &other));
}
