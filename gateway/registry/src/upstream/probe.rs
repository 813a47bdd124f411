//! Probes each instance regularly.

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::Upstream;
use super::breaker::Evidence;
use super::instance::Instance;
use crate::Health;
use config::{RegistryKind, Settings};
use gateway_http::Body;

/// The time from the start of one probe to the start of the next, if there was a recent failure. It is never
/// shorter.
const GAP: Duration = Duration::from_secs(1);

/// The bytes that are read of an instance's answer to a probe.
const ANSWER_MAX: usize = 64 * 1024;

/// The path of the key set of the Quay in these settings.
pub(super) fn key_set(settings: &Settings) -> Option<PathAndQuery> {
    let tokens = settings.auth.tokens.as_ref().filter(|_| settings.registry_kind == RegistryKind::Quay)?;
    format!("/keys/services/{}/keys", tokens.issuer).parse().ok()
}

impl Upstream {
    /// Probes every instance until `stop`.
    pub fn start(self: &Arc<Self>, stop: &CancellationToken) {
        for place in 0..self.instances.len() {
            let (upstream, stop) = (Arc::clone(self), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(upstream.keep_probing(place)).await });
        }
    }

    async fn keep_probing(&self, place: usize) {
        let instance = &self.instances[place];
        loop {
            let begun = Instant::now();
            let bound = self.timeouts.registry_probe;
            let (evidence, why) = match tokio::time::timeout(bound, self.probe(instance)).await {
                Ok(seen) => seen,
                Err(_) => (Evidence::Silent, format!("no answer to a probe within {} ms", bound.as_millis())),
            };
            instance.note(evidence, &why);
            tokio::time::sleep_until(begun + GAP).await;
            if !instance.is_doubtful() {
                let calm = tokio::time::sleep_until(begun + self.timeouts.registry_probe_every);
                tokio::select! {
                    () = calm => {}
                    () = instance.suspected() => {}
                }
            }
        }
    }

    /// Sends one probe, over the same connections as other requests.
    async fn probe(&self, instance: &Instance) -> (Evidence, String) {
        let path = match self.kind {
            RegistryKind::Quay => "/health/instance",
            RegistryKind::Distribution | RegistryKind::Oci => "/v2/",
        };
        let (parts, body) = match self.get(instance, &PathAndQuery::from_static(path)).await {
            Ok(answer) => answer.into_parts(),
            Err(why) => return (Evidence::Silent, why),
        };
        // An answer that is not Quay's own is judged by its status.
        let said = Limited::new(body, ANSWER_MAX).collect().await.map(|body| body.to_bytes());
        let seen = judged(self.kind, parts.status, &said.unwrap_or_default());
        match seen.0 {
            Evidence::Reached => self.probe_key_set(instance).await.unwrap_or(seen),
            _ => seen,
        }
    }

    /// Asks for Quay's key set, which Quay reads from its database (`endpoints/keyserver/__init__.py`). A proxy that answers
    /// `/health/instance` by itself cannot give it. `None` if the answer shows nothing.
    async fn probe_key_set(&self, instance: &Instance) -> Option<(Evidence, String)> {
        let (parts, body) = self.get(instance, self.key_set.as_ref()?).await.ok()?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await.ok()?.to_bytes();
        match parts.status {
            StatusCode::OK => {
                let set: serde_json::Value = serde_json::from_slice(&body).ok()?;
                set.get("keys")?.is_array().then(|| (Evidence::Well, String::new()))
            }
            status if status.is_server_error() => {
                Some((Evidence::Unwell, format!("its key set is answered {}", status.as_u16())))
            }
            _ => None,
        }
    }

    async fn get(&self, instance: &Instance, path: &PathAndQuery) -> Result<Response<Incoming>, String> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = self.uri(path).map_err(|problem| problem.message)?;
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request.headers_mut().insert(USER_AGENT, backends::PROBES);
        instance.client.request(request).await.map_err(|error| format!("a probe failed: {error}"))
    }
}

/// The meaning of an answer to a probe.
///
/// See [`Health`] for what an instance says of itself.
fn judged(kind: RegistryKind, status: StatusCode, body: &[u8]) -> (Evidence, String) {
    let health = Health::of(kind, status, body);
    let status = status.as_u16();
    match health {
        Health::Serves => (Evidence::Well, String::new()),
        Health::NotItsOwn => (
            Evidence::Reached,
            format!("requests fail, and probes are not answered by Quay itself ({status})"),
        ),
        Health::Error => (Evidence::Unwell, format!("a probe is answered {status}")),
        Health::Fails(names) if names.is_empty() => (Evidence::Unwell, "its health check fails".to_owned()),
        // The names come from the network.
        Health::Fails(names) => {
            let evidence = if Health::is_down(&names) { Evidence::Unwell } else { Evidence::Impaired };
            let names = names.join(", ");
            let names: String = names.chars().filter(|character| !character.is_control()).take(200).collect();
            (evidence, format!("its health check fails: {names}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quay(status: u16, body: &str) -> (Evidence, String) {
        judged(RegistryKind::Quay, StatusCode::from_u16(status).expect("a status"), body.as_bytes())
    }

    #[test]
    fn quay_names_the_failing_services() {
        let unwell = |why: &str| (Evidence::Unwell, why.to_owned());
        let well = (Evidence::Well, String::new());
        let health =
            |services: &str| format!(r#"{{"data":{{"services":{{{services}}}}},"status_code":503}}"#);
        assert_eq!(quay(200, &health(r#""database":true"#)), well);
        assert_eq!(
            quay(503, &health(r#""auth":false,"database":false,"web_gunicorn":true"#)),
            unwell("its health check fails: auth, database")
        );
        assert_eq!(quay(503, &health(r#""database":true,"preferred_storage":false"#)), well);
        assert_eq!(
            quay(503, &health(r#""database":false,"preferred_storage":false"#)),
            unwell("its health check fails: database, preferred_storage")
        );
        assert_eq!(quay(503, &health("")), unwell("its health check fails"));
        for still_answers in ["auth", "disk_space", "web_gunicorn"] {
            let seen = quay(503, &health(&format!(r#""database":true,"{still_answers}":false"#)));
            assert_eq!(seen, (Evidence::Impaired, format!("its health check fails: {still_answers}")));
        }
    }

    #[test]
    fn other_registries_are_judged_by_their_status() {
        for there in [200, 301, 401, 403, 404, 429] {
            assert_eq!(quay(there, "<html>").0, Evidence::Reached, "{there}");
        }
        for gone in [500, 502, 503, 504] {
            assert_eq!(quay(gone, "<html>").0, Evidence::Unwell, "{gone}");
        }
        let health = r#"{"data":{"services":{"database":true}},"status_code":200}"#;
        for (status, body) in [(200, "true"), (200, "{}"), (302, health), (404, health)] {
            assert_eq!(quay(status, body).0, Evidence::Reached, "{status} {body}");
        }
        let distribution = |status| judged(RegistryKind::Distribution, status, b"{}").0;
        assert_eq!(distribution(StatusCode::UNAUTHORIZED), Evidence::Well);
        assert_eq!(distribution(StatusCode::SERVICE_UNAVAILABLE), Evidence::Unwell);
    }
}
