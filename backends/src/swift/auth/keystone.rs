//! Builds requests to Keystone and parses its answers. No I/O.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::swift::config::{Account, Domain, Named, Service};
use crate::timestamp::timestamp;
use crate::{Error, Kind, Result, Secret};

/// The maximum number of endpoints that an error lists.
const LISTED: usize = 12;

/// The body of `POST /v3/auth/tokens` with a password, a token or both, as keystoneclient builds it.
pub(super) fn v3_request(account: &Account) -> Value {
    let mut methods = Vec::new();
    let mut identity = json!({});
    if let Some(token) = &account.token {
        methods.push("token");
        identity["token"] = json!({ "id": token.reveal() });
    }
    if let Some(password) = &account.password {
        methods.push("password");
        let mut user = named(&account.user);
        user["password"] = password.reveal().into();
        identity["password"] = json!({ "user": user });
    }
    identity["methods"] = json!(methods);
    let mut auth = json!({ "identity": identity });
    if let Some(project) = &account.project {
        auth["scope"] = json!({ "project": named(project) });
    }
    json!({ "auth": auth })
}

/// The body of `POST /v3/auth/tokens` with an application credential, which has its own scope.
pub(super) fn credential_request(id: &str, secret: &Secret) -> Value {
    json!({ "auth": { "identity": {
        "methods": ["application_credential"],
        "application_credential": { "id": id, "secret": secret.reveal() },
    } } })
}

/// The body of `POST /v2.0/tokens`.
pub(super) fn v2_request(account: &Account) -> Value {
    let mut auth = match (&account.token, &account.password) {
        (Some(token), _) => json!({ "token": { "id": token.reveal() } }),
        (None, password) => {
            let password = password.as_ref().map(Secret::reveal).unwrap_or_default();
            json!({ "passwordCredentials": match &account.user {
                Named::Id(id) => json!({ "userId": id, "password": password }),
                Named::Name { name, .. } => json!({ "username": name, "password": password }),
            } })
        }
    };
    match &account.project {
        Some(Named::Id(id)) => auth["tenantId"] = id.as_str().into(),
        Some(Named::Name { name, .. }) => auth["tenantName"] = name.as_str().into(),
        None => {}
    }
    json!({ "auth": auth })
}

fn named(named: &Named) -> Value {
    match named {
        Named::Id(id) => json!({ "id": id }),
        Named::Name { name, domain: Domain::Id(id) } => json!({ "name": name, "domain": { "id": id } }),
        Named::Name { name, domain: Domain::Name(of) } => json!({ "name": name, "domain": { "name": of } }),
    }
}

/// The result of a login.
pub(super) struct Granted {
    /// The token in the body. Only v2 has it there; v3 sends it in a header.
    pub(super) token: Option<Secret>,
    /// The lifetime of the token, from its issue. `None` if Keystone does not report it.
    pub(super) life: Option<Duration>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// One endpoint of a service.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    service: String,
    interface: String,
    regions: Vec<String>,
    url: String,
}

#[derive(Deserialize)]
struct V3 {
    token: V3Token,
}

#[derive(Deserialize)]
struct V3Token {
    expires_at: Option<String>,
    issued_at: Option<String>,
    #[serde(default)]
    catalog: Vec<V3Service>,
}

#[derive(Deserialize)]
struct V3Service {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    endpoints: Vec<V3Endpoint>,
}

#[derive(Deserialize)]
struct V3Endpoint {
    interface: Option<String>,
    region: Option<String>,
    region_id: Option<String>,
    url: Option<String>,
}

/// Parses the answer to [`v3_request`].
pub(super) fn v3_granted(body: &[u8]) -> Result<Granted> {
    let V3 { token } = serde_json::from_slice(body).map_err(unread)?;
    let mut endpoints = Vec::new();
    for service in token.catalog {
        for endpoint in service.endpoints {
            let (Some(interface), Some(url)) = (endpoint.interface, endpoint.url) else { continue };
            let mut regions: Vec<String> = endpoint.region.into_iter().chain(endpoint.region_id).collect();
            regions.dedup();
            endpoints.push(Endpoint { service: service.kind.clone(), interface, regions, url });
        }
    }
    let life = life(token.issued_at.as_deref(), token.expires_at.as_deref());
    Ok(Granted { token: None, life, endpoints })
}

#[derive(Deserialize)]
struct V2 {
    access: V2Access,
}

#[derive(Deserialize)]
struct V2Access {
    token: V2Token,
    #[serde(rename = "serviceCatalog", default)]
    catalog: Vec<V2Service>,
}

#[derive(Deserialize)]
struct V2Token {
    id: Secret,
    expires: Option<String>,
    issued_at: Option<String>,
}

#[derive(Deserialize)]
struct V2Service {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    endpoints: Vec<serde_json::Map<String, Value>>,
}

