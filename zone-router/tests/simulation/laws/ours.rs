//! Laws about faults of the gateway and actions of an operator: no zone is blamed for them, and no read fails because
//! of them.

use std::time::Duration;

use fastrand::Rng;

use super::outage::{HEALED, ONSET, all_right, world};
use crate::script::{Delay, Manner, Reply, Script};
use crate::seeds::{Law, Verdict, check, hold};
use crate::trace::{Ending, Event};
use crate::world::{History, Stalls, World};

/// No zone was ever out of use.
pub(super) fn all_in_use(_: &World, history: &History) -> Verdict {
    let out = history.events.iter().find(|(_, event)| {
        matches!(event, Event::Leads { states, .. } if states.iter().any(|state| *state != "healthy"))
    });
    check(out.is_none(), || format!("{out:?}"))
}

fn without_a_fault(seed: u64, stalls: Stalls) -> World {
    let mut world = world(seed, |home, _| Script::steady(home));
    world.zones.truncate(Rng::with_seed(seed).usize(1..=3));
    world.stalls = stalls;
    world.lasts = ONSET + Duration::from_secs(60);
    world
}

const BLAMELESS: [Law<'_>; 2] =
    [("no read fails", &all_right), ("no zone is blamed for what is lost here", &all_in_use)];

/// The process is stopped for up to three seconds, again and again.
#[test]
fn stops() {
    hold("laws::ours::stops", 0..20, |seed| without_a_fault(seed, Stalls::Stops(ONSET)), &BLAMELESS);
}

/// Each step of each task waits for the processor.
#[test]
fn starves() {
    hold("laws::ours::starves", 0..20, |seed| without_a_fault(seed, Stalls::Starves(ONSET)), &BLAMELESS);
}

/// If a zone is dead, this is detected although the gateway stalls, too.
#[test]
fn dead_all_the_same() {
    let dead = |seed| {
        let mut world = world(seed, |home, rng| {
            let reply = [Reply::Hang, Reply::Refuse][rng.usize(..2)];
            Script::steady(home).then(ONSET, home.always(reply))
        });
        world.stalls = Stalls::Stops(ONSET);
        world.lasts = ONSET + Duration::from_secs(60);
        world
    };
    let known = |_: &World, history: &History| {
        let mut views = history.events.iter().filter_map(|(at, event)| match event {
            Event::Leads { states, .. } => Some((*at, states[0])),
            _ => None,
        });
        let soon = views.any(|(at, state)| at < ONSET + Duration::from_secs(15) && state == "ejected");
        check(soon, || "home is dead, and nobody said so".into())
    };
    let laws: [Law<'_>; 2] = [("no read fails", &all_right), ("a dead home is ejected", &known)];
    hold("laws::ours::dead_all_the_same", 0..15, dead, &laws);
}

/// The only zone gives bodies, and probes wait behind them.
#[test]
fn busy_with_us() {
    let busy = |seed| {
        let mut world = world(seed, |home, _| {
            let slow = Delay::steady(1500.0);
            let home = Manner { between: 100.0, ..home };
            Script::steady(home).then(ONSET, Manner { probes: Some(slow), ..home })
        });
        world.zones.truncate(1);
        world.rate = 20.0;
        world.lasts = ONSET + Duration::from_secs(60);
        world
    };
    hold("laws::ours::busy_with_us", 0..10, busy, &BLAMELESS);
}

/// A single zone is read whatever its state is, because no other zone could give the blob.
#[test]
fn the_last_zone() {
    let alone = |seed| {
        let mut world = world(seed, |home, rng| {
            let dead =
                home.always([Reply::Hang, Reply::Refuse, Reply::Deny, Reply::Throttle][rng.usize(..4)]);
            let half = Manner { reply_odds: 0.5, ..dead };
            let ill = if rng.bool() { dead } else { half };
            Script::steady(home).then(ONSET, ill).then(HEALED, home)
        });
        let zones = Rng::with_seed(seed).usize(1..=3);
        world.zones.truncate(zones);
        // The other zones are drained, or all zones are. An operator drains a zone to spare it, and reads must not fail
        // because of that.
        let drained = if seed % 2 == 0 { 1..zones } else { 0..zones };
        world.zones[drained].iter_mut().for_each(|(_, policy)| policy.drain = true);
        world.lasts = HEALED + Duration::from_secs(40);
        world
    };
    let served = |_: &World, history: &History| {
        let well = |began: Duration| began < ONSET - Duration::from_secs(1) || began >= HEALED;
        let failed = history.tries().into_iter().find(|t| well(t.began) && t.how != Some(Ending::Right));
        check(failed.is_none(), || format!("the zone is there: {failed:?}"))
    };
    hold("laws::ours::the_last_zone", 0..32, alone, &[("a zone that is there serves", &served)]);
}

/// A drained zone is not read while another zone has the blob.
#[test]
fn drained() {
    let world = |seed| {
        let mut world = world(seed, |home, _| Script::steady(home));
        world.zones[0].1.drain = true;
        world
    };
    let spared = |_: &World, history: &History| {
        let asked = history.tries().into_iter().find(|tried| tried.asked.contains(&0));
        check(asked.is_none(), || format!("{asked:?}"))
    };
    let laws: [Law<'_>; 2] = [("no read fails", &all_right), ("a drained zone is not read", &spared)];
    hold("laws::ours::drained", 0..8, world, &laws);
}
