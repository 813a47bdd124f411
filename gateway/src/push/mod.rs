//! Pushes: uploads stream to the registry, and the blobs of a manifest are queued for the other zones before
//! the client gets the answer.

mod read_along;

use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, in_current_request};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode};
use tokio::time::Instant;

use self::read_along::{NO_ROOM, ReadAlongCopy};
use crate::Gateway;
use crate::forward;
use crate::index_manifests::distinct;
use crate::links;
use crate::request::Client;
use gateway_http::{Body, Problem};
use limits::memory::Use;
use registry::upload_affinity;
use registry::upstream::{Answer, Head, InstanceId, Order, StoreUse};
use registry::{LocalBlob, local_blobs, upload_repository};

/// Forwards an upload request. The registry may take long to answer a request with bytes and the last PUT,
/// because it then assembles a large blob.
///
/// A new upload goes to the nearest instance of the registry whose store serves. All later requests of the
/// upload go to the same instance. Another instance gets a request only if no connection to that instance can
/// be made.
pub(crate) async fn upload(
    gateway: &Gateway,
    request: &Parts,
    body: Body,
    client: &Client,
) -> Response<Body> {
    let asked = Instant::now();
    let answered = match gateway.upstream.several() {
        true => upload_with_affinity(gateway, request, body, client).await,
        false => upload_to_only_instance(gateway, request, body, client).await,
    };
    match answered {
        Ok(response) => {
            links::learn_upload(gateway, request, asked, &response);
            response
        }
        Err(problem) => forward::refused(request, &problem),
    }
}

/// How long the registry may take to answer, from the last byte of the request on. A request that begins,
/// queries or cancels an upload moves no bytes, and Quay answers it from its database.
fn answer_bound(gateway: &Gateway, request: &Parts) -> Duration {
    let timeouts = &gateway.settings.timeouts;
    let whole = request.uri.query().is_some_and(|query| query.contains("digest="));
    match request.method {
        Method::PATCH | Method::PUT => timeouts.registry_upload,
        Method::POST if whole => timeouts.registry_upload,
        _ => timeouts.registry_answer,
    }
}

async fn upload_to_only_instance(
    gateway: &Gateway,
    request: &Parts,
    body: Body,
    client: &Client,
) -> Result<Response<Body>, Problem> {
    let order = gateway.upstream.order();
    let (answer, _) = send(gateway, &order, request, forward::path(request)?, body, client).await?;
    Ok(forward::relay(gateway, answer, client))
}

/// Sends one request of an upload.
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

async fn upload_with_affinity(
    gateway: &Gateway,
    request: &Parts,
    body: Body,
    client: &Client,
) -> Result<Response<Body>, Problem> {
    let repository = upload_repository(request.uri.path());
    let (path, named) = upload_affinity::extract(forward::path(request)?, &gateway.upstream)?;
    let begins = request.method == Method::POST;
    let kept = match (named, repository.as_deref()) {
        (None, Some(repository)) if !begins => last_instance(gateway, repository).await,
        (named, _) => named,
    };
    // The registry accepts a POST even if its store is dead. Only an accepted PATCH or PUT proves that the
    // store works.
    let proof = [Method::PATCH, Method::PUT].contains(&request.method);
    let does = if begins || proof { StoreUse::Writes } else { StoreUse::Reads };
    let order = gateway.order_by_store(does, kept);
    let (answer, instance) = send(gateway, &order, request, &path, body, client).await?;
    let status = answer.status();
    // An instance that continues the upload of another instance writes to the store of that other instance.
    if named.is_none_or(|named| named == instance) {
        gateway.upstream.uploaded(instance, status, proof);
    }
    if let Some(repository) = repository.filter(|_| status.is_success()) {
        let instance = gateway.upstream.name(instance);
        gateway.uploads.remember(&repository, instance);
        if let Some(shared) = &gateway.shared_uploads {
            shared.remember(&repository, instance).await;
        }
    }
    let mut response = forward::relay(gateway, answer, client);
    upload_affinity::mark(response.headers_mut(), &gateway.names, gateway.upstream.name(instance));
    Ok(response)
}

/// Forwards a manifest. If the registry answers 201, writes the manifest's blobs to the journal before the
/// answer is passed on.
///
/// Runs in a task of its own. If the client leaves between the registry's 201 and the commit of the journal,
/// the copies must not be lost. The task holds the slot and the memory of `client`.
pub(crate) async fn manifest(
    gateway: &Arc<Gateway>,
    request: Parts,
    body: Body,
    repository: String,
    client: Client,
) -> Response<Body> {
    let task = put_manifest(Arc::clone(gateway), request, body, repository, client);
    gateway.pushes.spawn(in_current_request(task)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a manifest's task died");
        Problem::gateway("the gateway failed while the manifest was being stored").response()
    })
}

async fn put_manifest(
    gateway: Arc<Gateway>,
    request: Parts,
    body: Body,
    repository: String,
    client: Client,
) -> Response<Body> {
    let limit = gateway.settings.limits.manifest.as_u64();
    let size = gateway_http::content_length(&request.headers).unwrap_or(limit).min(limit);
    // The reservation starts at 0 bytes and grows with what is read.
    let Some(memory) = gateway.memory.reserve(Use::Manifests, Some(client.holder()), 0) else {
        return Problem::overload(NO_ROOM).response();
    };
    let (body, copy) = read_along::body(body, limit, size, memory);
    let bound = gateway.settings.timeouts.registry_answer;
    match send_manifest(&gateway, &request, &repository, body, &client, bound).await {
        Ok(answer) => {
            match answer.status() {
                StatusCode::CREATED => queue_copies(&gateway, &repository, copy, &client).await,
                // A blob of the manifest does not exist: Quay (`_build_blob_map`) and distribution report it
                // with one of these statuses. A remembered permission may be why the client did not push that
                // blob.
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => gateway.permissions.forget(&repository),
                _ => {}
            }
            forward::relay(&gateway, answer, &client)
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

/// Sends the manifest to the instance of the repository's last upload, because the registry reads the config
/// blob.
async fn send_manifest(
    gateway: &Gateway,
    request: &Parts,
    repository: &str,
    body: Body,
    client: &Client,
    bound: Duration,
) -> Result<Answer, Problem> {
    let order = gateway.order_by_store(StoreUse::Reads, last_instance(gateway, repository).await);
    let path = forward::path(request)?;
    // The result of a manifest proves nothing about uploads.
    let (answer, _) = forward::ask(gateway, &order, request, path, body, client, bound).await?;
    Ok(answer)
}

/// The instance of the latest upload to this repository, which another replica may have seen.
async fn last_instance(gateway: &Gateway, repository: &str) -> Option<InstanceId> {
    if let Some(shared) = &gateway.shared_uploads
        && let Some(latest) = shared.last(repository).await
    {
        gateway.uploads.learn(repository, &latest.instance, latest.age);
    }
    gateway.uploads.last(repository, &gateway.upstream)
}

async fn queue_copies(gateway: &Gateway, repository: &str, copy: ReadAlongCopy, client: &Client) {
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

/// Writes copies to the journal. Returns whether the journal took them.
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
