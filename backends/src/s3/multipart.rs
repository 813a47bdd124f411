//! Objects written in parts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderName, header};
use reqwest::{Method, Response};
use tokio::time::{sleep, timeout};

use super::client::{Call, Client, failed};
use super::request::{self, Done};
use super::sign::Payload;
use crate::error::word;
use crate::parts::{PARTS_IN_FLIGHT, Part, Parts};
use crate::persist::persist;
use crate::request_id::in_current_request;
use crate::upload::Upload;
use crate::{Digest, Error, Hasher, Key, Kind, Proof, Result, Source};

/// The most parts S3 takes.
const MAX_PARTS: u64 = 10_000;

/// Parts are whole multiples of this, in bytes.
pub(super) const PART_STEP: u64 = 1024 * 1024;

/// The largest part that is kept in memory, in bytes; there are up to [`PARTS_IN_FLIGHT`] and one of
/// them. Larger ones, which only objects of more than 156 GiB need, are sent one after the other as
/// they are read.
const MAX_PART_IN_MEMORY: u64 = 16 * 1024 * 1024;

/// Between the last bytes sent of an upload and its abort.
const ABORT_PAUSE: Duration = Duration::from_millis(300);

/// How long a store may take to put the parts together; Amazon documents "several minutes".
const COMPLETION: Duration = Duration::from_secs(300);

/// What the parts of an upload are checked by (CreateMultipartUpload).
const ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");

/// Writes `source` in parts of at least `part` bytes.
///
/// The object appears by the completing request, and that is sent only after everything that was
/// sent matched the source's digest.
pub(super) async fn put(client: &Arc<Client>, key: &Key, source: &Source, part: u64) -> Result<()> {
    let what = format!("put {key}");
    let part = part_size(source.size(), part);
    let checksums = client.checksums();
    let started = Started::begin(client, &what, key, checksums).await?;
    let written = started.write(&what, source, part).await;
    match started.end(written).await {
        // Parts have checksums where the upload was begun for them, and a part's refusal said it too late.
        Err(_) if !checksums && client.checksums() => {
            let started = Started::begin(client, &what, key, true).await?;
            let written = started.write(&what, source, part).await;
            started.end(written).await
        }
        written => written,
    }
}

/// The size of parts for an object of `size` bytes: `part`, or more if they would be too many.
pub(super) fn part_size(size: u64, part: u64) -> u64 {
    part.max(size.div_ceil(MAX_PARTS).next_multiple_of(PART_STEP))
}

/// An upload that exists at the store and takes room there until it is completed or aborted.
///
/// It is aborted only as long as no completing request was sent that the store may still act on: an abort
/// takes the parts from under an object that is being made, and the store then shows it and cannot give it.
pub(super) struct Started {
    pub(super) client: Arc<Client>,
    key: Key,
    id: String,
    /// Whether each part is sent with its digest.
    checksums: bool,
    open: bool,
    /// Whether a completing request was sent that was not refused for certain.
    completing: AtomicBool,
}

impl Started {
    /// Begins an upload; `checksums` says whether each part will be sent with its digest.
    pub(super) async fn begin(client: &Arc<Client>, what: &str, key: &Key, checksums: bool) -> Result<Self> {
        let url = client.address.object(key, &[("uploads", "")])?;
        let mut call = Call::new(Method::POST, url).with_headers(client.write_headers());
        if checksums {
            call = call.with_header(ALGORITHM, "SHA256")?;
        }
        let answer = client.ok(what, &call).await?;
        let id = request::upload_id(&client.http.whole(what, answer).await?)?;
        let (client, key, completing) = (Arc::clone(client), key.clone(), AtomicBool::new(false));
        Ok(Self { client, key, id, checksums, open: true, completing })
    }

    /// Ends it, as it went: what will not be completed is taken back.
    pub(super) async fn end(mut self, written: Result<()>) -> Result<()> {
        match &written {
            Ok(()) => {}
            Err(_) if self.is_completing() => self.leave(),
            Err(_) => self.abort().await,
        }
        self.open = false;
        written
    }

    /// Whether the store may be putting the parts together, or may have done it.
    fn is_completing(&self) -> bool {
        self.completing.load(Ordering::Relaxed)
    }