/// Parses the answer to [`v2_request`].
pub(super) fn v2_granted(body: &[u8]) -> Result<Granted> {
    let V2 { access } = serde_json::from_slice(body).map_err(unread)?;
    let mut endpoints = Vec::new();
    for service in access.catalog {
        for endpoint in service.endpoints {
            let region = endpoint.get("region").and_then(Value::as_str);
            for (name, url) in &endpoint {
                let (Some(interface), Some(url)) = (name.strip_suffix("URL"), url.as_str()) else { continue };
                endpoints.push(Endpoint {
                    service: service.kind.clone(),
                    interface: interface.to_owned(),
                    regions: region.map(str::to_owned).into_iter().collect(),
                    url: url.to_owned(),
                });
            }
        }
    }
    let life = life(access.token.issued_at.as_deref(), access.token.expires.as_deref());
    Ok(Granted { token: Some(access.token.id), life, endpoints })
}

/// The lifetime by Keystone's own clock, so that our clock does not matter. Old servers do not report the
/// time of issue.
fn life(issued: Option<&str>, expires: Option<&str>) -> Option<Duration> {
    let expires = timestamp(expires?)?;
    let issued = match issued {
        Some(issued) => timestamp(&format!("{}Z", issued.trim_end_matches('Z')))?,
        None => std::time::SystemTime::now(),
    };
    Some(expires.duration_since(issued).unwrap_or_default())
}

/// Finds the wanted endpoint.
///
/// # Errors
/// [`Kind::Denied`] if there is none; the error lists the endpoints that exist. [`Kind::Invalid`] if its URL
/// cannot be parsed.
pub(super) fn find(endpoints: &[Endpoint], wanted: &Service) -> Result<Url> {
    let fits = |endpoint: &&Endpoint| {
        let region = wanted.region.as_ref().is_none_or(|region| endpoint.regions.contains(region));
        endpoint.service == wanted.kind && endpoint.interface == wanted.interface && region
    };
    if let Some(found) = endpoints.iter().find(fits) {
        let url = Url::parse(&found.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        return url.ok_or_else(|| {
            Error::new(Kind::Invalid, "the object store's URL in the catalogue is not valid")
        });
    }
    let region = wanted.region.as_ref().map_or_else(String::new, |region| format!(" in region {region}"));
    let why = format!("Keystone's catalogue has no {} {} endpoint{region}", wanted.interface, wanted.kind);
    Err(Error::new(Kind::Denied, format!("log in: {why}; {}", instead(endpoints, wanted))))
}

/// Describes the endpoints that exist instead of the wanted one.
fn instead(endpoints: &[Endpoint], wanted: &Service) -> String {
    if endpoints.is_empty() {
        return "it is empty, which happens if the login has no project: set tenant_name or tenant_id"
            .to_owned();
    }
    let found: BTreeSet<String> = endpoints
        .iter()
        .filter(|endpoint| endpoint.service == wanted.kind)
        .map(|endpoint| format!("{} in region {}", endpoint.interface, endpoint.regions.join(" or ")))
        .collect();
    if found.is_empty() {
        let kinds: BTreeSet<String> = endpoints.iter().map(|endpoint| endpoint.service.clone()).collect();
        return format!("it has the services {} (service_type)", listed(kinds));
    }
    format!("it has {} (endpoint_type, region_name)", listed(found))
}

fn listed(found: BTreeSet<String>) -> String {
    let more = found.len().saturating_sub(LISTED);
    let mut listed = found.into_iter().take(LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        listed.push_str(&format!(" and {more} more"));
    }
    listed
}

/// The possible causes of Keystone's 401, which does not name one.
pub(super) fn hint(account: &Account) -> String {
    let user = describe(&account.user);
    let mut hint = format!("Keystone knows no user {user} with this password");
    let Some(project) = &account.project else { return hint };
    hint.push_str(&format!(", or no project {} of that user", describe(project)));
    match project {
        Named::Id(id) if !is_id(id) => hint.push_str("; tenant_id looks like a name: use tenant_name"),
        Named::Name { name, .. } if is_id(name) => {
            hint.push_str("; tenant_name looks like an id: use tenant_id");
        }
        _ => {}
    }
    hint
}

fn describe(named: &Named) -> String {
    match named {
        Named::Id(id) => format!("with the id {id:?}"),
        Named::Name { name, domain: Domain::Id(id) } => format!("{name:?} in the domain with the id {id:?}"),
        Named::Name { name, domain: Domain::Name(of) } => format!("{name:?} in the domain {of:?}"),
    }
}

/// Keystone's ids are UUIDs without dashes, or SHA-256 digests for LDAP users.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 32 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn unread(error: serde_json::Error) -> Error {
    // The text of the parser's error might contain a token.
    let kind = format!("{:?}", error.classify());
    Error::new(Kind::Unavailable, "log in: the answer is not a valid Keystone answer").with_code(kind)
}

#[cfg(test)]
#[path = "keystone_tests.rs"]
mod tests;
