//! Scalars of the XML: numbers, switches, MAC addresses, UUIDs, text.

use uuid::Uuid;

/// A type that one attribute value or text can carry.
pub trait Value: Sized {
    /// Reads the value as written.
    fn parse(text: &str) -> Result<Self, ValueError>;
    /// The canonical writing.
    fn to_text(&self) -> String;
}

/// Why a text is not a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// A word that is not modelled; it may well mean something.
    Unknown,
    /// Not a value of this kind at all.
    Invalid,
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, ValueError> {
        Ok(text.to_owned())
    }

    fn to_text(&self) -> String {
        self.clone()
    }
}

macro_rules! decimal {
    ($($type:ty),*) => { $(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, ValueError> {
                text.trim().parse().map_err(|_| ValueError::Invalid)
            }

            fn to_text(&self) -> String {
                self.to_string()
            }
        }
    )* };
}
decimal!(u8, u16, u32, u64, i32, i64);

/// Reads an unsigned number that may be decimal, `0x` hexadecimal or `0` octal, as C's `strtoul` with base 0.
pub(crate) fn parse_integer(text: &str) -> Result<u64, ValueError> {
    let text = text.trim();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if digits.starts_with('+') {
        return Err(ValueError::Invalid);
    }
    u64::from_str_radix(digits, radix).map_err(|_| ValueError::Invalid)
}

super::values! {
    /// `on` or `off`.
    pub enum OnOff {
        /// `on`
        On = "on",
        /// `off`
        Off = "off",
    }
}

super::values! {
    /// `yes` or `no`.
    pub enum YesNo {
        /// `yes`
        Yes = "yes",
        /// `no`
        No = "no",
    }
}

impl OnOff {
    /// `true` for `on`.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl YesNo {
    /// `true` for `yes`.
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

impl From<bool> for OnOff {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

impl From<bool> for YesNo {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// A unicast Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Value for Mac {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let mut octets = [0; 6];
        let mut parts = text.trim().split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(ValueError::Invalid)?;
            if part.is_empty() || part.len() > 2 || part.starts_with('+') {
                return Err(ValueError::Invalid);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ValueError::Invalid)?;
        }
        // A group address cannot be a card's own.
        if parts.next().is_some() || octets[0] & 1 == 1 {
            return Err(ValueError::Invalid);
        }
        Ok(Self(octets))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Value for Uuid {
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if !text.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            return Err(ValueError::Invalid);
        }
        Uuid::try_parse(text).map_err(|_| ValueError::Invalid)
    }

    fn to_text(&self) -> String {
        self.hyphenated().to_string()
    }
}
