//! An object that is already at the target: when its size decides, when it is read, and when it is replaced.

use super::*;

/// Two empty objects do not confirm each other for a blob that is not empty.
#[tokio::test]
async fn an_empty_object_is_only_the_empty_blob() {
    let z = Three::new();
    z.a.holds(&z.blob, b"");
    z.b.holds(&z.blob, b"");
    z.c.holds(&z.blob, GOOD);
    assert_eq!(z.copy(None).await.unwrap(), replaced("zone-c"));
    z.target_is_good().await;
}

#[tokio::test]
async fn an_object_of_the_wrong_size_is_replaced() {
    for size in [Some(15), None] {
        let z = Three::new();
        z.b.holds(&z.blob, b"cut short");
        z.a.holds(&z.blob, GOOD);
        assert_eq!(z.copy(size).await.unwrap(), replaced("zone-a"));
        z.target_is_good().await;
    }
}

#[tokio::test]
async fn a_wrong_size_from_a_client_does_no_harm() {
    // Only the target has an object: it is read and hashed.
    let z = Three::new();
    z.b.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), Outcome::AlreadyThere);
    // A second zone has an object of the same size: the blob is not copied again.
    z.a.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), Outcome::AlreadyThere);
    // Only a source has an object: it is copied.
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), copied("zone-a"));
    z.target_is_good().await;
}

/// If another zone has another size, an object of the size that a client stated is read.
#[tokio::test]
async fn a_wrong_size_from_a_client_keeps_no_wrong_object() {
    for size in [None, Some(9), Some(15), Some(4711)] {
        let z = Three::new();
        z.b.holds(&z.blob, b"cut short");
        z.c.holds(&z.blob, GOOD);
        assert_eq!(z.copy(size).await.unwrap(), replaced("zone-c"), "{size:?}");
        z.target_is_good().await;
        // The same with the zones exchanged: the right object is not written again, and the wrong one is not
        // copied.
        let z = Three::new();
        z.b.holds(&z.blob, GOOD);
        z.a.holds(&z.blob, b"cut short");
        assert_eq!(z.copy(size).await.unwrap(), Outcome::AlreadyThere, "{size:?}");
        assert_eq!(z.b.puts.load(Ordering::SeqCst), 0);
        z.target_is_good().await;
    }
}

/// If all stated sizes agree, nothing is read. If no size is stated, the object is read.
#[tokio::test]
async fn an_object_is_read_only_if_sizes_do_not_decide() {
    for (size, a, reads) in [
        (Some(15), Some(GOOD), 0),
        // Zone c does not answer, and may hold the blob in another size.
        (Some(15), None, 1),
        (None, Some(GOOD), 0),
        (None, None, 1),
        (Some(7), Some(GOOD), 1),
    ] {
        let z = Three::new();
        z.b.holds(&z.blob, GOOD);
        a.iter().for_each(|bytes| z.a.holds(&z.blob, bytes));
        z.c.set(Mode::Fails(Kind::Unavailable));
        assert_eq!(z.copy(size).await.unwrap(), Outcome::AlreadyThere);
        assert_eq!(z.b.gets.load(Ordering::SeqCst), reads, "{size:?}");
    }
    // Other bytes of the right size. A job that demands reading must find them.
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.b.holds(&z.blob, b"the wrong bytes");
    assert_eq!(z.copy(Some(0)).await.unwrap(), replaced("zone-a"));
    z.target_is_good().await;
}

