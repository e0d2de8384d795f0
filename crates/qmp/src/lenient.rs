//! `lenient_enum!`: an enum over QAPI strings that survives the values of other QEMU versions.
//!
//! Used by every module of this crate that has an enum on the wire. It refuses to fail: a value that is not in
//! the list is kept as `Other`, and is written back unchanged.

macro_rules! lenient_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(
                #[doc = concat!("`", $text, "`.")]
                $(#[$variant_meta])*
                $variant,
            )*
            /// A value of another QEMU version, kept as it came.
            Other(String),
        }

        impl $name {
            /// Every value with a variant of its own.
            pub const KNOWN: &[Self] = &[$(Self::$variant,)*];

            /// The text on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self::from(text.as_ref()))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::commands::migration::ZeroPageDetection as Detection;

    #[test]
    fn known_values_have_their_variant_and_unknown_ones_survive() {
        for (text, value) in [
            ("none", Detection::None),
            ("multifd", Detection::Multifd),
            ("Multifd", Detection::Other("Multifd".to_owned())),
            ("", Detection::Other(String::new())),
        ] {
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(serde_json::from_str::<Detection>(&json).unwrap(), value);
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(value.to_string(), text);
        }
        assert_eq!(Detection::KNOWN, [Detection::None, Detection::Legacy, Detection::Multifd]);
    }
}
