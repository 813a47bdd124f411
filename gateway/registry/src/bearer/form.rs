//! The two forms of tokens. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::claims::AccessItem;
use super::key_set::certificate_id;
use super::{Grants, Rules, Unproven};
use crate::object::Object;

/// Which registry's tokens they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Quay's (`util/security/registry_jwt.py`).
    Quay,
    /// Distribution's (`registry/auth/token/token.go`).
    Distribution,
}

impl Form {
    /// The difference between clocks that the registry accepts.
    pub(super) fn leeway(self) -> Duration {
        match self {
            Self::Quay => Duration::from_secs(30),
            Self::Distribution => Duration::from_secs(60),
        }
    }

    /// The id of the key in a token's header. `None` if the header has a member that the registry's own tokens do not
    /// have, because that could change what the signature means.
    pub(super) fn key_id(self, header: &[u8]) -> Option<String> {
        let Object(header): Object<Header> = serde_json::from_slice(header).ok()?;
        if header.alg != "RS256" || header.typ.is_some_and(|typ| typ != "JWT") {
            return None;
        }
        match (self, header.kid, header.x5c) {
            (Self::Quay, Some(kid), None) => Some(kid),
            // The chain of the certificate goes before the id.
            (Self::Distribution, _, Some(chain)) => Some(certificate_id(chain.first()?)),
            (Self::Distribution, Some(kid), None) if !kid.starts_with(&certificate_id("")) => Some(kid),
            _ => None,
        }
    }

    /// Reads claims, and checks everything of them but the time.
    pub(super) fn claims(self, json: &[u8], rules: &Rules) -> Result<(Grants, Times), Unproven> {
        match self {
            Self::Quay => super::claims::check(json, rules),
            Self::Distribution => distribution(json, rules),
        }
    }
}

/// The header of a token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// Certificates in base64, that of the key first.
    #[serde(default)]
    x5c: Option<Vec<String>>,
}

/// From when until when claims say that they are valid, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) from: Duration,
    pub(super) until: Duration,
}

/// The claims of a token for distribution. Others are of no interest to it.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    nbf: u32,
    exp: u32,
    access: Vec<Object<AccessItem>>,
}

/// Only the action `pull` permits to read. Repositories of the namespace `library`, and those without one, are left
/// out: for distribution they are different ones, and the link ledger knows them as one.
fn distribution(json: &[u8], rules: &Rules) -> Result<(Grants, Times), Unproven> {
    let Object(claims): Object<Claims> = serde_json::from_slice(json).map_err(|_| Unproven::Claims)?;
    if claims.iss != rules.issuer {
        return Err(Unproven::Issuer);
    }
    if claims.aud != rules.audience {
        return Err(Unproven::Audience);
    }
    let may_pull = |item: &AccessItem| {
        item.kind == "repository"
            && item.actions.iter().any(|action| action == "pull")
            && item.name.contains('/')
            && !item.name.starts_with("library/")
    };
    let items = claims.access.into_iter().map(|Object(item)| item);
    let grants = Grants::of(items.filter(may_pull).map(|item| item.name));
    let [from, until] = [claims.nbf, claims.exp].map(|seconds| Duration::from_secs(seconds.into()));
    Ok((grants, Times { from, until }))
}
