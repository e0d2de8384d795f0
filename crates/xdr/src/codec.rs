//! How Rust types stand on the wire.
//!
//! A type with one meaning implements [`Encode`] and [`Decode`] itself. Where the wire has several layouts for
//! one Rust type, or a bound that differs by field, the field names a [`Codec`]: `Vec<T> as Array<16384>`.

use crate::reader::text;
use crate::{DecodeError, EncodeError, Reader, STRING_MAX, Writer};

/// A value that can be put on the wire.
pub trait Encode {
    /// Appends the value.
    ///
    /// # Errors
    /// When a string or an array in it is longer than its bound.
    fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError>;
}

/// A value that can be taken from the wire.
pub trait Decode: Sized {
    /// Takes the value from the front of what is left.
    ///
    /// # Errors
    /// See [`DecodeError`].
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A layout for values of type `T`, named at the field.
pub trait Codec<T> {
    /// Appends `value` in this layout.
    ///
    /// # Errors
    /// As [`Encode::encode`].
    fn encode(value: &T, writer: &mut Writer) -> Result<(), EncodeError>;

    /// Takes a value in this layout.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    fn decode(reader: &mut Reader<'_>) -> Result<T, DecodeError>;
}

/// The layout that the type itself implements; what a field without `as` has.
#[derive(Debug)]
pub enum Plain {}

impl<T: Encode + Decode> Codec<T> for Plain {
    fn encode(value: &T, writer: &mut Writer) -> Result<(), EncodeError> {
        value.encode(writer)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<T, DecodeError> {
        T::decode(reader)
    }
}

/// `T<MAX>`: a count, then the elements.
#[derive(Debug)]
pub enum Array<const MAX: usize> {}

impl<T: Encode + Decode, const MAX: usize> Codec<Vec<T>> for Array<MAX> {
    fn encode(value: &Vec<T>, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.length(value.len(), MAX)?;
        value.iter().try_for_each(|element| element.encode(writer))
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        // Nothing on this wire is smaller than a word, so the count cannot reserve more than has arrived.
        let len = reader.length(MAX, 4)?;
        let mut elements = Vec::with_capacity(len);
        for _ in 0..len {
            elements.push(T::decode(reader)?);
        }
        Ok(elements)
    }
}

/// `opaque<MAX>`: a length, then raw bytes.
#[derive(Debug)]
pub enum Opaque<const MAX: usize> {}

impl<const MAX: usize> Codec<Vec<u8>> for Opaque<MAX> {
    fn encode(value: &Vec<u8>, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.opaque(value, MAX)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        Ok(reader.opaque(MAX)?.to_vec())
    }
}

/// `opaque[N]`: raw bytes whose number both sides know.
#[derive(Debug)]
pub enum Fixed<const N: usize> {}

impl<const N: usize> Codec<[u8; N]> for Fixed<N> {
    fn encode(value: &[u8; N], writer: &mut Writer) -> Result<(), EncodeError> {
        writer.fixed(value);
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
        let bytes = reader.fixed(N)?;
        bytes.try_into().map_err(|_| DecodeError::Truncated { needed: N, left: bytes.len() })
    }
}

/// `char[N]`: text in N characters, one word each, filled up with zeros.
#[derive(Debug)]
pub enum Chars<const N: usize> {}

impl<const N: usize> Codec<String> for Chars<N> {
    fn encode(value: &String, writer: &mut Writer) -> Result<(), EncodeError> {
        if value.len() > N {
            return Err(EncodeError::TooLong { len: value.len(), max: N });
        }
        if value.as_bytes().contains(&0) {
            return Err(EncodeError::Character);
        }
        let padded = value.bytes().chain(std::iter::repeat(0)).take(N);
        padded.for_each(|byte| writer.i32(i32::from(byte as i8)));
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        characters(reader, N)
    }
}

/// `char<MAX>`: a count, then text with one word a character and a zero at its end where there is room.
#[derive(Debug)]
pub enum CharsUpTo<const MAX: usize> {}

impl<const MAX: usize> Codec<String> for CharsUpTo<MAX> {
    fn encode(value: &String, writer: &mut Writer) -> Result<(), EncodeError> {
        if value.as_bytes().contains(&0) {
            return Err(EncodeError::Character);
        }
        let len = if value.len() < MAX { value.len() + 1 } else { value.len() };
        writer.length(len, MAX)?;
        value.bytes().chain([0]).take(len).for_each(|byte| writer.i32(i32::from(byte as i8)));
        Ok(())
    }

