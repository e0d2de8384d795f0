//! Hands what libFuzzer comes up with to [`ferry_fuzz::client_session`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferry_fuzz::client_session(data));
