//! The journal alone.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::Digest;
use futures_util::future::{join_all, try_join_all};
use rusqlite::Connection;

use super::super::{Job, Journal, JournalError, MAX_REPOSITORIES, NewJob, Next};
use super::place::Place;
use super::{blob, new_job, over_both};

pub(super) const HORIZON: Duration = Duration::from_secs(600);

over_both!(
    jobs_survive_a_reopen,
    adding_again_merges_within_bounds,
    a_size_of_nothing_stays_until_the_job_is_done,
    sizes_that_differ_are_to_be_read,
    a_job_is_given_back_with_its_size,
    a_job_added_again_while_under_way_stays,
    a_job_added_again_while_it_failed_is_tried_at_once,
    failures_are_kept_and_wait_for_their_time,
    a_clock_that_ran_ahead_stalls_nothing,
    concurrent_adds_all_arrive,
    none_waits_for_anothers_backlog,
    small_ones_can_be_had_alone,
    what_is_parked_is_set_aside_until_it_is_added_again,
    added_again_before_it_is_parked_it_is_not,
);

/// Every job of the zone that is due, as they come, beginning with this turn.
pub(super) async fn claim_all(
    journal: &Journal,
    zone: &Arc<str>,
    mut turn: u32,
    horizon: Duration,
) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        let under_way: Vec<Digest> = jobs.iter().map(|job| job.blob.digest).collect();
        match journal.claim(zone, turn, under_way, horizon).await.unwrap() {
            Next::Job(job) => jobs.push(job),
            Next::Wait(_) => return jobs,
        }
        turn += 1;
    }
}

async fn claim(journal: &Journal, zone: &Arc<str>) -> Option<Job> {
    match journal.claim(zone, 0, Vec::new(), HORIZON).await.unwrap() {
        Next::Job(job) => Some(job),
        Next::Wait(_) => None,
    }
}

async fn jobs_survive_a_reopen(place: Place) {
    let zone = Arc::from("zone-b");
    {
        let journal = place.open().await;
        journal.add(vec![new_job("one", "zone-b"), new_job("two", "zone-c")]).await.unwrap();
    }
    let journal = place.open().await;
    let jobs = claim_all(&journal, &zone, 0, HORIZON).await;
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
async fn nobody_else_may_read_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    journal.add(vec![new_job("one", "zone-b")]).await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
}

async fn adding_again_merges_within_bounds(place: Place) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    for number in [0, 1, 2, 3, 4, 9, 5, 6, 7, 8, 9] {
        let name = format!("org/repo-{number}");
        journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), None, &name)]).await.unwrap();
    }
    journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), Some(1), "evil\nname")]).await.unwrap();
    journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), None, &"a".repeat(2000))]).await.unwrap();
    let jobs = claim_all(&journal, &zone, 0, HORIZON).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].size, Some(1), "a known size is not forgotten");
    assert_eq!(jobs[0].repositories, ["org/repo-9", "org/repo-8", "org/repo-7", "org/repo-6"]);
    assert_eq!(jobs[0].repositories.len(), MAX_REPOSITORIES);
    // A manifest may name a layer twice, and once without its size.
    let twice = [Some(5), None].map(|size| NewJob::new(blob(b"twice"), Arc::clone(&zone), size, "org/repo"));
    journal.add(twice.to_vec()).await.unwrap();
    journal.done(&jobs[0]).await.unwrap();
    assert_eq!(claim(&journal, &zone).await.unwrap().size, Some(5));
}

