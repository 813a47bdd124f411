//! The body of a blob of unknown size. It ends when its zone ends it, and the digest decides.

use std::sync::Arc;

use backends::{ByteStream, Digest, Error, Hasher, Kind, Result};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::event::{BodyEvent, What};
use crate::open::Won;
use crate::pieces::{Next, Pieces};
use crate::router::Trial;
use crate::{Blob, Router, ZoneId};

struct Body {
    router: Arc<Router>,
    blob: Blob,
    zone: ZoneId,
    pieces: Pieces,
    hasher: Hasher,
    /// The latest piece. It is withheld until another one arrives, or the digest is proven.
    held: Bytes,
    _trial: Option<Trial>,
}

/// Streams the body. The last piece is returned only if the digest is right. No other zone continues it, because a body
/// that breaks off may look like one that ends.
pub(crate) fn unsized_body(router: Arc<Router>, blob: Blob, won: Won) -> ByteStream {
    let body = Body {
        router,
        blob,
        zone: won.zone,
        pieces: Pieces::new(won.object.body),
        hasher: Hasher::new(),
        held: Bytes::new(),
        _trial: won.trial,
    };
    stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match body.next().await {
            Ok((piece, true)) => Some((Ok(piece), Some(body))),
            Ok((piece, false)) => (!piece.is_empty()).then_some((Ok(piece), None)),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Body {
    /// The next piece, and whether more may follow.
    async fn next(&mut self) -> Result<(Bytes, bool)> {
        loop {
            let watch = &self.router.watch;
            let Next { piece, watch: stopwatch, left_unread, .. } =
                self.pieces.next(None, &watch.lost_time).await;
            match piece.flatten() {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    self.hasher.update(&piece);
                    let ready = std::mem::replace(&mut self.held, piece);
                    if !ready.is_empty() {
                        return Ok((ready, true));
                    }
                }
                Some(Err(error)) => {
                    watch.saw(self.zone, BodyEvent::Abandoned);
                    let digest = self.blob.digest;
                    match left_unread {
                        true => watch.saw(self.zone, What::Excused),
                        false => {
                            let broke = |trouble| BodyEvent::Broke { digest, trouble };
                            watch.saw_failure(self.zone, &error, &stopwatch, broke);
                        }
                    }
                    return Err(error);
                }
                None => return self.end(left_unread).map(|last| (last, false)),
            }
        }
    }

    fn end(&mut self, left_unread: bool) -> Result<Bytes> {
        let (digest, size) = (self.blob.digest, self.hasher.bytes());
        if self.hasher.clone().finish() == digest {
            let blob = Arc::new(self.blob.clone());
            self.router.watch.saw(self.zone, BodyEvent::Proven { blob, size });
            return Ok(std::mem::take(&mut self.held));
        }
        self.router.watch.saw(self.zone, BodyEvent::Abandoned);
        let zone = &self.router.zone(self.zone).name;
        if left_unread {
            self.router.watch.saw(self.zone, What::Excused);
            tracing::info!(%zone, %digest, bytes = size, "a body that was left unread ends with another digest");
            return Err(wrong(&digest, size));
        }
        // The body may have broken off, or its bytes may be wrong. The next time, other zones come first.
        self.router.quarantine.blame(&digest, &[self.zone], true);
        tracing::error!(%zone, %digest, bytes = size, "a body without a length ends with another digest");
        Err(wrong(&digest, size))
    }
}

fn wrong(digest: &Digest, size: u64) -> Error {
    Error::new(Kind::Corrupt, format!("{digest}: after {size} bytes the digest is another"))
}
