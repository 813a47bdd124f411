//! What the registry allowed of late: its yes is remembered for a moment, its no never.

mod forgotten;
mod judged;
mod kept_headers;

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};
use moka::sync::Cache;
use tokio::time::Instant;

pub(crate) use self::forgotten::{Changed, changed};
use self::forgotten::{Forgotten, full};
use self::judged::judged;
use registry::token_life::Life;

/// What the registry's yes says of a blob.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    /// Its size, if the registry named one that the blob can have.
    pub(crate) size: Option<u64>,
    /// What answers made here keep of the registry's own.
    pub(crate) headers: Arc<HeaderMap>,
}

/// Yeses of the registry, per repository, digest and whatever else it may have judged. A no is never
/// remembered.
#[derive(Debug)]
pub(crate) struct Permissions {
    yes: Cache<Asked, Yes>,
    /// Blobs of repositories to which there is a yes, whoever asked.
    named: Cache<Digest, ()>,
    forgotten: Forgotten,
    memory: Duration,
    shared: kept_headers::Shared,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    /// What the registry may have judged, told apart without keeping it.
    judged: Digest,
    repository: String,
    digest: Digest,
}

impl Asked {
    /// The question whether whoever sends these headers to this target may read a blob; `None` if a yes to it
    /// may not be remembered.
    pub(crate) fn new(
        headers: &HeaderMap,
        target: &PathAndQuery,
        may_judge: impl Fn(&HeaderName) -> bool,
        repository: &str,
        digest: Digest,
    ) -> Option<Self> {
        let judged = judged(headers, target, may_judge)?;
        Some(Self { judged, repository: repository.to_owned(), digest })
    }
}

#[derive(Debug, Clone)]
struct Yes {
    granted: Granted,
    /// When the question was asked.
    asked: Instant,
    until: Instant,
}

impl Permissions {
    /// Remembers at most `entries` yeses, each for `memory` at most; an answer takes `answer` at most.
    #[must_use]
    pub(crate) fn new(entries: u64, memory: Duration, answer: Duration) -> Self {
        Self {
            yes: Cache::builder().max_capacity(entries).time_to_live(memory).build(),
            named: Cache::builder().max_capacity(entries).time_to_live(memory).build(),
            forgotten: Forgotten::new(memory.saturating_add(answer)),
            memory,
            shared: kept_headers::Shared::default(),
        }
    }

    /// What the registry granted when it last said yes to this question, if that still counts.
    pub(crate) fn remembered(&self, asked: &Asked) -> Option<Granted> {
        let unchanged = |yes: &Yes| self.forgotten.is_unchanged(&asked.repository, yes.asked);
        let yes = self.yes.get(asked).filter(|yes| Instant::now() < yes.until && unchanged(yes))?;
        Some(yes.granted)
    }

    /// What a yes with these headers grants; equal headers are kept once.
    pub(crate) fn granted(&self, size: Option<u64>, headers: &HeaderMap, is_redirect: bool) -> Granted {
        Granted { size, headers: self.shared.one(kept_headers::kept(headers, is_redirect)) }
    }

    /// Drops what is remembered of a repository, or of a namespace with a slash at its end, for all
    /// credentials; the answers to questions under way are not remembered either.
    pub(crate) fn forget(&self, name: &str) {
        self.forgotten.note(name);
        tracing::debug!(name, "remembered permissions dropped");
    }

    /// Drops what is remembered of whatever a request changed, as [`Permissions::forget`] does.
    pub(crate) fn forget_changed(&self, changed: &Changed) {
        match changed {
            Changed::Names(names) => names.iter().for_each(|name| self.forget(name)),
            Changed::All => {
                self.forgotten.note_all();
                tracing::debug!("all remembered permissions dropped");
            }
        }
    }

    /// The registry does not know this blob in this repository. Where somebody else was told of it, what
    /// is remembered of the repository is out of date. Other refusals speak of the client.
    pub(crate) fn unknown(&self, repository: &str, digest: &Digest) {
        let name = named(repository, digest);
        if self.named.contains_key(&name) {
            self.named.invalidate(&name);
            self.forget(repository);
        }
    }

    /// Remembers a yes to a question that was asked at `when`. Its life is counted from there: the registry
    /// may have judged at any moment since, and a token that ended meanwhile opens nothing.
    pub(crate) fn remember(&self, asked: Asked, granted: Granted, life: Life, when: Instant) {
        let memory = match life {
            Life::Unknown => self.memory,
            Life::Left(life) => life.min(self.memory),
            Life::Unreadable => return,
        };
        let until = when + memory;
        if until <= Instant::now() {
            return;
        }
        self.named.insert(named(&asked.repository, &asked.digest), ());
        self.yes.insert(asked, Yes { granted, asked: when, until });
    }
}

/// A blob of a repository, as a key of fixed size.
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

    fn asked(repository: &str) -> Asked {
        Asked { judged: Digest::EMPTY, repository: repository.into(), digest: Digest::EMPTY }
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_ends() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        permissions.remember(asked("a"), granted(), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("a")).is_some());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(permissions.remembered(&asked("a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_a_change_is_forgotten() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        let before = Instant::now();
        for repository in ["o/a", "o/b"] {
            permissions.remember(asked(repository), granted(), Life::Unknown, before);
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        permissions.forget("o/a");
        assert!(permissions.remembered(&asked("o/a")).is_none());
        assert!(permissions.remembered(&asked("o/b")).is_some());
        // Its question was under way.
        permissions.remember(asked("o/a"), granted(), Life::Unknown, before);
        assert!(permissions.remembered(&asked("o/a")).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        permissions.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        assert!(permissions.remembered(&asked("o/a")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_no_counts_where_somebody_had_a_yes() {
        let permissions = Permissions::new(10, MINUTE, MINUTE);
        permissions.remember(asked("o/a"), granted(), Life::Unknown, Instant::now());
        tokio::time::advance(Duration::from_millis(1)).await;
        // Clients ask for what they are about to push: that is no news.
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
        fn a_yes_outlives_neither_its_token_nor_the_memory(token in 0u64..100, answer in 0u64..100, later in 0u64..200) {
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
