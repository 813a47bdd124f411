//! Fills the cache, and reads behind a fill.

use std::ops::Range;
use std::sync::Arc;

use backends::in_current_request;
use blob_cache::{Bypass, BypassReason, CachedBlob, Follower, Interrupted, NotKept, Writer};
use bytes::Bytes;
use futures_util::future::{Either, ready};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use gateway_http::{BodyError, Problem};
use tokio::sync::oneshot;
use tracing::Span;
use zone_router::{Blob, NotOpened, Router, Verified};

use crate::spans;

/// A blob that was opened in a zone or through the registry.
pub(crate) struct Opened {
    /// The source, for `Cache-Status`: `zone=…`, `registry` or `registry-redirect`.
    pub(crate) from: Arc<str>,
    pub(crate) body: Verified,
}

/// The source of a client's bytes after a miss.
pub(super) enum Served {
    /// The cache: the blob has arrived there meanwhile.
    Hit(CachedBlob),
    /// A fill. `joined` says that another client started it.
    Follow { follower: Follower, joined: bool },
    /// A body for this client only, because the cache does not keep the blob.
    Bypass(Opened, BypassReason),
}

/// Why there are no bytes after a miss.
pub(super) enum Unserved {
    /// No zone returned the blob.
    NotOpened(Arc<NotOpened>),
    /// Each fill broke before its first byte.
    Broken(Arc<str>),
}

impl Served {
    pub(super) fn bypass(opened: Opened, bypass: Bypass) -> Self {
        let reason = bypass.reason();
        Self::Bypass(Opened { from: opened.from, body: bypass.stream(opened.body) }, reason)
    }
}

impl From<NotOpened> for Unserved {
    fn from(why: NotOpened) -> Self {
        Self::NotOpened(Arc::new(why))
    }
}

impl From<Unserved> for Problem {
    fn from(why: Unserved) -> Self {
        Self::zones(match why {
            Unserved::NotOpened(why) => format!("no zone gave the blob: {why}"),
            Unserved::Broken(why) => format!("the blob broke off before its first byte: {why}"),
        })
    }
}

/// Fills the cache in a task and a span of its own. The fill continues if its client leaves. If the cache
/// does not keep the blob, the receiver gets the opened body back; otherwise it gets nothing.
pub(super) fn start(
    writer: Writer,
    span: Span,
    opening: impl Future<Output = Result<Opened, NotOpened>> + Send + 'static,
) -> oneshot::Receiver<Opened> {
    let (give_back, given_back) = oneshot::channel();
    let abandoned = writer.abandoned();
    let filling = async move {
        match opening.await {
            Err(why) => writer.not_opened(why),
            Ok(Opened { from, body }) => {
                spans::note_source(&from);
                if let Err(NotKept { body, .. }) = writer.fill(body, Arc::clone(&from)).await {
                    // The client may have left.
                    let _ = give_back.send(Opened { from, body });
                }
            }
        }
    };
    let filling = async move {
        tokio::select! {
            () = filling => {}
            () = abandoned => tracing::debug!("every client left: the fill ends"),
        }
    };
    tokio::spawn(span.in_scope(|| in_current_request(filling)));
    given_back
}

/// Returns these bytes of a blob as they arrive in the cache. If the cache's disk fails, the rest comes from
/// the zones.
pub(super) fn follow(
    follower: Follower,
    range: Range<u64>,
    router: Arc<Router>,
    blob: Blob,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    let one = |item| Either::Left(stream::once(ready(item)));
    follower.into_stream(range).flat_map(move |item| match item {
        Ok(bytes) => one(Ok(bytes)),
        Err(Interrupted::Broken(why)) => one(Err(BodyError::Blob(why.to_string()))),
        Err(Interrupted::Disk(remainder)) => {
            let rest = router.resume(&blob, remainder.size(), remainder.seen().clone());
            Either::Right(remainder.continue_with(rest).map_err(cut))
        }
    })
}

/// Why a client's body ends early.
pub(super) fn cut(error: backends::Error) -> BodyError {
    BodyError::Blob(error.to_string())
}
