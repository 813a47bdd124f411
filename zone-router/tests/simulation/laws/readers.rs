//! Laws about slow readers: they do not take a zone out of use.

use std::time::Duration;

use fastrand::Rng;

use super::ours::all_in_use;
use super::outage::{MS, all_right, world};
use crate::script::Script;
use crate::seeds::{Law, hold};

/// After this time, a store closes a connection whose client reads nothing.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

const LAWS: [Law<'_>; 2] =
    [("no read fails", &all_right), ("slow readers do not take a zone out of use", &all_in_use)];

/// The bytes between the store and the client are read at once, and then the body ends early.
#[test]
fn read_nothing_for_a_while() {
    let slow = |seed| {
        let mut world = world(seed, |home, _| Script::steady(home));
        for (script, _) in &mut world.zones {
            script.closes_unread = Some(SEND_TIMEOUT);
        }
        let mut rng = Rng::with_seed(seed);
        world.rate = [1.0, 10.0][rng.usize(..2)];
        world.pieces = 24;
        world.slow_readers = Some(([0.5, 1.0][rng.usize(..2)], SEND_TIMEOUT + 50 * MS));
        world.lasts = Duration::from_secs(200);
        world
    };
    hold("laws::readers::read_nothing_for_a_while", 0..16, slow, &LAWS);
}
