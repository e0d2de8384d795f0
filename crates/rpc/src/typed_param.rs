//! Typed parameters: named values, the wire's way to add arguments without a new procedure.
//!
//! Migration, statistics and tuning calls carry arrays of them, each with a bound of its own in
//! [`proto`](crate::proto). [`Schema`] holds what a call accepts and refuses the rest as stock does.

use ferry_xdr::{Decode, DecodeError, Encode, EncodeError, Reader, Writer, xdr_struct};

use crate::error::{Error, ErrorCode, Origin};

xdr_struct! {
    /// A named value.
    pub struct TypedParam {
        /// The name, such as `migrate_uri`.
        pub name: String,
        /// The value.
        pub value: ParamValue,
    }
}

impl TypedParam {
    /// A parameter with this name and value.
    pub fn new(name: impl Into<String>, value: impl Into<ParamValue>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// A value of one of the seven types.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamValue {
    /// Type 1, 32 bits.
    Int(i32),
    /// Type 2, 32 bits.
    UInt(u32),
    /// Type 3, 64 bits.
    LLong(i64),
    /// Type 4, 64 bits.
    ULLong(u64),
    /// Type 5.
    Double(f64),
    /// Type 6, a whole word.
    Boolean(bool),
    /// Type 7.
    String(String),
}

impl ParamValue {
    /// The type, without the value.
    #[must_use]
    pub const fn kind(&self) -> ParamKind {
        match self {
            Self::Int(_) => ParamKind::Int,
            Self::UInt(_) => ParamKind::UInt,
            Self::LLong(_) => ParamKind::LLong,
            Self::ULLong(_) => ParamKind::ULLong,
            Self::Double(_) => ParamKind::Double,
            Self::Boolean(_) => ParamKind::Boolean,
            Self::String(_) => ParamKind::String,
        }
    }
}

impl ParamValue {
    /// The value of a whole number that is not negative, whatever its type.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some((*value).into()),
            Self::LLong(value) => u64::try_from(*value).ok(),
            Self::ULLong(value) => Some(*value),
            Self::Double(_) | Self::Boolean(_) | Self::String(_) => None,
        }
    }

    /// The value of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Int(_)
            | Self::UInt(_)
            | Self::LLong(_)
            | Self::ULLong(_)
            | Self::Double(_)
            | Self::Boolean(_) => None,
        }
    }
}

/// The first value with this name.
#[must_use]
pub fn find<'a>(params: &'a [TypedParam], name: &str) -> Option<&'a ParamValue> {
    params.iter().find(|param| param.name == name).map(|param| &param.value)
}

/// The type of a value; the numbers are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    /// A signed 32-bit number.
    Int = 1,
    /// An unsigned 32-bit number.
    UInt = 2,
    /// A signed 64-bit number.
    LLong = 3,
    /// An unsigned 64-bit number.
    ULLong = 4,
    /// A double.
    Double = 5,
    /// Yes or no.
    Boolean = 6,
    /// Text.
    String = 7,
}

impl ParamKind {
    /// The name in error texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::UInt => "uint",
            Self::LLong => "llong",
            Self::ULLong => "ullong",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::String => "string",
        }
    }
}

