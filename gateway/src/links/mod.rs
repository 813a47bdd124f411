//! The link ledger: which blob is in which repository, and when the registry last confirmed it.
//!
//! A link is learned only from the registry's own answers. It says nothing about who may read: that is in the token.

mod learn;
mod removals;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backends::Digest;
use http::{HeaderMap, HeaderName, HeaderValue};
use moka::sync::Cache;
use parking_lot::Mutex;
use registry::bearer::with_namespace;
use tokio::time::Instant;

pub(crate) use self::learn::{Lesson, learn_upload, lesson};
use self::removals::Removals;
use self::store::LinkStore;

/// One confirmation by the registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// When the registry was asked.
    pub(crate) asked: Instant,
    /// The size of the blob, if the registry named it in an answer about the blob itself.
    pub(crate) size: Option<u64>,
}

/// The links that the registry confirmed lately, for all clients.
#[derive(Debug)]
pub(crate) struct Links {
    links: Cache<Digest, Link>,
    removals: Removals,
    freshness: Duration,
    /// Links on disk, for the next start. The lock keeps its changes in the order in which they count.
    store: Option<Mutex<LinkStore>>,
}

impl Links {
    /// At most `entries` links. Each counts for `freshness` after the registry was asked.
    #[must_use]
    pub(crate) fn new(entries: u64, freshness: Duration) -> Self {
        let links = Cache::builder().max_capacity(entries).time_to_live(freshness).build();
        Self { links, removals: Removals::new(), freshness, store: None }
    }

    /// Opens the links in `state_dir`, and takes those that are still fresh. They count only if the last run ended
    /// cleanly and had the same `registry`, because only then every removal is on disk. It reads files, so it may block.
    /// Returns the headers of [`Links::close`].
    pub(crate) fn open(&mut self, state_dir: &Path, registry: &str) -> Option<HeaderMap> {
        let opened = LinkStore::open(state_dir, registry, self.freshness);
        let (store, last) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "links of blobs and repositories are not kept for the next start");
                return None;
            }
        };
        self.store = Some(Mutex::new(store));
        let last = last?;
        for stored in last.links {
            if let Some(asked) = Instant::now().checked_sub(stored.age) {
                self.links.insert(name(&stored.repository, &stored.digest), Link { asked, size: None });
            }
        }
        let parsed = last.headers.iter().map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
        parsed
            .collect::<Option<Vec<(HeaderName, HeaderValue)>>>()
            .map(|headers| headers.into_iter().collect())
    }

    /// The registry's confirmation that a blob is in a repository, if it is fresh.
    pub(crate) fn fresh(&self, repository: &str, digest: &Digest) -> Option<Link> {
        let link = self.links.get(&name(repository, digest))?;
        (link.asked.elapsed() < self.freshness).then_some(link)
    }

    /// Takes the registry's confirmation for these blobs, for which it was asked at `asked`. It does not count if the
    /// link was removed since then, and is not kept on disk if the repository was changed (`unchanged`).
    pub(crate) fn confirm(
        &self,
        repository: &str,
        blobs: impl IntoIterator<Item = (Digest, Option<u64>)>,
        asked: Instant,
        unchanged: impl Fn() -> bool,
    ) {
        if asked.elapsed() >= self.freshness {
            return;
        }
        let mut confirmed = Vec::new();
        for (digest, size) in blobs {
            let name = name(repository, &digest);
            // A size that the registry named stays known.
            let size = size.or_else(|| self.links.get(&name).and_then(|link| link.size));
            self.links.insert(name, Link { asked, size });
            // Only now: a removal at this moment either is seen here, or removes what was just inserted.
            match self.removals.since(&name, asked) {
                true => self.links.invalidate(&name),
                false => confirmed.push(digest),
            }
        }
        if let Some(store) = &self.store {
            // A removal or change from now on is written after this.
            let store = store.lock();
            confirmed.retain(|digest| !self.removals.since(&name(repository, digest), asked));
            if unchanged() {
                store.confirm(with_namespace(repository).into(), confirmed, asked.elapsed());
            }
        }
    }

    /// Removes a link, and every confirmation of it that was asked for before now. Returns whether it was fresh.
    pub(crate) fn remove(&self, repository: &str, digest: &Digest) -> bool {
        let name = name(repository, digest);
        let known = self.fresh(repository, digest).is_some();
        self.removals.note(&name);
        self.links.invalidate(&name);
        if let Some(store) = &self.store {
            store.lock().remove(with_namespace(repository).into(), *digest);
        }
        known
    }

    /// Removes the links of a repository, or of a namespace with a slash at its end, from the disk. Those in memory end
    /// by the recent changes, which know when the registry was asked.
    pub(crate) fn forget(&self, name: &str) {
        if let Some(store) = &self.store {
            let name: Arc<str> = with_namespace(name).into();
            store.lock().forget(name);
        }
    }

    /// As [`Links::forget`], for all repositories.
    pub(crate) fn forget_all(&self) {
        if let Some(store) = &self.store {
            store.lock().forget_all();
        }
    }

    /// Writes what is left to the disk, with the headers of the registry's answers about blobs, and marks it as complete.
    /// It may block.
    pub(crate) fn close(&self, headers: &HeaderMap) {
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        if let (Some(store), Some(headers)) = (&self.store, headers.iter().map(text).collect()) {
            store.lock().close(headers);
        }
    }
}

