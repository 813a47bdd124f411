//! Blobs (`endpoints/v2/blob.py`: `check_blob_exists`, `download_blob`).

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, Method, StatusCode};

use super::access::{Need, check};
use super::answer::{QuayAnswer, error, internal, redirect};
use super::serve::unsupported;
use super::{Delivery, Instance, storage_proxy};
use crate::body::{empty, streamed};
use crate::gzip;
use crate::zone::Location;

/// The validity of a signed URL (`storage/distributedstorage.py:get_direct_download_url`).
const URL_LIFE: Duration = Duration::from_secs(600);
/// nginx does not compress shorter bodies.
const GZIP_MIN: u64 = 500;

pub(super) async fn answer(
    quay: &Instance,
    method: &Method,
    headers: &HeaderMap,
    repository: &str,
    digest: &str,
) -> QuayAnswer {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return unsupported();
    }
    if let Err(refusal) = check(quay, headers, repository, Need::Pull, "GET, DELETE, OPTIONS, HEAD") {
        return *refusal;
    }
    let Some(size) = quay.database.lock().linked(repository, digest) else { return unknown() };
    if method == Method::HEAD {
        return described(quay, QuayAnswer::new(StatusCode::OK, "application/octet-stream", empty()), digest)
            .with("content-length", &size.to_string())
            // This is a typing error in Quay: GET has 31536000.
            .with("cache-control", "max-age=31436000");
    }
    let Some(zone) = quay.zone_of(digest) else { return internal() };
    let answer = match quay.delivery {
        Delivery::Stream => stream(quay, headers, zone, digest, size).await,
        Delivery::Redirect | Delivery::StorageProxy => to_store(quay, zone, digest),
    };
    described(quay, answer.unwrap_or_else(internal), digest).with("cache-control", "max-age=31536000")
}

fn described(quay: &Instance, answer: QuayAnswer, digest: &str) -> QuayAnswer {
    let answer = answer.with("docker-content-digest", digest);
    if quay.delivery == Delivery::Stream { answer } else { answer.with("accept-ranges", "bytes") }
}

pub(super) fn unknown() -> QuayAnswer {
    error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry")
}

fn to_store(quay: &Instance, zone: &Location, digest: &str) -> Option<QuayAnswer> {
    let url = zone.presign(&zone.key(&digest.parse().ok()?), SystemTime::now(), URL_LIFE).ok()?;
    let url = if quay.delivery == Delivery::StorageProxy { storage_proxy::url(quay, &url)? } else { url };
    Some(redirect(StatusCode::FOUND, &url))
}

async fn stream(
    quay: &Instance,
    headers: &HeaderMap,
    zone: &Location,
    digest: &str,
    size: u64,
) -> Option<QuayAnswer> {
    let object = zone.send(&quay.http, Method::GET, &zone.key(&digest.parse().ok()?)).await.ok()?;
    if object.status() != StatusCode::OK {
        return None;
    }
    let gzipped = headers
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("gzip"));
    let bytes = object.bytes_stream().map_err(reqwest::Error::without_url);
    if gzipped && size >= GZIP_MIN {
        // Quay's nginx compresses all bodies of type application/octet-stream.
        let body = streamed(gzip::members(bytes));
        return Some(
            QuayAnswer::new(StatusCode::OK, "application/octet-stream", body)
                .with("content-encoding", "gzip"),
        );
    }
    let answer = QuayAnswer::new(StatusCode::OK, "application/octet-stream", streamed(bytes));
    Some(answer.with("content-length", &size.to_string()))
}
