//! The body of a blob across zones: where one breaks off, the next goes on at the next byte.

use std::sync::Arc;

use backends::{ByteStream, Error, Kind, Proof, Result};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::{Blob, Router, Zone};

/// How often one read tries one zone: once, and once more when all others have failed too.
const TRIES_PER_ZONE_MAX: u8 = 2;

/// One read under way.
pub(crate) struct Read {
    router: Arc<Router>,
    blob: Blob,
    proof: Proof,
    /// The zone being read and its body, unless the next is still to be opened.
    current: Option<(usize, ByteStream)>,
    /// Zones that gave bytes.
    gave: Vec<usize>,
    /// Whether the first bytes came from elsewhere, unproven.
    inherited: bool,
    /// Tries of each zone so far.
    tries: Vec<u8>,
    ended: bool,
}

impl Read {
    /// One that has just been opened in a zone.
    pub(crate) fn opened(
        router: Arc<Router>,
        blob: Blob,
        proof: Proof,
        zone: usize,
        body: ByteStream,
    ) -> Self {
        let mut read = Self::resumed(router, blob, proof);
        read.tries[zone] += 1;
        read.current = Some((zone, body));
        read
    }

    /// One that no zone has been opened for yet.
    pub(crate) fn resumed(router: Arc<Router>, blob: Blob, proof: Proof) -> Self {
        let tries = vec![0; router.zones.len()];
        let inherited = proof.hasher().bytes() > 0;
        Self { router, blob, proof, current: None, gave: Vec::new(), inherited, tries, ended: false }
    }

    pub(crate) fn into_stream(self) -> ByteStream {
        stream::unfold(self, |mut read| async move { read.next().await.map(|item| (item, read)) }).boxed()
    }

    /// The next piece; an error is the last.
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        let item = self.step().await.transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }

    async fn step(&mut self) -> Result<Option<Bytes>> {
        while self.proof.missing() > 0 {
            let (zone, body) = match &mut self.current {
                Some(current) => current,
                None => {
                    let opened = self.reopen().await?;
                    self.current.insert(opened)
                }
            };
            let zone = *zone;
            match body.next().await {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => return self.admit(zone, bytes).map(Some),
                Some(Err(error)) => self.broke(zone, &error),
                None => self.broke(zone, &Error::new(Kind::Unavailable, "the body ended early")),
            }
        }
        Ok(None)
    }

    fn admit(&mut self, zone: usize, bytes: Bytes) -> Result<Bytes> {
        if !self.gave.contains(&zone) {
            self.gave.push(zone);
        }
        let digest = self.blob.digest;
        if let Err(error) = self.proof.admit(&bytes) {
            self.router.suspects.blame(&digest, &self.gave, self.inherited);
            let zones: Vec<_> = self.gave.iter().map(|zone| &*self.router.zones[*zone].name).collect();
            tracing::error!(zones = zones.join(","), %digest, %error, "wrong bytes, cut before the end");
            return Err(error);
        }
        if self.proof.missing() == 0 {
            self.router.suspects.acquit(&digest, &self.gave, self.inherited);
        }
        Ok(bytes)
    }

    fn broke(&mut self, zone: usize, error: &Error) {
        let name = &self.router.zones[zone].name;
        let offset = self.proof.hasher().bytes();
        tracing::warn!(zone = %name, digest = %self.blob.digest, offset, %error, "zone broke off, going on in the next");
        self.current = None;
    }

    /// Opens the rest in the best zone that was tried least.
    async fn reopen(&mut self) -> Result<(usize, ByteStream)> {
        let rest = self.proof.hasher().bytes()..self.proof.size();
        let mut last = None;
        while let Some(zone) = self.best() {
            self.tries[zone] += 1;
            let Zone { name, store, .. } = &self.router.zones[zone];
            match store.get(&self.blob.key, Some(rest.clone())).await {
                Ok(Some(object)) if object.meta.size == rest.end => return Ok((zone, object.body)),
                Ok(Some(object)) => {
                    let why = format!("get {}: {} bytes, not {}", self.blob.key, object.meta.size, rest.end);
                    last = Some(Error::new(Kind::Corrupt, why));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(zone = %name, digest = %self.blob.digest, %error, "zone cannot go on");
                    last = Some(error);
                }
            }
        }
        let error = Error::new(Kind::Unavailable, format!("no zone can go on at byte {}", rest.start));
        Err(match last {
            Some(last) => error.with_cause(last),
            None => error,
        })
    }

    fn best(&self) -> Option<usize> {
        let candidates = self.router.candidates(&self.blob.digest);
        // The first of those tried least: `min_by_key` keeps the earlier of equals.
        let zones = candidates.iter().map(|candidate| candidate.zone);
        zones.filter(|zone| self.tries[*zone] < TRIES_PER_ZONE_MAX).min_by_key(|zone| self.tries[*zone])
    }
}
