//! The macro behind the enumerations of the wire: a word, and names for some of its values.
//!
//! [`error`](crate::error) and [`values`](crate::values) are written with it.

/// Defines the numbers of one kind as constants, with their names for logs.
macro_rules! numbers {
    ($(#[$meta:meta])* $type:ident { $($name:ident = $number:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub i32);

        impl $type {
            $(
                #[doc = concat!("`", stringify!($name), "`, ", stringify!($number), ".")]
                pub const $name: Self = Self($number);
            )*

            /// The name in libvirt's headers without its prefix, for logs; `None` for a number that is not known.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}={}", self.name().unwrap_or("?"), self.0)
            }
        }

        impl ferry_xdr::Encode for $type {
            fn encode(&self, writer: &mut ferry_xdr::Writer) -> Result<(), ferry_xdr::EncodeError> {
                writer.i32(self.0);
                Ok(())
            }
        }

        impl ferry_xdr::Decode for $type {
            fn decode(reader: &mut ferry_xdr::Reader<'_>) -> Result<Self, ferry_xdr::DecodeError> {
                reader.i32().map(Self)
            }
        }
    };
}

pub(crate) use numbers;
