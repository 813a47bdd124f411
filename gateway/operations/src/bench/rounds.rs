//! The reads themselves, round by round: whatever else goes on meets all ways alike.

use std::collections::HashSet;

use backends::Digest;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::plan::{Chosen, Plan};
use super::progress::Bar;
use super::read::{Outcome, Read, Series};
use super::way::{Asking, Way};
use registry::Registry;
use registry::service_account::{Scope, Tokens};

/// Turns in a row that may fail before a way is not asked further: a dead store must not take the
/// time of all.
const FAILURES_MAX: u32 = 5;

/// What is to be done, and within what.
pub(super) struct Rounds<'a> {
    pub(super) plan: &'a Plan,
    pub(super) ways: &'a [Way],
    pub(super) layout: &'a dyn Registry,
    /// Turns of each class by each way.
    pub(super) turns: u32,
    /// Reads of one turn.
    pub(super) at_once: u32,
    pub(super) deadline: Instant,
}

/// What came of them.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// In the order in which they were done.
    pub(super) all: Vec<Read>,
    /// Sentences about what was not done.
    pub(super) notes: Vec<String>,
}

/// How a way fares.
#[derive(Debug, Clone, Default)]
struct Fares {
    failures: u32,
    left: bool,
}

impl Rounds<'_> {
    /// All reads, or those that are done at the deadline; reads under way then do not count.
    pub(super) async fn run(&self, tokens: &Tokens, bar: &Bar) -> Reads {
        let mut reads = Reads::default();
        if timeout_at(self.deadline, self.all(tokens, bar, &mut reads)).await.is_err() {
            reads.notes.push("the time was up before all reads were done: see --at-most".into());
        }
        reads
    }

    async fn all(&self, tokens: &Tokens, bar: &Bar, reads: &mut Reads) {
        let mut fares = vec![Fares::default(); self.ways.len()];
        let mut read_at_gateway = HashSet::new();
        let mut turn = 0;
        for round in 0..self.turns as usize {
            for (_, blobs) in &self.plan.classes {
                let blob = &blobs[round % blobs.len()];
                for place in order(round, blobs.len(), self.ways.len()) {
                    bar.turn(self.ways[place].name(), blob.class);
                    if fares[place].left {
                        continue;
                    }
                    turn += 1;
                    let way = &self.ways[place];
                    let done = self.turn(way, blob, turn, tokens, &mut read_at_gateway).await;
                    fares[place].count(&done);
                    if fares[place].left {
                        let name = way.name();
                        let note = format!("{name} was not asked further: {FAILURES_MAX} failures in a row");
                        reads.notes.push(note);
                    }
                    reads.all.extend(done);
                }
            }
        }
    }

    /// Reads of one blob by one way that begin at the same moment.
    async fn turn(
        &self,
        way: &Way,
        blob: &Chosen,
        turn: u32,
        tokens: &Tokens,
        read_at_gateway: &mut HashSet<Digest>,
    ) -> Vec<Read> {
        let series = match way {
            Way::Zone(zone) => Series::Zone(std::sync::Arc::clone(&zone.name)),
            Way::Registry(_) => Series::Registry,
            Way::Gateway(_) if read_at_gateway.insert(blob.digest) => Series::GatewayFirst,
            Way::Gateway(_) => Series::GatewayLater,
        };
        // A client has its token before it asks for blobs: none of its time counts.
        let authorization = match way {
            Way::Zone(_) => None,
            _ => tokens.renewed(&Scope::Pull(blob.repository.clone())).await,
        };
        let key = self.layout.blob_key(&blob.digest);
        let asking = Asking { blob, key, authorization, series, turn };
        join_all((0..self.at_once).map(|_| way.read(&asking))).await
    }
}

impl Fares {
    fn count(&mut self, turn: &[Read]) {
        let failed = turn.iter().all(|read| matches!(read.outcome, Outcome::Failed(_)));
        self.failures = if failed { self.failures + 1 } else { 0 };
        self.left = self.failures >= FAILURES_MAX;
    }
}

/// The ways in this round's order: another one first each time, and not always the same for a blob,
/// as whoever reads first finds the store's own caches cold.
fn order(round: usize, blobs: usize, ways: usize) -> impl Iterator<Item = usize> {
    let blobs = blobs.max(1);
    let first = round % blobs + round / blobs;
    (0..ways).map(move |place| (first + place) % ways)
}

#[cfg(test)]
mod tests {
    use zone_router::SizeClass;

    use super::super::read::example;
    use super::*;

    #[test]
    fn every_way_is_first_for_every_blob() {
        for (blobs, ways) in [(1, 5), (5, 5), (3, 4), (4, 2), (8, 5)] {
            let mut firsts = HashSet::new();
            for round in 0..blobs * ways {
                let all: Vec<_> = order(round, blobs, ways).collect();
                assert_eq!(all.iter().collect::<HashSet<_>>().len(), ways);
                firsts.insert((round % blobs, all[0]));
            }
            assert_eq!(firsts.len(), blobs * ways, "{blobs} {ways}");
        }
    }

    #[test]
    fn a_way_that_always_fails_is_left() {
        let right = || example(Series::Registry, SizeClass::Small, 0, 1, 1);
        let failed = || Read { outcome: Outcome::Failed("x".into()), ..right() };
        let absent = || Read { outcome: Outcome::Absent, ..right() };
        let mut fares = Fares::default();
        for _ in 1..FAILURES_MAX {
            fares.count(&[failed(), failed()]);
        }
        assert!(!fares.left);
        fares.count(&[failed(), right()]);
        for _ in 0..10 {
            fares.count(&[absent()]);
        }
        assert!(!fares.left);
        for _ in 0..FAILURES_MAX {
            fares.count(&[failed()]);
        }
        assert!(fares.left);
    }
}
