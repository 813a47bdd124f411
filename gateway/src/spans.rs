//! The spans of the log: one for each request of a client, and one for each fill.
//!
//! They have the level `error`, so that every line that is logged names its request. They have no parents, so
//! that all fields are in one place. `RUST_LOG` can turn them off by target, for example `info,request=off`.

use std::borrow::Cow;

use backends::{Digest, RequestId};
use registry::{Route, manifest_repository, upload_repository};
use tracing::Span;
use tracing::field::{Empty, display};

use crate::otlp;

/// The prefix of a body's source if the source is a zone. The zone's name follows.
const ZONE: &str = "zone=";

/// The span of a request. `repository` is the one that the request names.
pub(crate) fn request(id: &RequestId, route: &Route, repository: Option<&str>) -> Span {
    let digest = match route {
        Route::Blob { digest, .. } => Some(display(digest)),
        _ => None,
    };
    let request_id = id.as_str();
    tracing::error_span!(target: "request", parent: None, "request", request_id, repository, digest, zone = Empty)
}

/// The repository that a request names, if it is understood.
pub(crate) fn repository<'a>(route: &'a Route, path: &str) -> Option<Cow<'a, str>> {
    match route {
        Route::Blob { repository, .. } | Route::PutManifest { repository } => Some(repository.into()),
        Route::Upload => upload_repository(path).map(Cow::Owned),
        Route::Forward => manifest_repository(path).map(Cow::Owned),
    }
}

/// The span of the fill that this request starts.
pub(crate) fn fill(repository: &str, digest: &Digest) -> Span {
    let id = RequestId::current();
    let request_id = id.as_ref().map(RequestId::as_str);
    let span = tracing::error_span!(target: "fill", parent: None, "fill", request_id, repository, %digest, zone = Empty);
    if let Some(id) = &id {
        otlp::set_parent(&span, id);
    }
    span
}

/// Records in the current span which zone gives the bytes. `from` is the source of a body; nothing is
/// recorded if it is not a zone.
pub(crate) fn note_source(from: &str) {
    if let Some(zone) = from.strip_prefix(ZONE) {
        Span::current().record("zone", zone);
    }
}
