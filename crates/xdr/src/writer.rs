//! Putting values into bytes to send. Called by the [`Encode`](crate::Encode) implementations.
//!
//! The bounds are those of the reader: what would be refused at the other end is refused here.

use thiserror::Error;

/// Why a value cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or an array longer than its bound.
    #[error("length {len} exceeds the limit of {max}")]
    TooLong {
        /// The value's length.
        len: usize,
        /// The field's bound.
        max: usize,
    },
    /// A string holds a NUL, or a fixed array of characters something that is not ASCII.
    #[error("string holds a character that cannot be sent")]
    Character,
}

/// Bytes under construction.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on after `bytes`.
    #[must_use]
    pub fn after(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What has been written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends an unsigned 32-bit word.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a signed 32-bit word.
    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends an unsigned 64-bit number.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a signed 64-bit number.
    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a double.
    pub fn f64(&mut self, value: f64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends a length word.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] above `max`.
    pub fn length(&mut self, len: usize, max: usize) -> Result<(), EncodeError> {
        match u32::try_from(len) {
            Ok(word) if len <= max => {
                self.u32(word);
                Ok(())
            }
            _ => Err(EncodeError::TooLong { len, max }),
        }
    }

    /// Appends bytes and their padding, without a length.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let padding = bytes.len().wrapping_neg() % 4;
        self.bytes.extend(std::iter::repeat_n(0, padding));
    }

    /// Appends bytes with a length word in front.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] above `max`.
    pub fn opaque(&mut self, bytes: &[u8], max: usize) -> Result<(), EncodeError> {
        self.length(bytes.len(), max)?;
        self.fixed(bytes);
        Ok(())
    }

    /// Appends a string.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] above `max` bytes; [`EncodeError::Character`] when it holds a NUL.
    pub fn string(&mut self, text: &str, max: usize) -> Result<(), EncodeError> {
        if text.as_bytes().contains(&0) {
            return Err(EncodeError::Character);
        }
        self.opaque(text.as_bytes(), max)
    }
}
