//! Checks an instance of the registry: that it can be reached, and that it is the one in the configuration.

mod challenge;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::advice::{Advice, Peer, StepError};
use super::connection::{self, Server};
use super::progress::CheckLine;
use super::step::{StepName, StepNote, StepRunner, Steps};
use config::{Instance, RegistryKind, Settings};
use registry::{Health, RegistryClient, read_body};

/// The most bytes of an answer. A key set has half a KiB for each key, and each instance has one key.
const ANSWER_MAX: usize = 1024 * 1024;

/// Where Quay reports its health.
const HEALTH: &str = "/health/instance";

/// The result of checking one instance of the registry.
#[derive(Debug, Clone)]
pub struct RegistryCheck {
    /// The name of the instance, which is usually that of its zone.
    pub name: String,
    /// The URL at which the gateway connects to it.
    pub url: String,
    /// `quay` or `distribution`.
    pub kind: String,
    /// The proxy that leads to it.
    pub proxy: Option<String>,
    /// The steps.
    pub steps: Steps,
    /// The ids of the keys that it knows. Quay's instances keep them in their database.
    pub keys: Vec<String>,
}

/// Checks an instance of the registry. If `bound` is given, it is the timeout of each step.
pub(super) async fn check(
    settings: &Settings,
    instance: &Instance,
    tls: &Arc<rustls::ClientConfig>,
    bound: Option<Duration>,
    line: CheckLine,
) -> RegistryCheck {
    // Without the others, so that none of them answers instead.
    let settings = &Settings { instances: vec![instance.clone()], ..settings.clone() };
    let https = instance.url.scheme() == "https";
    let server = Server {
        server_name: https.then(|| instance.server_name.clone()),
        tunnel: true,
        ..Server::of(&instance.url, &settings.proxies)
    };
    let servers = [server];
    let own: &[StepName] = match settings.registry_kind {
        RegistryKind::Quay => &[StepName::Challenge, StepName::Keys, StepName::Health],
        RegistryKind::Distribution | RegistryKind::Oci => &[StepName::Challenge],
    };
    let plan = [connection::plan(&servers), own.to_vec()].concat();
    let proxy = connection::proxies(&servers);
    let peer = Peer { tls: https, proxy: proxy.clone(), ..Peer::default() };
    let mut runner = StepRunner::new(peer, plan, line);
    // The runner has recorded the failure.
    let mut keys = Vec::new();
    let _ = steps(&mut runner, settings, &servers, tls, bound, &mut keys).await;
    RegistryCheck {
        name: instance.name.clone(),
        url: instance.url.to_string(),
        kind: format!("{:?}", settings.registry_kind).to_lowercase(),
        proxy,
        steps: runner.end(),
        keys,
    }
}

async fn steps(
    runner: &mut StepRunner,
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
            let message = format!("{error:#}");
            let advice = Advice::new(
                "a name is not valid in a request or in a certificate",
                "correct `registry.server_name`",
            );
            let refused = std::future::ready(Err::<((), _), _>(StepError::Explained(message, advice)));
            return runner.step(StepName::Configuration, connect, refused).await;
        }
    };
    connection::reach(runner, servers, tls, connect).await?;
    runner
        .step(StepName::Challenge, answer, async {
            let (status, headers, _) = get(&client, "/v2/").await?;
            challenge::check_challenge(settings, status, &headers).map(|note| ((), Some(note)))
        })
        .await?;
    if settings.registry_kind != RegistryKind::Quay {
        return Some(());
    }
    *known = runner.step(StepName::Keys, answer, keys(&client)).await?;
    runner.step(StepName::Health, answer, health(&client)).await
}

async fn get(client: &RegistryClient, path: &str) -> Result<(StatusCode, HeaderMap, Vec<u8>), StepError> {
    let answer = client.get(path, HeaderMap::new()).await.map_err(|problem| {
        let advice = Advice::new(
            "the server accepts the connection, but does not answer as a registry does",
            "check its log, and that `registry.url` is its address",
        );
        StepError::Explained(problem.message, advice)
    })?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = read_body(answer, ANSWER_MAX).await.map_err(|error| {
        let advice =
            Advice::new("the registry closed the connection, or its answer is too long", "check its log");
        StepError::Explained(format!("GET {path}: {error}"), advice)
    })?;
    Ok((status, headers, body))
}

