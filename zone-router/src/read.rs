//! The body of a blob across zones. If one zone breaks off, the next one continues at the next byte.

use std::sync::Arc;
use std::time::Duration;

use backends::{ByteStream, Error, Kind, Proof, Result};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::attribution::attribute;
use crate::event::{BodyEvent, What};
use crate::latency::{MEASURED, STEP};
use crate::lost_time::{LostTime, Stopwatch};
use crate::open::{Entrant, Race, Wanted, Won};
use crate::pieces::{Next, Pieces};
use crate::rank::{Candidate, Reason, Standing};
use crate::router::{Answer, Trial};
use crate::tries::Tries;
use crate::turn::TurnKind;
use crate::{Blob, Router, SizeClass, ZoneId};

/// A read that is under way.
pub(crate) struct Read {
    router: Arc<Router>,
    blob: Arc<Blob>,
    proof: Proof,
    /// The zone that is being read and its body. `None` while the next zone must still be opened.
    current: Option<Current>,
    /// The zones that gave bytes.
    gave: Vec<ZoneId>,
    /// Whether the first bytes came from a source that this read does not know.
    inherited: bool,
    /// Whether the size of the blob was stated by anybody but the zone that gave the first bytes.
    hearsay: bool,
    tries: Tries,
    ended: bool,
}

/// The zone that is being read.
struct Current {
    zone: ZoneId,
    pieces: Pieces,
    /// Whether there is another zone that has not failed this read. Only then may the read leave this zone because it
    /// is slow.
    others: bool,
    /// Bytes since the throughput was last recorded, and how long the read waited for them.
    bytes: u64,
    waited: Duration,
    _trial: Option<Trial>,
}

/// Why a body does not continue in the same zone.
enum Broke {
    Failed(Error, Stopwatch),
    /// The body failed after this process had not read it for long.
    LeftUnread(Error),
    Stalled(Duration),
    Slow(u64),
}

impl Read {
    /// A read that has just been opened in a zone.
    pub(crate) fn opened(router: Arc<Router>, blob: Blob, proof: Proof, won: Won, tries: Tries) -> Self {
        let mut read = Self::resumed(router, blob, proof);
        read.tries = tries;
        read.hearsay = won.object.size.is_none();
        read.current = Some(read.current(won));
        read
    }

    /// A read for which no zone has been opened yet.
    pub(crate) fn resumed(router: Arc<Router>, blob: Blob, proof: Proof) -> Self {
        let tries = Tries::new(router.zones().len());
        let inherited = proof.hasher().bytes() > 0;
        let blob = Arc::new(blob);
        let (current, gave) = (None, Vec::new());
        Self { router, blob, proof, current, gave, inherited, hearsay: false, tries, ended: false }
    }

    pub(crate) fn into_stream(self) -> ByteStream {
        stream::unfold(self, |mut read| async move { read.next().await.map(|item| (item, read)) }).boxed()
    }

    fn current(&self, won: Won) -> Current {
        let entrants = self.entrants();
        // A read does not leave a zone for a drained one.
        let others = entrants.iter().map(|entrant| entrant.candidate).any(|Candidate { zone, reason }| {
            zone != won.zone && self.tries.is_clean(zone) && reason != Reason::Drained
        });
        let (bytes, waited) = (0, Duration::ZERO);
        let pieces = Pieces::new(won.object.body);
        Current { zone: won.zone, pieces, others, bytes, waited, _trial: won.trial }
    }

