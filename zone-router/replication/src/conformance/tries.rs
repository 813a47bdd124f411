//! Tests of the journal alone: how a try changes the read mark, and the order of jobs.

use std::sync::Arc;
use std::time::Duration;

use super::super::{FoundSize, Job, Journal, NewJob, Next};
use super::{LONGEST_WAIT, Place, blob};

cases!(
    a_mark_ends_with_its_proof,
    a_mark_outlives_what_proves_nothing,
    contradicted_is_not_to_be_read_for_ever,
    added_again_during_its_try_it_goes_behind_those_that_wait,
);

/// The number of a claim that prefers the oldest job.
const OLDEST: u32 = 2;

async fn claim(journal: &Journal) -> Job {
    match journal.claim(&"zone-b".into(), OLDEST, Vec::new(), LONGEST_WAIT).await.unwrap() {
        Next::Job(job) => job,
        Next::Wait(wait) => panic!("none for {wait:?}"),
    }
}

async fn add(journal: &Journal, text: &str, size: Option<u64>) {
    journal.add(vec![NewJob::new(blob(text.as_bytes()), "zone-b".into(), size, "org/repo")]).await.unwrap();
}

/// A job with the read mark, whose try has begun.
async fn begun(journal: &Journal) -> Job {
    add(journal, "x", Some(0)).await;
    let job = claim(journal).await;
    assert!(job.must_read());
    journal.begin(&job).await.unwrap();
    job
}

/// A read that proves the object also ends the mark for a job that was added again meanwhile.
async fn a_mark_ends_with_its_proof(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let job = begun(&journal).await;
    add(&journal, "x", Some(5)).await;
    journal.done(&job).await.unwrap();
    let job = claim(&journal).await;
    assert_eq!((job.size, job.must_read(), job.is_contradicted), (Some(5), false, false));
    journal.done(&job).await.unwrap();

    // Another audit may have found the object wrong after it was read.
    let job = begun(&journal).await;
    add(&journal, "x", Some(5)).await;
    add(&journal, "x", Some(0)).await;
    journal.done(&job).await.unwrap();
    let job = claim(&journal).await;
    assert!(job.must_read());
    journal.done(&job).await.unwrap();

    // An audit may also find it wrong after the claim and before the try began.
    add(&journal, "x", Some(5)).await;
    let job = claim(&journal).await;
    add(&journal, "x", Some(0)).await;
    journal.begin(&job).await.unwrap();
    journal.done(&job).await.unwrap();
    assert!(claim(&journal).await.must_read());
}

async fn a_mark_outlives_what_proves_nothing(place: Arc<dyn Place>) {
    for end in ["killed", "failed", "given back", "parked", "withdrawn"] {
        let journal = place.open().await;
        let job = begun(&journal).await;
        add(&journal, "x", Some(5)).await;
        match end {
            "killed" => journal.release(&"zone-b".into()).await.unwrap(),
            "failed" => journal.failed(&job, Duration::ZERO, "scripted", false).await.unwrap(),
            "given back" => journal.defer(&job, FoundSize::Contradicted).await.unwrap(),
            "parked" => journal.park(&job, "scripted").await.unwrap(),
            _ => journal.withdrawn(&job).await.unwrap(),
        }
        drop(journal);
        let journal = place.open().await;
        add(&journal, "x", Some(5)).await;
        let job = claim(&journal).await;
        assert!(job.must_read(), "{end}");
        journal.begin(&job).await.unwrap();
        journal.done(&job).await.unwrap();
        assert!(journal.counts().await.unwrap().is_empty(), "{end}");
    }
}

/// If the stated sizes of a job contradict each other, its object is read, and a proof ends that.
async fn contradicted_is_not_to_be_read_for_ever(place: Arc<dyn Place>) {
    let journal = place.open().await;
    for size in [None, Some(5)] {
        add(&journal, "x", size).await;
        let job = claim(&journal).await;
        journal.begin(&job).await.unwrap();
        journal.defer(&job, FoundSize::Contradicted).await.unwrap();
        let job = claim(&journal).await;
        assert_eq!((job.size, job.must_read(), job.is_contradicted), (None, false, true));
        journal.defer(&job, FoundSize::InDoubt).await.unwrap();
        let job = claim(&journal).await;
        assert!(job.must_read());
        journal.done(&job).await.unwrap();
    }
}

/// However often a job is added again, the jobs that wait have their turn.
async fn added_again_during_its_try_it_goes_behind_those_that_wait(place: Arc<dyn Place>) {
    let journal = place.open().await;
    for end in ["done", "failed", "parked before", "parked"] {
        add(&journal, "x", None).await;
        let job = claim(&journal).await;
        add(&journal, "waits", None).await;
        // The clock counts milliseconds, and the next adds must be later.
        tokio::time::sleep(Duration::from_millis(2)).await;
        if end != "parked before" {
            add(&journal, "x", None).await;
        }
        match end {
            "done" => journal.done(&job).await.unwrap(),
            "failed" => journal.failed(&job, Duration::ZERO, "scripted", false).await.unwrap(),
            _ => journal.park(&job, "scripted").await.unwrap(),
        }
        add(&journal, "x", None).await;
        for text in ["waits", "x"] {
            let next = claim(&journal).await;
            assert_eq!(next.blob, blob(text.as_bytes()), "{end}");
            journal.done(&next).await.unwrap();
        }
    }
}