macro_rules! from_values {
    ($($type:ty => $variant:ident),*) => {$(
        impl From<$type> for ParamValue {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}
from_values!(i32 => Int, u32 => UInt, i64 => LLong, u64 => ULLong, f64 => Double, bool => Boolean, String => String, &str => String);

impl Encode for ParamValue {
    fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.i32(self.kind() as i32);
        match self {
            Self::Int(value) => value.encode(writer),
            Self::UInt(value) => value.encode(writer),
            Self::LLong(value) => value.encode(writer),
            Self::ULLong(value) => value.encode(writer),
            Self::Double(value) => value.encode(writer),
            Self::Boolean(value) => value.encode(writer),
            Self::String(value) => value.encode(writer),
        }
    }
}

impl Decode for ParamValue {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.i32()? {
            1 => reader.i32().map(Self::Int),
            2 => reader.u32().map(Self::UInt),
            3 => reader.i64().map(Self::LLong),
            4 => reader.u64().map(Self::ULLong),
            5 => reader.f64().map(Self::Double),
            6 => bool::decode(reader).map(Self::Boolean),
            7 => String::decode(reader).map(Self::String),
            other => Err(DecodeError::UnknownValue { what: "parameter type", value: other.into() }),
        }
    }
}

/// What a call accepts: names, their types, and which may be repeated.
#[derive(Debug, Clone, Copy)]
pub struct Schema(pub &'static [Accepted]);

/// One accepted name.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The name.
    pub name: &'static str,
    /// The type that its value must have.
    pub kind: ParamKind,
    /// Whether it may occur more than once.
    pub repeats: bool,
}

impl Schema {
    /// Checks parameters as stock does.
    ///
    /// # Errors
    /// 74/0 for a name that is not accepted, 8/0 for a value of the wrong type and for a repeated single value.
    pub fn check(self, params: &[TypedParam]) -> Result<(), Error> {
        for (at, param) in params.iter().enumerate() {
            let name = &param.name;
            let Some(accepted) = self.0.iter().find(|accepted| accepted.name == name) else {
                let text = format!("parameter '{name}' not supported");
                return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::NONE, text));
            };
            if param.value.kind() != accepted.kind {
                let (is, must) = (param.value.kind().name(), accepted.kind.name());
                let text = format!("invalid type '{is}' for parameter '{name}', expected '{must}'");
                return Err(Error::of(ErrorCode::INVALID_ARG, Origin::NONE, text));
            }
            if !accepted.repeats && params.iter().take(at).any(|earlier| earlier.name == *name) {
                let text = format!("parameter '{name}' occurs multiple times");
                return Err(Error::of(ErrorCode::INVALID_ARG, Origin::NONE, text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_xdr::{from_bytes, to_bytes};

    #[test]
    fn layout_is_name_type_value() {
        let param = TypedParam::new("bandwidth", 64_u64);
        let golden =
            [&[0, 0, 0, 9], b"bandwidth\0\0\0".as_slice(), &[0, 0, 0, 4], &[0, 0, 0, 0, 0, 0, 0, 64]];
        assert_eq!(to_bytes(&param).unwrap(), golden.concat());
        assert_eq!(from_bytes::<TypedParam>(&golden.concat()).unwrap(), param);
    }

    #[test]
    fn values_are_found_by_name() {
        let params = [TypedParam::new("a", -1), TypedParam::new("b", 7_u32), TypedParam::new("c", "x")];
        assert_eq!(find(&params, "a").and_then(ParamValue::number), None);
        assert_eq!(find(&params, "b").and_then(ParamValue::number), Some(7));
        assert_eq!(find(&params, "c").and_then(ParamValue::text), Some("x"));
        assert_eq!(find(&params, "d"), None);
    }

    #[test]
    fn an_unknown_type_is_refused() {
        let bytes = [0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let refused = DecodeError::UnknownValue { what: "parameter type", value: 8 };
        assert_eq!(from_bytes::<TypedParam>(&bytes), Err(refused));
    }

    #[test]
    fn a_schema_refuses_with_the_codes_of_stock() {
        let schema = Schema(&[
            Accepted { name: "bandwidth", kind: ParamKind::ULLong, repeats: false },
            Accepted { name: "migrate_disks", kind: ParamKind::String, repeats: true },
        ]);
        let disks = TypedParam::new("migrate_disks", "vda");
        assert_eq!(schema.check(&[disks.clone(), disks, TypedParam::new("bandwidth", 1_u64)]), Ok(()));

        let refused = |params: &[TypedParam]| schema.check(params).unwrap_err().code;
        assert_eq!(refused(&[TypedParam::new("nonsense", 1)]), ErrorCode::ARGUMENT_UNSUPPORTED);
        assert_eq!(refused(&[TypedParam::new("bandwidth", 1)]), ErrorCode::INVALID_ARG);
        let single = TypedParam::new("bandwidth", 1_u64);
        assert_eq!(refused(&[single.clone(), single]), ErrorCode::INVALID_ARG);
    }
}
