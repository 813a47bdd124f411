//! The content of Quay's database: users, repositories, tags, manifests and the placements of blobs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::keys::PublicKey;
use super::uploads::Upload;

/// Quay's database. Several instances may share it.
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
    /// When a wrong password was last given. Logins are refused for a while after that.
    pub(super) failed: Option<Instant>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

/// The row of a blob: its size, and the zones that have it according to the database, true or not.
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
    /// The digests of the blobs that belong to it.
    pub(super) links: HashSet<String>,
    /// The manifests by digest.
    pub(super) manifests: BTreeMap<String, StoredManifest>,
    /// The digest of each tag.
    pub(super) tags: BTreeMap<String, String>,
    /// Deleted tags.
    pub(super) expired: HashSet<String>,
}

#[derive(Debug, Clone)]
pub(super) struct StoredManifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl State {
    /// Whether `user` may pull from `repository`. `None` is an anonymous client.
    pub(super) fn may_pull(&self, user: Option<&str>, repository: &str) -> bool {
        let Some(found) = self.repositories.get(repository) else { return false };
        found.public
            || user.is_some_and(|user| {
                owns(user, repository) || found.readers.contains(user) || found.writers.contains(user)
            })
    }

    /// Whether `user` may push to the repository, or create it.
    pub(super) fn may_push(&self, user: Option<&str>, repository: &str) -> bool {
        let Some(user) = user else { return false };
        owns(user, repository)
            || self.repositories.get(repository).is_some_and(|found| found.writers.contains(user))
    }

    /// Links a blob to a repository and records its placement.
    pub(super) fn add_blob(&mut self, repository: &str, digest: &str, size: u64, zone: &str) {
        let stored = self.blobs.entry(digest.to_owned()).or_default();
        stored.size = size;
        stored.placements.insert(zone.to_owned());
        self.repositories.entry(repository.to_owned()).or_default().links.insert(digest.to_owned());
    }

    /// The size of a blob, if it belongs to the repository.
    pub(super) fn linked(&self, repository: &str, digest: &str) -> Option<u64> {
        let found = self.repositories.get(repository)?;
        if !found.links.contains(digest) {
            return None;
        }
        self.blobs.get(digest).map(|stored| stored.size)
    }
}

/// Whether the namespace of the repository is the user's own. A robot owns nothing.
fn owns(user: &str, repository: &str) -> bool {
    repository.split_once('/').is_some_and(|(namespace, _)| namespace == user)
}
