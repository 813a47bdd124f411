//! Runs the fan-out in simulated worlds on a paused clock. A seed that breaks a law can be replayed with one
//! command.

mod kept;
mod store;
mod world;

use world::{History, World};

/// The variable with the one seed to replay.
const SEED: &str = "FANOUT_SEED";

/// The variable with a factor for the number of seeds, for long runs.
const TIMES: &str = "FANOUT_TIMES";

/// The usual number of worlds.
const WORLDS: u64 = 100;

/// A law: its name, and a check of a history that returns what is wrong.
type Law = (&'static str, fn(&History) -> Option<String>);

const LAWS: [Law; 4] = [
    ("every acknowledged blob reaches every zone, and no other bytes do", |history| {
        let lacks = history.held.iter().position(|held| *held != history.pushed)?;
        Some(format!("z{lacks} holds {} of {}", history.held[lacks].len(), history.pushed.len()))
    }),
    ("and does so within a bound after the faults", |history| {
        history.healed_after.is_none().then(|| "it did not".to_owned())
    }),
    ("nothing is written twice at once into one zone", |history| history.violations.first().cloned()),
    ("what is done leaves the journal", |history| {
        (history.waiting > 0).then(|| format!("{} jobs wait", history.waiting))
    }),
];

/// The seeds to run.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match number(SEED) {
        Some(seed) => seed..seed + 1,
        None => 0..WORLDS * number(TIMES).unwrap_or(1),
    }
}

#[test]
fn every_blob_reaches_every_zone_that_comes_back() {
    for seed in seeds() {
        let world = World::any(seed);
        let history = world.run();
        for (law, against) in LAWS {
            if let Some(why) = against(&history) {
                panic!(
                    "{world:#?}\nseed {seed} breaks the law: {law}\n{why}\n{}\nreplay:\n    \
                     {SEED}={seed} cargo test -p replication --lib tests::simulation\n",
                    history.journal
                );
            }
        }
    }
}
