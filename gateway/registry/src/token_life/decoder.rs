//! What is decoded of a request in search of tokens, within a budget. Pure.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

/// The bytes of base64 that are decoded for one request. A token for 60 repositories has 8 KiB, so whoever
/// sends more is no known client, and to decode all of it would let a client burn the gateway's CPU: the same
/// bytes can be the end of many tokens.
pub(super) const DECODED_MAX: usize = 64 * 1024;

/// What a try costs at least, in bytes: many short ones would cost more than the same bytes at once.
const TRY_MIN: usize = 64;

/// How Python reads base64, and so Quay: with or without padding, and whatever the last bits are.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes parts of one request, [`DECODED_MAX`] bytes in all.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    decoded: usize,
}

/// The budget has no room for what is asked for.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Decoder {
    /// The bytes of base64 that were decoded so far.
    #[cfg(test)]
    pub(super) fn decoded(&self) -> usize {
        self.decoded
    }

    /// What the credentials of `Basic` (RFC 7617) hold; `None` if they are not base64.
    pub(super) fn basic(&mut self, credentials: &[u8]) -> Result<Option<Vec<u8>>, Exhausted> {
        self.take(credentials)?;
        Ok(STANDARD.decode(credentials).ok())
    }

    /// The last member with this name in the JSON object that base64 of either alphabet holds; `None` if it
    /// holds no object, or the object has no such member.
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

/// Reads one member of an object, and makes no tree of the others.
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
        fn it_is_found_where_a_tree_has_it(json in r#"\{("(a|alg)":(1|"x"|\{"alg":2\}|\[\[\]\]),){0,3}"(b|alg)":(null|-2e3)\}?"#) {
            let tree: Option<Value> = serde_json::from_str(&json).ok();
            let expected = tree.and_then(|tree| tree.get("alg").cloned());
            prop_assert_eq!(member::<Value>(json.as_bytes(), "alg"), expected);
        }
    }
}
