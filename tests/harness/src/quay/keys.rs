//! An instance's service key (`boot.py:setup_instance_service_key`) and the key server.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::StatusCode;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::Serialize;

use super::Instance;
use super::answer::{QuayAnswer, json, not_found};

/// The path of the key set.
pub(super) const PATH: &str = "/keys/services/quay/keys";

/// `INSTANCE_SERVICE_KEY_EXPIRATION`.
const LIFE: Duration = Duration::from_secs(120 * 60);

/// The private key.
pub(super) struct SigningKey {
    kid: String,
    key: EncodingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The public key, in the form of the key server.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub(super) kid: String,
    n: String,
    e: String,
    made: Instant,
}

impl SigningKey {
    /// A new RSA-2048 key. Its id is its RFC 7638 thumbprint.
    pub(super) fn generate() -> Result<(Self, PublicKey)> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?;
        let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256)?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256)?;
        let AlgorithmParameters::RSA(parts) = jwk.algorithm else { anyhow::bail!("not an RSA key") };
        let public = PublicKey { kid: kid.clone(), n: parts.n, e: parts.e, made: Instant::now() };
        Ok((Self { kid, key }, public))
    }

    /// The id of the key.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs claims with RS256.
    pub(super) fn sign<T: Serialize>(&self, claims: &T) -> Result<String> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key).context("signing a token")
    }
}

impl PublicKey {
    pub(super) fn decoding(&self) -> Result<DecodingKey> {
        Ok(DecodingKey::from_rsa_components(&self.n, &self.e)?)
    }

    pub(super) fn jwk(&self) -> String {
        format!(r#"{{"e":"{}","kid":"{}","kty":"RSA","n":"{}"}}"#, self.e, self.kid, self.n)
    }
}

/// `GET /keys/services/quay/keys`
pub(super) fn list(quay: &Instance) -> QuayAnswer {
    json(StatusCode::OK, &set(quay))
}

/// The set of all keys.
pub(super) fn set(quay: &Instance) -> String {
    let keys: Vec<String> = quay.database.lock().keys.iter().map(PublicKey::jwk).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// `GET /keys/services/quay/keys/<kid>`
pub(super) fn one(quay: &Instance, kid: &str) -> QuayAnswer {
    let state = quay.database.lock();
    let Some(key) = state.keys.iter().find(|key| key.kid == kid) else { return not_found() };
    let left = LIFE.saturating_sub(key.made.elapsed()).as_secs();
    json(StatusCode::OK, &key.jwk()).with("cache-control", &format!("max-age={left}"))
}
