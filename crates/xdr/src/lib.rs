//! XDR (RFC 4506) as libvirt's wire uses it: big-endian words, everything padded to four bytes.
//!
//! `rpc` builds every message with it; nobody else needs it. It refuses to know what a message means.
//!
//! A length that arrives is compared with its bound, and with the bytes that are there, before memory is
//! reserved for it. There is no type here that can be decoded without a bound.
//!
//! Three habits of this wire differ from what the RFC alone would suggest:
//! - `char`, `unsigned char` and `short` take a whole word each, so an array of `char` is an array of words;
//! - a string carries no NUL. One that holds a NUL is refused, because the C program at the other end, and
//!   every system call at this one, would see only its beginning;
//! - surplus bytes after a value are ignored, as stock peers do: see [`from_bytes`].

mod codec;
mod reader;
mod structs;
mod writer;

pub use codec::{Array, Chars, CharsUpTo, Codec, Decode, Encode, Fixed, Opaque, Plain};
pub use reader::{DecodeError, Reader};
pub use writer::{EncodeError, Writer};

/// The longest string of the protocol in bytes; the bound of every [`String`] field.
pub const STRING_MAX: usize = 4_194_304;

/// Encodes one value into a fresh buffer.
///
/// # Errors
/// When a string or an array is longer than its bound.
pub fn to_bytes<T: Encode + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new();
    value.encode(&mut writer)?;
    Ok(writer.into_bytes())
}

/// Decodes one value from the beginning of `bytes`. What follows the value is ignored, as stock does.
///
/// # Errors
/// When the bytes are too few, a length exceeds its bound, or a value is not one of its type's.
pub fn from_bytes<T: Decode>(bytes: &[u8]) -> Result<T, DecodeError> {
    T::decode(&mut Reader::new(bytes))
}
