//! The journal alone.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{join_all, try_join_all};
use rusqlite::Connection;

use super::super::{Journal, JournalError, MAX_REPOSITORIES, NewJob};
use super::{blob, new_job};

const HORIZON: Duration = Duration::from_secs(600);
const ALL: usize = 100_000;

#[tokio::test]
async fn jobs_survive_a_reopen_and_nobody_else_may_read_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let zone = Arc::from("zone-b");
    {
        let journal = Journal::open(&path).unwrap();
        journal.add(vec![new_job("one", "zone-b"), new_job("two", "zone-c")]).await.unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }
    let journal = Journal::open(&path).unwrap();
    let jobs = journal.due(&zone, HORIZON, ALL).await.unwrap().jobs;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].blob, blob(b"one"));
    assert_eq!((jobs[0].size, jobs[0].attempts), (Some(3), 0));
    assert_eq!(jobs[0].repositories, ["org/repo"]);
    journal.done(&jobs[0]).await.unwrap();
    let counts = journal.counts().await.unwrap();
    assert_eq!(counts.len(), 1);
    assert_eq!((&*counts[0].zone, counts[0].jobs, counts[0].bytes), ("zone-c", 1, 3));
    assert!(counts[0].oldest.unwrap() <= SystemTime::now());
}

#[tokio::test]
async fn adding_again_merges_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let zone = Arc::from("zone-b");
    for number in 0..10 {
        let name = format!("org/repo-{number}");
        journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), None, &name)]).await.unwrap();
    }
    journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), Some(1), "evil\nname")]).await.unwrap();
    journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), None, &"a".repeat(2000))]).await.unwrap();
    let jobs = journal.due(&zone, HORIZON, ALL).await.unwrap().jobs;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].size, Some(1), "a known size is not forgotten");
    assert_eq!(jobs[0].repositories, ["org/repo-9", "org/repo-8", "org/repo-7", "org/repo-6"]);
    assert_eq!(jobs[0].repositories.len(), MAX_REPOSITORIES);
}

#[tokio::test]
async fn a_job_added_again_while_under_way_stays() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let zone = Arc::from("zone-b");
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    let before = journal.due(&zone, HORIZON, ALL).await.unwrap().jobs.remove(0);
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    journal.done(&before).await.unwrap();
    let again = journal.due(&zone, HORIZON, ALL).await.unwrap().jobs.remove(0);
    journal.done(&again).await.unwrap();
    assert!(journal.counts().await.unwrap().is_empty());
}

#[tokio::test]
async fn failures_are_kept_and_wait_for_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let zone = Arc::from("zone-b");
    {
        let journal = Journal::open(&path).unwrap();
        journal.add(vec![new_job("x", "zone-b"), new_job("y", "zone-b")]).await.unwrap();
        let due = journal.due(&zone, HORIZON, 1).await.unwrap();
        assert_eq!(due.jobs.len(), 1, "the limit holds");
        let error = format!("put https://store/k?X-Amz-Signature=secret: {}", "é".repeat(1000));
        journal.failed(&due.jobs[0], Duration::from_secs(300), &error).await.unwrap();
    }
    let journal = Journal::open(&path).unwrap();
    let due = journal.due(&zone, HORIZON, ALL).await.unwrap();
    assert_eq!(due.jobs.len(), 1);
    let wait = due.next.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(290) && wait <= Duration::from_secs(300), "{wait:?}");
    let count = journal.counts().await.unwrap().remove(0);
    assert_eq!((count.jobs, count.failing, count.attempts), (2, 1, 1));
    let error = count.last_error.unwrap();
    assert!(error.len() <= super::super::MAX_REASON && !error.contains("secret"), "{error}");

    // A push asks for it again: no need to sit out the wait.
    journal.add(vec![new_job("x", "zone-b"), new_job("y", "zone-b")]).await.unwrap();
    let jobs = journal.due(&zone, HORIZON, ALL).await.unwrap().jobs;
    assert_eq!(jobs.iter().map(|job| job.attempts).sum::<u32>(), 1, "attempts are kept");
    assert_eq!(jobs.len(), 2);
}

#[tokio::test]
async fn a_clock_that_ran_ahead_stalls_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let zone = Arc::from("zone-b");
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    let job = journal.due(&zone, HORIZON, ALL).await.unwrap().jobs.remove(0);
    journal.failed(&job, HORIZON * 100, "as by a clock a day ahead").await.unwrap();
    assert_eq!(journal.due(&zone, HORIZON, ALL).await.unwrap().jobs.len(), 1);
    assert_eq!(journal.due(&zone, HORIZON * 200, ALL).await.unwrap().jobs.len(), 0);
    journal.hasten(&zone).await.unwrap();
    assert_eq!(journal.due(&zone, HORIZON * 200, ALL).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
async fn requests_that_wait_share_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let (held, hold) = std::sync::mpsc::channel::<()>();
    let (taken, begun) = tokio::sync::oneshot::channel();
    let first = tokio::spawn({
        let journal = journal.clone();
        async move {
            let wait = move || taken.send(()).map(|()| hold.recv().ok());
            journal.write(move |_| wait().map(drop).map_err(|()| rusqlite::Error::InvalidQuery)).await
        }
    });
    begun.await.unwrap();
    // The first is held, the others gather behind it, and one of them spoils the commit for all
    // that share it.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_adds_all_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let tasks = (0..16).map(|task| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                // Every third one is the same for all.
                let text = if n % 3 == 0 { format!("{n}") } else { format!("{task}/{n}") };
                journal.add(vec![new_job(&text, "zone-b"), new_job(&text, "zone-c")]).await.unwrap();
            }
        })
    });
    try_join_all(tasks).await.unwrap();
    let counts = journal.counts().await.unwrap();
    let jobs: Vec<_> = counts.iter().map(|count| count.jobs).collect();
    assert_eq!(jobs, [7 + 16 * 13; 2]);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    journal.add(vec![new_job("before", "zone-b")]).await.unwrap();
    let limit = |pages: i64| journal.write(move |db| db.pragma_update(None, "max_page_count", pages));
    limit(1).await.unwrap(); // SQLite takes the present size for it.
    let many = || (0..1000).map(|n| new_job(&n.to_string(), "zone-b")).collect::<Vec<_>>();
    let error = journal.add(many()).await.unwrap_err();
    assert!(matches!(error, JournalError::Sqlite(_)) && error.to_string().contains("full"), "{error}");
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 1, "all or none");
    limit(1_000_000).await.unwrap();
    journal.add(many()).await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 1001);
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    drop(Journal::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 2, known: 1, .. }));
    assert!(error.to_string().contains("journal.db: its schema is version 2"), "{error}");

    let other = folder.path().join("other");
    std::fs::write(&other, "not a database, however long this text may be ".repeat(100)).unwrap();
    assert!(matches!(Journal::open(&other), Err(JournalError::Open { .. })));
    assert!(matches!(Journal::open(&folder.path().join("no/such/folder")), Err(JournalError::File { .. })));
}

#[tokio::test]
async fn an_empty_file_is_a_creation_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::fs::write(&path, "").unwrap();
    let journal = Journal::open(&path).unwrap();
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 1);
}
