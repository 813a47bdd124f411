//! A blob on its way into the cache: what its writer and its followers share.

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
    /// Whether clients of other networks than its starter's have joined it.
    shared: AtomicBool,
}

/// How far a fill is.
#[derive(Clone)]
pub(super) enum Phase {
    /// Its source is being opened.
    Opening,
    /// Its file exists; so many bytes of it can be read.
    Filling(Arc<Head>, u64),
    /// All bytes are in the file, and proven.
    Whole(Arc<Head>),
    /// It ended without a whole blob.
    Failed(Failure),
}

/// What is known of a fill once its file exists.
pub(super) struct Head {
    /// The file, of which as much can be read as the phase says.
    pub(super) blob: CachedBlob,
    /// Where the bytes come from, for `Cache-Status`.
    pub(super) from: Arc<str>,
}

/// Why a fill ended without a whole blob.
#[derive(Clone)]
pub(super) enum Failure {
    /// No zone gave the blob.
    NotOpened(Arc<NotOpened>),
    /// The blob was opened, but is not kept.
    Bypassed(BypassReason),
    /// The source broke off or gave wrong bytes, or the writer ended early.
    Broken(Arc<str>),
    /// The disk failed. `seen` has hashed what was written until then.
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

    /// Whose its work on the disk is. As long as only its starter's network reads it, it is the starter's, so that
    /// a client with many fills delays its own. Once others have joined, or if all have left, it is the gateway's:
    /// they would wait for the share of a starter that may have much else to read.
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

    /// Ends when all followers have left and no permit for such a fill is free.
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
