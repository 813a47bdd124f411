//! Remembers for a short time what the registry permitted. A refusal is never remembered.

mod changes;
mod kept_headers;
mod request_key;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, StatusCode};
use moka::sync::Cache;
use parking_lot::RwLock;
use registry::bearer::{Hashed, KeyedHash};
use tokio::time::Instant;

use self::changes::RecentChanges;
pub(crate) use self::changes::{Changed, changed};
use self::request_key::request_key;
use crate::links::{self, Links};
use registry::token_life::Life;

/// What the registry's permission says about a blob.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    /// The size of the blob, if the registry named a size that the blob can have.
    pub(crate) size: Option<u64>,
    /// The registry's headers that the gateway's own answers keep.
    pub(crate) headers: Arc<HeaderMap>,
}

/// Permissions of the registry, by repository, digest and everything else that the registry may have judged.
/// A refusal is never remembered.
#[derive(Debug)]
pub(crate) struct Permissions {
    yes: Cache<Question, Permission>,
    /// Blobs of repositories that the registry permitted somebody to read.
    named: Cache<Digest, ()>,
    /// Shared with those that follow, because a change may be recorded here after they took the place of these.
    changes: Arc<RecentChanges>,
    memory: Duration,
    /// Which blobs are in which repository, according to the registry.
    links: Arc<Links>,
    hash: KeyedHash,
    /// What the registry's answers about blobs say of every blob.
    blob_headers: Arc<RwLock<BlobHeaders>>,
    shared: kept_headers::SharedHeaders,
}

/// The headers that the gateway's answers keep, of a blob that the registry was not asked for.
#[derive(Debug, Default)]
struct BlobHeaders {
    latest: Option<Arc<HeaderMap>>,
    /// Whether they come from an answer about a blob, not only from one about a manifest.
    exact: bool,
}

/// How many permissions and links are remembered, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memories {
    /// The most permissions, and the most links.
    pub(crate) entries: u64,
    /// How long a permission is remembered.
    pub(crate) permission: Duration,
    /// How long a link is believed.
    pub(crate) freshness: Duration,
    /// How long the registry may take to answer.
    pub(crate) answer: Duration,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// A keyed hash of what the registry may have judged. The values themselves are not kept.
    judged: Hashed,
    repository: String,
    digest: Digest,
}

impl Question {
    /// The question whether the sender of these headers may read a blob at this target. `None` if a
    /// permission must not be remembered.
    pub(crate) fn new(
        permissions: &Permissions,
        headers: &HeaderMap,
        target: &PathAndQuery,
        may_judge: impl Fn(&HeaderName) -> bool,
        repository: &str,
        digest: Digest,
    ) -> Option<Self> {
        let judged = request_key(&permissions.hash, headers, target, may_judge)?;
        Some(Self { judged, repository: repository.to_owned(), digest })
    }
}

#[derive(Debug, Clone)]
struct Permission {
    granted: Granted,
    /// When the registry was asked.
    asked: Instant,
    until: Instant,
}

impl Permissions {
    /// Credentials are hashed with `hash`.
    #[must_use]
    pub(crate) fn new(memories: Memories, hash: KeyedHash) -> Self {
        let Memories { entries, permission: memory, freshness, answer } = memories;
        Self {
            yes: Cache::builder().max_capacity(entries).time_to_live(memory).build(),
            named: Cache::builder().max_capacity(entries).time_to_live(memory).build(),
            changes: Arc::new(RecentChanges::new(memory.max(freshness).saturating_add(answer))),
            memory,
            links: Arc::new(Links::new(entries, freshness)),
            hash,
            blob_headers: Arc::default(),
            shared: kept_headers::SharedHeaders::default(),
        }
    }

    /// Permissions with other bounds or of another registry, for a later configuration. None is remembered yet. The links
    /// stay if the registry is the same; they keep their bounds. Those of another registry are not kept on disk before the
    /// next start.
    #[must_use]
    pub(crate) fn successor(&self, memories: Memories, same_registry: bool) -> Self {
        let Memories { permission, freshness, answer, .. } = memories;
        self.changes.live_for(permission.max(freshness).saturating_add(answer));
        let new = Self { changes: Arc::clone(&self.changes), ..Self::new(memories, self.hash.clone()) };
        match same_registry {
            true => {
                Self { links: Arc::clone(&self.links), blob_headers: Arc::clone(&self.blob_headers), ..new }
            }
            // Requests under way may still confirm links of the registry before, so the file stays theirs.
            false => new,
        }
    }

    /// What hashes credentials.
    pub(crate) fn hash(&self) -> &KeyedHash {
        &self.hash
    }