/// Of two sizes one is wrong, and nobody knows which: what lies there decides.
async fn sizes_that_differ_are_to_be_read(place: Place) {
    let (journal, zone) = (place.open().await, Arc::from("zone-b"));
    let sized = |size| NewJob::new(blob(b"sized"), Arc::clone(&zone), size, "org/repo");
    for (sizes, merged) in [
        ([Some(5), Some(5)], 5),
        ([Some(5), None], 5),
        ([None, Some(5)], 5),
        ([Some(5), Some(7)], 0),
        ([Some(7), Some(5)], 0),
    ] {
        for together in [false, true] {
            match together {
                true => journal.add(sizes.map(sized).to_vec()).await.unwrap(),
                false => {
                    journal.add(vec![sized(sizes[0])]).await.unwrap();
                    journal.add(vec![sized(sizes[1])]).await.unwrap();
                }
            }
            let job = claim(&journal, &zone).await.unwrap();
            assert_eq!(job.size, Some(merged), "{sizes:?} {together}");
            journal.done(&job).await.unwrap();
        }
    }
}

/// What is given back is claimed again as what it is; what is in doubt is to be read.
async fn a_job_is_given_back_with_its_size(place: Place) {
    let (journal, zone) = (place.open().await, Arc::from("zone-b"));
    let small =
        async || match journal.claim_small(&zone, 9, Vec::new(), Duration::from_secs(1)).await.unwrap() {
            Next::Job(job) => Some(job),
            Next::Wait(_) => None,
        };
    journal.add(vec![NewJob::new(blob(b"said less"), Arc::clone(&zone), Some(1), "org/repo")]).await.unwrap();
    journal.give_back(&small().await.unwrap(), 5_000_000_000).await.unwrap();
    assert_eq!(small().await, None);
    let job = claim(&journal, &zone).await.unwrap();
    assert_eq!((job.size, job.attempts), (Some(5_000_000_000), 0));
    journal.doubt(&job).await.unwrap();
    journal.failed(&job, Duration::ZERO, "broke off").await.unwrap();
    assert_eq!(small().await, None, "it may have any size");
    let job = claim(&journal, &zone).await.unwrap();
    assert!(job.must_read());
    journal.give_back(&job, 7).await.unwrap();
    assert!(claim(&journal, &zone).await.unwrap().must_read());
}

/// What was found wrong is to be read, whatever size a push says meanwhile.
async fn a_size_of_nothing_stays_until_the_job_is_done(place: Place) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    let sized = |size| NewJob::new(blob(b"wrong"), Arc::clone(&zone), size, "org/repo");
    for sizes in [[Some(5), Some(0)], [Some(0), Some(5)], [Some(0), None]] {
        journal.add(vec![sized(sizes[0])]).await.unwrap();
        journal.add(vec![sized(sizes[1])]).await.unwrap();
        // And in one batch.
        journal.add(sizes.map(sized).to_vec()).await.unwrap();
        let job = claim(&journal, &zone).await.unwrap();
        assert_eq!((job.size, job.must_read()), (Some(0), true), "{sizes:?}");
        journal.add(vec![sized(Some(5))]).await.unwrap();
        journal.failed(&job, Duration::ZERO, "scripted").await.unwrap();
        let job = claim(&journal, &zone).await.unwrap();
        assert_eq!(job.size, Some(0), "{sizes:?}");
        journal.done(&job).await.unwrap();
    }
    journal.add(vec![sized(Some(5))]).await.unwrap();
    assert_eq!(claim(&journal, &zone).await.unwrap().size, Some(5));
}

async fn a_job_added_again_while_under_way_stays(place: Place) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    let before = claim(&journal, &zone).await.unwrap();
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    journal.done(&before).await.unwrap();
    let again = claim(&journal, &zone).await.unwrap();
    journal.done(&again).await.unwrap();
    assert!(journal.counts().await.unwrap().is_empty());
}

async fn a_job_added_again_while_it_failed_is_tried_at_once(place: Place) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    let before = claim(&journal, &zone).await.unwrap();
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    journal.failed(&before, HORIZON, "scripted").await.unwrap();
    let again = claim(&journal, &zone).await.unwrap();
    assert_eq!(again.attempts, 1);
    journal.failed(&again, HORIZON, "scripted").await.unwrap();
    assert_eq!(claim(&journal, &zone).await, None);
}

