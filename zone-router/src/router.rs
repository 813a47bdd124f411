//! Opening a blob: zones in rank order until one gives it.

use std::fmt;
use std::sync::Arc;

use backends::{ByteStream, Digest, Error, Hasher, Kind, Meta, Object, Proof};

use crate::rank::{Candidate, Standing, rank};
use crate::read::Read;
use crate::suspects::Suspects;
use crate::{Blob, Zone};

/// Reads blobs from whichever zone has them.
#[derive(Debug)]
pub struct Router {
    pub(crate) zones: Arc<[Zone]>,
    pub(crate) suspects: Suspects,
}

/// A blob being read.
pub struct Reading {
    /// Its size in bytes.
    pub size: u64,
    /// The zone that gives its first bytes.
    pub zone: Arc<str>,
    /// Whether home was asked and does not have it, so that a copy home is due.
    pub home_lacks_it: bool,
    /// Its bytes. The chunk that completes it comes only if the digest of the whole is right; a
    /// zone that breaks off is followed by another at the next byte.
    pub body: ByteStream,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("size", &self.size).field("zone", &self.zone).finish_non_exhaustive()
    }
}

/// No zone gave a blob.
#[derive(Debug)]
pub struct NotOpened {
    /// What each zone that was asked said.
    pub answers: Vec<(Arc<str>, Answer)>,
}

/// What a zone that did not give a blob said.
#[derive(Debug)]
pub enum Answer {
    /// It does not have it.
    Absent,
    /// It failed.
    Failed(Error),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.answers.is_empty() {
            return f.write_str("every zone that can be used has given wrong bytes for this blob of late");
        }
        for (index, (zone, answer)) in self.answers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            match answer {
                Answer::Absent => write!(f, "{comma}{zone}: absent")?,
                Answer::Failed(error) => write!(f, "{comma}{zone}: {error}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for NotOpened {}

impl Router {
    /// Over these zones, home first.
    #[must_use]
    pub fn new(zones: Vec<Zone>) -> Self {
        Self { zones: zones.into(), suspects: Suspects::default() }
    }

    /// All zones, home first.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// What the first zone that has a blob says of it; `None` if none says it has it.
    pub async fn head(&self, blob: &Blob) -> Option<Meta> {
        for candidate in self.candidates(&blob.digest) {
            let zone = &self.zones[candidate.zone];
            match zone.store.head(&blob.key).await {
                Ok(Some(meta)) => return Some(meta),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(zone = %zone.name, digest = %blob.digest, %error, "zone failed to answer")
                }
            }
        }
        None
    }

    /// Opens a blob in the first zone that gives it. An object that has not the `expected` size,
    /// where the registry named one, is not it.
    ///
    /// # Errors
    /// No zone gave it: what each said.
    pub async fn open(self: &Arc<Self>, blob: &Blob, expected: Option<u64>) -> Result<Reading, NotOpened> {
        let mut answers = Vec::new();
        let mut home_lacks_it = false;
        for candidate in self.candidates(&blob.digest) {
            let zone = &self.zones[candidate.zone];
            match self.open_in(candidate, blob, expected).await {
                Ok(Some(object)) => {
                    let size = object.meta.size;
                    let proof = Proof::new(blob.digest, size, Hasher::new());
                    let read =
                        Read::opened(Arc::clone(self), blob.clone(), proof, candidate.zone, object.body);
                    return Ok(Reading {
                        size,
                        zone: Arc::clone(&zone.name),
                        home_lacks_it,
                        body: read.into_stream(),
                    });
                }
                Ok(None) => {
                    home_lacks_it |= candidate.zone == 0;
                    answers.push((Arc::clone(&zone.name), Answer::Absent));
                }
                Err(error) => {
                    tracing::warn!(zone = %zone.name, digest = %blob.digest, %error, "zone failed, trying the next");
                    answers.push((Arc::clone(&zone.name), Answer::Failed(error)));
                }
            }
        }
        Err(NotOpened { answers })
    }

    /// Goes on reading a blob whose first bytes `seen` saw pass. The first item tells whether any
    /// zone can.
    #[must_use]
    pub fn resume(self: &Arc<Self>, blob: &Blob, size: u64, seen: Hasher) -> ByteStream {
        let proof = Proof::new(blob.digest, size, seen);
        Read::resumed(Arc::clone(self), blob.clone(), proof).into_stream()
    }

    pub(crate) fn candidates(&self, digest: &Digest) -> Vec<Candidate> {
        let standing = |(index, zone): (usize, &Zone)| match zone.unusable {
            Some(_) => Standing::Condemned,
            None => self.suspects.standing(digest, index),
        };
        let standings: Vec<_> = self.zones.iter().enumerate().map(standing).collect();
        rank(&standings)
    }

    async fn open_in(
        &self,
        candidate: Candidate,
        blob: &Blob,
        expected: Option<u64>,
    ) -> Result<Option<Object>, Error> {
        let object = self.zones[candidate.zone].store.get(&blob.key, None).await?;
        let Some(object) = object else { return Ok(None) };
        let size = object.meta.size;
        if (size == 0) != (blob.digest == Digest::EMPTY) {
            self.suspects.condemn(&blob.digest, candidate.zone);
            return Err(Error::new(Kind::Corrupt, format!("get {}: {size} bytes", blob.key)));
        }
        // The expectation may be what is wrong, so this says nothing of the zone to other readers.
        match expected {
            Some(expected) if size != expected => {
                Err(Error::new(Kind::Corrupt, format!("get {}: {size} bytes, not {expected}", blob.key)))
            }
            _ => Ok(Some(object)),
        }
    }
}
