//! Writes objects in parts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderName, header};
use reqwest::{Method, Response};
use tokio::time::{sleep, timeout};

use super::call::Call;
use super::client::Client;
use super::refusal::failed;
use super::request::{self, Done};
use super::sign::Payload;
use crate::error::word;
use crate::parts::{PARTS_IN_FLIGHT, Part, Parts};
use crate::persist::{persist, persist_while};
use crate::request_id::in_current_request;
use crate::upload::Upload;
use crate::{Digest, Error, Hasher, Key, Kind, Proof, Result, Source};

/// The maximum number of parts that S3 accepts.
const MAX_PARTS: u64 = 10_000;

/// The size of parts is a multiple of this, in bytes.
pub(super) const PART_STEP: u64 = 1024 * 1024;

/// The largest part that is kept in memory, in bytes. Up to [`PARTS_IN_FLIGHT`] + 1 parts are in memory.
/// Larger parts, which only objects of more than 156 GiB need, are streamed one after the other.
const MAX_PART_IN_MEMORY: u64 = 16 * 1024 * 1024;

/// The pause between the last bytes of an upload and its abort.
const ABORT_PAUSE: Duration = Duration::from_millis(300);

/// How long a store may take to combine the parts. Amazon documents "several minutes".
const COMPLETION: Duration = Duration::from_secs(300);

/// The checksum algorithm of the parts of an upload (CreateMultipartUpload).
const ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");

/// Writes `source` in parts of at least `part` bytes.
///
/// The completing request makes the object visible. It is sent only after all bytes that were sent match the
/// source's digest.
pub(super) async fn put(client: &Arc<Client>, key: &Key, source: &Source, part: u64) -> Result<()> {
    let what = format!("put {key}");
    let part = part_size(source.size(), part);
    let checksums = client.checksums();
    let started = MultipartUpload::begin(client, &what, key, checksums).await?;
    let written = started.write(&what, source, part).await;
    match started.end(written).await {
        // Parts have checksums only if the upload was started with them. Here a part's refusal asked for
        // checksums too late, so the upload starts again.
        Err(_) if !checksums && client.checksums() => {
            let started = MultipartUpload::begin(client, &what, key, true).await?;
            let written = started.write(&what, source, part).await;
            started.end(written).await
        }
        written => written,
    }
}

/// The part size for an object of `size` bytes: `part`, or more if there would be too many parts.
pub(super) fn part_size(size: u64, part: u64) -> u64 {
    part.max(size.div_ceil(MAX_PARTS).next_multiple_of(PART_STEP))
}

/// An upload that exists at the store. It takes space there until it is completed or aborted.
///
/// The upload is aborted only if no completing request was sent that the store may still execute. An abort
/// during completion would remove the parts of the new object: the store would then list the object but could
/// not return it.
pub(super) struct MultipartUpload {
    pub(super) client: Arc<Client>,
    key: Key,
    id: String,
    /// Whether each part is sent with its digest.
    checksums: bool,
    open: bool,
    /// Whether a completing request was sent that the store did not clearly refuse.
    completing: AtomicBool,
}

impl MultipartUpload {
    /// Starts an upload. `checksums` says whether each part will be sent with its digest.
    pub(super) async fn begin(client: &Arc<Client>, what: &str, key: &Key, checksums: bool) -> Result<Self> {
        let url = client.address.object(key, &[("uploads", "")])?;
        let mut call = Call::new(Method::POST, url).with_headers(client.write_headers());
        if checksums {
            call = call.with_header(ALGORITHM, "SHA256")?;
        }
        let answer = client.ok(what, &call).await?;
        let id = request::upload_id(&client.http.read_whole(what, answer).await?)?;
        let (client, key, completing) = (Arc::clone(client), key.clone(), AtomicBool::new(false));
        Ok(Self { client, key, id, checksums, open: true, completing })
    }

    /// Ends the upload with the result of the write. If the object will not be completed, the upload is
    /// aborted.
    pub(super) async fn end(mut self, written: Result<()>) -> Result<()> {
        match &written {
            Ok(()) => {}
            Err(_) if self.is_completing() => self.leave(),
            Err(_) => self.abort().await,
        }
        self.open = false;
        written
    }

    /// Whether the store may be combining the parts, or may have combined them.
    fn is_completing(&self) -> bool {
        self.completing.load(Ordering::Relaxed)
    }

    /// Leaves the upload to the store, without an abort.
    fn leave(&self) {
        tracing::warn!(
            key = %self.key, upload = %word(&self.id),
            "it is unknown whether an upload was completed; its parts stay until the store removes them"
        );
    }

