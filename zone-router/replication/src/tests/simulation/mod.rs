//! The fan-out in scripted worlds on a paused clock. A seed that breaks a law replays with one command.

mod kept;
mod store;
mod world;

use world::{History, World};

/// The seed to be replayed alone.
const SEED: &str = "FANOUT_SEED";

/// Times as many seeds as usual: for a hunt.
const TIMES: &str = "FANOUT_TIMES";

/// Worlds as a rule.
const WORLDS: u64 = 250;

/// A law by name, and what it says against a history.
type Law = (&'static str, fn(&History) -> Option<String>);

const LAWS: [Law; 4] = [
    ("every acknowledged blob reaches every zone, and no other bytes do", |history| {
        let lacks = history.held.iter().position(|held| *held != history.pushed)?;
        Some(format!("z{lacks} holds {} of {}", history.held[lacks].len(), history.pushed.len()))
    }),
    ("and does so within a bound after all is well", |history| {
        history.healed_after.is_none().then(|| "it did not".to_owned())
    }),
    ("nothing is written twice at once into one zone", |history| history.broken.first().cloned()),
    ("what is done leaves the journal", |history| {
        (history.waiting > 0).then(|| format!("{} jobs wait", history.waiting))
    }),
];

/// The seeds that are tried.
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