    fn decode(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        let len = reader.length(MAX, 4)?;
        characters(reader, len)
    }
}

/// Takes `len` one-word characters; the text ends at the first zero.
fn characters(reader: &mut Reader<'_>, len: usize) -> Result<String, DecodeError> {
    let mut bytes = Vec::with_capacity(len.min(reader.rest().len() / 4));
    for _ in 0..len {
        let word = reader.i32()?;
        let unknown = DecodeError::UnknownValue { what: "character", value: word.into() };
        // Signed at most peers, unsigned at some.
        let byte = u8::try_from(word).or_else(|_| i8::try_from(word).map(|signed| signed as u8));
        bytes.push(byte.map_err(|_| unknown)?);
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    text(&bytes).map(str::to_owned)
}

/// The numbers: one Rust type, one pair of functions.
macro_rules! numbers {
    ($($type:ident),*) => {$(
        impl Encode for $type {
            fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
                writer.$type(*self);
                Ok(())
            }
        }
        impl Decode for $type {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.$type()
            }
        }
    )*};
}
numbers!(u32, i32, u64, i64, f64);

/// The small numbers, which take a whole word each.
macro_rules! small_numbers {
    ($($type:ident as $word:ident),*) => {$(
        impl Encode for $type {
            fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
                writer.$word((*self).into());
                Ok(())
            }
        }
        impl Decode for $type {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let word = reader.$word()?;
                word.try_into()
                    .map_err(|_| DecodeError::UnknownValue { what: stringify!($type), value: word.into() })
            }
        }
    )*};
}
small_numbers!(u8 as u32, u16 as u32, i8 as i32);

/// An `int` that means yes or no. Like the C programs at the other end, anything but 0 is yes.
impl Encode for bool {
    fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.u32((*self).into());
        Ok(())
    }
}

impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.u32()? != 0)
    }
}

/// A string of [`STRING_MAX`] bytes at most.
impl Encode for String {
    fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.string(self, STRING_MAX)
    }
}

impl Decode for String {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(reader.string(STRING_MAX)?.to_owned())
    }
}

/// A word 0 or 1, then the value when it is 1.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.u32(self.is_some().into());
        self.as_ref().map_or(Ok(()), |value| value.encode(writer))
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if reader.presence()? { T::decode(reader).map(Some) } else { Ok(None) }
    }
}

/// Void: no bytes.
impl Encode for () {
    fn encode(&self, _: &mut Writer) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl Decode for () {
    fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{from_bytes, to_bytes};
    use proptest::prelude::*;

    /// A one-field value in the layout `C`, so that layouts can be tested through the ordinary functions.
    fn encoded<T, C: Codec<T>>(value: &T) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new();
        C::encode(value, &mut writer).map(|()| writer.into_bytes())
    }

    fn decoded<T, C: Codec<T>>(bytes: &[u8]) -> Result<T, DecodeError> {
        C::decode(&mut Reader::new(bytes))
    }

