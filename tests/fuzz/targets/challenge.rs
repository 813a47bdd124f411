//! libFuzzer's entry to the properties of `challenge`.
#![no_main]

#[path = "../properties/challenge.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::hold(input));
