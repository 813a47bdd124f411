//! The steps of the registry: reach it, and see that it is the one the configuration speaks of.

mod challenge;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::advice::{Advice, Peer, Trouble};
use super::connection::{self, Server};
use super::progress::Line;
use super::step::{Name, Note, Steps, Walk};
use config::{Instance, RegistryKind, Settings};
use registry::{RegistryClient, read_body};

/// Bytes read of one answer: a key set has half a KiB a key, one key an instance.
const ANSWER_MAX: usize = 1024 * 1024;

/// What came of one instance of the registry.
#[derive(Debug, Clone)]
pub struct RegistryReport {
    /// Its name; its zone's, as a rule.
    pub name: String,
    /// Where it is dialled.
    pub url: String,
    /// `quay` or `distribution`.
    pub kind: String,
    /// Its steps.
    pub steps: Steps,
    /// Names of the keys that it knows; Quay's instances keep them in their database.
    pub keys: Vec<String>,
}

/// Checks an instance of the registry; no step takes longer than `bound`, if there is one.
pub(super) async fn check(
    settings: &Settings,
    instance: &Instance,
    tls: &Arc<rustls::ClientConfig>,
    bound: Option<Duration>,
    line: Line,
) -> RegistryReport {
    // As if there were no other: none is to answer in its place.
    let settings = &Settings { instances: vec![instance.clone()], ..settings.clone() };
    let https = instance.url.scheme() == "https";
    let server =
        Server { server_name: https.then(|| instance.server_name.clone()), ..Server::of(&instance.url) };
    let servers = [server];
    let own: &[Name] = match settings.registry_kind {
        RegistryKind::Quay => &[Name::Challenge, Name::Keys, Name::Health],
        RegistryKind::Distribution => &[Name::Challenge],
    };
    let plan = [connection::plan(&servers), own.to_vec()].concat();
    let peer = Peer { tls: https, ..Peer::default() };
    let mut walk = Walk::new(peer, plan, line);
    // The walk knows what failed.
    let mut keys = Vec::new();
    let _ = steps(&mut walk, settings, &servers, tls, bound, &mut keys).await;
    RegistryReport {
        name: instance.name.clone(),
        url: instance.url.to_string(),
        kind: format!("{:?}", settings.registry_kind).to_lowercase(),
        steps: walk.end(),
        keys,
    }
}

async fn steps(
    walk: &mut Walk,
    settings: &Settings,
    servers: &[Server],
    tls: &Arc<rustls::ClientConfig>,
    bound: Option<Duration>,
    known: &mut Vec<String>,
) -> Option<()> {
    let connect = bound.unwrap_or(settings.timeouts.registry_connect);
    let answer = bound.unwrap_or(settings.timeouts.registry_connect + settings.timeouts.registry_permission);
    let client = match RegistryClient::new("registry", settings, tls) {
        Ok(client) => client.within(answer),
        Err(error) => {
            let said = format!("{error:#}");
            let advice = Advice::new(
                "a name cannot stand in a request or a certificate",
                "mend `registry.server_name`",
            );
            let refused = std::future::ready(Err::<((), _), _>(Trouble::Told(said, advice)));
            return walk.step(Name::Configuration, connect, refused).await;
        }
    };
    connection::reach(walk, servers, tls, connect).await?;
    walk.step(Name::Challenge, answer, async {
        let (status, headers, _) = get(&client, "/v2/").await?;
        challenge::judge(settings, status, &headers).map(|note| ((), Some(note)))
    })
    .await?;
    if settings.registry_kind != RegistryKind::Quay {
        return Some(());
    }
    *known = walk.step(Name::Keys, answer, keys(&client)).await?;
    walk.step(Name::Health, answer, health(&client)).await
}