    async fn write(&self, what: &str, source: &Source, part_size: u64) -> Result<()> {
        let parts = if part_size > MAX_PART_IN_MEMORY {
            self.stream(what, source, part_size).await?
        } else {
            let parts = Parts::open(source, part_size, self.client.http.timeouts().stall).await?;
            parts
                .stream()
                .map_ok(|part| self.send(what, part))
                .try_buffered(PARTS_IN_FLIGHT)
                .try_collect()
                .await?
        };
        self.complete(what, Some(source.digest()), &parts).await
    }

    /// Sends a part that is in memory, with retries.
    async fn send(&self, what: &str, part: Part) -> Result<Done> {
        let what = format!("{what}, part {}", part.number);
        let checksum = self.checksums.then_some(part.digest);
        let call = self.call(part.number)?.with_checksum(checksum)?;
        let answer = self
            .client
            .retry_if_corrected(|| {
                persist(|| {
                    let upload = Upload::pieces(part.pieces.clone());
                    self.client.upload(&what, &self.key, &call, Payload::Signed(part.digest), upload)
                })
            })
            .await?;
        Ok(Done { etag: etag(&what, &answer)?, checksum })
    }

    /// Streams all parts, one after the other.
    ///
    /// If a part is sent again, it is also read again. The proof then continues from the bytes that the store
    /// accepted, because these make up the object. If an earlier try arrives late with other bytes, the
    /// part's ETag differs, and the completing request fails.
    async fn stream(&self, what: &str, source: &Source, part_size: u64) -> Result<Vec<Done>> {
        let mut proof = Proof::new(source.digest(), source.size(), Hasher::new());
        let mut parts = Vec::new();
        while !proof.is_complete()? {
            let number = parts.len() as u64 + 1;
            let what = format!("{what}, part {number}");
            let call = || self.call(number);
            let send = || self.send_streamed(&what, call, source, &proof, part_size);
            let (part, proven) = self.client.retry_if_corrected(|| persist(send)).await?;
            parts.push(part);
            proof = proven;
        }
        Ok(parts)
    }

    /// Streams the next part after the bytes that `before` has seen, and returns the updated proof. If the
    /// store requires the digest in advance, the part is read twice.
    async fn send_streamed(
        &self,
        what: &str,
        call: impl FnOnce() -> Result<Call>,
        source: &Source,
        before: &Proof,
        part_size: u64,
    ) -> Result<(Done, Proof)> {
        let start = before.size() - before.missing();
        let range = start..start + part_size.min(before.missing());
        let timeouts = self.client.http.timeouts();
        let checksum = match self.checksums {
            true => Some(digest_of(source, range.clone(), timeouts.stall).await?),
            false => None,
        };
        let (upload, seen) = Upload::part(source, range, before.clone(), &timeouts).await?;
        let call = call()?.with_checksum(checksum)?;
        let payload = checksum.map_or(Payload::Unsigned, Payload::Signed);
        let answer = self.client.upload(what, &self.key, &call, payload, upload).await?;
        Ok((Done { etag: etag(what, &answer)?, checksum }, seen.proof()))
    }

    pub(super) fn call(&self, number: u64) -> Result<Call> {
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", &self.id)];
        Ok(Call::new(Method::PUT, self.client.address.object(&self.key, &query)?))
    }

    /// Makes the object visible. If the outcome is unknown and there is a `digest`, the object at the key is
    /// read and compared with it.
    pub(super) async fn complete(&self, what: &str, digest: Option<Digest>, parts: &[Done]) -> Result<()> {
        let url = self.client.address.object(&self.key, &[("uploadId", &self.id)])?;
        let call = Call::new(Method::POST, url).with_body(request::completion(parts));
        let call = call.with_header(header::CONTENT_TYPE, "application/xml")?;
        self.completing.store(true, Ordering::Relaxed);
        let error = match persist_while(is_not_begun, || self.try_complete(what, &call)).await {
            Ok(()) => return Ok(()),
            Err(error) if is_refusal(&error) => {
                self.completing.store(false, Ordering::Relaxed);
                return Err(error);
            }
            // The upload does not exist, or has ended already.
            Err(error) if !error.is_transient() => error,
            // The answer may have been lost, or a proxy may have timed out.
            Err(error) => match self.try_complete(what, &call).await {
                Ok(()) => return Ok(()),
                Err(again) if is_unknown_upload(&again) => error,
                Err(again) => again,
            },
        };
        match digest {
            Some(digest) if self.client.holds(&self.key, digest).await.unwrap_or(false) => Ok(()),
            _ => Err(error.with_unknown_outcome()),
        }
    }

