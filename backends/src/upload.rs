//! Streamed bodies of requests, and their progress.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};

use crate::{ByteStream, Digest, Error, Hasher, Kind, Proof, Result, Source, Timeouts};

/// Bytes per piece that is handed to the connection. Small pieces make progress visible on slow lines.
pub(crate) const PIECE: usize = 256 * 1024;

/// A body of known length that is to be sent.
pub(crate) struct Upload {
    pieces: ByteStream,
    proof: Option<Proof>,
    length: u64,
}

impl Upload {
    /// A whole source. The last piece is withheld until the digest is verified.
    pub(crate) async fn proven(source: &Source, timeouts: &Timeouts) -> Result<Self> {
        let length = source.size();
        let pieces = match length {
            0 if source.digest() != Digest::EMPTY => {
                return Err(Error::new(Kind::Corrupt, format!("{}: the source is empty", source.digest())));
            }
            0 => stream::empty().boxed(),
            _ => open(source, 0..length, timeouts).await?,
        };
        Ok(Self { pieces, proof: Some(Proof::new(source.digest(), length, Hasher::new())), length })
    }

    /// A body from bytes in memory.
    pub(crate) fn pieces(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces: stream::iter(pieces.into_iter().map(Ok)).boxed(), proof: None, length }
    }

    /// A part of a source. Each piece is sent only if the proof admits it; the proof has seen all earlier
    /// bytes. When the part is sent, the caller can read the state of the proof.
    pub(crate) async fn part(
        source: &Source,
        range: Range<u64>,
        proof: Proof,
        timeouts: &Timeouts,
    ) -> Result<(Self, SharedProof)> {
        let length = range.end - range.start;
        let pieces = open(source, range, timeouts).await?;
        let seen = SharedProof(Arc::new(Mutex::new(proof)));
        let (watched, mut left) = (seen.clone(), length);
        let pieces = pieces
            .map(move |piece| {
                let piece = piece?;
                left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                    Error::new(Kind::Corrupt, "the source returned more bytes than requested")
                })?;
                watched.lock().admit(&piece)?;
                Ok(piece)
            })
            .boxed();
        Ok((Self { pieces, proof: None, length }, seen))
    }

    /// The number of bytes, for `Content-Length`.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The body and its progress.
    pub(crate) fn into_body(self, what: &str) -> (reqwest::Body, Arc<Progress>) {
        let progress = Arc::new(Progress::new(self.length));
        let feed = Feed {
            what: what.to_owned(),
            pieces: self.pieces,
            proof: self.proof,
            left: self.length,
            rest: Bytes::new(),
            progress: Arc::clone(&progress),
        };
        let body = stream::unfold(feed, |mut feed| async {
            let item = feed.next().await?;
            Some((item, feed))
        });
        (reqwest::Body::wrap_stream(body), progress)
    }
}

/// The proof of a body that is being sent.
#[derive(Debug, Clone)]
pub(crate) struct SharedProof(Arc<Mutex<Proof>>);

impl SharedProof {
    fn lock(&self) -> MutexGuard<'_, Proof> {
        self.0.lock()
    }

    /// The present state of the proof.
    pub(crate) fn proof(&self) -> Proof {
        self.lock().clone()
    }
}

/// Opens a part of a source. The timeout matters only for a source that has none of its own.
async fn open(source: &Source, range: Range<u64>, timeouts: &Timeouts) -> Result<ByteStream> {
    timeout(timeouts.first_byte + timeouts.stall, source.open(range))
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::Source, "open the source: no answer")))
}

struct Feed {
    what: String,
    pieces: ByteStream,
    proof: Option<Proof>,
    left: u64,
    rest: Bytes,
    progress: Arc<Progress>,
}

impl Feed {
    /// The next piece for the connection. An error makes the client abort the request, so that the store
    /// never receives a complete body. The progress keeps the reason.
    async fn next(&mut self) -> Option<Result<Bytes, &'static str>> {
        if self.left == 0 {
            self.progress.stands(Waiting::Answer);
            return None;
        }
        let piece = match self.read().await {
            Ok(piece) => piece,
            Err(error) => {
                self.progress.fail(error);
                return Some(Err("the source failed"));
            }
        };
        self.left = self.left.saturating_sub(piece.len() as u64);
        self.progress.stands(if self.left == 0 { Waiting::Answer } else { Waiting::Store });
        Some(Ok(piece))
    }

    async fn read(&mut self) -> Result<Bytes> {
        while self.rest.is_empty() {
            self.progress.stands(Waiting::Source);
            self.rest = self.pieces.next().await.transpose()?.ok_or_else(|| {
                let short = format!("{}: the source ended {} bytes short", self.what, self.left);
                Error::new(Kind::Corrupt, short)
            })?;
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        if let Some(proof) = &mut self.proof {
            proof.admit(&piece)?;
        }
        Ok(piece)
    }
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The source must give more bytes.
    Source,
    /// The store must accept more bytes.
    Store,
    /// The store must answer.
    Answer,
}

/// The progress of a request.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<ProgressState>);

#[derive(Debug)]
struct ProgressState {
    waiting: Waiting,
    since: Instant,
    error: Option<Error>,
}

impl Progress {
    fn new(length: u64) -> Self {
        // The connection never asks for a piece of an empty body.
        let waiting = if length == 0 { Waiting::Answer } else { Waiting::Store };
        Self(Mutex::new(ProgressState { waiting, since: Instant::now(), error: None }))
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.0.lock()
    }

    fn stands(&self, waiting: Waiting) {
        let mut state = self.state();
        state.waiting = waiting;
        state.since = Instant::now();
    }

    fn fail(&self, error: Error) {
        self.state().error = Some(error);
    }

    /// Whether the connection has accepted the whole body.
    pub(crate) fn is_sent(&self) -> bool {
        self.state().waiting == Waiting::Answer
    }

    /// Takes the error that ended the body, if there is one.
    pub(crate) fn take_error(&self) -> Option<Error> {
        self.state().error.take()
    }

    /// When the present wait becomes too long, and the kind of error that it then causes.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> (Instant, Kind) {
        let state = self.state();
        match state.waiting {
            Waiting::Source => (state.since + timeouts.stall, Kind::Source),
            Waiting::Store => (state.since + timeouts.stall, Kind::Timeout),
            Waiting::Answer => (state.since + timeouts.written(), Kind::Timeout),
        }
    }
}
