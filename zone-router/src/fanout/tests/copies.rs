//! One copy at a time.

use backends::{Digest, Key, Kind};

use super::super::{Bounds, CopyError, Fault, Outcome, copy};
use super::scripted::{Mode, Scripted};
use super::{blob, job};
use crate::{Blob, Zone};

const GOOD: &[u8] = b"the right bytes";

struct Three {
    a: std::sync::Arc<Scripted>,
    b: std::sync::Arc<Scripted>,
    c: std::sync::Arc<Scripted>,
    blob: Blob,
}

impl Three {
    fn new() -> Self {
        Self { a: Scripted::new(), b: Scripted::new(), c: Scripted::new(), blob: blob(GOOD) }
    }

    /// Copies into zone b.
    async fn copy(&self, size: Option<u64>) -> Result<Outcome, CopyError> {
        self.copy_of(self.blob.clone(), size).await
    }

    async fn copy_of(&self, blob: Blob, size: Option<u64>) -> Result<Outcome, CopyError> {
        let zones = [self.a.zone("zone-a"), self.b.zone("zone-b"), self.c.zone("zone-c")];
        copy(&job(blob, "zone-b", size), &zones[1], &zones, &Bounds::default()).await
    }

    async fn target_is_good(&self) {
        assert_eq!(self.b.contents().await.into_values().collect::<Vec<_>>(), [GOOD]);
    }
}

fn copied(from: &str) -> Outcome {
    Outcome::Copied { from: Some(from.into()), bytes: GOOD.len() as u64 }
}

#[tokio::test]
async fn from_the_first_zone_that_has_it() {
    let z = Three::new();
    z.c.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(15)).await.unwrap(), copied("zone-c"));
    z.target_is_good().await;
    assert_eq!(z.copy(Some(15)).await.unwrap(), Outcome::AlreadyThere);
    assert_eq!(z.copy(None).await.unwrap(), Outcome::AlreadyThere);
    let other = Three::new();
    other.a.holds(&other.blob, GOOD);
    other.c.holds(&other.blob, GOOD);
    assert_eq!(other.copy(None).await.unwrap(), copied("zone-a"));
}

#[tokio::test]
async fn a_source_that_fails_or_breaks_off_falls_to_the_next() {
    for mode in [Mode::Breaks, Mode::Fails(Kind::Unavailable), Mode::Fails(Kind::Denied)] {
        let z = Three::new();
        z.a.holds(&z.blob, GOOD);
        z.a.set(mode);
        z.c.holds(&z.blob, GOOD);
        assert_eq!(z.copy(Some(15)).await.unwrap(), copied("zone-c"), "{mode:?}");
        z.target_is_good().await;
    }
}

#[tokio::test]
async fn wrong_bytes_are_never_stored() {
    let z = Three::new();
    z.a.holds(&z.blob, b"the wrong bytes");
    let error = z.copy(Some(15)).await.unwrap_err();
    assert_eq!(error.fault, Fault::Sources);
    assert_eq!(error.failures.len(), 1);
    assert!(error.failures[0].counts() && &*error.failures[0].zone == "zone-a");
    assert!(!error.is_target_down());
    assert!(z.b.contents().await.is_empty());
    // The liar first, the honest one after it.
    z.c.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(15)).await.unwrap(), copied("zone-c"));
    z.target_is_good().await;
}

#[tokio::test]
async fn an_object_of_the_wrong_size_is_replaced() {
    for size in [Some(15), None] {
        let z = Three::new();
        z.b.holds(&z.blob, b"cut short");
        z.a.holds(&z.blob, GOOD);
        assert_eq!(z.copy(size).await.unwrap(), copied("zone-a"));
        z.target_is_good().await;
    }
}

#[tokio::test]
async fn a_size_that_a_client_made_up_does_no_harm() {
    // Nowhere but at the target: read and hashed.
    let z = Three::new();
    z.b.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), Outcome::AlreadyThere);
    // At a second zone of the same size: not copied again.
    z.a.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), Outcome::AlreadyThere);
    // Only at a source: copied all the same.
    let z = Three::new();
    z.a.holds(&z.blob, GOOD);
    assert_eq!(z.copy(Some(7)).await.unwrap(), copied("zone-a"));
    z.target_is_good().await;
}

#[tokio::test]
async fn a_damaged_target_without_a_source_is_no_success() {
    let z = Three::new();
    z.b.holds(&z.blob, b"cut short");
    assert_eq!(z.copy(Some(15)).await.unwrap_err().fault, Fault::Nowhere);
    z.a.holds(&z.blob, b"wrong bytes of another size");
    assert_eq!(z.copy(None).await.unwrap_err().fault, Fault::Sources);
    assert_eq!(z.b.contents().await.into_values().collect::<Vec<_>>(), [&b"cut short"[..]]);
}

#[tokio::test]
async fn the_empty_blob_needs_no_source() {
    let z = Three::new();
    let empty = Blob { digest: Digest::EMPTY, key: Key::new("sha256/e3/empty") };
    for mode in [Mode::Fails(Kind::Unavailable), Mode::Healthy] {
        z.a.set(mode);
        z.c.set(mode);
        let outcome = z.copy_of(empty.clone(), Some(3)).await.unwrap();
        let expected = match mode {
            Mode::Healthy => Outcome::AlreadyThere,
            _ => Outcome::Copied { from: None, bytes: 0 },
        };
        assert_eq!(outcome, expected);
    }
    assert_eq!(z.b.contents().await.into_values().collect::<Vec<_>>(), [&b""[..]]);
}

#[tokio::test]
async fn faults_are_told_apart() {
    let z = Three::new();
    let error = z.copy(None).await.unwrap_err();
    assert_eq!((error.fault, error.to_string().as_str()), (Fault::Nowhere, "no zone has it"));

    let wait = std::time::Duration::from_secs(7);
    z.b.set(Mode::Fails(Kind::Throttled { retry_after: Some(wait) }));
    let error = z.copy(None).await.unwrap_err();
    assert_eq!((error.fault, error.retry_after()), (Fault::Target, Some(wait)));
    assert!(error.is_target_down() && !error.failures[0].counts());

    z.b.set(Mode::Healthy);
    z.a.set(Mode::Fails(Kind::Timeout));
    let error = z.copy(None).await.unwrap_err();
    assert_eq!(error.fault, Fault::Sources);
    assert_eq!(error.to_string(), "no source; zone-a: scripted: timed out (503)");
}

#[tokio::test]
async fn an_unusable_source_might_have_had_it() {
    let z = Three::new();
    let zones = [Zone::unusable("zone-a", "no such driver"), z.b.zone("zone-b"), z.c.zone("zone-c")];
    let job = job(z.blob.clone(), "zone-b", Some(15));
    let error = copy(&job, &zones[1], &zones, &Bounds::default()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Sources);
    assert!(error.to_string().contains("zone-a: unusable: no such driver"), "{error}");
    z.c.holds(&z.blob, GOOD);
    assert_eq!(copy(&job, &zones[1], &zones, &Bounds::default()).await.unwrap(), copied("zone-c"));
}
