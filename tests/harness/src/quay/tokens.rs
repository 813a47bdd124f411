//! Registry tokens: issued at `/v2/auth`, and verified (`util/security/registry_jwt.py`).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, StatusCode};
use jsonwebtoken::{Algorithm, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::access::challenge;
use super::answer::{QuayAnswer, error, html, internal, json as json_answer, method_not_allowed};
use super::{Instance, with_namespace};

/// The validity of a token, in seconds.
pub(super) const LIFE: i64 = 3600;
/// `REGISTRY_JWT_AUTH_MAX_FRESH_S`
const MAX_FRESH: i64 = 3660;
/// The accepted difference between clocks, in seconds.
const LEEWAY: i64 = 30;
/// How long logins are refused after a wrong password.
const BACK_OFF: Duration = Duration::from_secs(2);

/// The claims of a registry token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: String,
    pub(super) nbf: i64,
    pub(super) iat: i64,
    pub(super) exp: i64,
    pub(super) sub: String,
    pub(super) access: Vec<AccessEntry>,
    #[serde(default)]
    pub(super) context: Value,
}

/// One entry of `access`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AccessEntry {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) actions: Vec<String>,
}

impl Claims {
    /// Whether the token permits to read `repository`, or to write if `push` is set. Permission to write
    /// includes permission to read.
    pub(super) fn grants(&self, repository: &str, push: bool) -> bool {
        let enough = |action: &String| action == "*" || action == "push" || (!push && action == "pull");
        self.access
            .iter()
            .any(|access| with_namespace(&access.name) == repository && access.actions.iter().any(enough))
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The claims of a valid token, or Quay's reason for refusing it.
pub(super) fn verify(quay: &Instance, token: &str) -> Result<Claims, &'static str> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| "Invalid bearer token format")?;
    let kid = header.kid.ok_or("Missing kid")?;
    let key = quay.database.lock().keys.iter().find(|key| key.kid == kid).map(|key| key.decoding());
    let key = key.ok_or("Unknown service key")?.map_err(|_| "Unknown service key")?;
    let mut validation = Validation::new(Algorithm::RS256);
    // Only the signature is checked here. The other checks follow, with Quay's messages.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let data = jsonwebtoken::decode::<Value>(token, &key, &validation)
        .map_err(|_| "Signature verification failed")?;
    accept(data.claims, &quay.hostname, now())
}

/// `_StrictJWT` and `ACCESS_SCHEMA`.
fn accept(claims: Value, audience: &str, now: i64) -> Result<Claims, &'static str> {
    if claims.get("aud").and_then(Value::as_str).is_none_or(|aud| aud != audience) {
        return Err("Audience doesn't match");
    }
    let claims: Claims = serde_json::from_value(claims).map_err(|_| "Token is missing a required claim")?;
    let schema = |access: &AccessEntry| {
        access.kind == "repository"
            && access.actions.iter().all(|action| matches!(action.as_str(), "push" | "pull" | "*"))
    };
    match &claims {
        claims if claims.iss != "quay" => Err("Invalid issuer"),
        claims if claims.iat > now + LEEWAY => Err("Token was issued in the future"),
        claims if claims.nbf > now + LEEWAY => Err("The token is not yet valid (nbf)"),
        claims if claims.exp <= now - LEEWAY => Err("Signature has expired"),
        claims if claims.exp - claims.iat > MAX_FRESH => Err("Signed token must have exp in the near future"),
        claims if claims.sub.is_empty() => Err("Token is missing the sub claim"),
        claims if !claims.access.iter().all(schema) => Err("Unable to validate access schema"),
        _ => Ok(claims),
    }
}

