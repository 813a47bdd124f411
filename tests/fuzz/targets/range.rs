//! libFuzzer's entry to the properties of `range`.
#![no_main]

#[path = "../properties/range.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::hold(input));
