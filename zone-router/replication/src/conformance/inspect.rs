//! Tests what operators read from the journal and change.

use std::sync::Arc;
use std::time::Duration;

use backends::Digest;

use super::super::{
    AGES, DURATION_BUCKETS, JobQuery, JobSelection, JobView, Journal, NewJob, Next, Outstanding, State,
};
use super::{LONGEST_WAIT, Place, blob, new_job};

cases!(
    pages_show_every_job_once,
    jobs_are_shown_with_their_state,
    waiting_and_parked_jobs_are_retried,
    operators_park_jobs,
    a_job_parked_while_it_is_copied_keeps_the_reason,
    jobs_are_counted_by_age_and_by_how_long_they_took,
    blobs_are_counted_by_the_zones_that_lack_them,
);

fn zone(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn digest(text: &str) -> Digest {
    blob(text.as_bytes()).digest
}

async fn claim(journal: &Journal, zone: &Arc<str>) -> Option<super::super::Job> {
    match journal.claim(zone, 0, Vec::new(), LONGEST_WAIT).await.unwrap() {
        Next::Job(job) => Some(job),
        Next::Wait(_) => None,
    }
}

async fn shown(journal: &Journal, state: Option<State>) -> Vec<JobView> {
    journal.jobs(JobQuery { state, limit: 100, ..JobQuery::default() }).await.unwrap()
}

async fn pages_show_every_job_once(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let names: Vec<_> = (0..25).map(|n| n.to_string()).collect();
    let jobs = names.iter().flat_map(|name| ["zone-b", "zone-\"c\\"].map(|zone| new_job(name, zone)));
    journal.add(jobs.collect()).await.unwrap();
    for (of, wanted) in [(None, 50), (Some(zone("zone-\"c\\")), 25), (Some(zone("zone-x")), 0)] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = JobQuery { zone: of.clone(), state: None, after: after.clone(), limit: 7 };
            let jobs = journal.jobs(page).await.unwrap();
            let Some(last) = jobs.last() else { break };
            assert!(jobs.len() <= 7);
            after = Some((last.zone.to_string(), last.digest.to_string()));
            seen.extend(jobs.into_iter().map(|job| (job.zone, job.digest.to_string())));
        }
        assert!(seen.is_sorted() && seen.len() == wanted, "{seen:?}");
        seen.dedup();
        assert_eq!(seen.len(), wanted);
    }
    assert_eq!(journal.depth(&zone("zone-b"), 10).await.unwrap(), 10, "counted no further");
    assert_eq!(journal.depth(&zone("zone-b"), 100).await.unwrap(), 25);
}

async fn jobs_are_shown_with_their_state(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let b = zone("zone-b");
    journal
        .add(vec![new_job("one", "zone-b"), new_job("three", "zone-b"), new_job("one", "zone-c")])
        .await
        .unwrap();
    let one = claim(&journal, &b).await.unwrap();
    assert_eq!(one.blob.digest, digest("one"), "the smallest");
    journal.failed(&one, Duration::from_secs(60), "no luck", false).await.unwrap();
    let three = claim(&journal, &b).await.unwrap();
    journal.park(&three, "gone for good").await.unwrap();
    let [failing] = &shown(&journal, Some(State::Failing)).await[..] else { panic!("one") };
    assert_eq!((failing.digest, failing.attempts, failing.state()), (digest("one"), 1, State::Failing));
    assert_eq!(failing.error.as_deref(), Some("no luck"));
    assert!(failing.due > failing.since && failing.failed >= Some(failing.since) && failing.parked.is_none());
    assert_eq!(failing.repositories, ["org/repo"]);
    let [parked] = &shown(&journal, Some(State::Parked)).await[..] else { panic!("one") };
    assert_eq!(
        (parked.digest, parked.size, parked.error.as_deref()),
        (digest("three"), Some(5), Some("gone for good"))
    );
    let [waiting] = &shown(&journal, Some(State::Waiting)).await[..] else { panic!("one") };
    assert_eq!(&*waiting.zone, "zone-c");
    assert_eq!(shown(&journal, None).await.len(), 3);
    let everywhere = journal.jobs_of(&digest("one"), &[zone("zone-c"), b, zone("zone-x")]).await.unwrap();
    assert_eq!(everywhere.iter().map(|job| &*job.zone).collect::<Vec<_>>(), ["zone-b", "zone-c"]);
}

async fn waiting_and_parked_jobs_are_retried(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let b = zone("zone-b");
    journal.add(["1", "22", "333"].map(|name| new_job(name, "zone-b")).into()).await.unwrap();
    for _ in 0..2 {
        let job = claim(&journal, &b).await.unwrap();
        journal.failed(&job, Duration::from_secs(500), "no luck", false).await.unwrap();
    }
    let job = claim(&journal, &b).await.unwrap();
    journal.park(&job, "no hope").await.unwrap();
    assert_eq!(claim(&journal, &b).await, None);
    let which = |digests: Option<&str>, state| JobSelection {
        zones: vec![zone("zone-b"), zone("zone-c")],
        digests: digests.map(|name| vec![digest(name)]),
        state,
    };
    let other = JobSelection { zones: vec![zone("zone-c")], ..which(None, None) };
    assert_eq!(journal.retry(&other).await.unwrap(), 0);
    assert_eq!(journal.retry(&which(Some("333"), Some(State::Failing))).await.unwrap(), 0);
    assert_eq!(journal.retry(&which(Some("333"), None)).await.unwrap(), 1);
    let back = claim(&journal, &b).await.unwrap();
    assert_eq!((back.blob.digest, back.attempts), (digest("333"), 1));
    journal.park(&back, "no hope").await.unwrap();
    assert_eq!(journal.retry(&which(None, Some(State::Failing))).await.unwrap(), 2);
    assert_eq!(journal.retry(&which(None, Some(State::Failing))).await.unwrap(), 0, "they are due");
    assert_eq!(journal.retry(&which(None, Some(State::Parked))).await.unwrap(), 1);
    assert_eq!(shown(&journal, Some(State::Parked)).await, []);
}

