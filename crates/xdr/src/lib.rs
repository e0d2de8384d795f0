//! RFC 4506 encoding and decoding, every length checked against its bound.
