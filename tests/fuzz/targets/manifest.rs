//! libFuzzer's entry to the properties of `manifest`.
#![no_main]

#[path = "../properties/manifest.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::hold(input));
