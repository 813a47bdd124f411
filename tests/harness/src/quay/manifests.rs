//! Manifests (`endpoints/v2/manifest.py`). They are in the database, never in a store.

use std::time::Duration;

use backends::Digest;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::access::{Need, check};
use super::answer::{QuayAnswer, error, html, manifest_invalid, method_not_allowed, nginx, nothing};
use super::state::StoredManifest;
use super::{Instance, schema1};
use crate::body::full;

const METHODS: &str = "GET, DELETE, OPTIONS, HEAD, PUT";
/// nginx's own default. Quay does not change it here.
const BODY_LIMIT: usize = 1024 * 1024;
/// How often the config blob is asked for, and the pause between two tries (`oci/retriever.py`).
const CONFIG_TRIES: u32 = 5;
const CONFIG_PAUSE: Duration = Duration::from_millis(300);

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(super) async fn answer(
    quay: &Instance,
    method: &Method,
    headers: &HeaderMap,
    repository: &str,
    reference: &str,
    body: Incoming,
) -> QuayAnswer {
    let need = if matches!(*method, Method::GET | Method::HEAD) { Need::Pull } else { Need::Push };
    if let Err(refusal) = check(quay, headers, repository, need, METHODS) {
        return *refusal;
    }
    match *method {
        Method::GET | Method::HEAD => get(quay, headers, repository, reference),
        Method::PUT => match Limited::new(body, BODY_LIMIT).collect().await {
            Ok(body) => put(quay, headers, repository, reference, body.to_bytes())
                .await
                .unwrap_or_else(|refusal| *refusal),
            Err(_) => nginx(StatusCode::PAYLOAD_TOO_LARGE),
        },
        Method::DELETE => delete(quay, repository, reference),
        _ => method_not_allowed(METHODS),
    }
}

fn unknown() -> QuayAnswer {
    error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown")
}

fn get(quay: &Instance, headers: &HeaderMap, repository: &str, reference: &str) -> QuayAnswer {
    let state = quay.database.lock();
    let Some(found) = state.repositories.get(repository) else {
        return error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry");
    };
    if reference.contains(':') {
        // For a digest, Accept is ignored.
        return found.manifests.get(reference).map_or_else(unknown, |manifest| show(reference, manifest));
    }
    if found.expired.contains(reference) {
        let message = format!("Tag {reference} was deleted or has expired. To pull, revive via time machine");
        return error(StatusCode::NOT_FOUND, "TAG_EXPIRED", &message);
    }
    let Some((digest, manifest)) =
        found.tags.get(reference).and_then(|digest| Some((digest, found.manifests.get(digest)?)))
    else {
        return unknown();
    };
    let accepted = accepted(headers);
    let accepts = |manifest: &StoredManifest| accepted.contains(&manifest.media_type);
    if accepts(manifest) {
        return show(digest, manifest);
    }
    let child = amd64(manifest).and_then(|digest| found.manifests.get_key_value(&digest));
    if let Some((digest, child)) = child.filter(|(_, child)| accepts(child)) {
        return show(digest, child);
    }
    let image = child.map_or(manifest, |(_, child)| child);
    match schema1::converted(repository, reference, image) {
        Some(old) => show(&Digest::of(&old.bytes).to_string(), &old),
        None => unknown(),
    }
}

fn show(digest: &str, manifest: &StoredManifest) -> QuayAnswer {
    QuayAnswer::new(StatusCode::OK, &manifest.media_type, full(manifest.bytes.clone()))
        .with("docker-content-digest", digest)
}

/// The media types in Accept, without parameters.
fn accepted(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let types = values.flat_map(|value| value.split(','));
    types.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned()).collect()
}

/// The linux/amd64 manifest of an index.
fn amd64(index: &StoredManifest) -> Option<String> {
    let json: Value = serde_json::from_slice(&index.bytes).ok()?;
    let children = json.get("manifests")?.as_array()?;
    let child = children
        .iter()
        .find(|child| child["platform"]["os"] == "linux" && child["platform"]["architecture"] == "amd64")?;
    child["digest"].as_str().map(str::to_owned)
}

