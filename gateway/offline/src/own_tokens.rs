//! Tokens of the gateway itself, for the time while the registry is away.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use registry::bearer::with_namespace;
use serde::{Deserialize, Serialize};

use crate::keys::Keys;

/// How long a token counts. A client fetches another one after that.
pub const TOKEN_LIFE: Duration = Duration::from_secs(300);

/// `iss` of these tokens. No registry signs in this name.
const ISSUER: &str = "quay-gateway";

/// `kid` of these tokens.
const KEY_ID: &str = "quay-gateway-offline";

/// Signs and verifies the tokens. The key is secret and only this gateway has it, so a symmetric algorithm is enough.
pub(crate) struct OwnTokens {
    sign: EncodingKey,
    verify: DecodingKey,
    audience: String,
}

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    sub: String,
    access: Vec<Access>,
    /// The number of the credential; none for clients without one. What it may read is looked up for each request.
    credential: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// A token that this gateway signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnToken {
    /// The number of the credential; none for clients without one.
    pub(crate) credential: Option<i64>,
    repositories: Vec<String>,
}

impl OwnToken {
    /// Whether the token was given for this repository.
    pub(crate) fn names(&self, repository: &str) -> bool {
        let name = with_namespace(repository);
        self.repositories.iter().any(|known| *known == *name)
    }
}

impl OwnTokens {
    /// Tokens for the registry with the name `audience`.
    pub(crate) fn new(keys: &Keys, audience: &str) -> Self {
        let key = keys.derived("tokens");
        Self {
            sign: EncodingKey::from_secret(&*key),
            verify: DecodingKey::from_secret(&*key),
            audience: audience.to_owned(),
        }
    }

    /// A token with which these repositories can be read, and nothing else, until `until` or for [`TOKEN_LIFE`]. Returns
    /// its life, too.
    ///
    /// # Errors
    /// It cannot be signed.
    pub(crate) fn sign(
        &self,
        credential: Option<i64>,
        readable: &[String],
        until: SystemTime,
        now: SystemTime,
    ) -> anyhow::Result<(String, Duration)> {
        let life = until.duration_since(now).unwrap_or_default().min(TOKEN_LIFE);
        let now = now.duration_since(UNIX_EPOCH)?.as_secs();
        let access = readable.iter().map(|name| Access {
            kind: "repository".into(),
            name: with_namespace(name).into_owned(),
            actions: vec!["pull".into()],
        });
        let claims = Claims {
            iss: ISSUER.into(),
            aud: self.audience.clone(),
            iat: now,
            nbf: now,
            exp: now + life.as_secs(),
            sub: if credential.is_some() { "(offline)" } else { "(anonymous)" }.into(),
            access: access.collect(),
            credential,
        };
        let header = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::HS256) };
        Ok((encode(&header, &claims, &self.sign)?, life))
    }

    /// Verifies a token. `None` if this gateway did not sign it, or it is over.
    pub(crate) fn verified(&self, token: &str, now: SystemTime) -> Option<OwnToken> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[&self.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        // The time is compared below, with the time that the caller has.
        rules.validate_exp = false;
        let decoded = decode::<Claims>(token, &self.verify, &rules).ok()?;
        let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let claims = decoded.claims;
        let counts = decoded.header.kid.as_deref() == Some(KEY_ID)
            && (claims.nbf..claims.exp).contains(&now)
            && claims.exp - claims.nbf <= TOKEN_LIFE.as_secs();
        let repositories = claims.access.into_iter().map(|access| access.name).collect();
        counts.then_some(OwnToken { credential: claims.credential, repositories })
    }
}

impl fmt::Debug for OwnTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnTokens(<key>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(audience: &str) -> (tempfile::TempDir, OwnTokens) {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = OwnTokens::new(&Keys::open(folder.path()).expect("a key"), audience);
        (folder, tokens)
    }

    #[test]
    fn a_token_is_good_for_its_life_its_repositories_and_its_gateway() {
        let (_folder, own) = tokens("quay.example.com");
        let now = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let later = |seconds| now + Duration::from_secs(seconds);
        let names = ["o/a".to_owned(), "b".to_owned()];
        let (token, life) = own.sign(Some(7), &names, later(3600), now).expect("a token");
        assert_eq!(life, TOKEN_LIFE);
        let verified = own.verified(&token, later(299)).expect("it counts");
        assert_eq!(verified.credential, Some(7));
        for (name, may) in [("o/a", true), ("b", true), ("library/b", true), ("o/b", false), ("a", false)] {
            assert_eq!(verified.names(name), may, "{name}");
        }
        assert_eq!(own.verified(&token, later(300)), None);
        assert_eq!(own.verified(&token, now - Duration::from_secs(1)), None, "before it was signed");
        let (short, life) = own.sign(None, &names, later(10), now).expect("a token");
        assert_eq!(life, Duration::from_secs(10));
        assert_eq!(own.verified(&short, later(10)), None);
        assert!(own.verified(&short, later(9)).is_some_and(|token| token.credential.is_none()));
        let (_other, other) = tokens("quay.example.com");
        assert_eq!(other.verified(&token, now), None, "another gateway's key");
        let (head, rest) = token.split_once('.').expect("three parts");
        assert_eq!(own.verified(&format!("{head}x.{rest}"), now), None);
        assert_eq!(own.verified("a.b.c", now), None);
        assert_eq!(format!("{own:?}"), "OwnTokens(<key>)");
    }

    #[test]
    fn a_token_for_another_registry_does_not_count() {
        let (folder, own) = tokens("quay.example.com");
        let other = OwnTokens::new(&Keys::open(folder.path()).expect("a key"), "other.example.com");
        let now = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let (token, _) = other.sign(None, &[], now + TOKEN_LIFE, now).expect("a token");
        assert!(other.verified(&token, now).is_some());
        assert_eq!(own.verified(&token, now), None);
    }
}
