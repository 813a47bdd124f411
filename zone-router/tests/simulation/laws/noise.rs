//! Laws about noise: it is no reason to change the zone that is asked first.

use std::time::Duration;

use fastrand::Rng;

use crate::script::{Delay, Manner, Script};
use crate::seeds::{check, hold};
use crate::world::{History, World};

const LASTS: Duration = Duration::from_secs(600);

/// After this time, the router knows the times of the zones.
const LEARNED: Duration = Duration::from_secs(30);

/// Zones whose behaviour does not change, with noise and long tails.
fn stationary(seed: u64) -> World {
    let mut rng = Rng::with_seed(seed);
    let tail = [0.0, 0.01, 0.03][rng.usize(..3)];
    let spread = 0.05 + rng.f64() * 0.3;
    let base = [2.0, 10.0, 40.0][rng.usize(..3)];
    let zone = |median: f64| {
        Script::steady(Manner { headers: Delay { median, spread, tail }, ..Manner::healthy(0.0) })
    };
    let zones = (0..3).map(|_| zone(base * (0.7 + rng.f64()))).collect();
    let mut world = World::new(seed, zones);
    world.rate = [0.05, 1.0, 10.0][rng.usize(..3)];
    world.lasts = LASTS;
    world
}

#[test]
fn no_flapping() {
    let calm = |_: &World, history: &History| {
        let leaders = history.leaders();
        let changes = leaders.iter().filter(|(at, _)| *at > LEARNED).count();
        check(changes <= 2, || format!("{leaders:?}"))
    };
    hold("laws::noise::no_flapping", 0..40, stationary, &[("noise does not change the leader", &calm)]);
}
