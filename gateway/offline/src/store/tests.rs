use std::time::UNIX_EPOCH;

use backends::Digest;
use bytes::Bytes;

use super::*;
use crate::AcceptClass;

const DAY: Duration = Duration::from_secs(24 * 3600);
const TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

struct Site {
    folder: tempfile::TempDir,
    now: SystemTime,
}

impl Site {
    fn new() -> Self {
        // The thread removes what is old by the real clock.
        Self { folder: tempfile::tempdir().expect("a folder"), now: SystemTime::now() }
    }

    fn open(&self, registry: &str) -> Store {
        Store::open(self.folder.path(), registry, DAY).expect("opened")
    }

    fn ago(&self, hours: u64) -> SystemTime {
        self.now - Duration::from_secs(3600 * hours)
    }
}

fn any() -> AcceptClass {
    AcceptClass::of(&http::HeaderMap::new())
}

fn other() -> AcceptClass {
    AcceptClass::of(&[(http::header::ACCEPT, TYPE.parse().expect("a value"))].into_iter().collect())
}

#[test]
fn manifests_are_found_in_the_repositories_that_served_them_and_by_tag() {
    let site = Site::new();
    let store = site.open("r");
    let (bytes, digest) = (Bytes::from_static(b"{}"), Digest::of(b"{}"));
    store.served("app", digest, TYPE, bytes.clone(), site.ago(2));
    store.resolved("app", "v1", any(), digest, site.ago(1));
    store.flush();
    let kept = store.manifest("library/app", &digest, site.now).expect("kept");
    assert_eq!((kept.body, kept.content_type.as_str()), (bytes, TYPE));
    assert!(store.tag("app", "v1", any(), site.now).is_some_and(|kept| kept.digest == digest));
    assert_eq!(store.tag("app", "v1", other(), site.now), None, "another class of Accept");
    assert_eq!(store.tag("app", "v2", any(), site.now), None);
    assert_eq!(store.tag("o/app", "v1", any(), site.now), None);
    assert_eq!(store.manifest("o/app", &digest, site.now), None);
    let later = site.now + DAY - Duration::from_secs(3600 + 1800);
    assert_eq!(store.manifest("app", &digest, later), None, "its own time is over");
    assert!(store.tag("app", "v1", any(), later).is_some(), "the registry gave it for the tag later");
    assert_eq!(store.tag("app", "v1", any(), later + Duration::from_secs(3600)), None);
    assert_eq!(store.tag("app", "v1", any(), site.ago(4)), None, "the clock was set back");
}

#[test]
fn the_latest_resolution_of_a_tag_counts() {
    let site = Site::new();
    let store = site.open("r");
    let [old, new] = [&b"old"[..], b"new"].map(|bytes| {
        store.served("o/a", Digest::of(bytes), TYPE, Bytes::from_static(bytes), site.ago(1));
        Digest::of(bytes)
    });
    store.resolved("o/a", "v", any(), new, site.ago(1));
    store.resolved("o/a", "v", any(), old, site.ago(2));
    store.flush();
    assert!(store.tag("o/a", "v", any(), site.now).is_some_and(|kept| kept.digest == new));
}