async fn put(
    quay: &Instance,
    headers: &HeaderMap,
    repository: &str,
    reference: &str,
    bytes: Bytes,
) -> Result<QuayAnswer, Box<QuayAnswer>> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !matches!(media_type, OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST) {
        return Err(Box::new(manifest_invalid(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "manifest type not supported",
        )));
    }
    let refuse = |why: &str| Box::new(manifest_invalid(StatusCode::BAD_REQUEST, why));
    let json: Value = serde_json::from_slice(&bytes).map_err(|_| refuse("manifest is not valid JSON"))?;
    let digest = Digest::of(&bytes).to_string();
    if reference.contains(':') && reference != digest {
        return Err(refuse("manifest digest mismatch"));
    }
    if matches!(media_type, OCI_INDEX | DOCKER_LIST) {
        children_known(quay, repository, &json).map_err(|why| refuse(&why))?;
    } else {
        blobs_linked(quay, repository, &json).map_err(|why| refuse(&why))?;
        let config = json["config"]["digest"].as_str().unwrap_or_default();
        if !config_readable(quay, config).await {
            return Err(Box::new(super::answer::internal()));
        }
    }
    let mut state = quay.database.lock();
    let found = state.repositories.entry(repository.to_owned()).or_default();
    found.manifests.insert(digest.clone(), StoredManifest { media_type: media_type.to_owned(), bytes });
    if !reference.contains(':') {
        found.tags.insert(reference.to_owned(), digest.clone());
        found.expired.remove(reference);
    }
    Ok(html(StatusCode::CREATED, "OK")
        .with("docker-content-digest", &digest)
        .with("location", &format!("/v2/{repository}/manifests/{digest}")))
}

/// The descriptors whose blobs Quay requires in the repository (`local_blob_digests`): the config, and the
/// layers without URLs.
fn local_blobs(json: &Value) -> impl Iterator<Item = &str> {
    let layers = json["layers"].as_array().into_iter().flatten().filter(|layer| {
        let media_type = layer["mediaType"].as_str().unwrap_or_default();
        layer.get("urls").is_none()
            && !media_type.contains("foreign")
            && !media_type.contains("nondistributable")
    });
    layers.chain([&json["config"]]).map(|descriptor| descriptor["digest"].as_str().unwrap_or_default())
}

fn blobs_linked(quay: &Instance, repository: &str, json: &Value) -> Result<(), String> {
    let state = quay.database.lock();
    match local_blobs(json).find(|digest| state.linked(repository, digest).is_none()) {
        Some(missing) => Err(format!("Unknown blob `{missing}`")),
        None => Ok(()),
    }
}

fn children_known(quay: &Instance, repository: &str, json: &Value) -> Result<(), String> {
    let state = quay.database.lock();
    let known = |digest: &str| {
        state.repositories.get(repository).is_some_and(|found| found.manifests.contains_key(digest))
    };
    let mut children = json["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|child| child["digest"].as_str().unwrap_or_default());
    match children.find(|digest| !known(digest)) {
        Some(missing) => Err(format!("Could not find child manifest `{missing}`")),
        None => Ok(()),
    }
}

/// Quay reads the config blob from its store. A manifest PUT therefore fails while the store is down.
async fn config_readable(quay: &Instance, digest: &str) -> bool {
    let (Some(zone), Ok(parsed)) = (quay.zone_of(digest), digest.parse()) else { return false };
    for attempt in 0..CONFIG_TRIES {
        if attempt > 0 {
            tokio::time::sleep(CONFIG_PAUSE).await;
        }
        let read = async {
            zone.send(&quay.http, Method::GET, &zone.key(&parsed))
                .await?
                .error_for_status()?
                .bytes()
                .await
                .map_err(anyhow::Error::from)
        };
        if read.await.is_ok() {
            return true;
        }
    }
    false
}

/// Ends tags. The manifest itself is removed by garbage collection.
fn delete(quay: &Instance, repository: &str, reference: &str) -> QuayAnswer {
    let mut state = quay.database.lock();
    let Some(found) = state.repositories.get_mut(repository) else { return unknown() };
    let ended: Vec<String> = found
        .tags
        .iter()
        .filter(|(tag, digest)| *tag == reference || *digest == reference)
        .map(|(tag, _)| tag.clone())
        .collect();
    if ended.is_empty() {
        return unknown();
    }
    for tag in ended {
        found.tags.remove(&tag);
        found.expired.insert(tag);
    }
    nothing(StatusCode::ACCEPTED)
}
