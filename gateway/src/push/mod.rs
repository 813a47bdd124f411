//! A push: it streams to the registry, and a manifest's blobs are queued for the other zones
//! before the client hears of success.

mod read_along;

use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, in_current_request};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode};

use self::read_along::{Copy, NO_ROOM};
use crate::Gateway;
use crate::forward;
use crate::index_manifests::distinct;
use crate::request::Client;
use gateway_http::{Body, Problem};
use limits::memory::Use;
use registry::upload_affinity;
use registry::upstream::{Answer, Head, InstanceId, Order, StoreUse};
use registry::{LocalBlob, local_blobs, upload_repository};

/// Forwards an upload request; the answer to bytes, and to the last PUT, may take as long as the registry
/// needs to assemble a large blob.
///
/// A new upload goes to the nearest instance of the registry whose store serves, all that follows to
/// the same one; another goes on with a request only where there is no connection to that one.
pub(crate) async fn upload(
    gateway: &Gateway,
    request: &Parts,
    body: Body,
    client: &Client,
) -> Response<Body> {
    let answered = match gateway.upstream.several() {
        true => upload_to_one(gateway, request, body, client).await,
        false => upload_to_only(gateway, request, body, client).await,
    };
    match answered {
        Ok(response) => response,
        Err(problem) => forward::refused(request, &problem),
    }
}

/// How long the registry may take to answer, from the last byte on. What begins, asks after or cancels an
/// upload moves no bytes, and Quay answers it from its database.
fn answer_bound(gateway: &Gateway, request: &Parts) -> Duration {
    let timeouts = &gateway.settings.timeouts;
    let whole = request.uri.query().is_some_and(|query| query.contains("digest="));
    match request.method {
        Method::PATCH | Method::PUT => timeouts.registry_upload,
        Method::POST if whole => timeouts.registry_upload,
        _ => timeouts.registry_answer,
    }
}

async fn upload_to_only(
    gateway: &Gateway,
    request: &Parts,
    body: Body,
    client: &Client,
) -> Result<Response<Body>, Problem> {
    let order = gateway.upstream.order();
    let (answer, _) = send(gateway, &order, request, forward::path(request)?, body, client).await?;
    Ok(forward::relay(gateway, answer))
}

/// Sends a part of an upload.
async fn send(
    gateway: &Gateway,
    order: &Order,
    request: &Parts,
    path: &PathAndQuery,
    body: Body,
    client: &Client,
) -> Result<(Answer, InstanceId), Problem> {
    let headers = forward::headers(gateway, request, client);
    let head = Head { method: request.method.clone(), path, headers };
    let bound = answer_bound(gateway, request);
    let is_dead = |zone: &str| gateway.zone_is_dead(zone);
    gateway.upstream.send_upload(client.identity, order, head, body, bound, &is_dead).await
}

async fn upload_to_one(
    gateway: &Gateway,
    request: &Parts,
    body: Body,
    client: &Client,
) -> Result<Response<Body>, Problem> {
    let repository = upload_repository(request.uri.path());
    let (path, named) = upload_affinity::taken(forward::path(request)?, &gateway.upstream)?;
    let begins = request.method == Method::POST;
    let last = || repository.as_deref().and_then(|name| gateway.uploads.last(name, &gateway.upstream));
    let kept = named.or_else(|| last().filter(|_| !begins));
    // A POST is taken although the store is dead; bytes are not.
    let proof = [Method::PATCH, Method::PUT].contains(&request.method);
    let does = if begins || proof { StoreUse::Writes } else { StoreUse::Reads };
    let order = gateway.by_store(does, kept);
    let (answer, instance) = send(gateway, &order, request, &path, body, client).await?;
    let status = answer.status();
    // One that goes on with another's upload writes to that one's store.
    if named.is_none_or(|named| named == instance) {
        gateway.upstream.uploaded(instance, status, proof);
    }
    if let Some(repository) = repository.filter(|_| status.is_success()) {
        gateway.uploads.remember(&repository, instance);
    }
    let mut response = forward::relay(gateway, answer);
    upload_affinity::mark(response.headers_mut(), &gateway.names, gateway.upstream.name(instance));
    Ok(response)
}

/// Forwards a manifest and, on the registry's 201, writes its blobs to the journal before the
/// answer goes on.
///
/// In a task of its own: a client that leaves between the registry's yes and the journal's
/// commit must not lose the copies. The task holds what `client` holds.
pub(crate) async fn manifest(
    gateway: &Arc<Gateway>,
    request: Parts,
    body: Body,
    repository: String,
    client: Client,
) -> Response<Body> {
    let task = put(Arc::clone(gateway), request, body, repository, client);
    gateway.pushes.spawn(in_current_request(task)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a manifest's task died");
        Problem::gateway("the gateway failed while the manifest was being stored").response()
    })
}