/// A job of size 0 has the object read, even if the cache or other zones know its size.
#[tokio::test]
async fn an_object_found_wrong_is_read_even_if_its_size_is_known() {
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.b.holds(&z.blob, b"the wrong bytes");
    let mut copier = copier(vec![z.a.zone("zone-a"), z.b.zone("zone-b"), z.c.zone("zone-c")]);
    copier.local = Some(FakeCache::new(Source::bytes(Bytes::from_static(GOOD))));
    let found = job(z.blob.clone(), "zone-b", Some(0));
    assert_eq!(copier.copy(&found).await.unwrap(), replaced("the local copy"));
    assert_eq!(z.b.gets.load(Ordering::SeqCst), 1);
    z.target_is_good().await;
    // A right object is read, and is not changed.
    assert_eq!(copier.copy(&found).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!((z.b.gets.load(Ordering::SeqCst), z.b.puts.load(Ordering::SeqCst)), (2, 1));
    let z = Three::new();
    z.a.holds(&z.blob, b"");
    z.b.holds(&z.blob, b"");
    z.c.holds(&z.blob, GOOD);
    z.c.set(Mode::Fails(Kind::Unavailable));
    assert_eq!(z.copy(Some(0)).await.unwrap_err().fault, Fault::Sources, "two empty objects confirm nothing");
    z.c.set(Mode::Healthy);
    assert_eq!(z.copy(Some(0)).await.unwrap(), replaced("zone-c"));
    z.target_is_good().await;
}

/// Readers cannot use an object that breaks off in the middle.
#[tokio::test]
async fn an_unreadable_object_is_replaced_or_reported() {
    let z = Spoiled::new();
    z.hold(&[0, 1]);
    z.faulty[1].always(On::Get, Spoil::CutAfter(1000));
    let bytes = z.bytes.len() as u64;
    let unsaid = job(z.blob.clone(), "zone-b", Some(0));
    let replaced = Outcome::Copied { from: Some("zone-a".into()), bytes, replaced: true };
    assert_eq!(z.copier().copy(&unsaid).await.unwrap(), replaced);
    // If no other zone has the blob, this object may be the blob.
    z.stores[0].delete(&z.blob.key).await.unwrap();
    assert_eq!(z.copier().copy(&unsaid).await.unwrap_err().fault, Fault::Target);
    z.faulty[0].always(On::Any, Spoil::Fail(Kind::Unavailable));
    let error = z.copier().copy(&unsaid).await.unwrap_err();
    assert_eq!(error.fault, Fault::Sources);
    assert!(error.to_string().contains("zone-b: scripted cut"), "{error}");
}

#[tokio::test]
async fn a_damaged_target_without_a_source_is_a_failure() {
    let z = Three::new();
    z.b.holds(&z.blob, b"cut short");
    let error = z.copy(Some(15)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Nowhere);
    assert!(
        error.to_string().contains("zone-b: the object at the target is not the blob, and is left as it is"),
        "{error}"
    );
    z.a.holds(&z.blob, b"wrong bytes of another size");
    assert_eq!(z.copy(None).await.unwrap_err().fault, Fault::Sources);
    assert_eq!(z.b.contents().await.into_values().collect::<Vec<_>>(), [&b"cut short"[..]]);
}

/// The target shows an object and does not return it. Then a zone does have something, and verified bytes replace it.
#[tokio::test]
async fn what_a_target_shows_and_does_not_return_is_no_absence() {
    let z = Three::new();
    z.b.holds(&z.blob, GOOD);
    z.b.set(Mode::Lists);
    let error = z.copy(Some(0)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Nowhere);
    assert!(!error.is_absent_everywhere());
    let said = "no zone has it; zone-b: the object at the target is shown, but not returned: unavailable";
    assert_eq!(error.to_string(), said);
    z.a.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(0)).await.unwrap(), replaced("zone-a"));
}

/// A store may drop a write because of the object under that key. This says nothing about the next job. If that object
/// is right, the write is not repeated.
#[tokio::test]
async fn a_dropped_write_is_about_one_object() {
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.b.set(Mode::Drops);
    let error = z.copy(Some(15)).await.unwrap_err();
    assert_eq!((error.fault, error.in_doubt), (Fault::Target, true));
    assert!(!error.is_target_down());
    z.b.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(0)).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!(z.b.puts.load(Ordering::SeqCst), 1);
}

