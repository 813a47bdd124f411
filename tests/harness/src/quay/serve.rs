//! Passes a request to the handler of its route.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use super::answer::{QuayAnswer, error, html, internal, method_not_allowed, nginx, not_found, redirect};
use super::route::Route;
use super::{
    Instance, access, blobs, health, keys, manifests, referrers, storage_proxy, tags, tokens, uploads,
};
use crate::body::{Body, BoxError};
use crate::record::is_probe;

pub(super) async fn answer(
    quay: Arc<Instance>,
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    let probe = is_probe(request.headers());
    match (probe, request.uri().path()) {
        (true, _) => {}
        (false, keys::PATH) => _ = quay.key_fetches.fetch_add(1, Ordering::Relaxed),
        (false, _) => quay.record.note(&request),
    }
    quay.faults.subscribe().wait_for(|faults| !faults.silent).await?;
    let delay = quay.faults.borrow().delay;
    tokio::time::sleep(delay).await;
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let gives_up = quay.faults.borrow().gives_up.is_some_and(|part| path.contains(part));
    let hidden = quay.faults.borrow().hides_health && path.starts_with("/health/");
    let gone = match (gives_up, hidden) {
        (true, _) => Some(StatusCode::GATEWAY_TIMEOUT),
        (_, true) => Some(StatusCode::NOT_FOUND),
        _ => quay.faults.borrow().nginx,
    };
    if let Some(status) = gone {
        return Ok(nginx(status).finish(&head.method, path, head.version, quay.tls));
    }
    let breaks_off = quay.faults.borrow().breaks_off;
    if breaks_off && head.method == Method::PATCH {
        return Ok(nginx(StatusCode::PAYLOAD_TOO_LARGE).finish(&head.method, path, head.version, quay.tls));
    }
    if quay.faults.borrow().unreadable.is_some_and(|part| path.contains(part)) {
        return Ok(internal().finish(&head.method, path, head.version, quay.tls));
    }
    let answer =
        route(&quay, &head.method, path, head.uri.query().unwrap_or_default(), &head.headers, body).await;
    if probe {
        quay.probes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(answer.finish(&head.method, path, head.version, quay.tls))
}

async fn route(
    quay: &Instance,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: Incoming,
) -> QuayAnswer {
    // gunicorn decodes the path once, and the routes are matched after that.
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let route = Route::parse(&decoded);
    let broken = quay.faults.borrow().broken;
    if broken && !matches!(route, Route::Base | Route::V1Ping | Route::Health(_)) {
        return internal();
    }
    match route {
        Route::Base => access::ping(quay, method, headers),
        Route::BaseWithoutSlash => {
            let host =
                headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or(&quay.hostname);
            redirect(
                StatusCode::PERMANENT_REDIRECT,
                &format!("{}://{host}/v2/", if quay.tls { "https" } else { "http" }),
            )
        }
        Route::Auth => tokens::give(quay, method, headers, query),
        Route::Catalog => tags::catalog(quay, headers, query),
        Route::Blob { repository, digest } => blobs::answer(quay, method, headers, &repository, digest).await,
        Route::Uploads { repository } => match *method {
            Method::POST => {
                // An error means that the stand-in was dropped.
                let _ = quay.faults.subscribe().wait_for(|faults| !faults.begins_hang).await;
                uploads::start(quay, headers, &repository, query, body).await
            }
            _ => method_not_allowed("POST, OPTIONS"),
        },
        Route::Upload { repository, id } => {
            uploads::answer(quay, method, headers, &repository, id, query, body).await
        }
        Route::Manifest { repository, reference } => {
            manifests::answer(quay, method, headers, &repository, reference, body).await
        }
        Route::Tags { repository } => tags::list(quay, headers, &repository, query),
        Route::Referrers { repository, digest } => referrers::list(quay, headers, &repository, digest, query),
        Route::Keys => keys::list(quay),
        Route::Key(kid) => keys::one(quay, kid),
        Route::Health(which) => health::answer(quay, which, broken).await,
        Route::V1Ping => health::v1_ping(),
        Route::InternalPing => html(StatusCode::OK, "true"),
        Route::StorageProxy => storage_proxy::answer(quay, path, query, headers).await,
        Route::Unknown => not_found(),
    }
}

/// The answer of `endpoints/v2` for an unsupported method.
pub(super) fn unsupported() -> QuayAnswer {
    error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "The operation is unsupported.")
}