    /// Leaves the upload to the store.
    fn leave(&self) {
        tracing::warn!(
            key = %self.key, upload = %word(&self.id),
            "whether an upload was completed is unknown; its parts stay until the store removes them"
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

    /// Sends a part that is in memory, again if need be.
    async fn send(&self, what: &str, part: Part) -> Result<Done> {
        let what = format!("{what}, part {}", part.number);
        let checksum = self.checksums.then_some(part.digest);
        let call = self.call(part.number)?.with_checksum(checksum)?;
        let answer = self
            .client
            .taught(|| {
                persist(|| {
                    let upload = Upload::pieces(part.pieces.clone());
                    self.client.upload(&what, &self.key, &call, Payload::Signed(part.digest), upload)
                })
            })
            .await?;
        Ok(Done { etag: etag(&what, &answer)?, checksum })
    }

    /// Sends all parts as they are read, one after the other.
    ///
    /// A part that has to be sent again is read again, and the proof goes on from the bytes of the
    /// try that the store took: those are the object, whatever was read before. (Should an earlier
    /// try land late with other bytes, its ETag is another, and the completing request fails.)
    async fn stream(&self, what: &str, source: &Source, part_size: u64) -> Result<Vec<Done>> {
        let mut proof = Proof::new(source.digest(), source.size(), Hasher::new());
        let mut parts = Vec::new();
        while !proof.is_complete()? {
            let number = parts.len() as u64 + 1;
            let what = format!("{what}, part {number}");
            let call = || self.call(number);
            let send = || self.send_streamed(&what, call, source, &proof, part_size);
            let (part, proven) = self.client.taught(|| persist(send)).await?;
            parts.push(part);
            proof = proven;
        }
        Ok(parts)
    }

    /// Sends the part that comes next to what `before` has seen, and returns the proof with it. Where the
    /// store wants its digest beforehand, the part is read twice.
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

    /// Makes the object appear. Where it is not known whether it did, what is there is read, if it should
    /// have this digest.
    pub(super) async fn complete(&self, what: &str, digest: Option<Digest>, parts: &[Done]) -> Result<()> {
        let url = self.client.address.object(&self.key, &[("uploadId", &self.id)])?;
        let call = Call::new(Method::POST, url).with_body(request::completion(parts));
        let call = call.with_header(header::CONTENT_TYPE, "application/xml")?;
        self.completing.store(true, Ordering::Relaxed);
        let error = match self.try_complete(what, &call).await {
            Ok(()) => return Ok(()),
            Err(error) if is_refusal(&error) => {
                self.completing.store(false, Ordering::Relaxed);
                return Err(error);
            }
            // Nobody began it, or it has ended already.
            Err(error) if !error.is_transient() => error,
            // The answer may have been lost, or come from a proxy that waits no longer.
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
        let body = self.client.http.whole_within(what, answer, COMPLETION).await?;
        if !status.is_success() || request::failure(&body).is_some() {
            return Err(failed(what, status, &headers, &body));
        }
        // 200 may have been sent before it was known, and then the connection lost
        // (CompleteMultipartUpload, "Processing").
        if !request::is_completed(&body) {
            let why = format!("{what}: the answer does not say that the upload is completed");
            return Err(Error::new(Kind::Unavailable, why));
        }
        Ok(())
    }

    /// Takes the upload back. Parts that were being sent may still be landing, and a part that
    /// lands afterwards stays (AbortMultipartUpload), so it waits for them a little.
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
            tracing::warn!(%error, "parts stay behind until the store removes them");
        }
    }
}

/// The digest of a part of a source; `stall` bounds each wait for a piece.
async fn digest_of(source: &Source, range: Range<u64>, stall: Duration) -> Result<Digest> {
    let late = |_| Error::new(Kind::Source, "read the source: no answer");
    let mut pieces = timeout(stall, source.open(range)).await.map_err(late)??;
    let mut hasher = Hasher::new();
    while let Some(piece) = timeout(stall, pieces.next()).await.map_err(late)? {
        hasher.update(&piece?);
    }
    Ok(hasher.finish())
}

/// Whether the store has no such upload: completed, aborted, or removed by its own rules.
fn is_unknown_upload(error: &Error) -> bool {
    error.code() == Some("NoSuchUpload")
}

/// Whether an answer to a completing request says for certain that the parts are not put together. That of a
/// conflict does not: another completing request may be under way; nor does one that finds nothing.
fn is_refusal(error: &Error) -> bool {
    !error.is_transient() && !matches!(error.code(), Some("NoSuchUpload" | "NoSuchKey" | "404" | "409"))
}

/// What identifies a part to the completing request.
fn etag(what: &str, answer: &Response) -> Result<String> {
    let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
    etag.map(str::to_owned)
        .ok_or_else(|| Error::new(Kind::Unavailable, format!("{what}: an answer without an ETag")))
}

impl Drop for Started {
    /// Whoever gave up waiting cannot abort, so a task of its own does.
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
