//! One repository pushes much, another one little.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::super::conformance::blob;
use super::super::{Journal, NewJob};

fn jobs(repository: &str, count: usize) -> Vec<NewJob> {
    let job = |n| {
        let name = format!("{repository}/{n}");
        NewJob::new(blob(name.as_bytes()), Arc::from("zone-b"), Some(1), repository)
    };
    (0..count).map(job).collect()
}

/// The order in which the writer inserts rows. When the row of the small push is inserted, a trigger records
/// how many rows of the large push exist.
#[tokio::test]
async fn a_small_push_does_not_wait_behind_a_flood() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let trigger = "CREATE TABLE before (flood INTEGER);
        CREATE TRIGGER small AFTER INSERT ON job WHEN NEW.repositories = 'small'
        BEGIN INSERT INTO before SELECT count(*) FROM job WHERE repositories = 'flood'; END;";
    journal.write(move |db| db.execute_batch(trigger)).await.unwrap();
    // While the writer is busy, the large pushes are queued first, and then the small one.
    let (held, hold) = std::sync::mpsc::sync_channel::<()>(1);
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
    let (said, before) = std::sync::mpsc::sync_channel(1);
    journal
        .write(move |db| {
            let before = db.query_row("SELECT flood FROM before", [], |row| row.get::<_, i64>(0))?;
            let _ = said.send(before);
            Ok(())
        })
        .await
        .unwrap();
    let before = usize::try_from(before.recv().unwrap()).unwrap();
    // Only the rows that the writer already had, and those that it took at the same moment.
    assert!(before < 10_000, "{before} of the flood's 20,000 rows came first");
    assert_eq!(journal.counts().await.unwrap()[0].jobs, 20_001);
}
