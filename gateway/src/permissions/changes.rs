//! Remembers changes at the registry, after which earlier permissions no longer hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backends::Digest;
use http::Method;
use parking_lot::RwLock;
use percent_encoding::percent_decode_str;
use registry::bearer::with_namespace;
use tokio::time::Instant;

/// Repositories and namespaces that are remembered as changed. If there are more, everything counts as
/// changed.
const CHANGES_MAX: usize = 10_000;

/// The least time between two changes of everything. A change that comes sooner takes effect when this time
/// is over, so that no client can prevent that permissions are remembered.
const ALL_PAUSE: Duration = Duration::from_secs(5);

/// When repositories and namespaces were last changed. A permission is not used any more if the registry was
/// asked for it before such a change.
#[derive(Debug)]
pub(crate) struct RecentChanges {
    /// How long after the question a permission has ended in any case, in milliseconds.
    life: AtomicU64,
    changes: RwLock<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    /// The key is the digest of `namespace/name`, or of `namespace/` for a whole namespace, because a name
    /// may be as long as a request's path.
    last: HashMap<Digest, Instant>,
    /// When everything was last changed, or when there were too many changes to remember.
    all: Option<Instant>,
    /// When the next change of everything takes effect, if it came soon after the last one.
    next_all: Option<Instant>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl RecentChanges {
    /// `life` is how long after the question a permission may be used at most.
    #[must_use]
    pub(crate) fn new(life: Duration) -> Self {
        Self { life: AtomicU64::new(millis(life)), changes: RwLock::default() }
    }

    /// Permissions may be used for this long, too.
    pub(crate) fn live_for(&self, life: Duration) {
        self.life.fetch_max(millis(life), Ordering::Relaxed);
    }

    /// Records a change of this repository. If the name ends with a slash, of the whole namespace.
    pub(crate) fn note(&self, name: &str) {
        let now = Instant::now();
        let mut changes = self.changes.write();
        if changes.last.len() >= CHANGES_MAX {
            let life = Duration::from_millis(self.life.load(Ordering::Relaxed));
            changes.last.retain(|_, at| now.saturating_duration_since(*at) <= life);
        }
        if changes.last.len() >= CHANGES_MAX {
            changes.last.clear();
            changes.all = Some(now);
        }
        changes.last.insert(Digest::of(with_namespace(name).as_bytes()), now);
    }

    /// Records a change whose place is unknown. If it comes soon after another one, it takes effect a little
    /// later.
    pub(crate) fn note_all(&self) {
        let now = Instant::now();
        let mut changes = self.changes.write();
        changes.all = changes.all_by(now);
        changes.next_all = changes.next_all.filter(|at| *at > now);
        match changes.all.map(|last| last + ALL_PAUSE).filter(|next| *next > now) {
            Some(next) => changes.next_all = Some(next),
            None => {
                changes.last.clear();
                changes.all = Some(now);
            }
        }
    }

    /// Whether a change of everything has not taken effect yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.changes.read().next_all.is_some_and(|at| at > Instant::now())
    }

    /// Whether the repository was not changed since the registry was asked.
    pub(crate) fn is_unchanged(&self, repository: &str, asked: Instant) -> bool {
        let changes = self.changes.read();
        let name = with_namespace(repository);
        let namespace = name.find('/').map_or("", |end| &name[..=end]);
        let all = changes.all_by(Instant::now());
        let last = |name: &str| changes.last.get(&Digest::of(name.as_bytes())).copied();
        [all, last(&name), last(namespace)].into_iter().flatten().all(|changed| changed < asked)
    }
}

impl Changes {
    /// The latest change of everything that has taken effect.
    fn all_by(&self, now: Instant) -> Option<Instant> {
        self.next_all.filter(|at| *at <= now).max(self.all)
    }
}

/// What a request may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// One of these names. Each is a repository, or a namespace with a slash at its end. There are several
    /// names if the path can be read in several ways.
    Names(Vec<String>),
    /// Anything, because the path can be read as any other path.
    All,
}

