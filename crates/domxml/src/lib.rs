//! Domain XML: typed model, a round trip that loses nothing, guest-ABI comparison.
