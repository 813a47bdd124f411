//! Runs many seeds, or the one that must be replayed.

use std::ops::Range;

use crate::trace::print;
use crate::world::{History, World};

/// The variable with the one seed to replay.
const SEED: &str = "SIMULATION_SEED";

/// The variable with a factor for the number of seeds, for long runs.
const TIMES: &str = "SIMULATION_TIMES";

/// The number of lines of a trace that are printed.
const LINES: usize = 400;

/// The result of checking a law.
pub(crate) type Verdict = Result<(), String>;

/// The name of a law, and its check.
pub(crate) type Law<'a> = (&'a str, &'a dyn Fn(&World, &History) -> Verdict);

/// Runs a world for each seed. If a seed breaks a law, prints that and how to replay it.
pub(crate) fn hold(test: &str, seeds: Range<u64>, world: impl Fn(u64) -> World, laws: &[Law<'_>]) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let one = number(SEED);
    let many = (seeds.end - seeds.start) * number(TIMES).unwrap_or(1);
    let seeds = one.map_or(seeds.start..seeds.start + many, |seed| seed..seed + 1);
    for seed in seeds {
        let world = world(seed);
        let history = world.run();
        if one.is_some() {
            show(&world, &history);
        }
        for (law, holds) in laws {
            let Err(why) = holds(&world, &history) else { continue };
            let tail = history.events.len().saturating_sub(LINES);
            let trace = if one.is_some() { String::new() } else { print(&history.events[tail..]) };
            panic!(
                "{trace}\nseed {seed} breaks the law: {law}\n{why}\nreplay with its whole trace:\n    \
                 {SEED}={seed} cargo test -p zone-router --test simulation {test} -- --exact --nocapture\n"
            );
        }
    }
}

/// Returns an error unless `holds`.
pub(crate) fn check(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why()) }
}

#[expect(clippy::print_stdout, reason = "a replay is for its trace")]
fn show(world: &World, history: &History) {
    println!("{world:#?}\n{}", print(&history.events));
}