/// Reads Quay's keys (`endpoints/keyserver`), with which the gateway verifies tokens.
async fn keys(client: &RegistryClient) -> Result<(Vec<String>, Option<StepNote>), StepError> {
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
            let note = StepNote::Info(format!("{} keys", keys.len()));
            Ok((keys.into_iter().map(|key| key.kid).collect(), Some(note)))
        }
        Some(_) => Err(StepError::Explained(
            format!("GET {PATH}: no keys"),
            Advice::new(
                "no instance of Quay has a key that is approved and not expired",
                "restart Quay's instances",
            ),
        )),
        None => Err(StepError::Explained(
            format!("GET {PATH}: {status}"),
            Advice::new(
                "a proxy in front of Quay blocks its keys, or the registry is not Quay",
                "allow requests to /keys, or set `registry.kind`",
            ),
        )),
    }
}

/// Warnings about instances that do not share a database. Every instance keeps its keys in the database
/// (`boot.py:setup_instance_service_key`), so instances that share one know each other's keys.
pub(super) fn unrelated_instances(instances: &[RegistryCheck]) -> Vec<String> {
    let mut known = instances.iter().filter(|instance| !instance.keys.is_empty());
    let Some(first) = known.next() else { return Vec::new() };
    let unrelated = |other: &&RegistryCheck| !other.keys.iter().any(|key| first.keys.contains(key));
    let warning = |other: &RegistryCheck| {
        format!(
            "the instances {} and {} of the registry know none of each other's keys, so they do not share a \
             database: an image that is pushed to one is not at the other; remove one of them from registry.instances",
            first.name, other.name
        )
    };
    known.filter(unrelated).map(warning).collect()
}

/// Reads `/health/instance`, which does not include storage (`health/healthcheck.py:LocalHealthCheck`).
async fn health(client: &RegistryClient) -> Result<((), Option<StepNote>), StepError> {
    let (status, _, body) = get(client, HEALTH).await?;
    judged(status, &body).map(|()| ((), None))
}

/// What the answer says, in the same way as to a probe.
fn judged(code: StatusCode, body: &[u8]) -> Result<(), StepError> {
    const LOG: &str = "check Quay's own log, and /health/endtoend";
    const PART: &str = "a part of this Quay instance does not work";
    let status = format!("GET {HEALTH}: {code}");
    let (message, cause, fix) = match Health::of(RegistryKind::Quay, code, body) {
        Health::Serves => return Ok(()),
        Health::NotItsOwn => (
            format!("{status}, which is not Quay's report"),
            "a proxy in front of Quay answers this path itself, so that nobody knows whether Quay works behind it",
            "have the proxy forward /health/instance to Quay",
        ),
        Health::Fails(names) if names.is_empty() => (status, PART, LOG),
        Health::Error => (status, PART, LOG),
        Health::Fails(names) => {
            let all = ["database", "auth"];
            let cause = match names.iter().any(|name| all.contains(&name.as_str())) {
                true => {
                    "Quay cannot reach its database or its user directory, so every request except pings fails"
                }
                false => PART,
            };
            (format!("{status}, failing: {}", names.join(", ")), cause, LOG)
        }
    };
    Err(StepError::Explained(message, Advice::new(cause, fix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message and the cause.
    fn said(status: u16, body: &str) -> Option<(String, String)> {
        match judged(StatusCode::from_u16(status).expect("a status"), body.as_bytes()) {
            Ok(()) => None,
            Err(StepError::Explained(message, advice)) => Some((message, format!("{advice:?}"))),
            Err(_) => panic!("another error"),
        }
    }

    #[test]
    fn failing_services_are_named() {
        let health =
            |services: &str| format!(r#"{{"data":{{"services":{{{services}}}}},"status_code":503}}"#);
        let (message, advice) =
            said(503, &health(r#""auth":true,"database":false,"disk_space":false"#)).expect("it fails");
        assert!(message.ends_with("failing: database, disk_space"), "{message}");
        assert!(advice.contains("its database"), "{advice}");
        assert_eq!(said(200, &health(r#""auth":true"#)), None);
        // The stores have checks of their own.
        assert_eq!(said(503, &health(r#""auth":true,"preferred_storage":false"#)), None);
    }

    #[test]
    fn a_proxy_does_not_answer_for_quay() {
        for status in [200, 302, 404] {
            let (message, advice) = said(status, "<html>").expect("it is no report");
            assert!(message.ends_with("which is not Quay's report"), "{message}");
            assert!(advice.contains("a proxy"), "{advice}");
        }
        assert!(said(502, "<html>").expect("an error").1.contains("a part of this Quay"));
    }
}
