//! Hands what libFuzzer comes up with to [`ferry_fuzz::server_session`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferry_fuzz::server_session(data));