async fn failures_are_kept_and_wait_for_their_time(place: Place) {
    let zone = Arc::from("zone-b");
    {
        let journal = place.open().await;
        journal.add(vec![new_job("x", "zone-b"), new_job("y", "zone-b")]).await.unwrap();
        let job = claim(&journal, &zone).await.unwrap();
        let error = format!("put https://store/k?X-Amz-Signature=secret: {}", "é".repeat(1000));
        journal.failed(&job, Duration::from_secs(300), &error).await.unwrap();
    }
    let journal = place.open().await;
    let other = claim(&journal, &zone).await.unwrap();
    let next = journal.claim(&zone, 1, vec![other.blob.digest], HORIZON).await.unwrap();
    let Next::Wait(wait) = next else { panic!("{next:?}") };
    let least = Duration::from_secs(if place.is_file() { 290 } else { 1 });
    assert!(wait > least && wait <= Duration::from_secs(300), "{wait:?}");
    let count = journal.counts().await.unwrap().remove(0);
    assert_eq!((count.jobs, count.failing, count.attempts), (2, 1, 1));
    let error = count.last_error.unwrap();
    assert!(error.len() <= backends::MAX_REASON && !error.contains("secret"), "{error}");

    // A push asks for it again: no need to sit out the wait.
    journal.add(vec![new_job("x", "zone-b"), new_job("y", "zone-b")]).await.unwrap();
    journal.release(&zone).await.unwrap();
    let jobs = claim_all(&journal, &zone, 0, HORIZON).await;
    assert_eq!(jobs.iter().map(|job| job.attempts).sum::<u32>(), 1, "attempts are kept");
    assert_eq!(jobs.len(), 2);
}

async fn a_clock_that_ran_ahead_stalls_nothing(place: Place) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    let job = claim(&journal, &zone).await.unwrap();
    journal.failed(&job, HORIZON * 100, "as by a clock a day ahead").await.unwrap();
    assert_eq!(claim_all(&journal, &zone, 0, HORIZON * 200).await.len(), 0);
    let job = claim(&journal, &zone).await.unwrap();
    journal.failed(&job, HORIZON * 100, "as by a clock a day ahead").await.unwrap();
    journal.hasten(&zone).await.unwrap();
    assert_eq!(claim_all(&journal, &zone, 0, HORIZON * 200).await.len(), 1);
}

/// Fresh jobs do not wait for those that failed, large ones not for small ones, and those that
/// failed have their part.
async fn none_waits_for_anothers_backlog(place: Place) {
    let journal = place.open().await;
    let zone: Arc<str> = Arc::from("zone-b");
    let sized = |n: u64, size| NewJob::new(blob(&n.to_le_bytes()), Arc::clone(&zone), Some(size), "org/repo");
    journal.add((0..40).map(|n| sized(n, 10)).collect()).await.unwrap();
    for job in claim_all(&journal, &zone, 0, HORIZON).await {
        journal.failed(&job, Duration::ZERO, "scripted").await.unwrap();
    }
    journal.add(vec![sized(100, 5_000_000_000)]).await.unwrap();
    // The others come later, by a clock of milliseconds.
    tokio::time::sleep(Duration::from_millis(2)).await;
    journal.add((200..230).map(|n| sized(n, n)).collect()).await.unwrap();
    let jobs = claim_all(&journal, &zone, 0, HORIZON).await;
    assert_eq!(jobs.len(), 71, "every one comes");
    let large = jobs.iter().position(|job| job.size == Some(5_000_000_000)).unwrap();
    assert!(large < 4, "the oldest has its turn: {large}");
    for (at, turns) in jobs[..40].chunks(4).enumerate() {
        let retries = turns.iter().filter(|job| job.attempts > 0).count();
        assert_eq!(retries, 1, "in turns {at}: {turns:?}");
    }
    let small: Vec<_> = jobs.iter().filter(|job| job.attempts == 0).filter_map(|job| job.size).collect();
    assert_eq!(small[..2], [200, 201], "the smallest first");
}

