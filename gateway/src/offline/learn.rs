//! Learns from the registry's answers what may be served while the registry is away.

use std::sync::Arc;
use std::time::SystemTime;

use backends::Digest;
use bytes::Bytes;
use gateway_http::Body;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use limits::memory::{Reservation, Use};
use offline::{AcceptClass, MANIFEST_BYTES_MAX, Remembered};
use registry::{Read, is_plain_query, linked_blobs, named_digest};
use tokio::time::Instant;

use super::{Offline, Who, clock, login};
use crate::Gateway;
use crate::authorize::unconditional;
use crate::forward;
use crate::links::{self, Lesson};
use crate::manifest_answer::ManifestAnswer;
use crate::read_along::read_along;
use crate::request::Client;

/// Learns from an answer of the registry to a request that reads. `asked` is when the registry was asked.
pub(crate) fn learn(
    gateway: &Arc<Gateway>,
    request: &Parts,
    asked: Instant,
    response: Response<Body>,
    client: &Client,
) -> Response<Body> {
    let links = links::lesson(gateway, request, asked, &response, client);
    let kept = match &gateway.offline {
        None => None,
        Some(offline) => match Read::parse(&request.method, request.uri.path()) {
            Read::Manifest { repository, reference } if is_plain_query(request.uri.query()) => {
                manifest(gateway, offline, request, (repository, reference), asked, &response, client)
            }
            Read::Token => return login::learn(gateway, offline, request, asked, response, client),
            Read::Manifest { .. } | Read::Ping | Read::Other => None,
        },
    };
    read_manifest(response, links, kept)
}

/// Reads a manifest along for all who learn from it, if its bytes are those that the registry named.
fn read_manifest(response: Response<Body>, links: Option<Lesson>, kept: Option<Keeping>) -> Response<Body> {
    if links.is_none() && kept.is_none() {
        return response;
    }
    let Some(ManifestAnswer { digest, size, .. }) = ManifestAnswer::of(response.headers()) else {
        return response;
    };
    read_along(response, size, move |bytes| {
        if Digest::of(&bytes) == digest {
            if let Some(links) = links {
                links.end(&bytes);
            }
            if let Some(kept) = kept {
                kept.end(bytes.into());
            }
        }
    })
}

/// The registry confirmed that these blobs are in this repository. It was asked at `asked`.
pub(crate) fn learn_links(gateway: &Gateway, repository: &str, digests: Vec<Digest>, asked: Instant) {
    if let Some(offline) =
        gateway.offline.as_ref().filter(|_| gateway.permissions.is_unchanged(repository, asked))
    {
        offline.remembered.store().linked(repository, digests, clock(asked));
    }
}

/// Remembers a manifest that did not come for a client: the gateway itself read it at the registry, as it is stored.
pub(crate) fn learn_read(
    gateway: &Gateway,
    (repository, reference): (&str, &str),
    content_type: &str,
    bytes: &Bytes,
) {
    let Some(offline) = &gateway.offline else { return };
    let (store, digest, now) = (offline.remembered.store(), Digest::of(bytes), SystemTime::now());
    store.served(repository, digest, content_type, bytes.clone(), now);
    if reference.parse::<Digest>().is_err() {
        store.resolved(repository, reference, AcceptClass::ALL, digest, now);
    }
    let max = gateway.settings.limits.manifest_blobs;
    let blobs = linked_blobs(content_type, bytes, max).filter(|_| gateway.registry.manifests_link());
    store.linked(repository, blobs.unwrap_or_default(), now);
}

fn manifest(
    gateway: &Gateway,
    offline: &Offline,
    request: &Parts,
    (repository, reference): (String, String),
    asked: Instant,
    response: &Response<Body>,
    client: &Client,
) -> Option<Keeping> {
    let (remembered, at) = (Arc::clone(&offline.remembered), clock(asked));
    let store = remembered.store();
    let by_digest: Option<Digest> = reference.parse().ok();
    let sent = unconditional(forward::headers(gateway, request, client));
    let is_nobody = matches!(Who::of(gateway, &sent, &repository), Who::Nobody);
    match response.status() {
        StatusCode::OK if gateway.permissions.is_unchanged(&repository, asked) => {}
        StatusCode::NOT_FOUND => {
            match by_digest {
                Some(digest) => store.forget_manifest(&repository, digest),
                None => store.forget_tag(&repository, &reference),
            }
            return None;
        }
        // With a credential, the refusal may be about the credential only.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_nobody => {
            store.refused_anonymously(&repository);
            return None;
        }
        _ => return None,
    }
    if is_nobody {
        store.served_anonymously(&repository, at);
    }
    let digest = named_digest(response.headers())?;
    if by_digest.is_some_and(|asked_for| asked_for != digest) {
        return None;
    }
    let tag = by_digest.is_none().then_some((reference, AcceptClass::of(&sent)));
    let resolution = Resolution { remembered, repository, digest, tag, at };
    if request.method == Method::HEAD {
        resolution.record();
        return None;
    }
    let ManifestAnswer { content_type, size, .. } = ManifestAnswer::of(response.headers())?;
    let size = Some(size).filter(|size| *size <= MANIFEST_BYTES_MAX)? as u64;
    let memory = gateway.memory.reserve(Use::Manifests, Some(client.holder()), size)?;
    Some(Keeping { resolution, content_type, _memory: memory })
}

/// Which manifest the registry gave, in an answer of which only the headers are known.
struct Resolution {
    remembered: Arc<Remembered>,
    repository: String,
    digest: Digest,
    tag: Option<(String, AcceptClass)>,
    at: SystemTime,
}

impl Resolution {
    fn record(&self) {
        if let Some((tag, accept)) = &self.tag {
            self.remembered.store().resolved(&self.repository, tag, *accept, self.digest, self.at);
        }
    }
}

/// A manifest on its way to a client, which is kept at its end.
struct Keeping {
    resolution: Resolution,
    content_type: String,
    _memory: Reservation,
}

impl Keeping {
    /// Keeps the bytes that the registry named.
    fn end(self, bytes: Bytes) {
        let Resolution { remembered, repository, digest, at, .. } = &self.resolution;
        remembered.store().served(repository, *digest, &self.content_type, bytes, *at);
        self.resolution.record();
    }
}
