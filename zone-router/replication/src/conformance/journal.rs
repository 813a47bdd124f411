//! Tests the journal alone: adding, claiming and ending jobs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::try_join_all;

use super::super::{FoundSize, Job, Journal, MAX_REPOSITORIES, NewJob, Next};
use super::{LONGEST_WAIT, Place, blob, claim_all, new_job};

cases!(
    jobs_survive_a_reopen,
    adding_again_merges_within_bounds,
    a_size_of_zero_stays_until_the_job_is_done,
    objects_with_different_stated_sizes_must_be_read,
    a_deferred_job_keeps_its_size,
    after_a_try_without_an_end_the_object_must_be_read,
    a_job_of_unknown_size_does_not_come_before_small_ones,
    a_job_added_again_while_under_way_stays,
    a_job_added_again_while_it_failed_is_tried_at_once,
    failures_are_kept_and_wait_for_their_time,
    a_clock_that_ran_ahead_stalls_no_job,
    concurrent_adds_all_arrive,
    no_kind_of_job_waits_for_the_backlog_of_another,
    small_jobs_can_be_claimed_alone,
    a_parked_job_waits_until_it_is_added_again,
    a_job_that_was_added_again_is_not_parked,
    a_job_that_is_queued_already_is_not_rewritten,
);

async fn claim(journal: &Journal, zone: &Arc<str>) -> Option<Job> {
    match journal.claim(zone, 0, Vec::new(), LONGEST_WAIT).await.unwrap() {
        Next::Job(job) => Some(job),
        Next::Wait(_) => None,
    }
}

async fn jobs_survive_a_reopen(place: Arc<dyn Place>) {
    let zone = Arc::from("zone-b");
    {
        let journal = place.open().await;
        journal.add(vec![new_job("one", "zone-b"), new_job("two", "zone-c")]).await.unwrap();
    }
    let journal = place.open().await;
    let jobs = claim_all(&journal, &zone, 0, LONGEST_WAIT).await;
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

async fn adding_again_merges_within_bounds(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    for number in [0, 1, 2, 3, 4, 9, 5, 6, 7, 8, 9] {
        let name = format!("org/repo-{number}");
        journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), None, &name)]).await.unwrap();
    }
    journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), Some(1), "evil\nname")]).await.unwrap();
    journal.add(vec![NewJob::new(blob(b"x"), Arc::clone(&zone), None, &"a".repeat(2000))]).await.unwrap();
    let jobs = claim_all(&journal, &zone, 0, LONGEST_WAIT).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].size, Some(1), "a known size is not forgotten");
    assert_eq!(jobs[0].repositories, ["org/repo-9", "org/repo-8", "org/repo-7", "org/repo-6"]);
    assert_eq!(jobs[0].repositories.len(), MAX_REPOSITORIES);
    // A manifest may name a layer twice, once without its size.
    let twice = [Some(5), None].map(|size| NewJob::new(blob(b"twice"), Arc::clone(&zone), size, "org/repo"));
    journal.add(twice.to_vec()).await.unwrap();
    journal.done(&jobs[0]).await.unwrap();
    assert_eq!(claim(&journal, &zone).await.unwrap().size, Some(5));
}

/// An object that was found wrong must be read, whatever size a later push states.
async fn a_size_of_zero_stays_until_the_job_is_done(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    let sized = |size| NewJob::new(blob(b"wrong"), Arc::clone(&zone), size, "org/repo");
    for sizes in [[Some(5), Some(0)], [Some(0), Some(5)], [Some(0), None]] {
        journal.add(vec![sized(sizes[0])]).await.unwrap();
        journal.add(vec![sized(sizes[1])]).await.unwrap();
        // The same within one batch.
        journal.add(sizes.map(sized).to_vec()).await.unwrap();
        let job = claim(&journal, &zone).await.unwrap();
        assert_eq!((job.size, job.must_read()), (Some(0), true), "{sizes:?}");
        journal.add(vec![sized(Some(5))]).await.unwrap();
        journal.failed(&job, Duration::ZERO, "scripted", false).await.unwrap();
        let job = claim(&journal, &zone).await.unwrap();
        assert_eq!(job.size, Some(0), "{sizes:?}");
        journal.done(&job).await.unwrap();
    }
    journal.add(vec![sized(Some(5))]).await.unwrap();
    assert_eq!(claim(&journal, &zone).await.unwrap().size, Some(5));
}

