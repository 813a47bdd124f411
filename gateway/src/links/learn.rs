//! Learns links from what passes through: manifests that the registry serves, and uploads and mounts that it completes.

use std::sync::Arc;

use backends::Digest;
use gateway_http::Body;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use limits::memory::{Reservation, Use};
use registry::{linked_blobs, manifest_repository, named_digest, upload_repository};
use tokio::time::Instant;

use crate::Gateway;
use crate::manifest_answer::ManifestAnswer;
use crate::offline;
use crate::request::Client;

/// The bytes of a manifest that is read along. Images with hundreds of layers have less. It is parsed at once, so this
/// also bounds for how long.
const MANIFEST_MAX: u64 = 256 * 1024;

/// The memory of a manifest, as a multiple of its bytes: it is copied, and parsed.
const TIMES: u64 = 3;

/// A manifest on its way to a client, whose links are learned at its end.
pub(crate) struct Lesson {
    gateway: Arc<Gateway>,
    repository: String,
    content_type: String,
    asked: Instant,
    _memory: Reservation,
}

/// What is to be learned from the registry's answer, if it is a manifest that proves links. `asked` is when the registry was
/// asked. If there is no memory for that, nothing is learned, and the client gets its answer all the same.
pub(crate) fn lesson(
    gateway: &Arc<Gateway>,
    request: &Parts,
    asked: Instant,
    response: &Response<Body>,
    client: &Client,
) -> Option<Lesson> {
    // With a query, a proxy in between may have meant something else.
    let plain = request.method == Method::GET && request.uri.query().is_none();
    let learns = gateway.tokens.is_some() && gateway.registry.manifests_link();
    if !plain || !learns || response.status() != StatusCode::OK {
        return None;
    }
    let repository = manifest_repository(request.uri.path())?;
    let answer = ManifestAnswer::of(response.headers())?;
    let size = u64::try_from(answer.size).ok().filter(|size| *size <= MANIFEST_MAX)?;
    let memory = gateway.memory.reserve(Use::Manifests, Some(client.holder()), TIMES * size)?;
    gateway.permissions.note_headers(response.headers(), gateway.registry.blob_headers());
    let (gateway, content_type) = (Arc::clone(gateway), answer.content_type);
    Some(Lesson { gateway, repository, content_type, asked, _memory: memory })
}

impl Lesson {
    /// Learns the links in the bytes that the registry named.
    pub(crate) fn end(self, bytes: &[u8]) {
        let max = self.gateway.settings.limits.manifest_blobs;
        let Some(blobs) = linked_blobs(&self.content_type, bytes, max) else { return };
        tracing::debug!(repository = self.repository, blobs = blobs.len(), "links of a manifest");
        let known = blobs.iter().map(|digest| (*digest, None));
        self.gateway.permissions.confirm(&self.repository, known, self.asked);
        offline::learn_links(&self.gateway, &self.repository, blobs, self.asked);
    }
}

/// Learns the link of an upload or a mount that the registry completed with 201. `asked` is when the request was sent.
pub(crate) fn learn_upload(gateway: &Gateway, request: &Parts, asked: Instant, response: &Response<Body>) {
    if gateway.tokens.is_none() || response.status() != StatusCode::CREATED {
        return;
    }
    let Some(repository) = upload_repository(request.uri.path()) else { return };
    let Some(digest) = named_digest(response.headers()) else { return };
    // Both registries name the digest of the request.
    if asks_for(request.uri.query().unwrap_or_default(), &digest) {
        gateway.permissions.confirm(&repository, [(digest, None)], asked);
        offline::learn_links(gateway, &repository, vec![digest], asked);
    }
}

/// Whether a query has this digest as its only `digest` or `mount`.
fn asks_for(query: &str, digest: &Digest) -> bool {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let mut named = pairs.filter(|(key, _)| matches!(&**key, "digest" | "mount"));
    let digest = digest.to_string();
    named.next().is_some_and(|(_, value)| value == digest) && named.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_one_of_the_digest_that_it_asked_for() {
        let digest = Digest::of(b"a");
        let query = |text: &str| text.replace("DIGEST", &digest.to_string());
        for (text, expected) in [
            ("digest=DIGEST", true),
            ("mount=DIGEST&from=o/b", true),
            ("_state=x&digest=DIGEST", true),
            ("digest=sha256%3A", false),
            ("", false),
            ("x=DIGEST", false),
            ("digest=DIGEST&digest=DIGEST", false),
            ("mount=DIGEST&digest=DIGEST", false),
            ("digest=DIGEST0", false),
        ] {
            assert_eq!(asks_for(&query(text), &digest), expected, "{text}");
        }
        assert!(asks_for(&query("digest=DIGEST").replace(':', "%3A"), &digest));
    }
}
