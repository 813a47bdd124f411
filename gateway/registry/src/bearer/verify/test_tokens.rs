//! Tokens and keys of a Quay, for tests.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::super::{Form, KeySet, Rules};

pub(crate) const NOW: u64 = 1_795_504_276;
pub(crate) const LIFE_MAX: u64 = 3660;

/// A key pair, as a container of Quay has one.
pub(crate) struct Signer {
    pub(crate) kid: &'static str,
    pub(crate) key: EncodingKey,
    /// The public key, as PEM and as a JSON web key.
    pub(crate) pem: String,
    pub(crate) jwk: Value,
}

impl Signer {
    pub(crate) fn new(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key pair");
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("an RSA key");
        let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).expect("a web key");
        let AlgorithmParameters::RSA(parts) = jwk.algorithm else { panic!("not RSA") };
        let jwk = json!({"kty": "RSA", "kid": kid, "n": parts.n, "e": parts.e});
        Self { kid, key, pem: pair.public_key_pem(), jwk }
    }

    pub(crate) fn raw(&self, header: &str, payload: &str) -> String {
        sealed(header, payload, &self.key, Algorithm::RS256)
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.raw(&self.header("RS256"), &claims.to_string())
    }

    pub(crate) fn header(&self, alg: &str) -> String {
        json!({"alg": alg, "kid": self.kid, "typ": "JWT"}).to_string()
    }
}

pub(crate) fn sealed(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).expect("a signature");
    format!("{message}.{signature}")
}

pub(crate) static QUAY: LazyLock<Signer> = LazyLock::new(|| Signer::new("quay-1"));
/// A key with the same id, of another Quay.
pub(crate) static OTHER: LazyLock<Signer> = LazyLock::new(|| Signer::new("quay-1"));
pub(crate) static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    KeySet::parse(json!({ "keys": [QUAY.jwk] }).to_string().as_bytes(), &KeySet::default())
        .expect("a key set")
});

pub(crate) fn rules() -> Rules {
    let life_max = Duration::from_secs(LIFE_MAX);
    Rules { form: Form::Quay, issuer: "quay".into(), audience: "quay.example.com".into(), life_max }
}

pub(crate) fn claims(overrides: &Value) -> Value {
    let mut claims = json!({
        "iss": "quay", "aud": "quay.example.com", "nbf": NOW, "iat": NOW, "exp": NOW + 3600, "sub": "admin",
        "access": [{"type": "repository", "name": "admin/one", "actions": ["push", "pull"]}],
        "context": {"version": 2, "entity_kind": "user", "com.apostille.roots": {"admin/one": "$disabled"}},
    });
    for (name, value) in overrides.as_object().expect("an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}
