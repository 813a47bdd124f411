//! Tokens that nobody must believe.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::json;

use super::Quay;
use super::keys::SigningKey;

/// How a token is forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Without a signature.
    AlgNone,
    /// With HS256, whose secret is the public key.
    Hs256WithPublicKey,
    /// With a key that the registry does not know.
    UnknownKey,
    /// With the signature of another token.
    WrongSignature,
}

impl Quay {
    /// A token that says that `user` may read `repository`, and that this registry has not issued.
    ///
    /// # Errors
    /// The token cannot be made.
    pub fn forged(&self, how: Forgery, user: &str, repository: &str) -> Result<String> {
        let good = self.token(user, repository, &["pull"], json!({}))?;
        let (message, _) = good.rsplit_once('.').context("no token")?;
        let (_, payload) = message.split_once('.').context("no token")?;
        let header =
            |alg: &str| json!({"alg": alg, "kid": self.instance.key.kid(), "typ": "JWT"}).to_string();
        let begun = |alg: &str| format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header(alg)));
        Ok(match how {
            Forgery::AlgNone => format!("{}.", begun("none")),
            Forgery::Hs256WithPublicKey => {
                let message = begun("HS256");
                let secret = EncodingKey::from_secret(self.instance.public_key().as_bytes());
                format!("{message}.{}", crypto::sign(message.as_bytes(), &secret, Algorithm::HS256)?)
            }
            Forgery::UnknownKey => {
                let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
                SigningKey::generate()?.0.sign(&claims)?
            }
            Forgery::WrongSignature => {
                let other = self.token("nobody", repository, &["pull"], json!({}))?;
                let (_, signature) = other.rsplit_once('.').context("no token")?;
                format!("{message}.{signature}")
            }
        })
    }
}
