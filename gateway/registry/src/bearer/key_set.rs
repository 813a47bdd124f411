//! The public keys that verify tokens. Pure.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use x509_parser::public_key::PublicKey as KeyOfCertificate;

/// The bytes of a key set that are read. A key has 450.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;

/// The keys of a set. Each container of Quay has one, and those of earlier containers stay for two hours.
const KEYS_MAX: usize = 256;

/// The bytes of a key's id. Quay's has 43.
const KID_BYTES_MAX: usize = 256;

/// The bytes of a modulus: 2048 to 8192 bits, as aws-lc verifies.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Why a key set cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is too large.
    #[error("it has more than {KEYS_MAX} keys or {KEY_SET_BYTES_MAX} bytes")]
    TooLarge,
    /// It is not a list of JSON web keys.
    #[error("it is not a list of JSON web keys")]
    Form,
    /// It has no key of the kind that signs tokens.
    #[error("it has no RSA key")]
    Empty,
}

/// An RSA key with its id.
pub struct PublicKey {
    written: Written,
    decoding: DecodingKey,
    /// When its certificate is valid, since 1970. `None` if it has none.
    certified: Option<Range<Duration>>,
}

/// A key as it is written (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    kty: String,
    kid: String,
    n: String,
    e: String,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
}

impl PublicKey {
    /// The key in the form in which it is used.
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// `None` if the key is not one that can sign tokens with RS256.
    fn new(written: Written) -> Option<Self> {
        let fits = written.kty == "RSA"
            && (1..=KID_BYTES_MAX).contains(&written.kid.len())
            && written.usage.as_deref().is_none_or(|usage| usage == "sig")
            && written.alg.as_deref().is_none_or(|alg| alg == "RS256");
        let modulus = URL_SAFE_NO_PAD.decode(&written.n).ok()?;
        if !fits || !MODULUS_BYTES.contains(&modulus.len()) || written.e.len() > 8 {
            return None;
        }
        let decoding = DecodingKey::from_rsa_components(&written.n, &written.e).ok()?;
        Some(Self { written, decoding, certified: None })
    }

    /// The key of a certificate (DER). `None` if it cannot sign with RS256, or if the certificate has a critical extension
    /// that distribution might not take.
    fn certified(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let critical = certificate.extensions().iter().filter(|extension| extension.critical);
        if !critical
            .map(|extension| extension.oid.to_id_string())
            .all(|oid| PLAIN_EXTENSIONS.contains(&&*oid))
        {
            return None;
        }
        let KeyOfCertificate::RSA(key) = certificate.public_key().parsed().ok()? else { return None };
        let base64 = |number: &[u8]| {
            URL_SAFE_NO_PAD.encode(&number[number.iter().take_while(|byte| **byte == 0).count()..])
        };
        let (n, e) = (base64(key.modulus), base64(key.exponent));
        let written = Written { kty: "RSA".into(), kid: String::new(), n, e, usage: None, alg: None };
        let mut made = Self::new(Written { kid: "certificate".into(), ..written })?;
        made.written.kid = certificate_id(&STANDARD.encode(der));
        let times = certificate.validity();
        let at =
            |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).map(Duration::from_secs).ok();
        made.certified = Some(at(times.not_before)?..at(times.not_after)?);
        Some(made)
    }

    /// The part of a time at which the key's certificate is valid too.
    pub(super) fn validity(&self, times: Range<Duration>) -> Range<Duration> {
        match &self.certified {
            None => times,
            Some(certified) => times.start.max(certified.start)..times.end.min(certified.end),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.written.kid).finish()
    }
}

/// Critical extensions that say nothing about the use of a key for tokens: basic constraints and key usage.
const PLAIN_EXTENSIONS: [&str; 2] = ["2.5.29.19", "2.5.29.15"];

/// The id under which the key of a certificate (DER in base64) is found.
pub(super) fn certificate_id(base64: &str) -> String {
    format!("x5c:{base64}")
}

/// Keys by their ids.
#[derive(Debug, Default)]
pub struct KeySet(HashMap<String, Arc<PublicKey>>);

