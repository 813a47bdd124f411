//! Uploads (`endpoints/v2/blob.py`, `data/registry_model/blobuploader.py`).

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use backends::{Digest, Hasher};
use http::header::CONTENT_RANGE;
use http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::access::{Need, check};
use super::answer::{QuayAnswer, detailed, error, internal, method_not_allowed, nothing};
use super::{Delivery, Instance, uuid, with_namespace};

const METHODS: &str = "GET, DELETE, OPTIONS, HEAD, PATCH, PUT";

/// An upload in progress. Its bytes so far are in a file.
#[derive(Debug)]
pub(super) struct Upload {
    repository: String,
    path: PathBuf,
    hasher: Hasher,
    /// The destination: the preferred zone of the instance at which the upload started.
    zone: String,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Upload {
    fn have(&self) -> u64 {
        self.hasher.bytes()
    }

    /// Appends a body without its first `skip` bytes. If the body breaks off, the upload does not change.
    async fn append(&mut self, mut body: Incoming, mut skip: u64) -> Result<()> {
        let before = self.hasher.clone();
        let mut file = File::options().append(true).create(true).open(&self.path).await?;
        let outcome: Result<()> = async {
            while let Some(frame) = body.frame().await {
                let Ok(mut data) = frame?.into_data() else { continue };
                let skipped = data.split_to(usize::try_from(skip).unwrap_or(usize::MAX).min(data.len()));
                skip -= skipped.len() as u64;
                file.write_all(&data).await?;
                self.hasher.update(&data);
            }
            Ok(())
        }
        .await;
        file.flush().await?;
        if outcome.is_err() {
            self.hasher = before;
            file.set_len(self.have()).await?;
        }
        outcome
    }

    /// The objects that an S3 driver leaves behind. Every chunk is first an object of its own, which is never
    /// deleted (`storage/cloud.py:stream_upload_chunk`). If the zone is down, the chunk fails here. The
    /// object is created without the bytes.
    async fn scratch(&self, quay: &Instance) -> Result<()> {
        if quay.delivery == Delivery::Stream {
            return Ok(());
        }
        let zone = quay.zone(&self.zone).context("the upload's zone")?;
        zone.put_bytes(&quay.http, &zone.key_of(&format!("uploads/{}", uuid())), b"a chunk".to_vec()).await
    }

    /// Writes the bytes to the zone. If an object exists, it is kept without being read (`commit_to_blob`).
    /// An empty upload creates no object.
    async fn store(&self, quay: &Instance, digest: &Digest) -> Result<()> {
        let zone = quay.zone(&self.zone).context("the upload's zone")?;
        let key = zone.key(digest);
        if self.have() == 0 || zone.exists(&quay.http, &key).await? {
            return Ok(());
        }
        zone.put_file(&quay.http, &key, &self.path).await
    }
}

/// `POST /v2/<repository>/blobs/uploads/`: starts an upload, uploads a whole blob, or mounts one.
pub(super) async fn start(
    quay: &Instance,
    headers: &HeaderMap,
    repository: &str,
    query: &str,
    body: Incoming,
) -> QuayAnswer {
    if let Err(refusal) = check(quay, headers, repository, Need::Push, "POST, OPTIONS") {
        return *refusal;
    }
    let given = |wanted: &str| {
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    if let (Some(digest), Some(from)) = (given("mount"), given("from"))
        && mount(quay, headers, repository, &digest, &with_namespace(&from))
    {
        return created(quay, repository, &digest);
    }
    let Some(zone) = quay.zones.first() else { return internal() };
    let id = uuid();
    let path = quay.spool.path().join(&id);
    let mut upload =
        Upload { repository: repository.to_owned(), path, hasher: Hasher::new(), zone: zone.name.clone() };
    if let Some(digest) = given("digest") {
        return finish(quay, &mut upload, &digest, body).await;
    }
    quay.database.lock().uploads.insert(id.clone(), Arc::new(tokio::sync::Mutex::new(upload)));
    // This malformed range is Quay's.
    progress(quay, StatusCode::ACCEPTED, repository, &id, "bytes=0--1")
}

/// A mount only links the blob. The repository `from` must be public or covered by the token.
fn mount(quay: &Instance, headers: &HeaderMap, repository: &str, digest: &str, from: &str) -> bool {
    if check(quay, headers, from, Need::Pull, "").is_err() {
        return false;
    }
    let mut state = quay.database.lock();
    if state.linked(from, digest).is_none() {
        return false;
    }
    state.repositories.entry(repository.to_owned()).or_default().links.insert(digest.to_owned());
    true
}

/// `/v2/<repository>/blobs/uploads/<id>`
pub(super) async fn answer(
    quay: &Instance,
    method: &Method,
    headers: &HeaderMap,
    repository: &str,
    id: &str,
    query: &str,
    body: Incoming,
) -> QuayAnswer {
    if let Err(refusal) = check(quay, headers, repository, Need::Push, METHODS) {
        return *refusal;
    }
    let found = quay.database.lock().uploads.get(id).cloned();
    let Some(upload) = found else { return unknown() };
    let mut upload = upload.lock().await;
    if upload.repository != repository {
        return unknown();
    }
    match *method {
        // This end is one too large, as in Quay.
        Method::GET | Method::HEAD => nothing(StatusCode::NO_CONTENT)
            .with("docker-upload-uuid", id)
            .with("range", &format!("bytes=0-{}", upload.have())),
        Method::PATCH => patch(quay, headers, &mut upload, id, body).await,
        Method::PUT => {
            // Whatever the result, the upload has ended (`complete_when_uploaded`).
            quay.database.lock().uploads.remove(id);
            let digest = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "digest");
            let Some((_, digest)) = digest else {
                let detail = r#"{"reason":"Missing digest arg on monolithic upload"}"#;
                return detailed(
                    StatusCode::BAD_REQUEST,
                    "BLOB_UPLOAD_INVALID",
                    detail,
                    "blob upload invalid",
                );
            };
            finish(quay, &mut upload, &digest, body).await
        }
        Method::DELETE => {
            quay.database.lock().uploads.remove(id);
            nothing(StatusCode::NO_CONTENT)
        }
        _ => method_not_allowed(METHODS),
    }
}

async fn patch(
    quay: &Instance,
    headers: &HeaderMap,
    upload: &mut Upload,
    id: &str,
    body: Incoming,
) -> QuayAnswer {
    let start = match headers.get(CONTENT_RANGE) {
        None => 0,
        Some(value) => match value.to_str().ok().and_then(range_start) {
            Some(start) => start,
            None => return error(StatusCode::BAD_REQUEST, "INVALID_REQUEST", "Invalid Content-Range"),
        },
    };
    let have = upload.have();
    if start > have {
        let range = format!("0-{have}");
        return progress(quay, StatusCode::RANGE_NOT_SATISFIABLE, &upload.repository, id, &range);
    }
    // Quay treats a start of 0 as "no range given". A repeated first chunk is therefore stored twice.
    let skip = if start == 0 { 0 } else { have - start };
    if upload.scratch(quay).await.is_err() {
        return internal();
    }
    match upload.append(body, skip).await {
        Ok(()) => {
            let range = format!("0-{}", i128::from(upload.have()) - 1);
            progress(quay, StatusCode::ACCEPTED, &upload.repository, id, &range)
        }
        Err(_) => invalid(),
    }
}

/// The start of `^\d+-\d+$`. The `bytes ` prefix of RFC 9110 is not accepted.
fn range_start(text: &str) -> Option<u64> {
    let (start, end) = text.split_once('-')?;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if digits(start) && digits(end) { start.parse().ok() } else { None }
}

/// Takes the last bytes and the digest, and writes the blob to the store.
async fn finish(quay: &Instance, upload: &mut Upload, digest: &str, body: Incoming) -> QuayAnswer {
    if !body.is_end_stream() && upload.scratch(quay).await.is_err() {
        return internal();
    }
    if upload.append(body, 0).await.is_err() {
        return invalid();
    }
    let Ok(wanted) = digest.parse::<Digest>() else { return invalid() };
    if upload.hasher.clone().finish() != wanted {
        return invalid();
    }
    let slow = quay.faults.borrow().slow_commit;
    tokio::time::sleep(slow).await;
    if upload.store(quay, &wanted).await.is_err() {
        return internal();
    }
    quay.database.lock().add_blob(&upload.repository, digest, upload.have(), &upload.zone);
    created(quay, &upload.repository, digest)
}

fn progress(quay: &Instance, status: StatusCode, repository: &str, id: &str, range: &str) -> QuayAnswer {
    nothing(status)
        .with("docker-upload-uuid", id)
        .with("range", range)
        .with("location", &format!("{}/v2/{repository}/blobs/uploads/{id}", quay.origin()))
}

fn created(quay: &Instance, repository: &str, digest: &str) -> QuayAnswer {
    nothing(StatusCode::CREATED)
        .with("docker-content-digest", digest)
        .with("location", &format!("{}/v2/{repository}/blobs/{digest}", quay.origin()))
}

fn invalid() -> QuayAnswer {
    error(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", "blob upload invalid")
}

fn unknown() -> QuayAnswer {
    error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range() {
        assert_eq!(range_start("4000-9025"), Some(4000));
        for bad in ["bytes 0-1", "0-", "-1", "1", "a-b", ""] {
            assert_eq!(range_start(bad), None, "{bad}");
        }
    }
}
