//! A source that stops in its middle until the test opens a gate.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use backends::{ByteStream, Digest, Open, Result, Source};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

/// Bytes that are returned at a time.
const PIECE: usize = 64 * 1024;

/// Opens the gate of one source.
pub(crate) struct Gate {
    reached: watch::Receiver<bool>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// A source of `bytes`. Half of them come at once, and the other half after the gate is opened.
    pub(crate) fn source(bytes: &Bytes) -> (Source, Self) {
        let (reach, reached) = watch::channel(false);
        let (open, opened) = watch::channel(false);
        let gated = Gated { bytes: bytes.clone(), reach, opened };
        let source = Source::new(bytes.len() as u64, Digest::of(bytes), Arc::new(gated));
        (source, Self { reached, open })
    }

    /// Waits until the first half was read.
    pub(crate) async fn reached(&mut self) {
        // An error means that the source was dropped with its put. The put then has a result that the test
        // checks.
        let _ = self.reached.wait_for(|reached| *reached).await;
    }

    /// Opens the gate for the second half.
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
                    // An error means that the gate was dropped, so it no longer blocks.
                    let _ = opened.wait_for(|opened| *opened).await;
                }
                Ok(piece)
            }
        });
        Ok(pieces.boxed())
    }
}
