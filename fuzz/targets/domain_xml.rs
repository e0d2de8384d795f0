//! Hands what libFuzzer comes up with to [`ferry_fuzz::domain_xml`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferry_fuzz::domain_xml(data));