async fn put(
    gateway: Arc<Gateway>,
    request: Parts,
    body: Body,
    repository: String,
    client: Client,
) -> Response<Body> {
    let limit = gateway.settings.limits.manifest.as_u64();
    let size = gateway_http::content_length(&request.headers).unwrap_or(limit).min(limit);
    // It grows with what is read.
    let Some(memory) = gateway.memory.reserve(Use::Manifests, Some(client.holder()), 0) else {
        return Problem::overload(NO_ROOM).response();
    };
    let (body, copy) = read_along::body(body, limit, size, memory);
    let bound = gateway.settings.timeouts.registry_answer;
    match ask(&gateway, &request, &repository, body, &client, bound).await {
        Ok(answer) => {
            match answer.status() {
                StatusCode::CREATED => queue_copies(&gateway, &repository, copy, &client).await,
                // A blob of it is not there (Quay's `_build_blob_map` and distribution say so with one of
                // these): a yes that is remembered may be why the client did not push it.
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => gateway.permissions.forget(&repository),
                _ => {}
            }
            forward::relay(&gateway, answer)
        }
        Err(_) if copy.had_no_room() => Problem::overload(NO_ROOM).response(),
        Err(problem) => {
            if !problem.is_overload() {
                tracing::warn!(repository, problem = problem.message, "manifest not forwarded");
            }
            problem.response()
        }
    }
}

/// Where the repository's last upload went: the registry reads the config blob.
async fn ask(
    gateway: &Gateway,
    request: &Parts,
    repository: &str,
    body: Body,
    client: &Client,
    bound: Duration,
) -> Result<Answer, Problem> {
    let order = gateway.by_store(StoreUse::Reads, gateway.uploads.last(repository, &gateway.upstream));
    let path = forward::path(request)?;
    // What becomes of a manifest says nothing of uploads.
    let (answer, _) = forward::ask(gateway, &order, request, path, body, client, bound).await?;
    Ok(answer)
}

async fn queue_copies(gateway: &Gateway, repository: &str, copy: Copy, client: &Client) {
    let targets = gateway.targets_of(repository).await;
    if targets.is_empty() {
        return;
    }
    let Some(manifest) = copy.take() else {
        let limit = gateway.settings.limits.manifest;
        tracing::error!(repository, %limit, "a manifest larger than limits.manifest: its blobs are not copied to the other zones");
        return gateway.metrics.push_not_queued();
    };
    let mut blobs = match local_blobs(&manifest) {
        Ok(blobs) => blobs,
        Err(error) => {
            tracing::error!(repository, %error, "the registry took a manifest that is not understood here: its blobs are not copied");
            return gateway.metrics.push_not_queued();
        }
    };
    let limit = gateway.settings.limits.manifest_blobs;
    if blobs.len() > limit {
        let (manifest, blobs) = (Digest::of(&manifest), blobs.len());
        tracing::error!(repository, %manifest, blobs, limit, "a manifest names more blobs than limits.manifest_blobs: they are not copied before the next sweep");
        return gateway.metrics.push_not_queued();
    }
    let (reader, memory) = (gateway.reader.as_deref(), (&gateway.memory, client));
    let children = gateway.queued.children(reader, memory, repository, &manifest, limit).await;
    blobs.extend(children.blobs);
    if !queue_blobs(gateway, repository, distinct(blobs), &targets).await {
        return gateway.metrics.push_not_queued();
    }
    match children.missing.first() {
        None => gateway.queued.note(repository, &manifest),
        Some(first) => {
            tracing::error!(
                repository,
                missing = children.missing.len(),
                first,
                "manifests of a pushed index could not be had in time: their blobs are not copied before the next sweep"
            );
            gateway.metrics.push_not_queued();
        }
    }
}

/// Writes copies to the journal; whether it took them.
async fn queue_blobs(
    gateway: &Gateway,
    repository: &str,
    blobs: Vec<LocalBlob>,
    targets: &[Arc<str>],
) -> bool {
    let blobs: Vec<_> = blobs.into_iter().map(|blob| (gateway.blob(blob.digest), blob.size)).collect();
    let queued = gateway.fanout.enqueue(repository, &blobs, targets).await;
    gateway.metrics.journal_took(queued.is_ok());
    match &queued {
        Ok(()) => tracing::info!(
            repository,
            blobs = blobs.len(),
            targets = targets.len(),
            "push queued for the other zones"
        ),
        Err(error) if error.is_slowness() => tracing::error!(
            repository, blobs = blobs.len(), %error,
            "THE JOURNAL IS TOO SLOW: a push is acknowledged but its copies are not queued; a sweep queues them, or push it again later"
        ),
        Err(error) => tracing::error!(
            repository, blobs = blobs.len(), %error,
            "THE JOURNAL CANNOT BE WRITTEN: a push is acknowledged but its copies are not queued; mend its disk or its database, then a sweep queues them, or push it again"
        ),
    }
    queued.is_ok()
}
