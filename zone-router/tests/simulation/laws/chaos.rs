//! Laws for worlds in which all zones but one may do anything: an honest zone that has the blob serves it.

use std::time::Duration;

use fastrand::Rng;

use crate::history::Try;
use crate::script::{Manner, Script};
use crate::seeds::{Law, Verdict, check, hold};
use crate::trace::Ending;
use crate::world::{History, World};

/// How long attribution waits for each zone, in milliseconds.
const INQUIRY_MS: f64 = 2000.0;

/// Hedges for which credit may have been saved.
const SAVED: f64 = 10.0;

/// A world with one honest zone among zones that do anything.
fn chaos(seed: u64) -> World {
    let mut rng = Rng::with_seed(seed);
    let lasts = Duration::from_secs(20);
    let mut zones: Vec<_> = (0..rng.usize(1..4)).map(|_| Script::any(&mut rng, lasts)).collect();
    let honest = rng.usize(..=zones.len());
    zones.insert(honest, Script::steady(Manner::honest(&mut rng)));
    let mut world = World::new(seed, zones);
    world.lasts = lasts;
    world.rate = [0.3, 3.0, 15.0][rng.usize(..3)];
    world.sizes_known = rng.bool();
    world.attempts = 8;
    world
}

fn no_wrong_bytes(_: &World, history: &History) -> Verdict {
    let wrong = history.tries().into_iter().find(|tried| tried.how == Some(Ending::Wrong));
    check(wrong.is_none(), || format!("{wrong:?}"))
}

/// A read fails only if a zone gave wrong bytes to it. The same zone alone never makes a client fail twice, with two
/// exceptions: a zone that gives wrong bytes only sometimes may give the right ones during attribution, and a zone
/// whose body takes longer than attribution may not be read to its end. Such a zone is detected the second time.
fn served(world: &World, history: &History) -> Verdict {
    let tries = history.tries();
    for tried in &tries {
        let failed = tried.how != Some(Ending::Right);
        check(!failed || !tried.liars.is_empty(), || format!("nobody lied, and it failed: {tried:?}"))?;
        let most = || lies_borne(world, &tries, tried.blob);
        check(!failed || tried.attempt < most(), || format!("once more by the same: {tried:?}"))?;
    }
    Ok(())
}

/// How often in a row a client may get wrong bytes of this blob.
fn lies_borne(world: &World, tries: &[Try], blob: usize) -> usize {
    let mut liars: Vec<_> =
        tries.iter().filter(|other| other.blob == blob).flat_map(|other| other.liars.clone()).collect();
    liars.sort_unstable();
    liars.dedup();
    let now_and_then = |zone: &usize| world.zones[*zone].0.phases[0].1.body_odds < 1.0;
    let slow = |zone: &usize| {
        let mut manners = world.zones[*zone].0.phases.iter().map(|(_, manner)| manner);
        manners.any(|manner| manner.between * world.pieces as f64 > INQUIRY_MS)
    };
    liars.iter().map(|zone| 1 + usize::from(now_and_then(zone) || slow(zone))).sum()
}

fn within_budget(world: &World, history: &History) -> Verdict {
    let (all, extra) = history.requests(Duration::ZERO);
    let most = all as f64 * world.settings.hedge_percent / 100.0 + SAVED;
    check(extra as f64 <= most, || format!("{extra} extra requests of {all}"))
}

const LAWS: [Law<'_>; 3] = [
    ("no completed answer has wrong bytes", &no_wrong_bytes),
    ("an honest zone serves, at the next try where a zone lied", &served),
    ("extra requests stay within the budget", &within_budget),
];

#[test]
fn chaos_one() {
    hold("laws::chaos::chaos_one", 0..1000, chaos, &LAWS);
}

#[test]
fn chaos_two() {
    hold("laws::chaos::chaos_two", 1_000_000..1_001_000, chaos, &LAWS);
}

/// If this did not hold, no seed could be replayed.
#[test]
fn a_seed_is_a_history() {
    for seed in [1, 2, 3, 4, 5] {
        assert!(chaos(seed).run().events == chaos(seed).run().events, "seed {seed}");
    }
}