/// What a request may have removed if the registry accepts it. These requests count: `DELETE` below `/v2/`,
/// and writes in Quay's API to a repository, an organization or a user (`endpoints/api/repository.py`,
/// `tag.py`, `organization.py`, `superuser.py`). A change of one's own user does not name its namespace: see
/// [`changes_own_user`].
///
/// The path is read generously, with all escapes decoded: to drop too many permissions only costs questions
/// to the registry. A path with dot segments may be any path, because each proxy resolves them in its own way
/// (nginx: `location`).
pub(crate) fn changed(method: &Method, path: &str) -> Option<Changed> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let path = percent_decode_str(path).decode_utf8_lossy();
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return Some(Changed::All);
    }
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    match parts.next()? {
        "v2" if *method == Method::DELETE => {
            let names = repositories(&parts.collect::<Vec<_>>());
            (!names.is_empty()).then_some(Changed::Names(names))
        }
        "api" if parts.next() == Some("v1") => {
            let namespace = match parts.next()? {
                "repository" | "organization" => parts.next()?,
                "user" => {
                    return changes_own_user(method, parts.next(), parts.next()).then_some(Changed::All);
                }
                "superuser" if matches!(parts.next()?, "users" | "organizations") => parts.next()?,
                _ => return None,
            };
            Some(Changed::Names(vec![format!("{namespace}/")]))
        }
        _ => None,
    }
}

/// The repositories that a path below `/v2/` may name. The last `manifests`, `blobs` or `tags` in the path is
/// followed by a reference, which may be such a word itself. The reference may also be missing, as in
/// `/v2/o/a/tags/`.
fn repositories(parts: &[&str]) -> Vec<String> {
    let is_word = |part: &&str| matches!(*part, "manifests" | "blobs" | "tags");
    let Some((last, before)) = parts.split_last() else { return Vec::new() };
    let with_reference = before.iter().rposition(is_word);
    let without = is_word(last).then_some(before.len());
    // The end of an upload removes nothing.
    let is_upload = |word: usize| parts[word] == "blobs" && parts.get(word + 1) == Some(&"uploads");
    let words = with_reference.into_iter().chain(without).filter(|word| *word > 0 && !is_upload(*word));
    words.map(|word| parts[..word].join("/")).collect()
}

