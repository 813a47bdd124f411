//! The claims of Quay's tokens, and the rules that they must keep. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::form::Times;
use super::{Grants, Rules, Unproven};
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

/// One item of `access`, which both registries write alike (Quay's `auth/registry_jwt_auth.py`, `ACCESS_SCHEMA`;
/// distribution's token specification).
#[derive(Deserialize)]
pub(super) struct AccessItem {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) actions: Vec<String>,
}

impl AccessItem {
    /// Quay signs other tokens with the same keys, such as those of `/_storage_proxy/`, whose type is `storageproxy`.
    fn is_known(&self) -> bool {
        let known = |action: &String| matches!(action.as_str(), "push" | "pull" | "*");
        self.kind == "repository" && self.actions.iter().all(known)
    }
}

/// Reads claims, and checks everything of them but the time.
pub(super) fn check(json: &[u8], rules: &Rules) -> Result<(Grants, Times), Unproven> {
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
    Ok((grants, Times { from: nbf.max(iat), until: exp }))
}
