//! libFuzzer's entry to the properties of `route`.
#![no_main]

#[path = "../properties/route.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::hold(input));
