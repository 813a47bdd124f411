//! Tests of the readers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use futures_util::FutureExt as _;

use super::Sqlite;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_queries_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&folder.path().join("journal.db")).unwrap();
    let (go_on, held) = mpsc::sync_channel(1);
    let (begins, begun) = tokio::sync::oneshot::channel();
    let slow = sqlite.clone();
    let slow = tokio::spawn(async move {
        slow.inspect(move |_| {
            begins.send(()).unwrap();
            held.recv().unwrap();
            Ok(())
        })
        .await
    });
    begun.await.unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        let ran = Arc::clone(&ran);
        let query = sqlite.inspect(move |_| Ok(ran.fetch_add(1, Ordering::SeqCst)));
        assert!(query.now_or_never().is_none(), "the one before is not done");
    }
    let lane = sqlite.read(|_| Ok("lanes do not wait for it")).await.unwrap();
    assert!(!slow.is_finished(), "{lane}");
    go_on.send(()).unwrap();
    slow.await.unwrap().unwrap();
    sqlite.inspect(|_| Ok(())).await.unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}
