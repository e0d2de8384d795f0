//! Names of a migration: its id, the epoch that orders the migrations of one guest, and the secret by which
//! the two daemons know each other. Called by everybody; refuses to know where randomness comes from.

use std::fmt;
use std::str::FromStr;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// One migration attempt. Random, so that a late message of an earlier attempt is never taken for this one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MigrationId([u8; 16]);

impl MigrationId {
    /// An id made of 16 random bytes, which the caller provides.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MigrationId({self})")
    }
}

impl FromStr for MigrationId {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        unhex(text).map(Self)
    }
}

impl From<MigrationId> for String {
    fn from(id: MigrationId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MigrationId {
    type Error = NotHex;

    fn try_from(text: String) -> Result<Self, NotHex> {
        text.parse()
    }
}

/// Counts the migrations of one guest, from 1. A higher epoch began after a lower one had ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next migration. Stays at the top instead of wrapping.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the two daemons of one migration know and nobody else. Never printed: `Debug` hides it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Secret([u8; 16]);

impl Secret {
    /// A secret made of 16 random bytes, which the caller provides.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The text that travels in the cookie: 32 hex digits. Never to be logged.
    pub fn reveal(&self) -> String {
        hex(&self.0)
    }

    /// Proof of knowing it, for a message of these parts: HMAC-SHA-256 over each part behind its length. The parts name
    /// whatever the proof is not to be taken for: who speaks, in answer to what.
    pub fn prove(&self, parts: &[&[u8]]) -> Proof {
        Proof(self.mac(parts).finalize().into_bytes().into())
    }

    /// Whether whoever made the proof for these parts knows the secret; takes the same time whichever byte differs.
    pub fn confirms(&self, parts: &[&[u8]], proof: &Proof) -> bool {
        self.mac(parts).verify_slice(&proof.0).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut key = [0; 64];
        key[..16].copy_from_slice(&self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&key.into());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    /// Whether `other` is the same secret; takes the same time whichever byte differs.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl FromStr for Secret {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        unhex(text).map(Self)
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.reveal()
    }
}

impl TryFrom<String> for Secret {
    type Error = NotHex;

    fn try_from(text: String) -> Result<Self, NotHex> {
        text.parse()
    }
}

/// See [`Secret::prove`]. All zeros from whoever does not know the secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof(pub [u8; 32]);

/// The text is not 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct NotHex;

fn hex(bytes: &[u8; 16]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Result<[u8; 16], NotHex> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return Err(NotHex);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(NotHex);
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_survives_its_text() {
        let id = MigrationId::from_bytes([0x0f, 0xa0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255]);
        assert_eq!(id.to_string(), "0fa00102030405060708090a0b0c0dff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("0FA00102030405060708090A0B0C0DFF".parse(), Ok(id));
    }

    #[test]
    fn only_32_hex_digits_are_an_id() {
        for text in
            ["", "0f", "zz000000000000000000000000000000", "é000000000000000000000000000000", &"0".repeat(33)]
        {
            assert_eq!(text.parse::<MigrationId>(), Err(NotHex), "{text}");
        }
    }

    #[test]
    fn a_proof_is_for_one_message_of_one_secret() {
        let secret = Secret::from_bytes([7; 16]);
        let proof = secret.prove(&[b"ask", b"host"]);
        assert!(secret.confirms(&[b"ask", b"host"], &proof));
        for parts in [&[&b"ask"[..], b"other"][..], &[b"askh", b"ost"], &[b"ask"], &[b"ask", b"host", b""]] {
            assert!(!secret.confirms(parts, &proof), "{parts:?}");
        }
        assert!(!Secret::from_bytes([8; 16]).confirms(&[b"ask", b"host"], &proof));
        assert!(!secret.confirms(&[b"ask", b"host"], &Proof::default()));
    }

    #[test]
    fn proofs_are_hmac_sha_256() {
        // RFC 2104, as Python's hmac computes it of one part, "abc".
        let proof = Secret::from_bytes([0; 16]).prove(&[b"abc"]);
        assert_eq!(proof.0[..4], [0x89, 0x83, 0xe9, 0x94]);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::from_bytes([0xab; 16]);
        assert!(!format!("{secret:?}").contains("ab"), "{secret:?}");
        assert!(secret.matches(&Secret::from_bytes([0xab; 16])));
        assert!(!secret.matches(&Secret::from_bytes([0xaa; 16])));
    }
}
