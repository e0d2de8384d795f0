//! The macro that declares a structure once: its fields in wire order are its encoding.
//!
//! `rpc::proto` is written with it.

/// Declares a structure and derives its layout from the order of its fields.
///
/// A field whose type has no layout of its own, or needs a bound, names a [`Codec`](crate::Codec):
///
/// ```
/// use ferry_xdr::{Array, from_bytes, to_bytes, xdr_struct};
///
/// xdr_struct! {
///     /// The domains of a host, by id.
///     pub struct Ids {
///         /// Ids of running domains.
///         pub ids: Vec<i32> as Array<16384>,
///         /// How many there are, also when none was asked for.
///         pub count: u32,
///     }
/// }
/// let ids = Ids { ids: vec![7], count: 1 };
/// let bytes = to_bytes(&ids).unwrap();
/// assert_eq!(bytes, [0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1]);
/// assert_eq!(from_bytes::<Ids>(&bytes).unwrap(), ids);
/// ```
#[macro_export]
macro_rules! xdr_struct {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty $(as $codec:ty)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $type, )*
        }

        impl $crate::Encode for $name {
            #[allow(unused_variables, reason = "a structure may have no fields")]
            fn encode(&self, writer: &mut $crate::Writer) -> Result<(), $crate::EncodeError> {
                $( <$crate::xdr_codec!($($codec)?) as $crate::Codec<$type>>::encode(&self.$field, writer)?; )*
                Ok(())
            }
        }

        impl $crate::Decode for $name {
            #[allow(unused_variables, reason = "a structure may have no fields")]
            fn decode(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                Ok(Self {
                    $( $field: <$crate::xdr_codec!($($codec)?) as $crate::Codec<$type>>::decode(reader)?, )*
                })
            }
        }
    };
}

/// The codec that a field names, or [`Plain`](crate::Plain).
#[doc(hidden)]
#[macro_export]
macro_rules! xdr_codec {
    () => {
        $crate::Plain
    };
    ($codec:ty) => {
        $codec
    };
}
