//! Hands what libFuzzer comes up with to [`ferry_fuzz::params`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferry_fuzz::params(data));
