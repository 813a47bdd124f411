//! Each scripted fault has its effect.

use futures_util::TryStreamExt;

use super::*;
use crate::memory::MemoryStore;

const SIZE: usize = 200_000;

fn key() -> Key {
    Key::new("blob")
}

fn store() -> Faulty {
    let memory = MemoryStore::new();
    memory.insert(key(), vec![0xAA; SIZE]);
    Faulty::new(Arc::new(memory))
}

async fn read(store: &Faulty) -> (usize, Option<Kind>, usize) {
    let mut body = match store.get(&key(), None).await {
        Ok(object) => object.expect("there").body,
        Err(error) => return (0, Some(error.kind()), 0),
    };
    let (mut length, mut wrong) = (0, 0);
    loop {
        match body.try_next().await {
            Ok(Some(piece)) => {
                length += piece.len();
                wrong += piece.iter().filter(|byte| **byte != 0xAA).count();
            }
            Ok(None) => return (length, None, wrong),
            Err(error) => return (length, Some(error.kind()), wrong),
        }
    }
}

#[tokio::test]
async fn each_fault_has_its_effect() {
    let store = store();
    for (fault, expected) in [
        (Fault::Fail(Kind::Denied), (0, Some(Kind::Denied), 0)),
        (Fault::CutAfter(100_001), (100_001, Some(Kind::Unavailable), 0)),
        (Fault::CutAfter(0), (0, Some(Kind::Unavailable), 0)),
        (Fault::CutAfter(SIZE as u64), (SIZE, None, 0)),
        (Fault::FlipBit(SIZE as u64 - 1), (SIZE, None, 1)),
        (Fault::FlipBit(SIZE as u64), (SIZE, None, 0)),
        (Fault::Short(1), (SIZE - 1, None, 0)),
        (Fault::Long(3), (SIZE + 3, None, 3)),
    ] {
        store.once(On::Get, fault);
        assert_eq!(read(&store).await, expected, "{fault:?}");
        assert_eq!(read(&store).await, (SIZE, None, 0), "after {fault:?}");
    }
    assert_eq!((store.calls(On::Get), store.calls(On::Any)), (16, 16));
}

#[tokio::test(start_paused = true)]
async fn delays_and_hangs_take_the_scripted_time() {
    let store = store();
    let begun = tokio::time::Instant::now();
    store.always(On::Any, Fault::Delay(Duration::from_millis(40)));
    store.probe().await.expect("answers");
    assert_eq!(begun.elapsed(), Duration::from_millis(40));
    store.once(On::Get, Fault::StallAfter(5));
    assert!(tokio::time::timeout(Duration::from_secs(60), read(&store)).await.is_err());
    store.once(On::Head, Fault::Hang);
    assert!(tokio::time::timeout(Duration::from_secs(60), store.head(&key())).await.is_err());
    store.heal();
    assert!(store.head(&key()).await.expect("answers").is_some());
}

#[tokio::test]
async fn a_put_that_breaks_leaves_nothing() {
    let store = Faulty::new(Arc::new(MemoryStore::new()));
    let source = Source::bytes(Bytes::from(vec![1; SIZE]));
    for fault in [Fault::CutAfter(7), Fault::FlipBit(7), Fault::Short(7), Fault::Fail(Kind::Unavailable)] {
        store.once(On::Put, fault);
        assert!(store.put(&key(), &source).await.is_err(), "{fault:?}");
        assert!(store.head(&key()).await.expect("answers").is_none(), "{fault:?}");
    }
    store.put(&key(), &source).await.expect("written");
}
