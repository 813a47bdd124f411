//! Server-side copies within S3.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderName, StatusCode};
use percent_encoding::utf8_percent_encode;
use reqwest::Method;

use super::call::Call;
use super::client::Client;
use super::config::S3Config;
use super::multipart::{MultipartUpload, PART_STEP, part_size};
use super::refusal::failed;
use super::request::{self, Done};
use crate::persist::persist;
use crate::urls::ENCODED;
use crate::{Digest, Error, Key, Kind, Result};

const SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");
const SOURCE_MATCH: HeaderName = HeaderName::from_static("x-amz-copy-source-if-match");
const SOURCE_RANGE: HeaderName = HeaderName::from_static("x-amz-copy-source-range");

/// The largest object that one request can copy, in bytes (CopyObject).
pub(super) const SINGLE_COPY: u64 = 5 * 1024 * 1024 * 1024;

/// The default size of a part in a server-side copy, in bytes.
pub(super) const COPIED_PART: u64 = 512 * 1024 * 1024;

/// Parts that are copied at once.
const PARTS_IN_FLIGHT: usize = 2;

/// How long a store may take to copy an object or a part.
const COPYING: Duration = Duration::from_secs(300);

/// The scope within which stores can copy each other's objects: the endpoint and the keys. `None` if the keys
/// are looked up, because they may belong to any account.
pub(super) fn scope(config: &S3Config) -> Option<Digest> {
    if config.access_key.reveal().is_empty() || config.session_token.is_some() {
        return None;
    }
    let S3Config { endpoint, region, access_key, secret_key, .. } = config;
    let text = format!("s3\n{endpoint}\n{region}\n{}\n{}", access_key.reveal(), secret_key.reveal());
    Some(Digest::of(text.as_bytes()))
}

/// The path of an object in `x-amz-copy-source`.
pub(super) fn path(bucket: &str, key: &str) -> String {
    format!("{}/{key}", utf8_percent_encode(bucket, ENCODED))
}

/// Whether an object may be copied in parts. RadosGW 16.2 crashes on a part whose source has a name that
/// needs encoding. The name of a blob never needs it, but its bucket or root may.
pub(super) fn may_be_parts(from: &str) -> bool {
    !from.contains('%')
}

/// The source of a copy: the object at `path`, only while it has this `version`.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) path: &'a str,
    pub(super) version: Option<&'a str>,
}

impl From<'_> {
    fn of(self, call: Call) -> Result<Call> {
        let call = call.with_header(SOURCE, self.path)?;
        match self.version {
            Some(version) => call.with_header(SOURCE_MATCH, version),
            None => Ok(call),
        }
    }
}

/// Copies an object of `size` bytes. An object larger than `single` is copied in parts.
///
/// # Errors
/// [`Kind::Source`] if the source has other bytes by now. Otherwise the error of a request.
pub(super) async fn copy(
    client: &Arc<Client>,
    key: &Key,
    from: From<'_>,
    size: u64,
    single: u64,
    part: u64,
) -> Result<()> {
    let what = format!("copy {key} within the store");
    if size > single {
        let part = part_size(size, part.next_multiple_of(PART_STEP));
        let started = MultipartUpload::begin(client, &what, key, false).await?;
        let copied = copy_parts(&started, &what, from, size, part).await;
        return started.end(copied).await;
    }
    let call = Call::new(Method::PUT, client.address.object(key, &[])?);
    let call = call.with_headers(client.write_headers());
    let call = from.of(call)?;
    let copied = copied(client, &what, &call, "CopyObjectResult").await;
    // The answer may be lost although the copy was made.
    let in_doubt = |error: &Error| error.is_transient() && error.kind() != Kind::Source;
    copied.map(drop).map_err(|error| if in_doubt(&error) { error.with_unknown_outcome() } else { error })
}

async fn copy_parts(
    started: &MultipartUpload,
    what: &str,
    from: From<'_>,
    size: u64,
    part: u64,
) -> Result<()> {
    let ranges = (0..size.div_ceil(part)).map(|number| number * part..size.min((number + 1) * part));
    let copies = ranges.enumerate().map(|(index, range)| copy_part(started, what, from, index + 1, range));
    let parts: Vec<Done> = stream::iter(copies).buffered(PARTS_IN_FLIGHT).try_collect().await?;
    started.complete(what, None, &parts).await
}

async fn copy_part(
    started: &MultipartUpload,
    what: &str,
    from: From<'_>,
    number: usize,
    range: Range<u64>,
) -> Result<Done> {
    let what = format!("{what}, part {number}");
    let range = format!("bytes={}-{}", range.start, range.end - 1);
    let call = from.of(started.call(number as u64)?)?.with_header(SOURCE_RANGE, &range)?;
    let etag = persist(|| copied(&started.client, &what, &call, "CopyPartResult")).await?;
    Ok(Done { etag, checksum: None })
}

/// Sends a copy request and returns the ETag of the copy. The server may send status 200 before the outcome
/// is known (CopyObject, "Response and special errors").
async fn copied(client: &Client, what: &str, call: &Call, result: &str) -> Result<String> {
    let answer = client.send_within(what, call, COPYING).await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = client.http.read_whole_within(what, answer, COPYING).await?;
    if status == StatusCode::PRECONDITION_FAILED {
        return Err(Error::new(Kind::Source, format!("{what}: the source was overwritten meanwhile")));
    }
    if !status.is_success() || request::failure(&body).is_some() {
        return Err(failed(what, status, &headers, &body));
    }
    request::copied(result, &body)
        .ok_or_else(|| Error::new(Kind::Unavailable, format!("{what}: the answer does not confirm the copy")))
}