/// Whether a request below `/api/v1/user/` removes something. `PUT` renames the user, `DELETE` removes the
/// user with the namespace, and `convert` makes the user an organization (`endpoints/api/user.py`). A robot,
/// a token or an authorization may be removed or get another secret (`robot.py`, `appspecifictokens.py`).
/// Stars, notifications and similar things remove nothing.
fn changes_own_user(method: &Method, what: Option<&str>, which: Option<&str>) -> bool {
    match what {
        None => matches!(*method, Method::PUT | Method::DELETE),
        Some("convert") => true,
        // A robot's federation and its secret are changed by POST.
        Some("robots" | "apptoken" | "authorizations") => which.is_some() && *method != Method::PUT,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_permission_asked_for_before_a_change_has_ended() {
        let changes = RecentChanges::new(LIFE);
        let before = Instant::now();
        assert!(changes.is_unchanged("o/a", before));
        changes.note("o/a");
        assert!(!changes.is_unchanged("o/a", before), "asked at the moment of the change");
        assert!(changes.is_unchanged("o/b", before));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(changes.is_unchanged("o/a", Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_a_namespace_is_one_of_all_its_repositories() {
        let changes = RecentChanges::new(LIFE);
        let before = Instant::now();
        changes.note("o/");
        assert!(!changes.is_unchanged("o/a", before) && !changes.is_unchanged("o/x/y", before));
        assert!(changes.is_unchanged("other/a", before));
        changes.note("a");
        assert!(!changes.is_unchanged("library/a", before) && !changes.is_unchanged("a", before));
        changes.note("library/b");
        assert!(!changes.is_unchanged("b", before));
        changes.note_all();
        assert!(!changes.is_unchanged("other/a", before));
    }

    #[tokio::test(start_paused = true)]
    async fn no_client_prevents_that_permissions_are_remembered() {
        let changes = RecentChanges::new(LIFE);
        changes.note_all();
        let mut believed = 0;
        for _ in 0..60 {
            let asked = Instant::now();
            tokio::time::advance(Duration::from_secs(1)).await;
            believed += u32::from(changes.is_unchanged("o/a", asked));
            changes.note_all();
        }
        assert!(believed >= 30, "{believed} of 60");
        let before = Instant::now();
        tokio::time::advance(ALL_PAUSE).await;
        assert!(!changes.is_unchanged("o/a", before), "each change takes effect all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_changes_are_a_change_of_everything() {
        let changes = RecentChanges::new(LIFE);
        let before = Instant::now();
        (0..CHANGES_MAX).for_each(|number| changes.note(&format!("o/{number}")));
        assert!(changes.is_unchanged("p/a", before));
        changes.note("o/more");
        assert!(!changes.is_unchanged("p/a", before));
        assert!(changes.changes.read().last.len() <= CHANGES_MAX);
        // Old changes are dropped by themselves.
        let changes = RecentChanges::new(LIFE);
        (0..CHANGES_MAX).for_each(|number| changes.note(&format!("o/{number}")));
        tokio::time::advance(LIFE * 2).await;
        let later = Instant::now();
        changes.note("o/more");
        assert!(changes.is_unchanged("p/a", later) && !changes.is_unchanged("o/more", later));
    }

    /// Two changes of everything soon after each other must not hide later changes.
    #[tokio::test(start_paused = true)]
    async fn too_many_changes_count_after_any_history() {
        let changes = RecentChanges::new(LIFE);
        changes.note_all();
        changes.note_all();
        tokio::time::advance(ALL_PAUSE * 2).await;
        let before = Instant::now();
        assert!(changes.is_unchanged("p/a", before));
        changes.note("p/a");
        (0..CHANGES_MAX).for_each(|number| changes.note(&format!("o/{number}")));
        assert!(!changes.is_unchanged("p/a", before));
    }

    #[test]
    fn requests_that_remove_something() {
        for (method, path, expected) in [
            (Method::DELETE, "/v2/o/a/manifests/v1", Some("o/a")),
            (Method::DELETE, "/v2/o/a/manifests/sha256%3Aab", Some("o/a")),
            (Method::DELETE, "/v2/o/%61/blobs/sha256:ab", Some("o/a")),
            (Method::DELETE, "/v2/o%2Fa/blobs/sha256:ab", Some("o/a")),
            (Method::DELETE, "/v2//o/a/tags/v1", Some("o/a")),
            (Method::DELETE, "/v2/blobs/manifests/v1", Some("blobs")),
            (Method::DELETE, "/v2/o/a/tags/", Some("o/a")),
            (Method::DELETE, "/v2/o/a/blobs/uploads/0b1c", None),
            (Method::PUT, "/v2/o/a/manifests/v1", None),
            (Method::GET, "/v2/o/a/manifests/v1", None),
            (Method::DELETE, "/v2/manifests/v1", None),
            (Method::DELETE, "/api/v1/repository/o/a", Some("o/")),
            (Method::DELETE, "/api/v1/repository/o/a/tag/v1", Some("o/")),
            (Method::PUT, "/api/v1/repository/o/a/tag/v1", Some("o/")),
            (Method::POST, "/api/v1/repository/o/a/changevisibility", Some("o/")),
            (Method::GET, "/api/v1/repository/o/a", None),
            (Method::POST, "/api/v1/repository", None),
            (Method::DELETE, "/api/v1/organization/o", Some("o/")),
            (Method::DELETE, "/api/v1/superuser/users/o", Some("o/")),
            (Method::DELETE, "/api/v1/superuser/keys/o", None),
            (Method::DELETE, "/", None),
        ] {
            let expected = expected.map(|name| Changed::Names(vec![name.to_owned()]));
            assert_eq!(changed(&method, path), expected, "{method} {path}");
        }
    }

    /// A tag may be called `tags`, and so may a part of a repository's name.
    #[test]
    fn all_readings_of_a_path_count() {
        for word in ["tags", "blobs", "manifests"] {
            for (path, name) in [
                (format!("/v2/o/a/manifests/{word}"), "o/a"),
                (format!("/v2/o/{word}/manifests/v1"), &*format!("o/{word}")),
                (format!("/v2/o/{word}/manifests/{word}"), &*format!("o/{word}")),
                (format!("/v2/o/a/tags/{word}"), "o/a"),
                (format!("/v2/o/a/tags/{word}/"), "o/a"),
                (format!("/v2/o/{word}/tags/"), &*format!("o/{word}")),
            ] {
                assert!(removes_from(&path, name), "{path}: {:?}", changed(&Method::DELETE, &path));
            }
        }
    }

    fn removes_from(path: &str, name: &str) -> bool {
        matches!(changed(&Method::DELETE, path), Some(Changed::Names(names)) if names.iter().any(|one| one == name))
    }

    #[test]
    fn requests_that_may_remove_anything() {
        for (method, path) in [
            (Method::DELETE, "/v2/./o/a/manifests/v1"),
            (Method::DELETE, "/x/../v2/o/a/manifests/v1"),
            (Method::DELETE, "/v2/o/x/%2E%2e/a/manifests/v1"),
            (Method::DELETE, "/v2/o/x%2F..%2Fa/manifests/v1"),
            (Method::PUT, "/api/v1/../v1/repository/o/a"),
            (Method::DELETE, "/api/v1/user/"),
            (Method::DELETE, "/api/v1/user"),
            (Method::PUT, "/api/v1/user/"),
            (Method::POST, "/api/v1/user/convert"),
            (Method::DELETE, "/api/v1/user/robots/ci"),
            (Method::POST, "/api/v1/user/robots/ci/regenerate"),
            (Method::DELETE, "/api/v1/user/apptoken/0b1c"),
        ] {
            assert_eq!(changed(&method, path), Some(Changed::All), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "/v2/./o/a/manifests/v1"),
            (Method::GET, "/api/v1/user/"),
            (Method::POST, "/api/v1/user/"),
            (Method::POST, "/api/v1/user/starred"),
            (Method::DELETE, "/api/v1/user/starred/o/a"),
            (Method::PUT, "/api/v1/user/notifications/0b1c"),
            (Method::PUT, "/api/v1/user/robots/ci"),
            (Method::POST, "/api/v1/user/apptoken"),
            (Method::PUT, "/v2/o/a/manifests/..v1"),
            (Method::POST, "/api/v1/users/o"),
        ] {
            assert_eq!(changed(&method, path), None, "{method} {path}");
        }
    }

    /// The same decision by a model that keeps every change.
    fn is_unchanged_by(notes: &[(Instant, Option<String>)], repository: &str, asked: Instant) -> bool {
        notes.iter().all(|(at, name)| *at < asked || name.as_ref().is_some_and(|name| name != repository))
    }

    proptest! {
        /// A change may count for too much or too long, but no change that has taken effect is overlooked.
        #[test]
        fn no_change_is_overlooked(steps in prop::collection::vec((0u64..8, 0usize..10), 1..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let overlooked = runtime.expect("a runtime").block_on(async {
                let (changes, mut notes) = (RecentChanges::new(LIFE), Vec::new());
                let mut flood = 0;
                for (pass, what) in steps {
                    tokio::time::advance(Duration::from_secs(pass)).await;
                    let now = Instant::now();
                    match what {
                        0..3 => {
                            let name = format!("o/{what}");
                            changes.note(&name);
                            notes.push((now, Some(name)));
                        }
                        3..6 => {
                            changes.note_all();
                            notes.push((now, None));
                        }
                        6 => {
                            (0..=CHANGES_MAX).for_each(|number| changes.note(&format!("flood/{flood}.{number}")));
                            flood += 1;
                        }
                        _ => {}
                    }
                    let settled: Vec<_> = notes.iter().filter(|(at, name)| name.is_some() || *at + ALL_PAUSE <= now).cloned().collect();
                    for repository in ["o/0", "o/1", "o/2"] {
                        for (asked, _) in &notes {
                            if changes.is_unchanged(repository, *asked) && !is_unchanged_by(&settled, repository, *asked) {
                                return Some((repository, now - *asked));
                            }
                        }
                    }
                }
                None
            });
            prop_assert_eq!(overlooked, None);
        }
    }
}