    /// Opens the links of the last run with this registry. It reads files, so it may block.
    pub(crate) fn open_links(&mut self, state_dir: &Path, registry: &str) {
        let Some(links) = Arc::get_mut(&mut self.links) else { return };
        if let Some(headers) = links.open(state_dir, registry) {
            let latest = Some(self.shared.one(headers));
            *self.blob_headers.write() = BlobHeaders { latest, exact: false };
        }
    }

    /// Writes the links for the next start. It may block.
    pub(crate) fn close(&self) {
        if self.changes.is_pending() {
            self.links.forget_all();
        }
        if let Some(headers) = &self.blob_headers.read().latest {
            self.links.close(headers);
        }
    }

    /// What an answer of the registry about this blob would say, if the registry confirmed lately that the blob is in
    /// this repository. It says nothing about who may read.
    pub(crate) fn linked(&self, repository: &str, digest: &Digest) -> Option<Granted> {
        let link = self.links.fresh(repository, digest)?;
        if !self.changes.is_unchanged(repository, link.asked) {
            return None;
        }
        let headers = self.blob_headers.read().latest.clone()?;
        Some(Granted { size: link.size, headers })
    }

    /// Whether nothing in this repository was changed through the gateway since `asked`.
    pub(crate) fn is_unchanged(&self, repository: &str, asked: Instant) -> bool {
        !self.changes.is_pending() && self.changes.is_unchanged(repository, asked)
    }

    /// A permission for a blob of which nothing is known but what the registry's answers say of every blob.
    pub(crate) fn granted_lately(&self) -> Granted {
        Granted { size: None, headers: self.blob_headers.read().latest.clone().unwrap_or_default() }
    }

    /// Takes the registry's confirmation that these blobs are in this repository. It was asked at `asked`.
    pub(crate) fn confirm(
        &self,
        repository: &str,
        blobs: impl IntoIterator<Item = (Digest, Option<u64>)>,
        asked: Instant,
    ) {
        // A change of everything that has not taken effect yet is on disk already.
        let unchanged = || self.is_unchanged(repository, asked);
        self.links.confirm(repository, blobs, asked, unchanged);
    }

    /// Learns from an answer about a manifest which headers all answers of the registry have. `blob` are those that only
    /// answers about blobs have.
    pub(crate) fn note_headers(&self, manifest: &HeaderMap, blob: HeaderMap) {
        if self.blob_headers.read().exact {
            return;
        }
        let mut headers = kept_headers::kept(manifest, true);
        headers.extend(blob);
        let latest = Some(self.shared.one(headers));
        let mut known = self.blob_headers.write();
        if !known.exact {
            known.latest = latest;
        }
    }

    /// The permission that the registry last gave to this question, if it still counts.
    pub(crate) fn remembered(&self, asked: &Question) -> Option<Granted> {
        let unchanged = |yes: &Permission| self.changes.is_unchanged(&asked.repository, yes.asked);
        let yes = self.yes.get(asked).filter(|yes| Instant::now() < yes.until && unchanged(yes))?;
        Some(yes.granted)
    }

    /// The permission in an answer with these headers. Equal sets of headers are kept once.
    pub(crate) fn granted(&self, size: Option<u64>, headers: &HeaderMap, is_redirect: bool) -> Granted {
        let headers = self.shared.one(kept_headers::kept(headers, is_redirect));
        let is_latest = |known: &BlobHeaders| {
            known.exact && known.latest.as_ref().is_some_and(|latest| Arc::ptr_eq(latest, &headers))
        };
        if !is_latest(&self.blob_headers.read()) {
            *self.blob_headers.write() = BlobHeaders { latest: Some(Arc::clone(&headers)), exact: true };
        }
        Granted { size, headers }
    }

    /// Drops the permissions of a repository, or of a namespace with a slash at its end, for all credentials.
    /// The answers to questions in progress are not remembered either.
    pub(crate) fn forget(&self, name: &str) {
        self.changes.note(name);
        self.links.forget(name);
        tracing::debug!(name, "remembered permissions dropped");
    }

    /// Drops the permissions of whatever a request changed, as [`Permissions::forget`] does.
    pub(crate) fn forget_changed(&self, changed: &Changed) {
        match changed {
            Changed::Names(names) => names.iter().for_each(|name| self.forget(name)),
            Changed::All => {
                self.changes.note_all();
                self.links.forget_all();
                tracing::debug!("all remembered permissions dropped");
            }
        }
    }

