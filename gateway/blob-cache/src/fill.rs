//! A fill: the state that the writer of a blob and its followers share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use backends::{Digest, Hasher};
use limits::pool::Identity;
use tokio::sync::{Notify, Semaphore, watch};
use zone_router::NotOpened;

use crate::bypass::BypassReason;
use crate::cached_blob::CachedBlob;

/// One fill.
pub(super) struct Fill {
    pub(super) digest: Digest,
    pub(super) phase: watch::Sender<Phase>,
    followers: AtomicUsize,
    followers_changed: Notify,
    starter: Identity,
    /// Whether clients of networks other than the starter's have joined.
    shared: AtomicBool,
}

/// The progress of a fill.
#[derive(Clone)]
pub(super) enum Phase {
    /// The writer is opening a source.
    Opening,
    /// The file exists, and this many bytes of it can be read.
    Filling(Arc<Head>, u64),
    /// All bytes are in the file and proven.
    Whole(Arc<Head>),
    /// The fill ended without a whole blob.
    Failed(Failure),
}

/// The properties of a fill that are known once its file exists.
pub(super) struct Head {
    /// The file. The phase says how much of it can be read.
    pub(super) blob: CachedBlob,
    /// Where the bytes come from, for `Cache-Status`.
    pub(super) from: Arc<str>,
}

/// Why a fill ended without a whole blob.
#[derive(Clone)]
pub(super) enum Failure {
    /// No zone gave the blob.
    NotOpened(Arc<NotOpened>),
    /// A source was opened, but the blob is not kept.
    Bypassed(BypassReason),
    /// The source broke off or returned wrong bytes, or the writer ended early.
    Broken(Arc<str>),
    /// The disk failed. `seen` is the hash of the bytes written before that.
    Disk { seen: Arc<Hasher> },
}

/// Counts a client as a follower until dropped.
#[derive(Debug)]
pub(super) struct Presence(Arc<Fill>);

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Fill {
    pub(super) fn new(digest: Digest, starter: Identity) -> Self {
        Self {
            digest,
            phase: watch::Sender::new(Phase::Opening),
            followers: AtomicUsize::new(0),
            followers_changed: Notify::new(),
            starter,
            shared: AtomicBool::new(false),
        }
    }

    /// The client to which the disk work of this fill belongs. While only the starter's network reads the fill, that is
    /// the starter, so that a client with many fills delays only its own. If clients of other networks have joined, or
    /// if all have left, it is the gateway: otherwise other clients would wait for the share of a starter that may have
    /// much else to read.
    pub(super) fn worker(&self) -> Identity {
        if self.shared.load(Ordering::Acquire) || !self.is_followed() {
            Identity::GATEWAY
        } else {
            self.starter
        }
    }

    /// Whether a client reads behind it.
    pub(super) fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Acquire) > 0
    }

    /// Completes when all followers have left and no permit for an abandoned fill is free.
    pub(super) async fn abandoned(&self, permits: &Arc<Semaphore>) {
        let mut permit = None;
        loop {
            if self.is_followed() {
                permit = None;
            } else if permit.is_none() {
                permit = Arc::clone(permits).try_acquire_owned().ok();
                if permit.is_none() {
                    return;
                }
            }
            self.followers_changed.notified().await;
        }
    }
}

impl Presence {
    pub(super) fn new(fill: Arc<Fill>, client: &Identity) -> Self {
        if client.network() != fill.starter.network() {
            fill.shared.store(true, Ordering::Release);
        }
        fill.followers.fetch_add(1, Ordering::AcqRel);
        fill.followers_changed.notify_one();
        Self(fill)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::AcqRel);
        self.0.followers_changed.notify_one();
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpened(why) => why.fmt(f),
            Self::Bypassed(reason) => f.write_str(reason.as_str()),
            Self::Broken(why) => f.write_str(why),
            Self::Disk { seen } => write!(f, "the disk failed after {} bytes", seen.bytes()),
        }
    }
}