async fn what_is_parked_is_set_aside_until_it_is_added_again(place: Place) {
    let zone = Arc::from("zone-b");
    {
        let journal = place.open().await;
        journal.add(vec![new_job("lost", "zone-b")]).await.unwrap();
        let job = claim(&journal, &zone).await.unwrap();
        journal.park(&job, "the registry\ndoes not say: https://registry/?token=secret").await.unwrap();
        journal.add(vec![new_job("other", "zone-b")]).await.unwrap();
        // Neither a zone that comes back nor a clock that ran ahead brings it back.
        journal.hasten(&zone).await.unwrap();
    }
    let journal = place.open().await;
    let jobs = claim_all(&journal, &zone, 0, Duration::ZERO).await;
    assert_eq!(jobs.iter().map(|job| &job.blob).collect::<Vec<_>>(), [&blob(b"other")]);
    let count = journal.counts().await.unwrap().remove(0);
    assert_eq!((count.jobs, count.bytes, count.failing, count.attempts), (1, 5, 0, 0));
    assert_eq!((count.parked, count.parked_bytes, count.last_error), (1, 4, None));
    journal.done(&jobs[0]).await.unwrap();
    let count = journal.counts().await.unwrap().remove(0);
    assert_eq!((count.jobs, count.parked, count.oldest), (0, 1, None));

    journal.add(vec![new_job("lost", "zone-b")]).await.unwrap();
    let count = journal.counts().await.unwrap().remove(0);
    assert_eq!((count.jobs, count.parked, count.attempts), (1, 0, 1));
    assert_eq!(count.last_error.unwrap(), "the registry does not say: (url)");
    let job = claim(&journal, &zone).await.unwrap();
    journal.done(&job).await.unwrap();
    assert!(journal.counts().await.unwrap().is_empty());
}

async fn added_again_before_it_is_parked_it_is_not(place: Place) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    let before = claim(&journal, &zone).await.unwrap();
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    journal.park(&before, "scripted").await.unwrap();
    let again = claim(&journal, &zone).await.unwrap();
    assert_eq!(again.attempts, 1);
    journal.park(&again, "scripted").await.unwrap();
    assert_eq!(claim(&journal, &zone).await, None);
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

async fn concurrent_adds_all_arrive(place: Place) {
    let journal = place.open().await;
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
async fn an_empty_file_is_a_creation_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::fs::write(&path, "").unwrap();
    let journal = Journal::open(&path).unwrap();
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 1);
}

/// The first release's file, with a job that failed and one that was not tried.
#[tokio::test]
async fn an_older_file_is_brought_up_to_date() {
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
    let jobs = claim_all(&journal, &Arc::from("zone-b"), 0, HORIZON).await;
    let attempts: Vec<_> = jobs.iter().map(|job| job.attempts).collect();
    assert_eq!(attempts, [0, 2], "what was not tried comes first");
}

async fn small_ones_can_be_had_alone(place: Place) {
    let journal = place.open().await;
    let zone: Arc<str> = "zone-b".into();
    let of = |text: &str, size| NewJob::new(blob(text.as_bytes()), Arc::clone(&zone), size, "org/repo");
    let jobs =
        vec![of("unknown", None), of("large", Some(1000)), of("small", Some(10)), of("edge", Some(99))];
    journal.add(jobs).await.unwrap();
    let small = async |under_way| match journal.claim_small(&zone, 99, under_way, HORIZON).await.unwrap() {
        Next::Job(job) => Some(job),
        Next::Wait(_) => None,
    };
    let first = small(Vec::new()).await.unwrap();
    assert_eq!(first.size, Some(10));
    let second = small(vec![first.blob.digest]).await.unwrap();
    assert_eq!(second.size, Some(99));
    assert_eq!(small(vec![first.blob.digest, second.blob.digest]).await, None);
    // One that failed, too.
    journal.failed(&first, Duration::ZERO, "no").await.unwrap();
    journal.done(&second).await.unwrap();
    assert_eq!(small(Vec::new()).await.unwrap().size, Some(10));
}
