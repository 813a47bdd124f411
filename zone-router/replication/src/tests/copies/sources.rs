//! Sources that break off, and sources in turn.

use super::*;

/// A first try asks the target and reads from the best source. Only if the size differs, all sources are
/// asked.
#[tokio::test]
async fn a_first_try_sends_as_few_requests_as_possible() {
    for size in [1000, 1 << 20, 5 << 20] {
        let mut z = Spoiled::new();
        z.bytes = Bytes::from(vec![7; size]);
        z.blob = blob(&z.bytes);
        z.hold(&[0, 2]);
        z.copied_whole(z.copy().await, "zone-a").await;
        let calls = [z.calls(0, On::Head), z.calls(0, On::Get), z.calls(1, On::Head), z.calls(1, On::Put)];
        assert_eq!(calls, [0, 1, 1, 1], "{size}");
        assert_eq!((z.calls(2, On::Head), z.calls(2, On::Get)), (0, 0), "{size}");
        // If the target has the blob, it is not written again.
        assert_eq!(z.copy().await.unwrap(), Outcome::AlreadyThere);
        assert_eq!(z.calls(1, On::Put), 1);
    }
    let z = Spoiled::new();
    z.hold(&[2]);
    let lie = job(z.blob.clone(), "zone-b", Some(5));
    z.copied_whole(z.copier().copy(&lie).await, "zone-c").await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_breaks_off_continues_at_the_next_byte() {
    let z = Spoiled::new();
    z.hold(&[0]);
    z.faulty[0].once(On::Get, Spoil::CutAfter(1_000_000));
    z.copied_whole(z.copy().await, "zone-a").await;
    assert_eq!((z.calls(0, On::Get), z.calls(1, On::Put)), (2, 1), "one put, read in two pieces");

    // A source breaks off and stays broken: another source continues.
    for fault in [Spoil::CutAfter(1_000_000), Spoil::StallAfter(1_000_000)] {
        let z = Spoiled::new();
        z.hold(&[0, 2]);
        z.faulty[0].always(On::Get, fault);
        z.copied_whole(z.copy().await, "zone-a").await;
        let calls = (z.calls(0, On::Get), z.calls(2, On::Get), z.calls(1, On::Put));
        assert_eq!(calls, (1, 1, 1), "{fault:?}");
    }

    // No source continues: the number of tries is bounded, and nothing is written.
    let z = Spoiled::new();
    z.hold(&[0, 2]);
    z.faulty[0].always(On::Get, Spoil::CutAfter(100_000));
    z.faulty[2].always(On::Get, Spoil::CutAfter(100_000));
    let error = z.copy().await.unwrap_err();
    assert_eq!((error.fault, error.failures.len()), (Fault::Sources, 2), "{error}");
    assert_eq!((z.calls(0, On::Get), z.calls(2, On::Get)), (2, 2));
    assert!(z.stores[1].head(&z.blob.key).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_large_blob_is_copied_over_a_connection_that_sometimes_breaks() {
    let mut z = Spoiled::new();
    z.bytes = Bytes::from(vec![7; 100 << 20]);
    z.blob = blob(&z.bytes);
    z.hold(&[0]);
    z.faulty[0].always(On::Get, Spoil::CutAfter(20 << 20));
    z.copied_whole(z.copy().await, "zone-a").await;
    assert_eq!((z.calls(0, On::Get), z.calls(1, On::Put)), (5, 1));
}

/// The source that continues after a broken one gives wrong bytes. Neither is trusted, and each is tried alone.
#[tokio::test(start_paused = true)]
async fn the_source_of_wrong_bytes_is_found_among_several() {
    for (liar, honest) in [(0, 2), (2, 0)] {
        let z = Spoiled::new();
        z.hold(&[0, 2]);
        z.faulty[0].once(On::Get, Spoil::CutAfter(1_000_000));
        z.faulty[liar].always(On::Get, Spoil::FlipBit(77));
        z.copied_whole(z.copy().await, ["zone-a", "zone-b", "zone-c"][honest]).await;
    }
}

#[tokio::test]
async fn an_object_of_another_size_never_continues_a_body() {
    let z = Spoiled::new();
    z.hold(&[0]);
    z.stores[2].insert(z.blob.key.clone(), Bytes::from_static(b"of another size"));
    z.faulty[0].always(On::Get, Spoil::CutAfter(1_000_000));
    let outcome = z.copy().await;
    z.copied_whole(outcome, "zone-a").await;
    assert_eq!(z.calls(0, On::Get), 2);
}

#[tokio::test]
async fn the_cache_comes_first_and_a_zone_continues_after_it() {
    let z = Spoiled::new();
    z.hold(&[0, 2]);
    let mut copier = z.copier();
    copier.local = Some(FakeCache::new(Source::bytes(z.bytes.clone())));
    z.copied_whole(z.copy_by(&copier).await, "the local copy").await;
    assert_eq!(z.calls(0, On::Any) + z.calls(2, On::Any), 0, "no zone is asked");
    // The size of the cached blob is right, whatever a client stated.
    let wrong = job(z.blob.clone(), "zone-b", Some(3));
    assert_eq!(copier.copy(&wrong).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!(z.calls(1, On::Get), 0);

    let z = Spoiled::new();
    z.hold(&[0]);
    let broken = Faulty::new(Arc::new(MemoryStore::new()));
    broken.put(&z.blob.key, &Source::bytes(z.bytes.clone())).await.unwrap();
    broken.always(On::Get, Spoil::CutAfter(1_000_000));
    let mut copier = z.copier();
    let size = z.bytes.len() as u64;
    let at_hand = Source::object(Arc::new(broken), z.blob.key.clone(), size, z.blob.digest);
    copier.local = Some(FakeCache::new(at_hand));
    z.copied_whole(z.copy_by(&copier).await, "the local copy").await;
    assert_eq!((z.calls(0, On::Get), z.calls(1, On::Put)), (1, 1));
    // A cache with wrong bytes is told so, and other sources give the blob.
    let z = Spoiled::new();
    z.hold(&[0]);
    let wrong = Bytes::from(vec![7; z.bytes.len()]);
    let cache = FakeCache::new(Source::new(wrong.len() as u64, z.blob.digest, Arc::new(wrong)));
    let misled = Copier { local: Some(Arc::clone(&cache) as Arc<dyn Local>), ..z.copier() };
    z.copied_whole(z.copy_by(&misled).await, "zone-a").await;
    assert!(!cache.1.load(Ordering::SeqCst));
    // The cache does not have another blob.
    let other = job(blob(b"other"), "zone-b", None);
    assert_eq!(copier.copy(&other).await.unwrap_err().fault, Fault::Nowhere);
}