    /// Returns the next piece. After an error there are no more.
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        let item = self.step().await.transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }

    async fn step(&mut self) -> Result<Option<Bytes>> {
        while !self.proof.is_complete()? {
            if self.current.is_none() {
                let won = self.reopen().await?;
                self.router.turned(&self.blob.digest, TurnKind::Resumed, won.zone);
                self.current = Some(self.current(won));
            }
            let stall = self.router.settings.stall;
            let Some(current) = &mut self.current else { continue };
            let broke = match current.next(stall, &self.router.watch.lost_time).await {
                Ok(bytes) if bytes.is_empty() => continue,
                Ok(bytes) => return self.admit(bytes).await.map(Some),
                Err(broke) => broke,
            };
            self.doubt_size()?;
            self.broke(broke);
        }
        Ok(None)
    }

    async fn admit(&mut self, bytes: Bytes) -> Result<Bytes> {
        let Some(current) = &mut self.current else {
            return Err(Error::new(Kind::Unavailable, "bytes of no zone"));
        };
        let zone = current.zone;
        current.bytes += bytes.len() as u64;
        self.router.watch.gave(zone);
        self.tries.gave(zone, bytes.len() as u64);
        if !self.gave.contains(&zone) {
            self.gave.push(zone);
        }
        if let Err(error) = self.proof.admit(&bytes) {
            self.lied(&error).await;
            return Err(error);
        }
        if self.proof.missing() == 0 {
            self.proven();
        } else if self.current.as_ref().is_some_and(|current| current.waited >= MEASURED) {
            self.measure();
        }
        Ok(bytes)
    }

    /// Fails if the digest is already right before the stated end. Somebody else stated that size, and it was wrong;
    /// this is remembered.
    fn doubt_size(&mut self) -> Result<()> {
        let (digest, hasher) = (self.blob.digest, self.proof.hasher());
        if !self.hearsay || hasher.clone().finish() != digest {
            return Ok(());
        }
        self.router.doubted_sizes.note(digest, ());
        let why = format!("{digest}: {} bytes, which are right, not {}", hasher.bytes(), self.proof.size());
        Err(Error::new(Kind::Corrupt, why))
    }

    async fn lied(&mut self, error: &Error) {
        let digest = self.blob.digest;
        if self.hearsay {
            // The size may be wrong, and the bytes may be right.
            self.router.doubted_sizes.note(digest, ());
        }
        self.router.quarantine.blame(&digest, &self.gave, self.inherited || self.hearsay);
        let zones: Vec<_> = self.gave.iter().map(|zone| &*self.router.zone(*zone).name).collect();
        tracing::error!(zones = zones.join(","), %digest, %error, "wrong bytes, cut before the end");
        self.tell_speed();
        self.current = None;
        match self.gave[..] {
            [zone] if !self.inherited && !self.hearsay => self.router.watch.saw(zone, BodyEvent::WrongBytes),
            _ => attribute(&self.router, &self.blob, &self.gave).await,
        }
    }

    fn proven(&mut self) {
        self.tell_speed();
        self.router.quarantine.clear(&self.blob.digest, &self.gave, self.inherited);
        // This releases the connection, and the permission to try a half-open zone. It proves nothing about zones that
        // this read left earlier.
        if let Some(current) = self.current.take() {
            let (blob, size) = (Arc::clone(&self.blob), self.proof.size());
            self.router.watch.saw(current.zone, BodyEvent::Proven { blob, size });
        }
    }

    /// Leaves the zone if its bytes come too slowly.
    fn measure(&mut self) {
        let Some(current) = &self.current else { return };
        let rate = (current.bytes as f64 / current.waited.as_secs_f64()) as u64;
        let slow =
            current.others && rate < self.router.settings.slowest && self.knows_faster(current.zone, rate);
        self.tell_speed();
        if slow {
            self.broke(Broke::Slow(rate));
        }
    }

    /// Whether there is a zone that has not failed, gave no wrong bytes of this blob, and is faster by [`STEP`] or whose
    /// speed is not known. A congested link makes all zones slow: a body must not move between zones of the same speed.
    fn knows_faster(&self, zone: ZoneId, rate: u64) -> bool {
        let view = self.router.snapshot();
        let fast = |other: ZoneId, view: &crate::ZoneView| {
            let known = view.throughput.is_none_or(|throughput| throughput as f64 >= rate as f64 * STEP);
            other != zone && self.tries.is_clean(other) && view.serves() && known
        };
        let clear =
            |other: ZoneId| self.router.quarantine.standing(&self.blob.digest, other) == Standing::Clear;
        let mut zones = view.zones.with_ids();
        zones.any(|(other, view)| fast(other, view) && clear(other))
    }

    /// Records the throughput of the zone since the last record.
    fn tell_speed(&mut self) {
        let Some(current) = &mut self.current else { return };
        let (bytes, waited) = (std::mem::take(&mut current.bytes), std::mem::take(&mut current.waited));
        self.router.watch.saw(current.zone, BodyEvent::Throughput { bytes, waited });
    }

    fn broke(&mut self, broke: Broke) {
        self.tell_speed();
        let Some(Current { zone, .. }) = self.current.take() else { return };
        let name = &self.router.zone(zone).name;
        let (digest, offset) = (self.blob.digest, self.proof.hasher().bytes());
        self.router.watch.saw(zone, BodyEvent::Abandoned);
        if !matches!(broke, Broke::LeftUnread(_)) {
            self.tries.fail(zone);
        }
        match broke {
            Broke::LeftUnread(error) => {
                self.router.watch.saw(zone, What::Excused);
                tracing::info!(zone = %name, %digest, offset, %error, "a body that was left unread broke off, going on");
            }
            Broke::Failed(error, watch) => {
                let broke = |trouble| BodyEvent::Broke { digest, trouble };
                self.router.watch.saw_failure(zone, &error, &watch, broke);
                tracing::warn!(zone = %name, %digest, offset, %error, "zone broke off, going on in the next");
            }
            Broke::Stalled(after) => {
                let error = Error::new(Kind::Timeout, format!("the body gave nothing for {after:.0?}"));
                self.router.watch.saw(zone, BodyEvent::Broke { digest, trouble: (&error).into() });
                tracing::warn!(zone = %name, %digest, offset, ?after, "zone stalled, going on in the next");
            }
            Broke::Slow(rate) => {
                tracing::warn!(zone = %name, %digest, offset, bytes_per_second = rate, "zone is slow, going on in a faster one");
            }
        }
    }

    /// Opens the rest at the best one of the zones that were asked least often.
    async fn reopen(&mut self) -> Result<Won> {
        let rest = self.proof.hasher().bytes()..self.proof.size();
        let entrants = self.entrants();
        let router = Arc::clone(&self.router);
        let key = &self.blob.key;
        let judge = |_: ZoneId, object: &backends::Object| match object.size {
            Some(size) if size != rest.end => {
                Err(Error::new(Kind::Corrupt, format!("get {key}: {size} bytes, not {}", rest.end)))
            }
            _ => Ok(()),
        };
        let class = SizeClass::of(Some(rest.end - rest.start));
        let wanted = Wanted { blob: &self.blob, range: Some(rest.clone()), class, judge: &judge };
        let view = router.snapshot();
        let (won, answers) = Race::new(&router, &view, wanted, entrants, &mut self.tries).run().await;
        if let Some(won) = won {
            return Ok(won);
        }
        let last = answers.into_iter().rev().find_map(|(_, answer)| match answer {
            Answer::Failed(error) => Some(error),
            Answer::Absent => None,
        });
        let error = Error::new(Kind::Unavailable, format!("no zone can go on at byte {}", rest.start));
        Err(match last {
            Some(last) => error.with_cause(last),
            None => error,
        })
    }

    /// The zones that may give the rest: those asked least often first, then drained zones, then suspects.
    fn entrants(&self) -> Vec<Entrant> {
        let mut entrants = self.router.entrants(&self.blob.digest, SizeClass::of(Some(self.proof.missing())));
        entrants.retain(|entrant| self.tries.may_ask(entrant.candidate.zone));
        // The sort is stable, so zones that were asked equally often stay in the order of their rank.
        entrants.sort_by_key(|Entrant { candidate, .. }| {
            let suspect = candidate.reason == Reason::Suspect;
            let drained = candidate.reason == Reason::Drained;
            // Among suspects, a zone that already gave bytes comes first: if one zone gave all bytes, it is certain
            // which zone gave the wrong ones.
            let gave = self.gave.contains(&candidate.zone);
            (suspect, suspect && !gave, drained, self.tries.asked(candidate.zone))
        });
        entrants
    }
}

impl Current {
    /// Returns the next piece. Only the wait for the zone counts, not the time that a client takes.
    async fn next(&mut self, stall: Duration, lost_time: &LostTime) -> Result<Bytes, Broke> {
        // If no other zone can continue, only the driver's own timeout applies.
        let Next { piece, waited, watch, left_unread } =
            self.pieces.next(self.others.then_some(stall), lost_time).await;
        self.waited += waited;
        let error = match piece {
            Some(Some(Ok(bytes))) => return Ok(bytes),
            Some(Some(Err(error))) => error,
            Some(None) => Error::new(Kind::Unavailable, "the body ended early"),
            None if left_unread => Error::new(Kind::Timeout, "the body gave nothing"),
            None => return Err(Broke::Stalled(stall)),
        };
        match left_unread {
            true => Err(Broke::LeftUnread(error)),
            false => Err(Broke::Failed(error, watch)),
        }
    }
}
