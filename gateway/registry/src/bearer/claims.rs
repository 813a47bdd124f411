//! The claims of a token, and the rules that they must keep. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::{Grants, LEEWAY, Rules, Unproven};
use crate::object::Object;

/// The claims of a registry token. A claim that is missing, has another type or occurs twice is an error. Quay accepts
/// a few more forms, which it never issues.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    nbf: u32,
    iat: u32,
    exp: u32,
    sub: String,
    access: Vec<Object<AccessItem>>,
}

/// One item of `access` (`auth/registry_jwt_auth.py`, `ACCESS_SCHEMA`).
#[derive(Deserialize)]
struct AccessItem {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl AccessItem {
    /// Quay signs other tokens with the same keys, such as those of `/_storage_proxy/`, whose type is `storageproxy`.
    fn is_known(&self) -> bool {
        let known = |action: &String| matches!(action.as_str(), "push" | "pull" | "*");
        self.kind == "repository" && self.actions.iter().all(known)
    }
}

/// The claims as they count from one time to another, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    /// Valid from this time on.
    pub(super) from: Duration,
    /// Not valid from this time on.
    pub(super) until: Duration,
}

impl Validity {
    pub(super) fn contains(&self, now: Duration) -> bool {
        self.from <= now && now < self.until
    }
}

/// Reads claims, and checks them by these rules. The time is checked by [`Validity::contains`].
pub(super) fn check(json: &[u8], rules: &Rules) -> Result<(Grants, Validity), Unproven> {
    let Object(claims): Object<Claims> = serde_json::from_slice(json).map_err(|_| Unproven::Claims)?;
    if claims.iss != rules.issuer {
        return Err(Unproven::Issuer);
    }
    if claims.aud != rules.audience {
        return Err(Unproven::Audience);
    }
    if claims.sub.is_empty() || !claims.access.iter().all(|Object(item)| item.is_known()) {
        return Err(Unproven::Claims);
    }
    let [nbf, iat, exp] =
        [claims.nbf, claims.iat, claims.exp].map(|seconds| Duration::from_secs(seconds.into()));
    if exp > iat + rules.life_max {
        return Err(Unproven::Life);
    }
    // Each known action includes the permission to read.
    let readable = claims.access.into_iter().filter(|Object(item)| !item.actions.is_empty());
    let grants = Grants::of(readable.map(|Object(item)| item.name));
    // PyJWT: `iat > now + leeway`, `nbf > now + leeway` and `exp <= now - leeway` are refused.
    Ok((grants, Validity { from: nbf.max(iat).saturating_sub(LEEWAY), until: exp + LEEWAY }))
}
