//! Verifies one token. Pure.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, crypto};

use super::form::Times;
use super::{Grants, KeySet, PublicKey, Rules, TOKEN_BYTES_MAX};

/// The bytes of a token's header, encoded. Quay's has 112; one with a chain of certificates has a few thousand.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Why a token proves nothing here. The registry may accept it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It has more bytes than are read.
    #[error("too long")]
    TooLong,
    /// It is not three parts of base64, or its header is not that of a token of the registry.
    #[error("not the registry's form")]
    Form,
    /// Its key is not in the key set.
    #[error("unknown key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("wrong signature")]
    Signature,
    /// A claim is missing, occurs twice, or has a value that the registry does not issue.
    #[error("wrong claims")]
    Claims,
    /// Another issuer.
    #[error("wrong issuer")]
    Issuer,
    /// It is for another registry.
    #[error("wrong audience")]
    Audience,
    /// It is valid for longer than tokens may be.
    #[error("too long a life")]
    Life,
    /// It is expired, or not valid yet.
    #[error("not valid now")]
    Time,
}

/// A token that was verified.
#[derive(Debug)]
pub struct Verified {
    grants: Grants,
    /// Since 1970.
    validity: Range<Duration>,
    key: Arc<PublicKey>,
}

impl Verified {
    /// What the token permits.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Whether the token still counts at `now`, since 1970: its time has not ended, and its key is still in the set.
    #[must_use]
    pub fn counts(&self, keys: &KeySet, now: Duration) -> bool {
        self.validity.contains(&now) && keys.has(&self.key)
    }
}

/// The token of a request with exactly one `Authorization: Bearer`, in the form that Quay demands
/// (`util/security/jwtutil.py`, `TOKEN_REGEX`).
#[must_use]
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    value.to_str().ok()?.strip_prefix("Bearer ").filter(|token| !token.is_empty())
}

/// Verifies a token at `now`, since 1970. Nothing of it is parsed before its size is known to be bounded, and its claims
/// are parsed only after its signature was verified.
///
/// # Errors
/// The token is not a plain yes, for the reason in the error.
pub fn verify(token: &str, keys: &KeySet, rules: &Rules, now: Duration) -> Result<Verified, Unproven> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Unproven::TooLong);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Unproven::Form)?;
    let (header, payload) = message.split_once('.').ok_or(Unproven::Form)?;
    if header.len() > HEADER_BYTES_MAX || payload.contains('.') {
        return Err(Unproven::Form);
    }
    let id = rules.form.key_id(&decoded(header)?).ok_or(Unproven::Form)?;
    let key = keys.get(&id).ok_or(Unproven::UnknownKey)?;
    match crypto::verify(signature, message.as_bytes(), key.decoding(), Algorithm::RS256) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(Unproven::Signature),
    }
    let (grants, Times { from, until }) = rules.form.claims(&decoded(payload)?, rules)?;
    // PyJWT refuses `iat > now + leeway`, `nbf > now + leeway` and `exp <= now - leeway`.
    let leeway = rules.form.leeway();
    let validity = key.validity(from.saturating_sub(leeway)..until + leeway);
    match validity.contains(&now) {
        true => Ok(Verified { grants, validity, key: Arc::clone(key) }),
        false => Err(Unproven::Time),
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, Unproven> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Unproven::Form)
}

#[cfg(test)]
pub(super) mod test_tokens;
#[cfg(test)]
mod tests;