/// The key of a blob in a repository. It has a fixed size.
pub(crate) fn name(repository: &str, digest: &Digest) -> Digest {
    Digest::of(format!("{}@{digest}", with_namespace(repository)).as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn confirm(links: &Links, repository: &str, asked: Instant) {
        links.confirm(repository, [(digest("a"), Some(5))], asked, || true);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_counts_for_its_freshness_from_the_question_on() {
        let links = Links::new(10, MINUTE);
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(20)).await;
        confirm(&links, "o/a", asked);
        tokio::time::advance(Duration::from_millis(39_999)).await;
        assert!(links.fresh("o/a", &digest("a")).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(links.fresh("o/a", &digest("a")).is_none());
        confirm(&links, "o/a", asked);
        assert!(links.fresh("o/a", &digest("a")).is_none(), "an old answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_is_one_of_its_repository_and_digest_only() {
        let links = Links::new(10, MINUTE);
        confirm(&links, "a", Instant::now());
        assert!(links.fresh("library/a", &digest("a")).is_some());
        for (repository, blob) in [("a", "b"), ("o/a", "a"), ("a/a", "a"), ("A", "a")] {
            assert!(links.fresh(repository, &digest(blob)).is_none(), "{repository} {blob}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_manifest_keeps_the_size() {
        let links = Links::new(10, MINUTE);
        confirm(&links, "o/a", Instant::now());
        links.confirm("o/a", [(digest("a"), None)], Instant::now(), || true);
        assert_eq!(links.fresh("o/a", &digest("a")).and_then(|link| link.size), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_wins_over_a_confirmation_that_began_before_it() {
        let links = Links::new(10, MINUTE);
        let before = Instant::now();
        confirm(&links, "a", before);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(links.remove("library/a", &digest("a")), "it was known");
        assert!(links.fresh("a", &digest("a")).is_none());
        confirm(&links, "a", before);
        assert!(links.fresh("a", &digest("a")).is_none(), "asked before the removal");
        confirm(&links, "a", Instant::now());
        assert!(links.fresh("a", &digest("a")).is_none(), "asked at the moment of the removal");
        tokio::time::advance(Duration::from_millis(1)).await;
        confirm(&links, "a", Instant::now());
        assert!(links.fresh("a", &digest("a")).is_some());
        assert!(!links.remove("a", &digest("b")));
    }

    #[tokio::test(start_paused = true)]
    async fn links_are_bounded() {
        let links = Links::new(10, MINUTE);
        let all = (0..1000u32).map(|at| (Digest::of(&at.to_le_bytes()), None));
        links.confirm("o/a", all, Instant::now(), || true);
        links.links.run_pending_tasks();
        assert!(links.links.entry_count() <= 10);
    }

    #[test]
    fn removals_win_races_between_threads() {
        let links = Links::new(1000, MINUTE);
        let blobs: Vec<_> = (0..500u32).map(|at| Digest::of(&at.to_le_bytes())).collect();
        let asked = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                blobs.iter().for_each(|blob| links.confirm("o/a", [(*blob, None)], asked, || true))
            });
            scope.spawn(|| blobs.iter().for_each(|blob| _ = links.remove("o/a", blob)));
        });
        assert!(blobs.iter().all(|blob| links.fresh("o/a", blob).is_none()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask,
        Confirm(usize),
        Remove,
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Ask),
            (0usize..8).prop_map(Step::Confirm),
            Just(Step::Remove),
            (0u64..40).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        /// A link is fresh exactly if a question within the freshness was answered yes, and was asked after the last
        /// removal.
        #[test]
        fn a_link_is_as_good_as_its_latest_question(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.expect("a runtime").block_on(async {
                let links = Links::new(10, MINUTE);
                let (mut questions, mut believed, mut removed) = (Vec::new(), None::<Instant>, None::<Instant>);
                for step in steps {
                    match step {
                        Step::Ask => questions.push(Instant::now()),
                        Step::Confirm(which) => if let Some(asked) = questions.get(which).copied() {
                            confirm(&links, "o/a", asked);
                            if removed.is_none_or(|removed| asked > removed) && asked.elapsed() < MINUTE {
                                believed = Some(asked);
                            } else if asked.elapsed() < MINUTE {
                                believed = None;
                            }
                        },
                        Step::Remove => {
                            links.remove("o/a", &digest("a"));
                            (removed, believed) = (Some(Instant::now()), None);
                        }
                        Step::Wait(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
                    }
                    let fresh = links.fresh("o/a", &digest("a")).map(|link| link.asked);
                    let expected = believed.filter(|asked| asked.elapsed() < MINUTE);
                    assert_eq!(fresh, expected);
                }
            });
        }
    }
}
