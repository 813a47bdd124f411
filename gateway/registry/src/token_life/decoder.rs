//! Decodes the parts of a request that may be tokens, within a budget. Pure.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

/// The bytes of base64 that are decoded for one request. A token for 60 repositories has 8 KiB, so no known
/// client sends more. Without a limit, a client could waste the gateway's CPU, because the same bytes can be
/// the end of many tokens.
pub(super) const DECODED_MAX: usize = 64 * 1024;

/// The least cost of one decoding, in bytes. Many short ones cost more than the same bytes at once.
const TRY_MIN: usize = 64;

/// Decodes base64 as Python does, and so Quay: with or without padding, and with any value of the last bits.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes parts of one request, at most [`DECODED_MAX`] bytes in all.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    decoded: usize,
}

/// The budget is used up.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Decoder {
    /// The bytes of base64 that were decoded so far.
    #[cfg(test)]
    pub(super) fn decoded(&self) -> usize {
        self.decoded
    }

    /// The decoded credentials of `Basic` (RFC 7617). `None` if they are not base64.
    pub(super) fn basic(&mut self, credentials: &[u8]) -> Result<Option<Vec<u8>>, Exhausted> {
        self.take(credentials)?;
        Ok(STANDARD.decode(credentials).ok())
    }

    /// The last member with this name in a JSON object that is encoded in base64 of either alphabet. `None`
    /// if there is no object, or the object has no such member.
    pub(super) fn member<T: for<'de> Deserialize<'de>>(
        &mut self,
        part: &[u8],
        name: &'static str,
    ) -> Result<Option<T>, Exhausted> {
        self.take(part)?;
        let url_safe = |byte: &u8| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        };
        let part: Vec<u8> = part.iter().map(url_safe).collect();
        Ok(LENIENT.decode(part).ok().and_then(|json| member(&json, name)))
    }

    fn take(&mut self, part: &[u8]) -> Result<(), Exhausted> {
        let all = self
            .decoded
            .checked_add(part.len().max(TRY_MIN))
            .filter(|all| *all <= DECODED_MAX)
            .ok_or(Exhausted)?;
        self.decoded = all;
        Ok(())
    }
}

fn member<T: for<'de> Deserialize<'de>>(json: &[u8], name: &'static str) -> Option<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let found = deserializer.deserialize_map(Member(name, PhantomData)).ok()?;
    deserializer.end().ok()?;
    found
}

/// Reads one member of an object, and skips the others without storing them.
struct Member<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Member<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match key == self.0 {
                true => found = Some(map.next_value()?),
                false => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn short_tries_are_bounded_too() {
        let mut decoder = Decoder::default();
        let tries =
            (0..DECODED_MAX).take_while(|_| decoder.member::<IgnoredAny>(b"ew", "alg").is_ok()).count();
        assert_eq!(tries, DECODED_MAX / TRY_MIN);
    }

    #[test]
    fn the_last_of_several_members_counts() {
        assert_eq!(member::<f64>(br#"{"exp":1,"a":{"exp":3},"exp":2}"#, "exp"), Some(2.0));
        assert!(member::<IgnoredAny>(br#" {"alg":"a","x":[],"alg":null}"#, "alg").is_some());
        for none in [&br#"{"a":{"exp":1}}"#[..], br#"[{"exp":1}]"#, br#"{"exp":"1"}"#, br#"{"exp":1}}"#, b"1"]
        {
            assert_eq!(member::<f64>(none, "exp"), None, "{}", String::from_utf8_lossy(none));
        }
    }

    proptest! {
        #[test]
        fn a_member_is_found_as_in_a_json_tree(json in r#"\{("(a|alg)":(1|"x"|\{"alg":2\}|\[\[\]\]),){0,3}"(b|alg)":(null|-2e3)\}?"#) {
            let tree: Option<Value> = serde_json::from_str(&json).ok();
            let expected = tree.and_then(|tree| tree.get("alg").cloned());
            prop_assert_eq!(member::<Value>(json.as_bytes(), "alg"), expected);
        }
    }
}