    #[test]
    fn numbers_are_big_endian_words() {
        assert_eq!(to_bytes(&0x0102_0304_u32).unwrap(), [1, 2, 3, 4]);
        assert_eq!(to_bytes(&-2_i32).unwrap(), [0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(to_bytes(&0x0102_0304_0506_0708_u64).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(to_bytes(&-1_i64).unwrap(), [0xff; 8]);
        assert_eq!(to_bytes(&1.0_f64).unwrap(), [0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(to_bytes(&5_u8).unwrap(), [0, 0, 0, 5]);
        assert_eq!(to_bytes(&true).unwrap(), [0, 0, 0, 1]);
        assert_eq!(from_bytes::<bool>(&[0, 0, 0, 9]), Ok(true));
    }

    #[test]
    fn a_small_number_out_of_its_range_is_refused() {
        let refused = DecodeError::UnknownValue { what: "u8", value: 256 };
        assert_eq!(from_bytes::<u8>(&[0, 0, 1, 0]), Err(refused));
    }

    #[test]
    fn strings_are_padded_and_end_without_nul() {
        let bytes = to_bytes(&"guest".to_owned()).unwrap();
        assert_eq!(bytes, [0, 0, 0, 5, b'g', b'u', b'e', b's', b't', 0, 0, 0]);
        assert_eq!(from_bytes::<String>(&bytes).unwrap(), "guest");
        assert_eq!(to_bytes(&Some("ab".to_owned())).unwrap(), [0, 0, 0, 1, 0, 0, 0, 2, b'a', b'b', 0, 0]);
        assert_eq!(to_bytes(&None::<String>).unwrap(), [0; 4]);
    }

    #[test]
    fn strings_that_no_c_program_could_hold_are_refused() {
        assert_eq!(from_bytes::<String>(&[0, 0, 0, 3, b'a', 0, b'b', 0]), Err(DecodeError::Nul));
        assert_eq!(from_bytes::<String>(&[0, 0, 0, 1, 0xff, 0, 0, 0]), Err(DecodeError::NotUtf8));
        assert_eq!(to_bytes(&"a\0b".to_owned()), Err(EncodeError::Character));
    }

    #[test]
    fn a_string_is_bounded_in_both_directions() {
        let mut bytes = to_bytes(&"x".repeat(STRING_MAX)).unwrap();
        assert_eq!(from_bytes::<String>(&bytes).unwrap().len(), STRING_MAX);
        bytes[..4].copy_from_slice(&4_194_305_u32.to_be_bytes());
        let refused = DecodeError::TooLong { len: STRING_MAX + 1, max: STRING_MAX };
        assert_eq!(from_bytes::<String>(&bytes), Err(refused));
        let refused = EncodeError::TooLong { len: STRING_MAX + 1, max: STRING_MAX };
        assert_eq!(to_bytes(&"x".repeat(STRING_MAX + 1)), Err(refused));
    }

    #[test]
    fn a_missing_padding_byte_is_a_truncated_value() {
        let refused = DecodeError::Truncated { needed: 4, left: 3 };
        assert_eq!(from_bytes::<String>(&[0, 0, 0, 1, b'a', 0, 0]), Err(refused));
    }

    #[test]
    fn presence_is_zero_or_one() {
        assert_eq!(from_bytes::<Option<u32>>(&[0, 0, 0, 2, 0, 0, 0, 0]), Err(DecodeError::BadPresence(2)));
    }

    #[test]
    fn a_million_elements_that_are_not_there_reserve_nothing() {
        let count = 1_000_000_u32.to_be_bytes();
        let refused = DecodeError::TooLong { len: 1_000_000, max: 16384 };
        assert_eq!(decoded::<Vec<u64>, Array<16384>>(&count), Err(refused));
        let refused = DecodeError::Truncated { needed: 4_000_000, left: 0 };
        assert_eq!(decoded::<Vec<u64>, Array<2_000_000>>(&count), Err(refused));
    }

    #[test]
    fn arrays_and_raw_bytes_have_their_layouts() {
        let bytes = encoded::<_, Array<3>>(&vec![7_u32, 8]).unwrap();
        assert_eq!(bytes, [0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 8]);
        assert!(encoded::<_, Array<1>>(&vec![7_u32, 8]).is_err());
        assert_eq!(encoded::<_, Opaque<9>>(&vec![1_u8]).unwrap(), [0, 0, 0, 1, 1, 0, 0, 0]);
        assert_eq!(encoded::<_, Fixed<5>>(&[1, 2, 3, 4, 5]).unwrap(), [1, 2, 3, 4, 5, 0, 0, 0]);
    }

    #[test]
    fn characters_take_a_word_each() {
        let model = "x86".to_owned();
        let bytes = encoded::<_, Chars<32>>(&model).unwrap();
        assert_eq!(bytes.len(), 128, "32 characters are 128 bytes");
        assert_eq!(bytes[..16], [0, 0, 0, b'x', 0, 0, 0, b'8', 0, 0, 0, b'6', 0, 0, 0, 0]);
        assert_eq!(decoded::<String, Chars<32>>(&bytes).unwrap(), model);
        assert!(encoded::<_, Chars<2>>(&model).is_err());

        let bytes = encoded::<_, CharsUpTo<257>>(&"none".to_owned()).unwrap();
        assert_eq!((bytes.len(), bytes[3]), (4 + 5 * 4, 5));
        assert_eq!(decoded::<String, CharsUpTo<257>>(&bytes).unwrap(), "none");
        let refused = DecodeError::UnknownValue { what: "character", value: 70_000 };
        assert_eq!(decoded::<String, Chars<1>>(&70_000_i32.to_be_bytes()), Err(refused));
    }

    proptest! {
        #[test]
        fn values_come_back(text in "[^\0]{0,64}", list in proptest::collection::vec(any::<i64>(), 0..64),
                            raw in proptest::collection::vec(any::<u8>(), 0..64), number in any::<Option<u64>>()) {
            prop_assert_eq!(from_bytes::<String>(&to_bytes(&text).unwrap()).unwrap(), text.clone());
            prop_assert_eq!(from_bytes::<Option<u64>>(&to_bytes(&number).unwrap()).unwrap(), number);
            prop_assert_eq!(decoded::<Vec<i64>, Array<64>>(&encoded::<_, Array<64>>(&list).unwrap()).unwrap(), list);
            prop_assert_eq!(decoded::<Vec<u8>, Opaque<64>>(&encoded::<_, Opaque<64>>(&raw).unwrap()).unwrap(), raw);
            prop_assert_eq!(decoded::<String, CharsUpTo<512>>(&encoded::<_, CharsUpTo<512>>(&text).unwrap()).unwrap(), text);
        }

        #[test]
        fn arbitrary_bytes_never_reserve_more_than_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(list) = decoded::<Vec<u32>, Array<{ usize::MAX }>>(&bytes) {
                prop_assert!(list.capacity() * 4 <= bytes.len());
            }
            if let Ok(text) = from_bytes::<String>(&bytes) {
                prop_assert!(text.capacity() <= bytes.len());
            }
            let _ = decoded::<String, CharsUpTo<{ usize::MAX }>>(&bytes);
        }

        #[test]
        fn every_proper_prefix_is_refused(text in "[^\0]{0,64}", cut in any::<prop::sample::Index>()) {
            let bytes = to_bytes(&text).unwrap();
            prop_assert!(from_bytes::<String>(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }
}