/// A job is deferred if there is no capacity to read its object. This sets no read mark, so a proof counts.
#[tokio::test]
async fn an_object_that_is_read_later_is_not_to_be_read_for_ever() {
    let (z, bytes) = (Three::new(), vec![7; 2 << 20]);
    let blob = blob(&bytes);
    z.b.holds(&blob, &bytes);
    let limits = Limits { in_flight: 1 << 20, ..Limits::default() };
    let throttle = Arc::new(Throttle::new(limits));
    let zones = vec![z.a.zone("zone-a"), z.b.zone("zone-b"), z.c.zone("zone-c")];
    let copier = Copier { throttle: Arc::clone(&throttle), ..copier(zones) };
    let _full = throttle.reserve(1 << 20).await;
    let mut waits = std::pin::pin!(throttle.reserve(1 << 20));
    assert!(futures_util::poll!(waits.as_mut()).is_pending());
    for size in [None, Some(7)] {
        let end = copier.perform(&job(blob.clone(), "zone-b", size)).await;
        assert!(matches!(end, JobEnd::Deferred(FoundSize::Contradicted)), "{end:?}");
    }
}

/// A zone that does not answer confirms no size: a wrong object of the size that a client stated does not
/// stay.
#[tokio::test]
async fn an_unconfirmed_size_keeps_no_wrong_object() {
    let z = Three::new();
    z.b.holds(&z.blob, b"cut short");
    z.a.holds(&z.blob, GOOD);
    z.a.set(Mode::Fails(Kind::Unavailable));
    assert_eq!(z.copy(Some(9)).await.unwrap_err().fault, Fault::Sources);
    z.a.set(Mode::Healthy);
    assert_eq!(z.copy(Some(9)).await.unwrap(), replaced("zone-a"));
    z.target_is_good().await;
    // A zone that cannot be used confirms no size either.
    z.b.holds(&z.blob, b"cut short");
    let zones = [Zone::unusable("zone-a", "no such driver"), z.b.zone("zone-b"), z.c.zone("zone-c")];
    let copier = copier(zones.to_vec());
    assert!(copier.copy(&job(z.blob.clone(), "zone-b", Some(9))).await.is_err());
}

/// If an object was read and found right, pushes that state a wrong size do not cause it to be read again.
#[tokio::test]
async fn a_verified_object_is_not_read_again() {
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    z.b.holds(&z.blob, GOOD);
    let copier = copier(vec![z.a.zone("zone-a"), z.b.zone("zone-b"), z.c.zone("zone-c")]);
    for size in [7, 8, 9] {
        let lie = job(z.blob.clone(), "zone-b", Some(size));
        assert_eq!(copier.copy(&lie).await.unwrap(), Outcome::AlreadyThere);
        assert_eq!(z.b.gets.load(Ordering::SeqCst), 1);
    }
    // It is also not read again for two pushes that state different sizes.
    for stamp in 1..3 {
        let contradicted = Job { is_contradicted: true, stamp, ..job(z.blob.clone(), "zone-b", None) };
        assert_eq!(copier.copy(&contradicted).await.unwrap(), Outcome::AlreadyThere);
        assert_eq!(z.b.gets.load(Ordering::SeqCst), 1);
    }
    // The object is not the one that was read. It does not help that another zone has the same size.
    z.b.holds(&z.blob, b"the wrong bytes");
    z.c.holds(&z.blob, b"the wrong bytes");
    let contradicted = Job { is_contradicted: true, ..job(z.blob.clone(), "zone-b", None) };
    assert_eq!(copier.copy(&contradicted).await.unwrap(), replaced("zone-a"));
    z.b.holds(&z.blob, b"the wrong bytes");
    assert_eq!(copier.copy(&job(z.blob.clone(), "zone-b", Some(7))).await.unwrap(), replaced("zone-a"));
}
