//! What the guest's lines mean, for whoever reads its serial port.
//!
//! The init (`main.rs`, which describes the lines) writes them; the demonstration and the tests read them here. Pure:
//! it takes a line and gives its meaning, and refuses to know files, hosts and clocks.

use std::collections::BTreeMap;

/// What begins a line of the guest's own; everything else is the firmware's or the kernel's.
pub const PREFIX: &str = "ferry-guest ";

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A heartbeat.
    Beat {
        /// Its number; the first is 1.
        seq: u64,
    },
    /// Everything has been started.
    Ready(Fields),
    /// The answer to a command.
    Reply(Fields),
    /// The guest powers itself off.
    End(Fields),
    /// Something that must not be, or a line that was torn: the whole text.
    Anomaly(String),
    /// A part of the guest that is not there; not wrong by itself.
    Note(String),
    /// Not the guest's own.
    Foreign,
}

/// The `key=value` pairs of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Line {
    /// Reads one line, without its end. What stands before the prefix is passed over: firmware and kernel write
    /// without line ends.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let Some(at) = text.rfind(PREFIX) else {
            // A kernel that panics says so in its own words.
            return if text.contains("Kernel panic") {
                Self::Anomaly(text.to_owned())
            } else {
                Self::Foreign
            };
        };
        let own = text[at..].trim_end_matches('\r');
        let rest = &own[PREFIX.len()..];
        let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match kind {
            "beat" => match Fields::parse(rest).number("seq") {
                Some(seq) => Self::Beat { seq },
                None => Self::Anomaly(own.to_owned()),
            },
            "ready" => Self::Ready(Fields::parse(rest)),
            "reply" => Self::Reply(Fields::parse(rest)),
            "end" => Self::End(Fields::parse(rest)),
            "note" => Self::Note(own.to_owned()),
            _ => Self::Anomaly(own.to_owned()),
        }
    }
}

impl Fields {
    /// The value of `key`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The value of `key` when it is a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    /// Reads `key=value` pairs; a value in quotes may hold blanks.
    fn parse(text: &str) -> Self {
        let mut fields = BTreeMap::new();
        let mut rest = text.trim_start();
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => after.split_once(' ').unwrap_or((after, "")),
            };
            fields.insert(key.to_owned(), value.to_owned());
            rest = after.trim_start();
        }
        Self(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_numbered_and_a_torn_one_is_no_beat() {
        assert_eq!(Line::parse("ferry-guest beat seq=7 t=19"), Line::Beat { seq: 7 });
        assert_eq!(Line::parse("\x1b[2Jferry-guest beat seq=8 t=20\r"), Line::Beat { seq: 8 });
        for torn in ["ferry-guest beat s", "ferry-guest beat seq=x", "ferry-guest bea"] {
            assert_eq!(Line::parse(torn), Line::Anomaly(torn.to_owned()));
        }
    }

    #[test]
    fn other_kinds_keep_their_fields() {
        let Line::Reply(fields) = Line::parse(r#"ferry-guest reply cmd=ping ok=1 word="two words" n=3"#)
        else {
            panic!("a reply");
        };
        assert_eq!(
            (fields.text("word"), fields.number("n"), fields.number("cmd")),
            (Some("two words"), Some(3), None)
        );
        assert!(matches!(Line::parse("ferry-guest ready t=1"), Line::Ready(_)));
        assert!(matches!(Line::parse("ferry-guest end reason=button"), Line::End(_)));
        assert!(matches!(Line::parse("ferry-guest note net=none"), Line::Note(_)));
    }

    #[test]
    fn what_must_not_be_is_told_from_what_is_not_ours() {
        assert!(matches!(Line::parse("ferry-guest anomaly kind=page"), Line::Anomaly(_)));
        assert!(matches!(Line::parse("Kernel panic - not syncing: x"), Line::Anomaly(_)));
        assert_eq!(Line::parse("Booting from ROM.."), Line::Foreign);
        assert_eq!(Line::parse(""), Line::Foreign);
    }
}
