//! Remembers for a short time what the registry permitted. A refusal is never remembered.

mod changes;
mod kept_headers;
mod request_key;

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};
use moka::sync::Cache;
use tokio::time::Instant;

pub(crate) use self::changes::{Changed, changed};
use self::changes::{RecentChanges, full};
use self::request_key::request_key;
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
    shared: kept_headers::SharedHeaders,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// A digest of what the registry may have judged. The values themselves are not kept.
    judged: Digest,
    repository: String,
    digest: Digest,
}

impl Question {
    /// The question whether the sender of these headers may read a blob at this target. `None` if a
    /// permission must not be remembered.
    pub(crate) fn new(
        headers: &HeaderMap,
        target: &PathAndQuery,
        may_judge: impl Fn(&HeaderName) -> bool,
        repository: &str,
        digest: Digest,
    ) -> Option<Self> {
        let judged = request_key(headers, target, may_judge)?;
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
    /// Remembers at most `entries` permissions, each for at most `memory`. The registry answers within
    /// `answer`.
    #[must_use]
    pub(crate) fn new(entries: u64, memory: Duration, answer: Duration) -> Self {
        Self {
            yes: Cache::builder().max_capacity(entries).time_to_live(memory).build(),
            named: Cache::builder().max_capacity(entries).time_to_live(memory).build(),
            changes: Arc::new(RecentChanges::new(memory.saturating_add(answer))),
            memory,
            shared: kept_headers::SharedHeaders::default(),
        }
    }

    /// Permissions with other bounds, for a later configuration. None is remembered yet.
    #[must_use]
    pub(crate) fn successor(&self, entries: u64, memory: Duration, answer: Duration) -> Self {
        self.changes.live_for(memory.saturating_add(answer));
        Self { changes: Arc::clone(&self.changes), ..Self::new(entries, memory, answer) }
    }

    /// The permission that the registry last gave to this question, if it still counts.
    pub(crate) fn remembered(&self, asked: &Question) -> Option<Granted> {
        let unchanged = |yes: &Permission| self.changes.is_unchanged(&asked.repository, yes.asked);
        let yes = self.yes.get(asked).filter(|yes| Instant::now() < yes.until && unchanged(yes))?;
        Some(yes.granted)
    }

    /// The permission in an answer with these headers. Equal sets of headers are kept once.
    pub(crate) fn granted(&self, size: Option<u64>, headers: &HeaderMap, is_redirect: bool) -> Granted {
        Granted { size, headers: self.shared.one(kept_headers::kept(headers, is_redirect)) }
    }

    /// Drops the permissions of a repository, or of a namespace with a slash at its end, for all credentials.
    /// The answers to questions in progress are not remembered either.
    pub(crate) fn forget(&self, name: &str) {
        self.changes.note(name);
        tracing::debug!(name, "remembered permissions dropped");
    }

    /// Drops the permissions of whatever a request changed, as [`Permissions::forget`] does.
    pub(crate) fn forget_changed(&self, changed: &Changed) {
        match changed {
            Changed::Names(names) => names.iter().for_each(|name| self.forget(name)),
            Changed::All => {
                self.changes.note_all();
                tracing::debug!("all remembered permissions dropped");
            }
        }
    }

    /// Takes the registry's answer that it does not know this blob in this repository. If a permission for
    /// the blob was remembered, the permissions of the repository are out of date and are dropped. Other
    /// refusals depend on the client.
    pub(crate) fn unknown(&self, repository: &str, digest: &Digest) {
        let name = named(repository, digest);
        if self.named.contains_key(&name) {
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
        self.named.insert(named(&question.repository, &question.digest), ());
        self.yes.insert(question, Permission { granted, asked: when, until });
    }
}

/// The key of a blob in a repository. It has a fixed size.
fn named(repository: &str, digest: &Digest) -> Digest {
    Digest::of(format!("{}@{digest}", full(repository)).as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn granted() -> Granted {
        Granted { size: Some(1), headers: Arc::default() }
    }

    fn asked(repository: &str) -> Question {
        Question { judged: Digest::EMPTY, repository: repository.into(), digest: Digest::EMPTY }
    }

    #[tokio::test(start_paused = true)]
    async fn a_permission_ends() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        permissions.remember(asked("a"), granted(), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("a")).is_some());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(permissions.remembered(&asked("a")).is_none());
    }

    /// A request that began before a reload may delete a repository after it.
    #[tokio::test(start_paused = true)]
    async fn a_change_that_is_recorded_before_a_successor_counts_in_it() {
        let before = Permissions::new(10, MINUTE, MINUTE);
        let after = before.successor(20, MINUTE / 2, MINUTE);
        after.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        assert!(after.remembered(&asked("o/a")).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        before.forget("o/a");
        assert!(after.remembered(&asked("o/a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn permissions_asked_for_before_a_change_are_dropped() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
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
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        permissions.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        tokio::time::advance(Duration::from_millis(1)).await;
        // Clients ask whether blobs exist that they are about to push. The answer no does not contradict
        // anything.
        permissions.unknown("o/a", &Digest::of(b"new"));
        assert!(permissions.remembered(&asked("o/a")).is_some());
        permissions.unknown("o/a", &Digest::EMPTY);
        assert!(permissions.remembered(&asked("o/a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_repository_without_a_namespace_has_two_names() {
        for (one, other) in [("a", "library/a"), ("library/a", "a")] {
            let permissions = Permissions::new(10, MINUTE, MINUTE);
            permissions.remember(asked(one), granted(), Life::Unknown, Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
            permissions.unknown(other, &Digest::EMPTY);
            assert!(permissions.remembered(&asked(one)).is_none(), "{one}, and then {other}");
        }
    }

    proptest! {
        #[test]
        fn a_permission_outlives_neither_its_token_nor_the_memory(token in 0u64..100, answer in 0u64..100, later in 0u64..200) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let remembered = runtime.expect("a runtime").block_on(async {
                let permissions = Permissions::new(10, MINUTE, MINUTE);
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