async fn a_job_added_again_while_under_way_stays(place: Arc<dyn Place>) {
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

async fn a_job_added_again_while_it_failed_is_tried_at_once(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    let before = claim(&journal, &zone).await.unwrap();
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    journal.failed(&before, LONGEST_WAIT, "scripted", false).await.unwrap();
    let again = claim(&journal, &zone).await.unwrap();
    assert_eq!(again.attempts, 1);
    journal.failed(&again, LONGEST_WAIT, "scripted", false).await.unwrap();
    assert_eq!(claim(&journal, &zone).await, None);
}

async fn failures_are_kept_and_wait_for_their_time(place: Arc<dyn Place>) {
    let zone = Arc::from("zone-b");
    {
        let journal = place.open().await;
        journal.add(vec![new_job("x", "zone-b"), new_job("y", "zone-b")]).await.unwrap();
        let job = claim(&journal, &zone).await.unwrap();
        let error = format!("put https://store/k?X-Amz-Signature=secret: {}", "é".repeat(1000));
        journal.failed(&job, Duration::from_secs(300), &error, false).await.unwrap();
    }
    let journal = place.open().await;
    let other = claim(&journal, &zone).await.unwrap();
    let next = journal.claim(&zone, 1, vec![other.blob.digest], LONGEST_WAIT).await.unwrap();
    let Next::Wait(wait) = next else { panic!("{next:?}") };
    let least = Duration::from_secs(if place.is_shared() { 1 } else { 290 });
    assert!(wait > least && wait <= Duration::from_secs(300), "{wait:?}");
    let count = journal.counts().await.unwrap().remove(0);
    assert_eq!((count.jobs, count.failing, count.attempts), (2, 1, 1));
    let error = count.last_error.unwrap();
    assert!(error.len() <= backends::MAX_REASON && !error.contains("secret"), "{error}");

    // A push adds the job again, so it no longer waits.
    journal.add(vec![new_job("x", "zone-b"), new_job("y", "zone-b")]).await.unwrap();
    journal.release(&zone).await.unwrap();
    let jobs = claim_all(&journal, &zone, 0, LONGEST_WAIT).await;
    assert_eq!(jobs.iter().map(|job| job.attempts).sum::<u32>(), 1, "attempts are kept");
    assert_eq!(jobs.len(), 2);
}

async fn a_clock_that_ran_ahead_stalls_no_job(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zone = Arc::from("zone-b");
    journal.add(vec![new_job("x", "zone-b")]).await.unwrap();
    let job = claim(&journal, &zone).await.unwrap();
    journal.failed(&job, LONGEST_WAIT * 100, "as by a clock a day ahead", false).await.unwrap();
    assert_eq!(claim_all(&journal, &zone, 0, LONGEST_WAIT * 200).await.len(), 0);
    let job = claim(&journal, &zone).await.unwrap();
    journal.failed(&job, LONGEST_WAIT * 100, "as by a clock a day ahead", false).await.unwrap();
    journal.make_due(&zone).await.unwrap();
    assert_eq!(claim_all(&journal, &zone, 0, LONGEST_WAIT * 200).await.len(), 1);
}

/// Fresh jobs do not wait for failed ones, large jobs do not wait for small ones, and failed jobs get their
/// share.
async fn no_kind_of_job_waits_for_the_backlog_of_another(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zone: Arc<str> = Arc::from("zone-b");
    let sized = |n: u64, size| NewJob::new(blob(&n.to_le_bytes()), Arc::clone(&zone), Some(size), "org/repo");
    journal.add((0..40).map(|n| sized(n, 10)).collect()).await.unwrap();
    for job in claim_all(&journal, &zone, 0, LONGEST_WAIT).await {
        journal.failed(&job, Duration::ZERO, "scripted", false).await.unwrap();
    }
    journal.add(vec![sized(100, 5_000_000_000)]).await.unwrap();
    // The clock counts milliseconds, and the next jobs must be later.
    tokio::time::sleep(Duration::from_millis(2)).await;
    journal.add((200..230).map(|n| sized(n, n)).collect()).await.unwrap();
    let jobs = claim_all(&journal, &zone, 0, LONGEST_WAIT).await;
    assert_eq!(jobs.len(), 71, "every job is claimed");
    let large = jobs.iter().position(|job| job.size == Some(5_000_000_000)).unwrap();
    assert!(large < 4, "the oldest comes early: {large}");
    for (at, claims) in jobs[..40].chunks(4).enumerate() {
        let retries = claims.iter().filter(|job| job.attempts > 0).count();
        assert_eq!(retries, 1, "in claims {at}: {claims:?}");
    }
    let small: Vec<_> = jobs.iter().filter(|job| job.attempts == 0).filter_map(|job| job.size).collect();
    assert_eq!(small[..2], [200, 201], "the smallest first");
}

async fn a_parked_job_waits_until_it_is_added_again(place: Arc<dyn Place>) {
    let zone = Arc::from("zone-b");
    {
        let journal = place.open().await;
        journal.add(vec![new_job("lost", "zone-b")]).await.unwrap();
        let job = claim(&journal, &zone).await.unwrap();
        journal.park(&job, "the registry\ndoes not say: https://registry/?token=secret").await.unwrap();
        journal.add(vec![new_job("other", "zone-b")]).await.unwrap();
        // Neither the recovery of its zone nor a clock that ran ahead makes the job due.
        journal.make_due(&zone).await.unwrap();
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

async fn a_job_that_was_added_again_is_not_parked(place: Arc<dyn Place>) {
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

async fn concurrent_adds_all_arrive(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let tasks = (0..16).map(|task| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                // Every third job is the same for all tasks.
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

async fn small_jobs_can_be_claimed_alone(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zone: Arc<str> = "zone-b".into();
    let of = |text: &str, size| NewJob::new(blob(text.as_bytes()), Arc::clone(&zone), size, "org/repo");
    let jobs =
        vec![of("unknown", None), of("large", Some(1000)), of("small", Some(10)), of("edge", Some(99))];
    journal.add(jobs).await.unwrap();
    let small = async |under_way| match journal.claim_small(&zone, 99, under_way, LONGEST_WAIT).await.unwrap()
    {
        Next::Job(job) => Some(job),
        Next::Wait(_) => None,
    };
    let first = small(Vec::new()).await.unwrap();
    assert_eq!(first.size, Some(10));
    let second = small(vec![first.blob.digest]).await.unwrap();
    assert_eq!(second.size, Some(99));
    assert_eq!(small(vec![first.blob.digest, second.blob.digest]).await, None);
    // This holds for a failed job too.
    journal.failed(&first, Duration::ZERO, "no", false).await.unwrap();
    journal.done(&second).await.unwrap();
    assert_eq!(small(Vec::new()).await.unwrap().size, Some(10));
}

fn jobs(repository: &str, count: usize) -> Vec<NewJob> {
    let job = |n| {
        let name = format!("{repository}/{n}");
        NewJob::new(blob(name.as_bytes()), Arc::from("zone-b"), Some(1), repository)
    };
    (0..count).map(job).collect()
}

/// A manifest that is pushed over and over writes no index, and in PostgreSQL no row.
async fn a_job_that_is_queued_already_is_not_rewritten(place: Arc<dyn Place>) {
    let journal = place.open().await;
    journal.add(jobs("org/repo", 300)).await.unwrap();
    place.refuse_rewrites().await;
    journal.add(jobs("org/repo", 300)).await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 300);
    let other: Vec<_> = jobs("org/repo", 1)
        .into_iter()
        .map(|job| NewJob::new(job.blob, job.target, job.size, "org/another"))
        .collect();
    let error = journal.add(other).await.unwrap_err().to_string();
    assert!(error.contains("rewritten"), "a job with new facts is written: {error}");
}

/// Of two different sizes one is wrong, and nobody knows which. So the object at the target must be read.
async fn objects_with_different_stated_sizes_must_be_read(place: Arc<dyn Place>) {
    let (journal, zone) = (place.open().await, Arc::from("zone-b"));
    let sized = |size| NewJob::new(blob(b"sized"), Arc::clone(&zone), size, "org/repo");
    for (sizes, merged) in [
        ([Some(5), Some(5)], Some(5)),
        ([Some(5), None], Some(5)),
        ([None, Some(5)], Some(5)),
        ([Some(5), Some(7)], None),
        ([Some(7), Some(5)], None),
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
            let is_contradicted = merged.is_none();
            assert_eq!((job.size, job.is_contradicted), (merged, is_contradicted), "{sizes:?} {together}");
            // This stays so until an audit demands that the object is read.
            journal.add(vec![sized(Some(5)), sized(None)]).await.unwrap();
            journal.defer(&job, FoundSize::Bytes(5)).await.unwrap();
            let job = claim(&journal, &zone).await.unwrap();
            assert_eq!((job.size, job.is_contradicted), (merged, is_contradicted), "{sizes:?} {together}");
            assert_eq!(journal.counts().await.unwrap()[0].bytes, merged.unwrap_or(0));
            journal.add(vec![sized(Some(0))]).await.unwrap();
            journal.release(&zone).await.unwrap();
            let job = claim(&journal, &zone).await.unwrap();
            assert!(job.must_read(), "{sizes:?} {together}");
            journal.done(&job).await.unwrap();
        }
    }
}

/// A deferred job is claimed again with its size. If it is in doubt, its object must be read.
async fn a_deferred_job_keeps_its_size(place: Arc<dyn Place>) {
    let (journal, zone) = (place.open().await, Arc::from("zone-b"));
    let small =
        async || match journal.claim_small(&zone, 9, Vec::new(), Duration::from_secs(1)).await.unwrap() {
            Next::Job(job) => Some(job),
            Next::Wait(_) => None,
        };
    journal.add(vec![NewJob::new(blob(b"said less"), Arc::clone(&zone), Some(1), "org/repo")]).await.unwrap();
    journal.defer(&small().await.unwrap(), FoundSize::Bytes(5_000_000_000)).await.unwrap();
    assert_eq!(small().await, None);
    let job = claim(&journal, &zone).await.unwrap();
    assert_eq!((job.size, job.attempts), (Some(5_000_000_000), 0));
    journal.failed(&job, Duration::ZERO, "broke off", true).await.unwrap();
    assert_eq!(small().await, None, "it may have any size");
    let job = claim(&journal, &zone).await.unwrap();
    assert!(job.must_read());
    journal.defer(&job, FoundSize::Bytes(7)).await.unwrap();
    assert!(claim(&journal, &zone).await.unwrap().must_read());
}

/// A try whose end was not recorded may have written to the target, so the next try reads the object there.
async fn after_a_try_without_an_end_the_object_must_be_read(place: Arc<dyn Place>) {
    let (journal, zone) = (place.open().await, Arc::from("zone-b"));
    let blob = blob(b"killed");
    let added = || NewJob::new(blob.clone(), Arc::clone(&zone), Some(6), "org/repo");
    journal.add(vec![added()]).await.unwrap();
    let killed = claim(&journal, &zone).await.unwrap();
    assert!(!killed.must_read());
    journal.begin(&killed).await.unwrap();
    journal.release(&zone).await.unwrap();

    let journal = place.open().await;
    for end in ["failed", "given back", "parked"] {
        let again = claim(&journal, &zone).await.unwrap();
        assert!(again.must_read(), "before it is {end}");
        journal.begin(&again).await.unwrap();
        match end {
            "failed" => journal.failed(&again, Duration::ZERO, "not reached", false).await.unwrap(),
            "given back" => journal.defer(&again, FoundSize::Bytes(6)).await.unwrap(),
            _ => {
                journal.park(&again, "scripted").await.unwrap();
                journal.add(vec![added()]).await.unwrap();
            }
        }
    }
    let again = claim(&journal, &zone).await.unwrap();
    assert!(again.must_read(), "no try has read it");
    journal.begin(&again).await.unwrap();
    journal.done(&again).await.unwrap();
    journal.add(vec![added()]).await.unwrap();
    let next = claim(&journal, &zone).await.unwrap();
    assert_eq!(next.size, Some(6), "the end was recorded");
    journal.begin(&next).await.unwrap();
    journal.failed(&next, Duration::ZERO, "refused", false).await.unwrap();
    assert_eq!(
        claim(&journal, &zone).await.unwrap().size,
        Some(6),
        "a try that wrote nothing leaves no doubt"
    );
}

/// A client that states no size, or an impossible one, does not get its job claimed before others.
async fn a_job_of_unknown_size_does_not_come_before_small_ones(place: Arc<dyn Place>) {
    let (journal, zone) = (place.open().await, Arc::from("zone-b"));
    let of = |text: &str, size| NewJob::new(blob(text.as_bytes()), Arc::clone(&zone), size, "org/repo");
    let jobs = vec![of("unknown", None), of("to be read", Some(0)), of("small", Some(5))];
    journal.add(jobs).await.unwrap();
    let jobs = claim_all(&journal, &zone, 0, LONGEST_WAIT).await;
    let sizes: Vec<_> = jobs.iter().map(|job| job.size).collect();
    assert_eq!((sizes.len(), sizes[0]), (3, Some(5)), "{sizes:?}");
}