    async fn try_complete(&self, what: &str, call: &Call) -> Result<()> {
        let answer = self.client.send_within(what, call, COMPLETION).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.client.http.read_whole_within(what, answer, COMPLETION).await?;
        if !status.is_success() {
            return Err(failed(what, status, &headers, &body));
        }
        if request::failure(&body).is_some() {
            // The completing request was begun, whatever the error says.
            return Err(failed(what, status, &headers, &body).with_unknown_outcome());
        }
        // The server may send status 200 before the outcome is known, and the connection may break afterwards
        // (CompleteMultipartUpload, "Processing").
        if !request::is_completed(&body) {
            let why = format!("{what}: the answer does not confirm that the upload is completed");
            return Err(Error::new(Kind::Unavailable, why));
        }
        Ok(())
    }

    /// Aborts the upload. A part that arrives after the abort stays at the store (AbortMultipartUpload), so
    /// this waits a moment for parts that are still in flight.
    async fn abort(&self) {
        sleep(ABORT_PAUSE).await;
        let what = format!("abort the upload of {}", self.key);
        let url = self.client.address.object(&self.key, &[("uploadId", &self.id)]);
        let aborted = match url {
            Ok(url) => {
                let call = Call::new(Method::DELETE, url);
                persist(|| self.client.ok(&what, &call)).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = aborted
            && error.code() != Some("NoSuchUpload")
        {
            tracing::warn!(%error, "an upload could not be aborted; its parts stay until the store removes them");
        }
    }
}

/// The digest of a part of a source. `stall` bounds each wait for a piece.
async fn digest_of(source: &Source, range: Range<u64>, stall: Duration) -> Result<Digest> {
    let late = |_| Error::new(Kind::Source, "read the source: no answer");
    let mut pieces = timeout(stall, source.open(range)).await.map_err(late)??;
    let mut hasher = Hasher::new();
    while let Some(piece) = timeout(stall, pieces.next()).await.map_err(late)? {
        hasher.update(&piece?);
    }
    Ok(hasher.finish())
}

/// Whether the store has no such upload: it was completed, aborted, or removed by the store's own rules.
fn is_unknown_upload(error: &Error) -> bool {
    error.code() == Some("NoSuchUpload")
}

/// Whether an answer to a completing request proves that the parts will not be combined. A conflict does not
/// prove it, because another completing request may be running. Neither does an unknown upload.
fn is_refusal(error: &Error) -> bool {
    let finds_nothing = matches!(error.code(), Some("NoSuchUpload" | "NoSuchKey" | "404" | "409"));
    is_not_begun(error) || (!error.is_transient() && !finds_nothing && !error.has_unknown_outcome())
}

/// Whether a completing request was not begun, because the store asked for fewer requests or this process could not
/// send it. The answers to a conflict also ask for patience, but say nothing about the other request.
fn is_not_begun(error: &Error) -> bool {
    match error.kind() {
        _ if error.has_unknown_outcome() => false,
        Kind::Throttled { .. } => matches!(error.code(), Some("SlowDown" | "429")),
        kind => kind == Kind::Exhausted,
    }
}

/// The ETag that identifies a part in the completing request.
fn etag(what: &str, answer: &Response) -> Result<String> {
    let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
    etag.map(str::to_owned)
        .ok_or_else(|| Error::new(Kind::Unavailable, format!("{what}: the answer has no ETag")))
}

impl Drop for MultipartUpload {
    /// If the caller is cancelled, a new task aborts the upload.
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if self.is_completing() {
            return self.leave();
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let client = Arc::clone(&self.client);
        let (key, id, checksums) = (self.key.clone(), self.id.clone(), self.checksums);
        let abandoned = Self { client, key, id, checksums, open: false, completing: AtomicBool::new(false) };
        let tidying = self.client.tidying.clone();
        tidying.spawn_on(in_current_request(async move { abandoned.abort().await }), &runtime);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    proptest::proptest! {
        #[test]
        fn parts_are_never_too_many_nor_too_small(size in 1..50 * 1024 * 1024 * MIB, part in 5 * MIB..64 * MIB) {
            let chosen = part_size(size, part);
            proptest::prop_assert!(size.div_ceil(chosen) <= MAX_PARTS);
            proptest::prop_assert!(chosen >= part);
        }
    }
}