impl KeySet {
    /// Reads a set (RFC 7517 section 5). Keys that cannot sign with RS256 are left out, and so are several keys with one
    /// id, because nobody knows which of them is meant. A key that is in `before` too stays the same object, so that
    /// tokens that it verified still count.
    ///
    /// # Errors
    /// The set is too large, is not a set, or has no usable key.
    pub fn parse(json: &[u8], before: &Self) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct List {
            keys: Vec<serde_json::Value>,
        }
        if json.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let List { keys: listed } = serde_json::from_slice(json).map_err(|_| KeySetError::Form)?;
        if listed.len() > KEYS_MAX {
            return Err(KeySetError::TooLarge);
        }
        let mut keys: HashMap<String, Option<Arc<PublicKey>>> = HashMap::new();
        let written = listed.into_iter().filter_map(|key| serde_json::from_value::<Written>(key).ok());
        for written in written {
            let kid = written.kid.clone();
            let known = before.0.get(&kid).filter(|known| known.written == written).map(Arc::clone);
            let Some(key) = known.or_else(|| PublicKey::new(written).map(Arc::new)) else { continue };
            keys.entry(kid).and_modify(|other| *other = None).or_insert(Some(key));
        }
        let keys: HashMap<_, _> = keys.into_iter().filter_map(|(kid, key)| Some((kid, key?))).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// Reads the keys of distribution's token service: certificates in PEM (`rootcertbundle`), or a set (`jwks`).
    ///
    /// # Errors
    /// The errors of [`KeySet::parse`].
    pub fn parse_file(bytes: &[u8]) -> Result<Self, KeySetError> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            return Self::parse(bytes, &Self::default());
        }
        if bytes.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let mut keys = HashMap::new();
        for block in x509_parser::pem::Pem::iter_from_buffer(bytes) {
            let block = block.map_err(|_| KeySetError::Form)?;
            let certificate = (block.label == "CERTIFICATE").then(|| PublicKey::certified(&block.contents));
            if let Some(key) = certificate.flatten() {
                keys.insert(key.written.kid.clone(), Arc::new(key));
            }
        }
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// The key with this id.
    #[must_use]
    pub fn get(&self, kid: &str) -> Option<&Arc<PublicKey>> {
        self.0.get(kid)
    }

    /// Whether this very key is still in the set.
    #[must_use]
    pub fn has(&self, key: &Arc<PublicKey>) -> bool {
        self.get(&key.written.kid).is_some_and(|own| Arc::ptr_eq(own, key))
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set in the form that [`KeySet::parse`] reads.
    #[must_use]
    pub fn json(&self) -> String {
        let mut keys: Vec<_> = self.0.values().map(|key| &key.written).collect();
        keys.sort_by(|one, other| one.kid.cmp(&other.kid));
        serde_json::json!({ "keys": keys }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn jwk(kid: &str, overrides: &[(&str, Value)]) -> Value {
        let modulus = URL_SAFE_NO_PAD.encode([0xc5; 256]);
        let mut key = json!({"kty": "RSA", "kid": kid, "n": modulus, "e": "AQAB"});
        for (name, value) in overrides {
            key[name] = value.clone();
        }
        key
    }

    fn parse(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), &KeySet::default())
    }

    #[test]
    fn only_keys_that_sign_with_rs256_are_kept() {
        let short = URL_SAFE_NO_PAD.encode([0xc5; 128]);
        for (name, value) in [
            ("kty", json!("EC")),
            ("kid", json!("")),
            ("kid", json!("k".repeat(KID_BYTES_MAX + 1))),
            ("kid", json!(7)),
            ("n", json!(short)),
            ("n", json!("not base64!")),
            ("e", json!("AQABAQABAQAB")),
            ("use", json!("enc")),
            ("alg", json!("HS256")),
            ("alg", json!("PS256")),
        ] {
            let keys = parse(&[jwk("good", &[]), jwk("bad", &[(name, value.clone())])]).expect("one is good");
            assert_eq!(keys.len(), 1, "{name} {value}");
        }
        let marked = [("use", json!("sig")), ("alg", json!("RS256")), ("x5c", json!([]))];
        assert_eq!(parse(&[jwk("a", &marked)]).expect("a key").len(), 1);
    }

    #[test]
    fn one_id_for_two_keys_is_none() {
        let other = URL_SAFE_NO_PAD.encode([0xc7; 256]);
        let twice = [jwk("a", &[]), jwk("b", &[]), jwk("a", &[("n", json!(other))])];
        let keys = parse(&twice).expect("b");
        assert!(keys.get("a").is_none() && keys.get("b").is_some());
    }

    #[test]
    fn sets_are_bounded() {
        let many: Vec<_> = (0..=KEYS_MAX).map(|at| jwk(&at.to_string(), &[])).collect();
        assert_eq!(parse(&many).expect_err("too many"), KeySetError::TooLarge);
        assert!(parse(&many[1..]).is_ok());
        let padded = format!("{}{{\"keys\":[]}}", " ".repeat(KEY_SET_BYTES_MAX));
        assert_eq!(
            KeySet::parse(padded.as_bytes(), &KeySet::default()).expect_err("too large"),
            KeySetError::TooLarge
        );
        assert_eq!(parse(&[]).expect_err("no key"), KeySetError::Empty);
        for form in ["", "[]", "<html>", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(
                KeySet::parse(form.as_bytes(), &KeySet::default()).expect_err(form),
                KeySetError::Form
            );
        }
    }

    #[test]
    fn a_key_stays_the_same_while_it_is_listed() {
        let first = parse(&[jwk("a", &[]), jwk("b", &[])]).expect("keys");
        let key = Arc::clone(first.get("a").expect("a"));
        assert!(first.has(&key));
        let again = KeySet::parse(first.json().as_bytes(), &first).expect("the same");
        assert!(again.has(&key) && again.len() == 2);
        let without = json!({"keys": [jwk("b", &[])]}).to_string();
        assert!(!KeySet::parse(without.as_bytes(), &first).expect("b").has(&key));
        let replaced =
            json!({"keys": [jwk("a", &[("n", json!(URL_SAFE_NO_PAD.encode([0xc7; 256])))])]}).to_string();
        assert!(!KeySet::parse(replaced.as_bytes(), &first).expect("another a").has(&key));
    }
}
