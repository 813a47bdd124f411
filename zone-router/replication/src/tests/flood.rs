//! One repository that pushes much, and others beside it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::super::{Journal, NewJob};
use super::place::Place;
use super::{blob, over_both};

over_both!(what_is_queued_already_is_left_alone);

fn jobs(repository: &str, count: usize) -> Vec<NewJob> {
    let job = |n| {
        let name = format!("{repository}/{n}");
        NewJob::new(blob(name.as_bytes()), Arc::from("zone-b"), Some(1), repository)
    };
    (0..count).map(job).collect()
}

/// The order of rows as the real writer commits them: a trigger keeps how many were there when the small
/// push's row came.
#[tokio::test]
async fn a_small_push_does_not_wait_behind_a_flood() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let trigger = "CREATE TABLE before (flood INTEGER);
        CREATE TRIGGER small AFTER INSERT ON job WHEN NEW.repositories = 'small'
        BEGIN INSERT INTO before SELECT count(*) FROM job WHERE repositories = 'flood'; END;";
    journal.write(move |db| db.execute_batch(trigger)).await.unwrap();
    // The writer is busy while all of them come: the flood first.
    let (held, hold) = std::sync::mpsc::channel::<()>();
    let (taken, begun) = tokio::sync::oneshot::channel();
    let busy = tokio::spawn({
        let journal = journal.clone();
        async move {
            journal
                .write(move |_| {
                    let _ = (taken.send(()), hold.recv());
                    Ok(())
                })
                .await
        }
    });
    begun.await.unwrap();
    let all = jobs("flood", 20_000);
    let mut flood: Vec<_> = all.chunks(2_000).map(|push| Box::pin(journal.add(push.to_vec()))).collect();
    for push in &mut flood {
        assert!(push.now_or_never().is_none());
    }
    let mut small = Box::pin(journal.add(jobs("small", 1)));
    assert!((&mut small).now_or_never().is_none());
    drop(held);
    let (flood, small) = tokio::join!(join_all(flood), small);
    busy.await.unwrap().unwrap();
    small.unwrap();
    flood.into_iter().for_each(|push| push.unwrap());
    let (said, before) = std::sync::mpsc::channel();
    journal
        .write(move |db| {
            let before = db.query_row("SELECT flood FROM before", [], |row| row.get::<_, i64>(0))?;
            let _ = said.send(before);
            Ok(())
        })
        .await
        .unwrap();
    let before = usize::try_from(before.recv().unwrap()).unwrap();
    // What the writer had when the small one came, and what it was given in the same moment.
    assert!(before < 10_000, "{before} of the flood's 20,000 rows came first");
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 20_001);
}

/// A manifest that is pushed over and over writes no index, and in PostgreSQL no row.
async fn what_is_queued_already_is_left_alone(place: Place) {
    let journal = place.open().await;
    journal.add(jobs("org/repo", 300)).await.unwrap();
    if place.is_file() {
        let trigger =
            "CREATE TRIGGER rewritten AFTER UPDATE OF key, size, repositories, due, fresh, parked ON job
            BEGIN SELECT raise(ABORT, 'rewritten'); END;";
        journal.write(move |db| db.execute_batch(trigger)).await.unwrap();
    } else {
        let trigger = "CREATE FUNCTION rewritten() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'rewritten'; END $$;
            CREATE TRIGGER rewritten AFTER UPDATE ON quay_gateway_job FOR EACH ROW EXECUTE FUNCTION rewritten();";
        place.stranger().await.batch_execute(trigger).await.unwrap();
    }
    journal.add(jobs("org/repo", 300)).await.unwrap();
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 300);
    let other: Vec<_> = jobs("org/repo", 1)
        .into_iter()
        .map(|job| NewJob::new(job.blob, job.target, job.size, "org/another"))
        .collect();
    let error = journal.add(other).await.unwrap_err().to_string();
    assert!(error.contains("rewritten"), "what says something new is written: {error}");
}
