//! Laws about faults of home that probes do not see: reads that hang, bodies that are slow, reads that are slower than
//! probes.

use std::time::Duration;

use fastrand::Rng;
use zone_router::ZoneId;

use super::outage::{HEALED, KNOWN, ONSET, all_right, home_leads_again, world};
use crate::script::{Delay, Manner, Reply, Script};
use crate::seeds::{Law, Verdict, check, hold};
use crate::trace::Event;
use crate::world::{History, World};

/// Under load, half of the reads hang, or nine in ten, and no probe does. Home must not lead again and again.
#[test]
fn half_hanging() {
    let half_hanging = |seed| {
        let mut world = world(seed, |home, rng| {
            let reply_odds = [0.5, 0.9][rng.usize(..2)];
            let ill = Manner { spares_probes: true, reply: Reply::Hang, reply_odds, ..home };
            Script::steady(home).then(ONSET, ill)
        });
        world.rate = [50.0, 100.0][Rng::with_seed(seed).usize(..2)];
        world.lasts = ONSET + Duration::from_secs(60);
        world
    };
    let few = |_: &World, history: &History| {
        let after: Vec<_> = history.tries().into_iter().filter(|tried| tried.began > ONSET + KNOWN).collect();
        let first = after.iter().filter(|tried| tried.asked.first() == Some(&0)).count();
        check(first * 5 <= after.len(), || format!("{first} of {} reads went home first", after.len()))
    };
    let laws: [Law<'_>; 2] = [("no read fails", &all_right), ("a home of which half hangs is avoided", &few)];
    hold("laws::unseen::half_hanging", 0..12, half_hanging, &laws);
}

/// A world in which bodies are long enough to be measured. From `ONSET` on, the bodies of home are slow.
fn slow_bodies(seed: u64, then: impl FnOnce(Script, Manner) -> Script) -> World {
    let mut world = world(seed, |home, _| {
        let home = Manner { between: 170.0, ..home };
        let ill = Manner { between: 550.0, ..home };
        then(Script::steady(home).then(ONSET, ill), home)
    });
    for (script, _) in &mut world.zones {
        script.phases.iter_mut().for_each(|(_, manner)| manner.between = manner.between.max(170.0));
    }
    world.pieces = 24;
    world.settings.slowest = 4 << 10;
    world
}

/// Slow bodies do not count against home for ever.
#[test]
fn slow_bodies_heal() {
    let healing = |seed| {
        let mut world = slow_bodies(seed, |script, well| script.then(HEALED, well));
        world.rate = world.rate.min(20.0);
        world.lasts = HEALED + Duration::from_secs(90);
        world
    };
    let left = |_: &World, history: &History| {
        let left = history
            .leaders()
            .iter()
            .any(|(at, zone)| *at > ONSET && *at < HEALED && *zone != Some(ZoneId::HOME));
        check(left, || "home was never left".into())
    };
    let laws: [Law<'_>; 3] = [
        ("no read fails", &all_right),
        ("a home of slow bodies is left", &left),
        ("home leads again", &home_leads_again),
    ];
    hold("laws::unseen::slow_bodies_heal", 0..20, healing, &laws);
}

/// The probes of home are fast and its bodies are slow. Home is tried less and less often.
#[test]
fn slow_bodies_stay() {
    let torn = |seed| {
        let mut world = slow_bodies(seed, |script, _| script);
        world.rate = 3.0;
        world.lasts = ONSET + Duration::from_secs(600);
        world
    };
    hold("laws::unseen::slow_bodies_stay", 0..10, torn, &TORN);
}

/// The same with slow headers of reads.
#[test]
fn slow_reads_stay() {
    let torn = |seed| {
        let mut world = world(seed, |home, rng| {
            let ill = Manner { probes: Some(home.headers), ..home.slower(4.0 + rng.f64() * 6.0) };
            Script::steady(home).then(ONSET, ill)
        });
        world.rate = world.rate.min(20.0);
        world.lasts = ONSET + Duration::from_secs(200);
        world
    };
    hold("laws::unseen::slow_reads_stay", 0..10, torn, &TORN);
}

fn tried_ever_less(_: &World, history: &History) -> Verdict {
    let changes = history.leaders().iter().filter(|(at, _)| *at > ONSET).count();
    check(changes <= 10, || format!("{changes} changes: {:?}", history.leaders()))
}

const TORN: [Law<'_>; 2] = [("no read fails", &all_right), ("home is tried ever less", &tried_ever_less)];

/// A store may answer small probes from memory and reads from a disk. This does not count against it.
#[test]
fn reads_slower_than_probes() {
    let cold = |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut zone = |probe: f64, read: f64| {
            let manner = Manner::healthy(read * (0.9 + rng.f64() * 0.2));
            Script::steady(Manner { probes: Some(Delay::steady(probe)), ..manner })
        };
        let mut world = World::new(seed, vec![zone(3.0, 150.0), zone(20.0, 170.0), zone(20.0, 170.0)]);
        world.rate = [1.0, 10.0, 50.0][rng.usize(..3)];
        world
    };
    let kept = |_: &World, history: &History| {
        let out = history.events.iter().find(|(_, event)| {
            matches!(event, Event::Leads { zone, states } if *zone != Some(ZoneId::HOME) || states.contains(&"ejected"))
        });
        check(out.is_none(), || format!("{out:?}"))
    };
    let laws: [Law<'_>; 2] = [("no read fails", &all_right), ("home is used all the time", &kept)];
    hold("laws::unseen::reads_slower_than_probes", 0..40, cold, &laws);
}
