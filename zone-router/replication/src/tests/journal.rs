//! Tests what only the journal in an SQLite file does.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use backends::Digest;
use futures_util::future::{join_all, try_join_all};
use rusqlite::Connection;

use super::super::conformance::{LONGEST_WAIT, claim_all, new_job};
use super::super::{Journal, JournalError};

#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    journal.add(vec![new_job("one", "zone-b")]).await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

#[tokio::test]
async fn requests_that_wait_share_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let (held, hold) = std::sync::mpsc::sync_channel::<()>(1);
    let (taken, begun) = tokio::sync::oneshot::channel();
    let first = tokio::spawn({
        let journal = journal.clone();
        async move {
            let wait = move || taken.send(()).map(|()| hold.recv().ok());
            journal.write(move |_| wait().map(drop).map_err(|()| rusqlite::Error::InvalidQuery)).await
        }
    });
    begun.await.unwrap();
    // The first request blocks the writer, and the others gather behind it. One of them makes the shared
    // commit fail.
    let add = |n: usize| journal.add(vec![new_job(&n.to_string(), "zone-b")]);
    let adds = join_all((0..100).map(add));
    let bad = journal.write(|db| db.execute_batch("INSERT INTO nowhere VALUES (1)"));
    let release = async { drop(held) };
    let (adds, bad, ()) = tokio::join!(adds, bad, release);
    first.await.unwrap().unwrap();
    assert!(bad.is_err());
    assert!(adds.iter().all(Result::is_err));
    assert!(journal.counts().await.unwrap().is_empty(), "all or none");
    try_join_all((0..100).map(add)).await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 100);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    journal.add(vec![new_job("before", "zone-b")]).await.unwrap();
    let limit = |pages: i64| journal.write(move |db| db.pragma_update(None, "max_page_count", pages));
    limit(1).await.unwrap(); // SQLite raises it to the present size.
    let many = || (0..1000).map(|n| new_job(&n.to_string(), "zone-b")).collect::<Vec<_>>();
    let error = journal.add(many()).await.unwrap_err();
    assert!(matches!(error, JournalError::Sqlite(_)) && error.to_string().contains("full"), "{error}");
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 1, "all or none");
    limit(1_000_000).await.unwrap();
    journal.add(many()).await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 1001);
}

#[tokio::test]
async fn files_that_are_not_a_journal_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    drop(Journal::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 9, known: 3, .. }));
    assert!(error.to_string().contains("journal.db: its schema is version 9"), "{error}");

    let other = folder.path().join("other");
    std::fs::write(&other, "not a database, however long this text may be ".repeat(100)).unwrap();
    assert!(matches!(Journal::open(&other), Err(JournalError::Open { .. })));
    assert!(matches!(Journal::open(&folder.path().join("no/such/folder")), Err(JournalError::File { .. })));
}

#[tokio::test]
async fn an_empty_file_is_an_interrupted_creation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::fs::write(&path, "").unwrap();
    let journal = Journal::open(&path).unwrap();
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 1);
}

/// A file of the first release, with a job that failed and a job that was not tried.
#[tokio::test]
async fn an_older_file_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let older = Connection::open(&path).unwrap();
    older
        .execute_batch(
            "CREATE TABLE job (
                zone TEXT NOT NULL, digest TEXT NOT NULL, key TEXT NOT NULL, size INTEGER, repositories TEXT NOT NULL,
                added INTEGER NOT NULL, due INTEGER NOT NULL, stamp INTEGER NOT NULL, attempts INTEGER NOT NULL,
                failed INTEGER, error TEXT, PRIMARY KEY (zone, digest)) STRICT, WITHOUT ROWID;
             CREATE INDEX job_due ON job (zone, due);
             PRAGMA user_version = 1;",
        )
        .unwrap();
    for (text, attempts) in [(b"tried", 2), (b"added", 0)] {
        let digest = Digest::of(text).to_string();
        let row = rusqlite::params![digest, attempts];
        older
            .execute("INSERT INTO job VALUES ('zone-b', ?1, 'k', 5, '', 1, 1, 1, ?2, NULL, NULL)", row)
            .unwrap();
    }
    drop(older);
    let journal = Journal::open(&path).unwrap();
    let jobs = claim_all(&journal, &Arc::from("zone-b"), 0, LONGEST_WAIT).await;
    let attempts: Vec<_> = jobs.iter().map(|job| job.attempts).collect();
    assert_eq!(attempts, [0, 2], "the job that was not tried comes first");
}
