//! Reads the body of one zone piece by piece, and measures how long it waits for the zone.

use std::sync::Arc;
use std::time::Duration;

use backends::{ByteStream, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::left_unread::LeftUnread;
use crate::lost_time::{LostTime, Stopwatch};
use crate::wait::Bell;

/// A body being read.
pub(crate) struct Pieces {
    body: ByteStream,
    bell: Arc<Bell>,
    /// The time when the latest piece was returned, or the body was opened.
    gave_at: Instant,
    unread: LeftUnread,
}

/// The result of waiting for a piece.
pub(crate) struct Next {
    /// A piece, the end of the body, or nothing if none came in time.
    pub(crate) piece: Option<Option<Result<Bytes>>>,
    /// How long the read waited for the zone, without the time that the client or this process took.
    pub(crate) waited: Duration,
    pub(crate) watch: Stopwatch,
    /// If the body breaks here: whether the cause may be that this process had not read it for long.
    pub(crate) left_unread: bool,
}

impl Pieces {
    pub(crate) fn new(body: ByteStream) -> Self {
        Self { body, bell: Bell::new(), gave_at: Instant::now(), unread: LeftUnread::default() }
    }

    /// Returns the next piece. If `stall` is given, waits at most that long.
    pub(crate) async fn next(&mut self, stall: Option<Duration>, lost_time: &LostTime) -> Next {
        let (watch, idle) = (lost_time.start(), self.gave_at.elapsed());
        let body = &mut self.body;
        let next = async move {
            match stall {
                Some(stall) => lost_time.within(stall, body.next()).await,
                None => Some(body.next().await),
            }
        };
        let (piece, waited) = self.bell.attend(next).await;
        self.gave_at = Instant::now();
        self.unread.waited(idle, &waited);
        if let Some(Some(Ok(bytes))) = &piece {
            self.unread.came(bytes.len() as u64);
        }
        let left_unread = self.unread.excuses(&waited);
        // The lost time may already be a part of `until_taken`.
        let lost = watch.lost(lost_time).saturating_sub(waited.until_taken);
        Next { piece, waited: waited.until_ready.saturating_sub(lost), watch, left_unread }
    }
}
