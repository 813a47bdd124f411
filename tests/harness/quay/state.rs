//! What Quay keeps in its database: users, repositories, tags, manifests, where blobs lie.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::keys::PublicKey;
use super::uploads::Upload;

/// Quay's database, which several instances may share.
#[derive(Debug, Default)]
pub struct Database(Mutex<State>);

impl Database {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) users: HashMap<String, User>,
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) blobs: HashMap<String, Stored>,
    pub(super) uploads: HashMap<String, Arc<tokio::sync::Mutex<Upload>>>,
    pub(super) keys: Vec<PublicKey>,
}

/// A user or a robot (`namespace+name`).
pub(super) struct User {
    pub(super) password: String,
    pub(super) uuid: String,
    /// When a wrong password was last given; logins are refused for a while after it.
    pub(super) failed: Option<Instant>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

/// A blob's row: its size and the zones said to hold it, true or not.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) size: u64,
    pub(super) placements: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) public: bool,
    pub(super) readers: HashSet<String>,
    pub(super) writers: HashSet<String>,
    /// Digests of blobs that belong to it.
    pub(super) links: HashSet<String>,
    /// By digest.
    pub(super) manifests: BTreeMap<String, Manifest>,
    /// Tag to digest.
    pub(super) tags: BTreeMap<String, String>,
    /// Tags that were deleted.
    pub(super) expired: HashSet<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl State {
    /// Whether `user` (`None`: nobody) may pull from `repository`.
    pub(super) fn may_pull(&self, user: Option<&str>, repository: &str) -> bool {
        let Some(found) = self.repositories.get(repository) else { return false };
        found.public
            || user.is_some_and(|user| {
                owns(user, repository) || found.readers.contains(user) || found.writers.contains(user)
            })
    }

    /// Whether `user` may push there, or create it.
    pub(super) fn may_push(&self, user: Option<&str>, repository: &str) -> bool {
        let Some(user) = user else { return false };
        owns(user, repository)
            || self.repositories.get(repository).is_some_and(|found| found.writers.contains(user))
    }

    /// Links a blob to a repository and notes where it lies.
    pub(super) fn add_blob(&mut self, repository: &str, digest: &str, size: u64, zone: &str) {
        let stored = self.blobs.entry(digest.to_owned()).or_default();
        stored.size = size;
        stored.placements.insert(zone.to_owned());
        self.repositories.entry(repository.to_owned()).or_default().links.insert(digest.to_owned());
    }

    /// Size of a blob that belongs to the repository.
    pub(super) fn linked(&self, repository: &str, digest: &str) -> Option<u64> {
        let found = self.repositories.get(repository)?;
        if !found.links.contains(digest) {
            return None;
        }
        self.blobs.get(digest).map(|stored| stored.size)
    }
}

/// A user's own namespace; a robot owns nothing.
fn owns(user: &str, repository: &str) -> bool {
    repository.split_once('/').is_some_and(|(namespace, _)| namespace == user)
}