#[test]
fn what_the_registry_takes_back_is_gone() {
    let site = Site::new();
    let store = site.open("r");
    let (digest, blob) = (Digest::of(b"{}"), Digest::of(b"blob"));
    let learn = || {
        for repository in ["o/a", "o/b", "p/a"] {
            store.served(repository, digest, TYPE, Bytes::from_static(b"{}"), site.now);
            store.resolved(repository, "v", any(), digest, site.now);
            store.linked(repository, vec![blob], site.now);
            store.served_anonymously(repository, site.now);
        }
    };
    let known = |repository: &str| {
        [
            store.manifest(repository, &digest, site.now).is_some(),
            store.tag(repository, "v", any(), site.now).is_some(),
            store.is_linked(repository, &blob, site.now),
            store.is_anonymous(repository, site.now),
        ]
    };
    let after = |change: &dyn Fn()| {
        learn();
        change();
        store.flush();
        ["o/a", "o/b", "p/a"].map(known)
    };
    let all = [true; 4];
    assert_eq!(after(&|| ()), [all; 3]);
    assert_eq!(after(&|| store.forget_tag("o/a", "v")), [[true, false, true, true], all, all]);
    assert_eq!(after(&|| store.forget_manifest("o/a", digest)), [[false, false, true, true], all, all]);
    assert_eq!(after(&|| store.forget_link("o/a", blob)), [[true, true, false, true], all, all]);
    assert_eq!(after(&|| store.refused_anonymously("o/a")), [[true, true, true, false], all, all]);
    assert_eq!(after(&|| store.forget("o/a")), [[false; 4], all, all]);
    assert_eq!(after(&|| store.forget("o/")), [[false; 4], [false; 4], all]);
    assert_eq!(after(&|| store.remove(Change::ForgetAll)), [[false; 4]; 3]);
}

#[test]
fn it_survives_a_restart_but_not_another_registry() {
    let site = Site::new();
    let blob = Digest::of(b"blob");
    let store = site.open("r");
    store.linked("o/a", vec![blob], site.now);
    store.close();
    assert!(site.open("r").is_linked("o/a", &blob, site.now));
    assert!(!site.open("other").is_linked("o/a", &blob, site.now));
    assert!(!site.open("r").is_linked("o/a", &blob, site.now), "removed, not hidden");
}

#[test]
fn a_removal_that_is_lost_removes_everything_from_before() {
    let site = Site::new();
    let store = site.open("r");
    let [before, after] = [&b"before"[..], b"after"].map(Digest::of);
    store.linked("o/a", vec![before], site.now);
    store.flush();
    store.lost.store(true, Ordering::SeqCst);
    store.forget_tag("o/a", "any");
    store.flush();
    store.linked("o/a", vec![after], site.now);
    store.flush();
    assert!(!store.is_linked("o/a", &before, site.now));
    assert!(store.is_linked("o/a", &after, site.now));
}

#[test]
fn old_rows_are_removed_and_what_nothing_names() {
    let site = Site::new();
    let mut db = open(&site.folder.path().join("a"), "r").expect("opened");
    let now = milliseconds(site.now);
    let write = db.transaction().expect("begun");
    let digest = Digest::of(b"{}");
    let at = now - 25 * 3_600_000;
    for change in [
        Change::Manifest {
            repository: "o/a".into(),
            digest,
            content_type: TYPE.into(),
            body: Bytes::from_static(b"{}"),
            at,
        },
        Change::Tag { repository: "o/a".into(), tag: "v".into(), accept: any(), digest, at: now },
        Change::Grants { name: "n".into(), hash: "h".into(), repositories: vec!["o/a".into()], at },
    ] {
        change.write(&write).expect("written");
    }
    clean_up(&write, now, DAY).expect("cleaned");
    for table in ["manifests", "served", "tags", "credentials", "grants"] {
        let rows: i64 =
            write.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("counted");
        assert_eq!(rows, 0, "{table}");
    }
    assert_eq!(milliseconds(UNIX_EPOCH), 0);
}

#[test]
fn of_one_name_the_latest_credentials_stay() {
    let site = Site::new();
    let store = site.open("r");
    for number in 0..20i64 {
        let at = milliseconds(site.now) + number;
        let (name, repositories) = ("n".to_owned(), vec!["o/a".to_owned()]);
        store.add(Change::Grants { name, hash: format!("h{number}"), repositories, at });
    }
    store.flush();
    let mut hashes: Vec<_> = store.credentials("n", site.now).into_iter().map(|known| known.hash).collect();
    hashes.sort();
    assert_eq!(hashes, ["h12", "h13", "h14", "h15", "h16", "h17", "h18", "h19"]);
    assert!(store.credentials("m", site.now).is_empty());
}