/// `GET /v2/auth`
pub(super) fn give(quay: &Instance, method: &Method, headers: &HeaderMap, query: &str) -> QuayAnswer {
    if method != Method::GET && method != Method::HEAD {
        return method_not_allowed("GET, OPTIONS, HEAD");
    }
    let user = match login(quay, headers) {
        Ok(user) => user,
        Err(answer) => return *answer,
    };
    let mut service = String::new();
    let mut access = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "service" => service = value.into_owned(),
            "scope" => match scope(quay, user.as_deref(), &value) {
                Some(granted) => access.push(granted),
                None => {
                    let why = format!("Unable to decode repository and actions: {value}");
                    return error(StatusCode::BAD_REQUEST, "INVALID_REQUEST", &why);
                }
            },
            _ => {}
        }
    }
    if user.is_none() && access.is_empty() {
        return challenge(
            quay,
            error(
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "access to the requested resource is not authorized",
            ),
            None,
        );
    }
    let now = now();
    let context = context(quay, user.as_deref(), &access);
    let sub = user.unwrap_or_else(|| "(anonymous)".into());
    let claims = Claims {
        iss: "quay".into(),
        aud: service,
        nbf: now,
        iat: now,
        exp: now + LIFE,
        sub,
        access,
        context,
    };
    match quay.key.sign(&claims) {
        Ok(token) => json_answer(StatusCode::OK, &format!(r#"{{"token":"{token}"}}"#))
            .with("cache-control", "no-cache, no-store, must-revalidate"),
        Err(_) => internal(),
    }
}

fn context(quay: &Instance, user: Option<&str>, access: &[AccessEntry]) -> Value {
    let roots: Map<String, Value> =
        access.iter().map(|access| (access.name.clone(), "$disabled".into())).collect();
    let mut context = json!({ "com.apostille.roots": roots, "com.apostille.root": "$disabled" });
    if let Some(user) = user {
        let kind = if user.contains('+') { "robot" } else { "user" };
        let uuid = quay.database.lock().users.get(user).map(|user| user.uuid.clone());
        context["version"] = 2.into();
        context["entity_kind"] = kind.into();
        context["entity_reference"] = uuid.into();
        context["kind"] = "user".into();
        context["user"] = user.into();
    }
    context
}

/// The user of the Basic credentials, `None` without credentials, or the refusal.
fn login(quay: &Instance, headers: &HeaderMap) -> Result<Option<String>, Box<QuayAnswer>> {
    let Some(value) = headers.get(http::header::AUTHORIZATION) else { return Ok(None) };
    let decoded = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Basic "))
        .and_then(|text| STANDARD.decode(text.trim()).ok());
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let wrong = || {
        let answer = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Invalid Username or Password");
        Box::new(challenge(quay, answer, None))
    };
    let Some((name, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) else {
        return Err(wrong());
    };
    let mut state = quay.database.lock();
    let Some(user) = state.users.get_mut(name) else { return Err(wrong()) };
    if user.failed.is_some_and(|failed| failed.elapsed() < BACK_OFF) {
        return Err(Box::new(throttled()));
    }
    if user.password != password {
        user.failed = Some(Instant::now());
        return Err(wrong());
    }
    user.failed = None;
    Ok(Some(name.to_owned()))
}

fn throttled() -> QuayAnswer {
    html(
        StatusCode::TOO_MANY_REQUESTS,
        "Too many login attempts. \nPlease reset your Quay password and try again.",
    )
    .with("retry-after", "0")
    .with("access-control-allow-origin", "*")
    .with("access-control-allow-methods", "DELETE, GET, HEAD, OPTIONS, POST, PUT")
    .with("access-control-max-age", "21600")
    .with("access-control-allow-headers", "AUTHORIZATION, CONTENT-TYPE, X-REQUESTED-WITH")
}

/// The part of a scope that `user` gets. `None` if Quay does not know the scope. A push scope creates the
/// repository in the user's own namespace.
fn scope(quay: &Instance, user: Option<&str>, scope: &str) -> Option<AccessEntry> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    if name.is_empty() || !actions.split(',').all(|action| matches!(action, "push" | "pull" | "*")) {
        return None;
    }
    let asked = |action: &str| actions.split(',').any(|given| given == action);
    let plain = name.strip_prefix(&format!("{}/", quay.hostname)).unwrap_or(name);
    let repository = with_namespace(plain);
    let mut state = quay.database.lock();
    let push = state.may_push(user, &repository);
    if asked("push") && push {
        state.repositories.entry(repository.clone()).or_default();
    }
    let pull = state.may_pull(user, &repository);
    let mut granted = Vec::new();
    if asked("push") && push {
        granted.push("push".to_owned());
    }
    if asked("pull") && pull {
        granted.push("pull".to_owned());
    }
    if asked("*") && push {
        granted.push("*".to_owned());
    }
    Some(AccessEntry { kind: "repository".into(), name: name.into(), actions: granted })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_504_276;

    fn claims() -> Value {
        json!({"iss": "quay", "aud": "quay.example", "nbf": NOW, "iat": NOW, "exp": NOW + LIFE, "sub": "admin",
               "access": [{"type": "repository", "name": "admin/one", "actions": ["push", "pull"]}]})
    }

    #[test]
    fn rules() {
        let good = accept(claims(), "quay.example", NOW).expect("accepted");
        assert!(good.grants("admin/one", true) && !good.grants("admin/two", false));
        let spoils: [(&str, Value); 9] = [
            ("aud", "other".into()),
            ("iss", "clair".into()),
            ("exp", (NOW - 31).into()),
            ("exp", (NOW + MAX_FRESH + 1).into()),
            ("iat", (NOW + 31).into()),
            ("nbf", (NOW + 31).into()),
            ("nbf", Value::Null),
            ("sub", "".into()),
            ("access", json!([{"type": "storageproxy", "name": "x", "actions": ["pull"]}])),
        ];
        for (claim, value) in spoils {
            let mut spoilt = claims();
            spoilt[claim] = value.clone();
            assert!(accept(spoilt, "quay.example", NOW).is_err(), "{claim} {value}");
        }
    }
}
