//! Taking values out of received bytes. Called by the [`Decode`](crate::Decode) implementations.
//!
//! The reader borrows the bytes and never allocates; whoever does, has asked [`Reader::length`] first.

use thiserror::Error;

/// Why received bytes are not the value they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside the value.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes that the value still needs, at least.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length word above the bound of its field.
    #[error("length {len} exceeds the limit of {max}")]
    TooLong {
        /// The length that was announced.
        len: usize,
        /// The field's bound.
        max: usize,
    },
    /// A word that says whether an optional value follows was neither 0 nor 1.
    #[error("{0} does not say whether a value follows")]
    BadPresence(u32),
    /// A word that selects one of several values has a number that is none of them.
    #[error("{value} is not a {what}")]
    UnknownValue {
        /// What the word should have been.
        what: &'static str,
        /// The number that arrived.
        value: i64,
    },
    /// A string is not UTF-8.
    #[error("string is not UTF-8")]
    NotUtf8,
    /// A string holds a NUL.
    #[error("string holds a NUL byte")]
    Nul,
}

/// A cursor over received bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// The bytes that have not been taken yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.left
    }

    /// Takes an unsigned 32-bit word.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], like all the plain numbers below.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Takes a signed 32-bit word.
    ///
    /// # Errors
    /// As [`Reader::u32`].
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Takes an unsigned 64-bit number ("unsigned hyper").
    ///
    /// # Errors
    /// As [`Reader::u32`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Takes a signed 64-bit number ("hyper").
    ///
    /// # Errors
    /// As [`Reader::u32`].
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Takes a double.
    ///
    /// # Errors
    /// As [`Reader::u32`].
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    /// Takes the word that says whether an optional value follows.
    ///
    /// # Errors
    /// [`DecodeError::BadPresence`] for anything but 0 and 1.
    pub fn presence(&mut self) -> Result<bool, DecodeError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::BadPresence(other)),
        }
    }

    /// Takes a length word of `max` at most whose elements take `element_min` bytes each at least.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above the bound; [`DecodeError::Truncated`] when so many elements cannot be
    /// in the bytes that are left. After it, a reservation for the returned number of elements is safe.
    pub fn length(&mut self, max: usize, element_min: usize) -> Result<usize, DecodeError> {
        let len = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if len > max {
            return Err(DecodeError::TooLong { len, max });
        }
        let needed = len.saturating_mul(element_min);
        if needed > self.left.len() {
            return Err(DecodeError::Truncated { needed, left: self.left.len() });
        }
        Ok(len)
    }

    /// Takes `len` bytes and their padding. The content of the padding is not looked at.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], also when only the padding is missing.
    pub fn fixed(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let padded = len.checked_next_multiple_of(4).unwrap_or(usize::MAX);
        let bytes = self.take(padded)?;
        bytes.get(..len).ok_or(DecodeError::Truncated { needed: len, left: bytes.len() })
    }

    /// Takes bytes with a length word in front, `max` at most.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] or [`DecodeError::Truncated`].
    pub fn opaque(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.length(max, 1)?;
        self.fixed(len)
    }

    /// Takes a string of `max` bytes at most.
    ///
    /// # Errors
    /// As [`Reader::opaque`], and [`DecodeError::NotUtf8`] or [`DecodeError::Nul`].
    pub fn string(&mut self, max: usize) -> Result<&'a str, DecodeError> {
        text(self.opaque(max)?)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, left) = self
            .left
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated { needed: len, left: self.left.len() })?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, left) = self
            .left
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated { needed: N, left: self.left.len() })?;
        self.left = left;
        Ok(*taken)
    }
}

/// Checks that bytes are a string of this wire.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    if bytes.contains(&0) {
        return Err(DecodeError::Nul);
    }
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)
}