    /// Takes the registry's refusal for this blob in this repository. The link ends in any case. If the registry does not
    /// know a blob for which a permission or a link was remembered, those of the whole repository are out of date and
    /// are dropped. Other refusals depend on the client.
    pub(crate) fn refused(&self, repository: &str, digest: &Digest, status: StatusCode) {
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
            return;
        }
        let linked = self.links.remove(repository, digest);
        let name = links::name(repository, digest);
        if status == StatusCode::NOT_FOUND && (linked || self.named.contains_key(&name)) {
            self.named.invalidate(&name);
            self.forget(repository);
        }
    }

    /// Remembers the permission that answers a question. Its lifetime begins at `when`, the time of the
    /// question, because the registry may have judged at any time since then, and a token may have ended
    /// meanwhile.
    pub(crate) fn remember(&self, question: Question, granted: Granted, life: Life, when: Instant) {
        let memory = match life {
            Life::Unknown => self.memory,
            Life::Left(life) => life.min(self.memory),
            Life::Unreadable => return,
        };
        let until = when + memory;
        if until <= Instant::now() {
            return;
        }
        self.named.insert(links::name(&question.repository, &question.digest), ());
        self.yes.insert(question, Permission { granted, asked: when, until });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn permissions() -> Permissions {
        let memories = Memories { entries: 10, permission: MINUTE, freshness: MINUTE, answer: MINUTE };
        Permissions::new(memories, KeyedHash::new().expect("random bytes"))
    }

    fn granted() -> Granted {
        Granted { size: Some(1), headers: Arc::default() }
    }

    fn asked(repository: &str) -> Question {
        Question { judged: [0; 32], repository: repository.into(), digest: Digest::EMPTY }
    }

    #[tokio::test(start_paused = true)]
    async fn a_permission_ends() {
        let permissions = permissions();
        permissions.remember(asked("a"), granted(), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("a")).is_some());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(permissions.remembered(&asked("a")).is_none());
    }

    /// A request that began before a reload may delete a repository after it.
    #[tokio::test(start_paused = true)]
    async fn a_change_that_is_recorded_before_a_successor_counts_in_it() {
        let before = permissions();
        let memories = Memories { entries: 20, permission: MINUTE / 2, freshness: MINUTE, answer: MINUTE };
        let after = before.successor(memories, true);
        after.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        assert!(after.remembered(&asked("o/a")).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        before.forget("o/a");
        assert!(after.remembered(&asked("o/a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn permissions_asked_for_before_a_change_are_dropped() {
        let permissions = permissions();
        let before = Instant::now();
        for repository in ["o/a", "o/b"] {
            permissions.remember(asked(repository), granted(), Life::Unknown, before);
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        permissions.forget("o/a");
        assert!(permissions.remembered(&asked("o/a")).is_none());
        assert!(permissions.remembered(&asked("o/b")).is_some());
        // The registry was asked before the change.
        permissions.remember(asked("o/a"), granted(), Life::Unknown, before);
        assert!(permissions.remembered(&asked("o/a")).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        permissions.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("o/a")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_counts_if_somebody_had_a_permission() {
        let permissions = permissions();
        permissions.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        tokio::time::advance(Duration::from_millis(1)).await;
        // Clients ask whether blobs exist that they are about to push. The answer no does not contradict
        // anything.
        permissions.refused("o/a", &Digest::of(b"new"), StatusCode::NOT_FOUND);
        assert!(permissions.remembered(&asked("o/a")).is_some());
        permissions.refused("o/a", &Digest::EMPTY, StatusCode::UNAUTHORIZED);
        assert!(permissions.remembered(&asked("o/a")).is_some(), "it depends on the client");
        permissions.refused("o/a", &Digest::EMPTY, StatusCode::NOT_FOUND);
        assert!(permissions.remembered(&asked("o/a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_repository_without_a_namespace_has_two_names() {
        for (one, other) in [("a", "library/a"), ("library/a", "a")] {
            let permissions = permissions();
            permissions.remember(asked(one), granted(), Life::Unknown, Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
            permissions.refused(other, &Digest::EMPTY, StatusCode::NOT_FOUND);
            assert!(permissions.remembered(&asked(one)).is_none(), "{one}, and then {other}");
        }
    }

    proptest! {
        #[test]
        fn a_permission_outlives_neither_its_token_nor_the_memory(token in 0u64..100, answer in 0u64..100, later in 0u64..200) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let remembered = runtime.expect("a runtime").block_on(async {
                let permissions = permissions();
                let when = Instant::now();
                tokio::time::advance(Duration::from_secs(answer)).await;
                permissions.remember(asked("a"), granted(), Life::Left(Duration::from_secs(token)), when);
                tokio::time::advance(Duration::from_secs(later)).await;
                permissions.remembered(&asked("a")).is_some()
            });
            prop_assert_eq!(remembered, answer + later < token.min(60));
        }
    }
}