async fn operators_park_jobs(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zones = [zone("zone-b"), zone("zone-c")];
    journal
        .add(vec![new_job("one", "zone-b"), new_job("one", "zone-c"), new_job("two", "zone-b")])
        .await
        .unwrap();
    let park_blobs = journal.park_blobs(&[digest("one"), digest("none")], &zones, "broken\nupstream").await;
    assert_eq!(park_blobs.unwrap(), 2);
    assert_eq!(journal.park_blobs(&[digest("one")], &zones, "again").await.unwrap(), 0);
    let parked = shown(&journal, Some(State::Parked)).await;
    assert_eq!(parked.len(), 2);
    assert_eq!((parked[0].error.as_deref(), parked[0].attempts), (Some("broken upstream"), 0));
    assert_eq!(claim(&journal, &zones[0]).await.unwrap().blob.digest, digest("two"));
    assert_eq!(claim(&journal, &zones[1]).await, None);
    assert_eq!(journal.depth(&zones[1], 10).await.unwrap(), 0);
    // A push adds the job again.
    journal.add(vec![new_job("one", "zone-c")]).await.unwrap();
    assert_eq!(claim(&journal, &zones[1]).await.unwrap().blob.digest, digest("one"));
}

async fn a_job_parked_while_it_is_copied_keeps_the_reason(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zones = [zone("zone-b")];
    journal.add(vec![new_job("one", "zone-b"), new_job("three", "zone-b")]).await.unwrap();
    let one = claim(&journal, &zones[0]).await.unwrap();
    let Next::Job(three) = journal.claim(&zones[0], 0, vec![one.blob.digest], LONGEST_WAIT).await.unwrap()
    else {
        panic!("two")
    };
    journal.park_blobs(&[digest("one"), digest("three")], &zones, "by command").await.unwrap();
    journal.failed(&one, Duration::from_secs(60), "no luck", false).await.unwrap();
    journal.park(&three, "no hope").await.unwrap();
    let parked = shown(&journal, Some(State::Parked)).await;
    assert_eq!(parked.len(), 2);
    for job in parked {
        assert_eq!((job.error.as_deref(), job.attempts), (Some("by command"), 1));
        assert!(job.failed >= job.parked, "{job:?}");
    }
    // After the job was added again, it records its own failures.
    journal.add(vec![new_job("one", "zone-b")]).await.unwrap();
    let one = claim(&journal, &zones[0]).await.unwrap();
    journal.failed(&one, Duration::from_secs(60), "no luck", false).await.unwrap();
    assert_eq!(shown(&journal, Some(State::Failing)).await[0].error.as_deref(), Some("no luck"));
}

async fn jobs_are_counted_by_age_and_by_how_long_they_took(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let b = zone("zone-b");
    journal.add(["1", "22", "333"].map(|name| new_job(name, "zone-b")).into()).await.unwrap();
    let ages = journal.ages().await.unwrap();
    let of = &ages[&b];
    assert_eq!((of.jobs, of.up_to[AGES.len() - 1]), (3, 3), "{of:?}");
    assert!(of.up_to.is_sorted() && of.seconds >= 0.0, "{of:?}");
    assert!(journal.finished().is_empty());
    let job = claim(&journal, &b).await.unwrap();
    journal.add(vec![new_job("1", "zone-b")]).await.unwrap();
    journal.done(&job).await.unwrap();
    assert!(journal.finished().is_empty(), "it was added again");
    let job = claim(&journal, &b).await.unwrap();
    journal.done(&job).await.unwrap();
    journal.done(&job).await.unwrap();
    let took = journal.finished().remove(&b).unwrap();
    assert_eq!((took.jobs, took.up_to[DURATION_BUCKETS.len() - 1]), (1, 1), "{took:?}");
    assert_eq!(journal.ages().await.unwrap()[&b].jobs, 2);
}

async fn blobs_are_counted_by_the_zones_that_lack_them(place: Arc<dyn Place>) {
    let journal = place.open().await;
    let zones = ["zone-a", "zone-b", "zone-c"].map(zone);
    let job = |name: &str, zone: &str, size| NewJob::new(blob(name.as_bytes()), Arc::from(zone), size, "");
    journal
        .add(vec![
            job("1", "zone-b", Some(10)),
            job("1", "zone-c", None),
            job("2", "zone-b", Some(20)),
            job("2", "zone-c", Some(20)),
            job("3", "zone-c", Some(30)),
            job("4", "elsewhere", Some(40)),
        ])
        .await
        .unwrap();
    journal.park_blobs(&[digest("2")], &zones, "parked blobs are lacking too").await.unwrap();
    let mut outstanding = journal.outstanding(&zones).await.unwrap();
    outstanding.sort_by_key(|of| of.zones);
    let of = |zones, blobs, bytes| Outstanding { zones, blobs, bytes };
    assert_eq!(outstanding, [of(0b100, 1, 30), of(0b110, 2, 30)]);
}
