//! Runs the reads in rounds, in which the paths take turns, so that other load affects all of them equally.

use std::collections::HashSet;

use backends::Digest;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::plan::{ChosenBlob, ReadPlan};
use super::progress::BenchBar;
use super::read::{Read, ReadOutcome, Series};
use super::read_path::{ReadPath, ReadRequest};
use registry::Registry;
use registry::service_account::{Scope, Tokens};

/// After this many failed turns in a row, a path is not used any more, so that a dead store does not take all
/// the time.
const FAILURES_MAX: u32 = 5;

/// The reads to do, and their limits.
pub(super) struct Rounds<'a> {
    pub(super) plan: &'a ReadPlan,
    pub(super) paths: &'a [ReadPath],
    pub(super) layout: &'a dyn Registry,
    /// Turns of each size class by each path.
    pub(super) turns: u32,
    /// Reads of one turn, which begin at the same time.
    pub(super) at_once: u32,
    pub(super) deadline: Instant,
}

/// The results of all reads.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// The reads in order.
    pub(super) all: Vec<Read>,
    /// Notes about what was not done.
    pub(super) notes: Vec<String>,
}

/// The state of a path.
#[derive(Debug, Clone, Default)]
struct PathState {
    /// Failed turns in a row.
    failures: u32,
    /// Whether the path is not used any more.
    stopped: bool,
}

impl Rounds<'_> {
    /// Runs all reads. At the deadline, reads in progress are cancelled and do not count.
    pub(super) async fn run(&self, tokens: &Tokens, bar: &BenchBar) -> Reads {
        let mut reads = Reads::default();
        if timeout_at(self.deadline, self.all(tokens, bar, &mut reads)).await.is_err() {
            reads.notes.push("--at-most was reached before all reads were done".into());
        }
        reads
    }

    async fn all(&self, tokens: &Tokens, bar: &BenchBar, reads: &mut Reads) {
        let mut states = vec![PathState::default(); self.paths.len()];
        let mut read_at_gateway = HashSet::new();
        let mut turn = 0;
        for round in 0..self.turns as usize {
            for (_, blobs) in &self.plan.classes {
                let blob = &blobs[round % blobs.len()];
                for place in order(round, blobs.len(), self.paths.len()) {
                    bar.turn(self.paths[place].name(), blob.class);
                    if states[place].stopped {
                        continue;
                    }
                    turn += 1;
                    let path = &self.paths[place];
                    let done = self.turn(path, blob, turn, tokens, &mut read_at_gateway).await;
                    states[place].count(&done);
                    if states[place].stopped {
                        let name = path.name();
                        let note =
                            format!("{name} was not used any more after {FAILURES_MAX} failures in a row");
                        reads.notes.push(note);
                    }
                    reads.all.extend(done);
                }
            }
        }
    }

    /// Reads one blob by one path, several times at the same time.
    async fn turn(
        &self,
        path: &ReadPath,
        blob: &ChosenBlob,
        turn: u32,
        tokens: &Tokens,
        read_at_gateway: &mut HashSet<Digest>,
    ) -> Vec<Read> {
        let series = match path {
            ReadPath::Zone(zone) => Series::Zone(std::sync::Arc::clone(&zone.name)),
            ReadPath::Registry(_) => Series::Registry,
            ReadPath::Gateway(_) if read_at_gateway.insert(blob.digest) => Series::GatewayFirst,
            ReadPath::Gateway(_) => Series::GatewayLater,
        };
        // A client has its token before it reads blobs, so the time for the token does not count.
        let authorization = match path {
            ReadPath::Zone(_) => None,
            _ => tokens.renewed(&Scope::Pull(blob.repository.clone())).await,
        };
        let key = self.layout.blob_key(&blob.digest);
        let request = ReadRequest { blob, key, authorization, series, turn };
        join_all((0..self.at_once).map(|_| path.read(&request))).await
    }
}

impl PathState {
    fn count(&mut self, turn: &[Read]) {
        let failed = turn.iter().all(|read| matches!(read.outcome, ReadOutcome::Failed(_)));
        self.failures = if failed { self.failures + 1 } else { 0 };
        self.stopped = self.failures >= FAILURES_MAX;
    }
}

/// The order of the paths in a round. Each round begins with another path, and the first path for a blob changes
/// too, because the first read finds the store's own caches cold.
fn order(round: usize, blobs: usize, paths: usize) -> impl Iterator<Item = usize> {
    let blobs = blobs.max(1);
    let first = round % blobs + round / blobs;
    (0..paths).map(move |place| (first + place) % paths)
}

#[cfg(test)]
mod tests {
    use zone_router::SizeClass;

    use super::super::read::example;
    use super::*;

    #[test]
    fn every_path_is_first_for_every_blob() {
        for (blobs, paths) in [(1, 5), (5, 5), (3, 4), (4, 2), (8, 5)] {
            let mut firsts = HashSet::new();
            for round in 0..blobs * paths {
                let all: Vec<_> = order(round, blobs, paths).collect();
                assert_eq!(all.iter().collect::<HashSet<_>>().len(), paths);
                firsts.insert((round % blobs, all[0]));
            }
            assert_eq!(firsts.len(), blobs * paths, "{blobs} {paths}");
        }
    }

    #[test]
    fn a_path_that_always_fails_is_stopped() {
        let right = || example(Series::Registry, SizeClass::Small, 0, 1, 1);
        let failed = || Read { outcome: ReadOutcome::Failed("x".into()), ..right() };
        let absent = || Read { outcome: ReadOutcome::Absent, ..right() };
        let mut state = PathState::default();
        for _ in 1..FAILURES_MAX {
            state.count(&[failed(), failed()]);
        }
        assert!(!state.stopped);
        state.count(&[failed(), right()]);
        for _ in 0..10 {
            state.count(&[absent()]);
        }
        assert!(!state.stopped);
        for _ in 0..FAILURES_MAX {
            state.count(&[failed()]);
        }
        assert!(state.stopped);
    }
}
