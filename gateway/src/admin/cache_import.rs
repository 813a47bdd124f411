//! Takes blobs and manifests from an operator. Only what has the right digest is kept.

use std::sync::Arc;
use std::time::Duration;

use backends::{Digest, Error, Kind};
use blob_cache::{Bypass, BypassReason, Cache, Join, Lookup, NoFill, NotKept, Writer};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gateway_http::content_length;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use limits::pool::Identity;
use operations::reports::Imported;
use registry::Read;
use zone_router::Verified;

use super::answer::{Answer, json};
use super::cache_contents::digest;
use super::problem::Problem;
use crate::Gateway;

/// How long the next bytes of a blob may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// The time for a manifest.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes a blob in, unless the cache has it.
pub(super) async fn blob(gateway: &Gateway, text: &str, headers: &HeaderMap, body: Incoming) -> Answer {
    let digest = digest(text)?;
    let size = content_length(headers).ok_or_else(|| {
        Problem::new(StatusCode::LENGTH_REQUIRED, "no_length", "a blob is sent with Content-Length")
    })?;
    if !digest.may_have(size) {
        return Err(wrong(&format!("no blob with this digest has {size} bytes")));
    }
    let body = Verified::hashing(pieces(body), digest, Some(size));
    let new = match gateway.cache.lookup(&Identity::GATEWAY, &digest).await {
        Lookup::Hit(_) => {
            read_to_end(body).await?;
            false
        }
        Lookup::Join(_) => {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "the blob is being filled: try again",
            ));
        }
        Lookup::Bypass(bypass) => return Err(not_kept(bypass, body).await),
        Lookup::Fill(writer, join) => {
            fill(&gateway.cache, digest, writer, join, body).await?;
            true
        }
    };
    json(&Imported { digest: digest.to_string(), size, new })
}

async fn fill(
    cache: &Arc<Cache>,
    digest: Digest,
    writer: Writer,
    join: Join,
    body: Verified,
) -> Result<(), Problem> {
    let filling = tokio::spawn(writer.fill(body, "import".into()));
    match join.follow().await {
        Ok(follower) => {
            let size = follower.size();
            let mut behind = Box::pin(follower.into_stream(0..size));
            while let Some(piece) = behind.next().await {
                if piece.is_err() {
                    return Err(wrong("its bytes do not have this digest, or it ended early"));
                }
            }
        }
        Err(NoFill::Bypass(bypass)) => {
            let Ok(Err(NotKept { body, .. })) = filling.await else { return Err(disk()) };
            return Err(not_kept(bypass, body).await);
        }
        Err(NoFill::NotOpened(_) | NoFill::Broken(_)) => {
            return Err(wrong("its bytes do not have this digest, or it ended early"));
        }
    }
    // The file gets its place after its last byte.
    let _ = filling.await;
    if cache.holds(&digest) { Ok(()) } else { Err(disk()) }
}

/// Why a blob was not taken. If it may evict others the next time, its body is read to its end, so that this counts.
async fn not_kept(bypass: Bypass, body: Verified) -> Problem {
    let reason = bypass.reason();
    match reason {
        BypassReason::AskedOnce => match read_to_end(bypass.stream(body)).await {
            Ok(()) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "asked_once",
                "the cache is full, so a blob comes in only if it is sent again",
            ),
            Err(problem) => problem,
        },
        BypassReason::TooLarge => {
            Problem::too_large("the blob is larger than what the cache may still hold: raise cache.size")
        }
        BypassReason::Busy => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many fills are under way: try again")
        }
        BypassReason::Disk | BypassReason::UnknownSize => disk(),
    }
}

async fn read_to_end(mut body: Verified) -> Result<(), Problem> {
    while let Some(piece) = body.next().await {
        piece.map_err(|error| wrong(&error.to_string()))?;
    }
    Ok(())
}

fn wrong(why: &str) -> Problem {
    Problem::conflict("wrong_bytes", format!("it is not taken: {why}"))
}

fn disk() -> Problem {
    let detail = "the cache's disk has no room above cache.reserve, or fails: see the gateway's log";
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, "cache_disk", detail)
}

/// The body of a request, whose next bytes may not take long.
fn pieces(body: Incoming) -> backends::ByteStream {
    let broken = |why: &str| Error::new(Kind::Unavailable, format!("the upload: {why}"));
    stream::unfold(Some(body.into_data_stream()), move |state| async move {
        let mut body = state?;
        match tokio::time::timeout(PIECE_TIMEOUT, body.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(error))) => Some((Err(broken("it broke off").with_cause(error)), None)),
            Ok(None) => None,
            Err(_) => Some((Err(broken("no bytes came in time")), None)),
        }
    })
    .into_stream()
    .boxed()
}

/// Verifies a manifest, named by `repository` and `reference`. It is not remembered: only the registry says which blobs
/// are in which repository, and a layout may say anything.
pub(super) async fn manifest(gateway: &Gateway, query: &str, body: Incoming) -> Answer {
    let (mut repository, mut reference) = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "repository" => repository = Some(value.into_owned()),
            "reference" => reference = Some(value.into_owned()),
            _ => return Err(Problem::malformed("the query has repository and reference")),
        }
    }
    let (Some(repository), Some(reference)) = (repository, reference) else {
        return Err(Problem::malformed("the query lacks repository or reference"));
    };
    let path = format!("/v2/{repository}/manifests/{reference}");
    if !matches!(Read::parse(&Method::GET, &path), Read::Manifest { repository: named, .. } if named == repository)
    {
        return Err(Problem::malformed("repository or reference is not a name that a registry has"));
    }
    let most = usize::try_from(gateway.settings.limits.manifest.as_u64()).unwrap_or(usize::MAX);
    let body = tokio::time::timeout(MANIFEST_TIMEOUT, Limited::new(body, most).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err(Problem::too_large("the manifest is larger than limits.manifest")),
        Err(_) => {
            let detail = "the manifest was not received in time";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", detail));
        }
    };
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body).is_err() {
        return Err(wrong("a manifest is a JSON object"));
    }
    let found = Digest::of(&body);
    if reference.parse::<Digest>().is_ok_and(|digest| digest != found) {
        return Err(wrong("a manifest has another digest"));
    }
    json(&Imported { digest: found.to_string(), size: body.len() as u64, new: true })
}
