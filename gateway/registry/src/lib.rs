#![doc = include_str!("../README.md")]

mod answer;
pub mod bearer;
mod challenge;
mod client;
mod distribution;
mod escapes;
mod fetch;
mod health;
mod links;
mod loggable;
mod manifest;
mod names;
mod object;
mod oci;
mod quay;
mod read;
pub mod redirects;
mod route;
pub mod service_account;
pub mod token_life;
pub mod upload_affinity;
pub mod upstream;

use std::fmt::Debug;
use std::sync::Arc;

use backends::{Digest, Key};
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, StatusCode};

pub use answer::{BodyNotRead, describe, read_body};
pub use challenge::Bearer;
pub use client::RegistryClient;
pub use escapes::unescaped;
pub use fetch::{BlobRequest, FetchError, FetchedBlob, Origin};
pub use health::Health;
pub use links::linked_blobs;
pub use loggable::loggable;
pub use manifest::{LocalBlob, children, local_blobs};
pub use names::{GatewayName, Names};
pub use quay::{UploadRefusal, is_masked_bad_gateway};
pub use read::{Read, is_plain_query};
pub use route::{Repeat, Route, manifest_repository, repeat, upload_repository};

use config::{RegistryKind, Settings};

/// The differences between registries: where blobs are stored, and how the answer to a permitted read looks.
/// To support another registry, implement this trait in one more file.
pub trait Registry: Debug + Send + Sync {
    /// The key of a blob below a zone's root.
    fn blob_key(&self, digest: &Digest) -> Key;

    /// Whether this answer to `HEAD /v2/<repository>/blobs/<digest>` says that the client may read the blob.
    /// The answer must name the blob, so that a page of a proxy in between is not taken for a permission.
    fn permits(&self, status: StatusCode, headers: &HeaderMap, digest: &Digest) -> bool;

    /// Whether the registry's decision about who may read may depend on this header of a request. A proxy in
    /// front of the registry may decide too, so every header counts unless it is known to be harmless.
    fn may_judge(&self, header: &HeaderName) -> bool {
        !HARMLESS.contains(&header.as_str())
    }

    /// Whether a manifest that the registry serves proves that its blobs are in the repository.
    fn manifests_link(&self) -> bool {
        false
    }

    /// What an answer about a blob says of every blob, apart from the headers that all answers of the registry have.
    fn blob_headers(&self) -> HeaderMap {
        HeaderMap::new()
    }
}

/// Headers of a request that identify nobody and grant nothing: they say which content or which version a client accepts
/// or which way the request took, or the gateway sets them to the same value for all clients.
const HARMLESS: [&str; 26] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "b3",
    "baggage",
    "cache-control",
    "date",
    "dnt",
    "docker-distribution-api-version",
    "host",
    "pragma",
    "priority",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-amzn-trace-id",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-registry-supports-signatures",
    "x-request-id",
];

/// Whether an answer is about this digest. Both registries name the digest in every 200
/// (Quay's `endpoints/v2/blob.py:check_blob_exists`, distribution's
/// `registry/storage/blobserver.go:ServeBlob`).
fn names(headers: &HeaderMap, digest: &Digest) -> bool {
    named_digest(headers) == Some(*digest)
}

/// The path of the place to which an answer leads, without its query.
fn redirect_path(headers: &HeaderMap) -> Option<&str> {
    headers.get(LOCATION)?.to_str().ok()?.split(['?', '#']).next()
}

/// The digest that an answer names in `Docker-Content-Digest`, if it is one.
#[must_use]
pub fn named_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// The registry in the settings.
#[must_use]
pub fn registry(settings: &Settings) -> Arc<dyn Registry> {
    of_kind(settings.registry_kind)
}

/// The registry of this kind.
#[must_use]
pub fn of_kind(kind: RegistryKind) -> Arc<dyn Registry> {
    match kind {
        RegistryKind::Quay => Arc::new(quay::Quay),
        RegistryKind::Distribution => Arc::new(distribution::Distribution),
        RegistryKind::Oci => Arc::new(oci::Oci),
    }
}
