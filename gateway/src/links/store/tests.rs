//! What the next start finds.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const REGISTRY: &str = "quay.example.com";

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn kept(folder: &Path, later: Duration) -> Vec<String> {
    let (_, last) = open(&folder.join(FILE), REGISTRY, MINUTE, SystemTime::now() + later).expect("opens");
    let mut all: Vec<_> =
        last.unwrap_or_default().links.into_iter().map(|stored| stored.repository).collect();
    all.sort();
    all
}

fn store(folder: &Path) -> LinkStore {
    LinkStore::open(folder, REGISTRY, MINUTE).expect("opens").0
}

fn confirm(store: &LinkStore, repository: &str) {
    store.confirm(repository.into(), vec![digest("a"), digest("b")], Duration::ZERO);
}

#[test]
fn links_survive_a_clean_end_for_their_freshness() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = |end: &dyn Fn(&LinkStore)| {
        let store = store(folder.path());
        confirm(&store, "o/a");
        end(&store);
    };
    let close = |store: &LinkStore| store.close(vec![("vary".into(), "Accept".into())]);
    all(&close);
    let (_, last) = open(&folder.path().join(FILE), REGISTRY, MINUTE, SystemTime::now()).expect("opens");
    assert_eq!(last.map(|last| last.headers.len()), Some(1));
    all(&close);
    assert_eq!(kept(folder.path(), Duration::ZERO), ["o/a", "o/a"]);
    assert!(kept(folder.path(), Duration::ZERO).is_empty(), "the mark is gone: that was the next run");
    all(&close);
    assert!(kept(folder.path(), MINUTE + Duration::from_secs(1)).is_empty(), "too old");
    all(&close);
    let past = open(&folder.path().join(FILE), REGISTRY, MINUTE, UNIX_EPOCH).expect("opens").1;
    assert!(past.is_some_and(|past| past.links.is_empty()), "the clock was set back");
}

#[test]
fn without_a_clean_end_no_link_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = store(folder.path());
    confirm(&first, "o/a");
    let thread = first.writer.lock().take().expect("a thread");
    drop(first);
    thread.join().expect("it ends");
    assert!(kept(folder.path(), Duration::ZERO).is_empty());
    // A later clean end must not bring back what may have been removed.
    store(folder.path()).close(Headers::new());
    assert!(kept(folder.path(), Duration::ZERO).is_empty());
}

#[test]
fn links_of_another_registry_do_not_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = store(folder.path());
    confirm(&first, "o/a");
    first.close(Headers::new());
    let other = LinkStore::open(folder.path(), "other.example.com", MINUTE).expect("opens");
    assert!(other.1.is_none());
    other.0.close(Headers::new());
    assert!(kept(folder.path(), Duration::ZERO).is_empty());
}

/// A confirmation that was queued before the removal is written after it.
#[test]
fn a_removal_that_was_not_queued_is_not_undone_by_a_later_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = store(folder.path());
    first.lost.store(true, Ordering::SeqCst);
    for _ in 0..=sqlite_file::BATCH_MAX {
        first.changes.send(Change::Forget("p/".into())).expect("a thread");
    }
    confirm(&first, "o/a");
    first.close(Headers::new());
    assert!(kept(folder.path(), Duration::ZERO).is_empty());
}

#[test]
fn removals_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let remaining = |change: &dyn Fn(&LinkStore)| {
        let store = store(folder.path());
        store.forget_all();
        for repository in ["o/a", "o/b", "o0/a", "p/a"] {
            confirm(&store, repository);
        }
        change(&store);
        store.close(Headers::new());
        kept(folder.path(), Duration::ZERO)
    };
    assert_eq!(remaining(&|store| store.remove("o/a".into(), digest("a"))).len(), 7);
    assert_eq!(remaining(&|store| store.forget("o/a".into())), ["o/b", "o/b", "o0/a", "o0/a", "p/a", "p/a"]);
    assert_eq!(remaining(&|store| store.forget("o/".into())), ["o0/a", "o0/a", "p/a", "p/a"]);
    assert!(remaining(&LinkStore::forget_all).is_empty());
    assert!(remaining(&|store| store.lost.store(true, Ordering::SeqCst)).is_empty(), "a removal was lost");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_another_version_is_emptied() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(FILE);
    std::fs::write(&file, "not a database, and long enough to be no header of one").expect("writes");
    assert!(LinkStore::open(folder.path(), REGISTRY, MINUTE).is_err());
    std::fs::remove_file(&file).expect("removes");
    let first = store(folder.path());
    confirm(&first, "o/a");
    first.close(Headers::new());
    Connection::open(&file).expect("opens").pragma_update(None, "user_version", 9).expect("writes");
    assert!(kept(folder.path(), Duration::ZERO).is_empty());
}