async fn get(client: &RegistryClient, path: &str) -> Result<(StatusCode, HeaderMap, Vec<u8>), Trouble> {
    let answer = client.get(path, HeaderMap::new()).await.map_err(|problem| {
        let advice = Advice::new(
            "it takes the connection, and does not answer as a registry does",
            "see its log, and that `registry.url` leads to it",
        );
        Trouble::Told(problem.message, advice)
    })?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = read_body(answer, ANSWER_MAX).await.map_err(|error| {
        let advice = Advice::new("the registry broke off, or answers endlessly", "see its log");
        Trouble::Told(format!("GET {path}: {error}"), advice)
    })?;
    Ok((status, headers, body))
}

/// `endpoints/keyserver`: without them the gateway could not verify a token.
async fn keys(client: &RegistryClient) -> Result<(Vec<String>, Option<Note>), Trouble> {
    #[derive(Deserialize)]
    struct Key {
        kid: String,
    }
    #[derive(Deserialize)]
    struct KeySet {
        keys: Vec<Key>,
    }
    const PATH: &str = "/keys/services/quay/keys";
    let (status, _, body) = get(client, PATH).await?;
    let set = serde_json::from_slice::<KeySet>(&body).ok().filter(|_| status == StatusCode::OK);
    match set.map(|set| set.keys) {
        Some(keys) if !keys.is_empty() => {
            let note = Note::Info(format!("{} keys", keys.len()));
            Ok((keys.into_iter().map(|key| key.kid).collect(), Some(note)))
        }
        Some(_) => Err(Trouble::Told(
            format!("GET {PATH}: no keys"),
            Advice::new(
                "no instance of Quay has a key that is approved and current",
                "restart Quay's instances",
            ),
        )),
        None => Err(Trouble::Told(
            format!("GET {PATH}: {status}"),
            Advice::new(
                "something in front of Quay keeps its keys from the gateway, or it is another registry",
                "let /keys pass, or set `registry.kind`",
            ),
        )),
    }
}

/// What does not belong together: every instance keeps its keys in the database
/// (`boot.py:setup_instance_service_key`), so instances that share it know each other's.
pub(super) fn strangers(instances: &[RegistryReport]) -> Vec<String> {
    let mut known = instances.iter().filter(|instance| !instance.keys.is_empty());
    let Some(first) = known.next() else { return Vec::new() };
    let stranger = |other: &&RegistryReport| !other.keys.iter().any(|key| first.keys.contains(key));
    let told = |other: &RegistryReport| {
        format!(
            "the instances {} and {} of the registry know none of each other's keys, so they have not one database: \
             what is pushed to one is not at the other; take one of them out of registry.instances",
            first.name, other.name
        )
    };
    known.filter(stranger).map(told).collect()
}

/// `/health/instance`: storage is not in it (`health/healthcheck.py:LocalHealthCheck`).
async fn health(client: &RegistryClient) -> Result<((), Option<Note>), Trouble> {
    const PATH: &str = "/health/instance";
    let (status, _, body) = get(client, PATH).await?;
    let failing = failing(&body);
    if status == StatusCode::OK && failing.is_empty() {
        return Ok(((), None));
    }
    let said = match failing.is_empty() {
        true => format!("GET {PATH}: {status}"),
        false => format!("GET {PATH}: {status}, failing: {}", failing.join(", ")),
    };
    let cause = match failing.iter().any(|service| service == "database" || service == "auth") {
        true => "Quay cannot reach its database or its users' directory: everything but pings fails there",
        false => "a part of this Quay does not work",
    };
    Err(Trouble::Told(said, Advice::new(cause, "see Quay's own log, and /health/endtoend")))
}

/// The services that Quay says fail, by name.
fn failing(body: &[u8]) -> Vec<String> {
    let health: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let services = health["data"]["services"].as_object().into_iter().flatten();
    services.filter(|(_, works)| **works == false).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_services_are_named() {
        let body =
            br#"{"data":{"services":{"auth":true,"database":false,"disk_space":false}},"status_code":503}"#;
        assert_eq!(failing(body), ["database", "disk_space"]);
        assert!(failing(b"<html>").is_empty());
    }
}
