//! Referrers (`endpoints/v2/referrers.py`).

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Instance;
use super::access::{Need, check};
use super::answer::{QuayAnswer, detailed};
use super::manifests::OCI_INDEX;
use crate::body::full;

pub(super) fn list(
    quay: &Instance,
    headers: &HeaderMap,
    repository: &str,
    digest: &str,
    query: &str,
) -> QuayAnswer {
    if let Err(refusal) = check(quay, headers, repository, Need::Pull, "GET, OPTIONS, HEAD") {
        return *refusal;
    }
    let filter = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "artifactType")
        .map(|(_, kind)| kind);
    let state = quay.database.lock();
    let Some(found) = state.repositories.get(repository).filter(|found| found.manifests.contains_key(digest))
    else {
        // The specification requires an empty index here.
        return detailed(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", r#""""#, "manifest invalid");
    };
    let mut listed = Vec::new();
    for (referrer, manifest) in &found.manifests {
        let Ok(json) = serde_json::from_slice::<Value>(&manifest.bytes) else { continue };
        if json["subject"]["digest"] != *digest {
            continue;
        }
        let artifact = json.get("artifactType").unwrap_or(&json["config"]["mediaType"]);
        if filter.as_ref().is_none_or(|wanted| artifact == wanted.as_ref()) {
            listed.push(json!({
                "mediaType": manifest.media_type, "digest": referrer, "size": manifest.bytes.len(), "artifactType": artifact,
            }));
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed });
    let answer = QuayAnswer::new(StatusCode::OK, OCI_INDEX, full(super::pretty(&index)));
    if filter.is_some() { answer.with("oci-filters-applied", "artifactType") } else { answer }
}
