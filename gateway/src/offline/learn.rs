//! Learns from the registry's answers what may be served while the registry is away.

use std::sync::Arc;
use std::time::SystemTime;

use backends::Digest;
use bytes::Bytes;
use gateway_http::{Body, content_length};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use limits::memory::Use;
use offline::{AcceptClass, MANIFEST_BYTES_MAX, Remembered};
use registry::{Read, is_plain_query, linked_blobs};
use tokio::time::Instant;

use super::{Who, clock, login};
use crate::Gateway;
use crate::authorize::unconditional;
use crate::forward;
use crate::read_along::read_along;
use crate::request::Client;

/// Learns from an answer of the registry to a request that reads. `asked` is when the registry was asked.
pub(crate) fn learn(
    gateway: &Arc<Gateway>,
    request: &Parts,
    read: Read,
    asked: Instant,
    response: Response<Body>,
    client: &Client,
) -> Response<Body> {
    match read {
        Read::Manifest { repository, reference } if is_plain_query(request.uri.query()) => {
            manifest(gateway, request, (repository, reference), asked, response, client)
        }
        Read::Token => login::learn(gateway, request, asked, response, client),
        Read::Manifest { .. } | Read::Ping | Read::Other => response,
    }
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
    gateway: &Arc<Gateway>,
    request: &Parts,
    (repository, reference): (String, String),
    asked: Instant,
    response: Response<Body>,
    client: &Client,
) -> Response<Body> {
    let Some(offline) = &gateway.offline else { return response };
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
            return response;
        }
        // With a credential, the refusal may be about the credential only.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_nobody => {
            store.refused_anonymously(&repository);
            return response;
        }
        _ => return response,
    }
    if is_nobody {
        store.served_anonymously(&repository, at);
    }
    let Some(digest) = named_digest(response.headers()) else { return response };
    if by_digest.is_some_and(|asked_for| asked_for != digest) {
        return response;
    }
    let tag = by_digest.is_none().then_some((reference, AcceptClass::of(&sent)));
    let learned = Learned { remembered, repository, digest, tag, at };
    if request.method == Method::HEAD {
        learned.resolve();
        return response;
    }
    keep(gateway, learned, response, client)
}

/// What an answer about a manifest says.
struct Learned {
    remembered: Arc<Remembered>,
    repository: String,
    digest: Digest,
    tag: Option<(String, AcceptClass)>,
    at: SystemTime,
}

impl Learned {
    fn resolve(&self) {
        if let Some((tag, accept)) = &self.tag {
            self.remembered.store().resolved(&self.repository, tag, *accept, self.digest, self.at);
        }
    }
}

/// Reads the manifest along, and keeps it if its bytes are those that the registry named. Without memory for that, nothing
/// is learned.
fn keep(gateway: &Gateway, learned: Learned, response: Response<Body>, client: &Client) -> Response<Body> {
    let headers = response.headers();
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let length = content_length(headers).and_then(|length| usize::try_from(length).ok());
    let size = length.filter(|size| *size <= MANIFEST_BYTES_MAX && !headers.contains_key(CONTENT_ENCODING));
    let (Some(content_type), Some(size)) = (content_type, size) else { return response };
    let Some(memory) = gateway.memory.reserve(Use::Manifests, Some(client.holder()), size as u64) else {
        return response;
    };
    read_along(response, size, memory, move |bytes| {
        if Digest::of(&bytes) == learned.digest {
            let (repository, digest, at) = (&learned.repository, learned.digest, learned.at);
            learned.remembered.store().served(repository, digest, &content_type, Bytes::from(bytes), at);
            learned.resolve();
        }
    })
}

fn named_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}
