//! A source that waits in its middle until it is told to go on.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backends::{ByteStream, Digest, Open, Result, Source};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

/// Bytes given at a time.
const PIECE: usize = 64 * 1024;

/// Opens its middle for one source.
pub(crate) struct Gate {
    reached: watch::Receiver<bool>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// `bytes`, of which half come at once and the other half when the gate is opened.
    pub(crate) fn source(bytes: &Bytes) -> (Source, Self) {
        let (reach, reached) = watch::channel(false);
        let (open, opened) = watch::channel(false);
        let gated = Gated { bytes: bytes.clone(), reach, opened };
        let source = Source::new(bytes.len() as u64, Digest::of(bytes), Arc::new(gated));
        (source, Self { reached, open })
    }

    /// Waits until the first half was given.
    pub(crate) async fn reached(&mut self) {
        // An error means that the source was dropped, and its put with it: that has a result to show.
        let _ = self.reached.wait_for(|reached| *reached).await;
    }

    /// Lets the other half follow.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

struct Gated {
    bytes: Bytes,
    reach: watch::Sender<bool>,
    opened: watch::Receiver<bool>,
}

#[async_trait]
impl Open for Gated {
    async fn open(&self, range: Range<u64>) -> Result<ByteStream> {
        let (bytes, half) = (self.bytes.clone(), self.bytes.len() / 2);
        let (reach, opened) = (self.reach.clone(), self.opened.clone());
        let starts = (range.start as usize..range.end as usize).step_by(PIECE);
        let pieces = stream::iter(starts).then(move |at| {
            let piece = bytes.slice(at..(at + PIECE).min(range.end as usize));
            let (reach, mut opened) = (reach.clone(), opened.clone());
            async move {
                if at >= half {
                    reach.send_replace(true);
                    // An error means that the gate is gone: nobody keeps it shut.
                    let _ = opened.wait_for(|opened| *opened).await;
                }
                Ok(piece)
            }
        });
        Ok(pieces.boxed())
    }
}
