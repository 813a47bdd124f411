//! Laws about damaged objects: one of them does not take a zone out of use, however often it is asked for.

use std::time::Duration;

use fastrand::Rng;

use super::ours::all_in_use;
use super::outage::{KNOWN, ONSET, all_right, world};
use crate::script::{Body, Manner, Reply, Script};
use crate::seeds::{Law, check, hold};
use crate::trace::Event;
use crate::world::{History, World};

/// The blob that home stops giving.
const ILL: usize = 0;

/// How often that blob is read, per second.
const HAMMERED: f64 = 30.0;

fn ill_object(seed: u64, rate: f64) -> World {
    let mut world = world(seed, |home, rng| {
        let ill = match rng.u8(..4) {
            0 => home.always(Reply::Refuse),
            1 => home.always(Reply::Hang),
            2 => home.bodies(Body::Cut, 1.0),
            _ => home.bodies(Body::Stall, 1.0),
        };
        Script { ill: Some((ILL, ONSET, ill)), ..Script::steady(home) }
    });
    world.rate = rate;
    world.hammered = Some((ILL, HAMMERED));
    world.sizes_known = Rng::with_seed(seed).bool();
    world.lasts = ONSET + Duration::from_secs(80);
    world
}

const LAWS: [Law<'_>; 2] =
    [("no read fails", &all_right), ("one ill object does not take a zone out of use", &all_in_use)];

#[test]
fn ill_among_others() {
    let rate = |seed: u64| [0.2, 1.0, 20.0][seed as usize % 3];
    hold("laws::objects::ill_among_others", 0..12, |seed| ill_object(seed, rate(seed)), &LAWS);
}

/// No other blob is read.
#[test]
fn ill_alone() {
    hold("laws::objects::ill_alone", 0..8, |seed| ill_object(seed, 0.0), &LAWS);
}

/// If a zone gives no object at all, this is detected as fast as any outage, although its probes are answered.
#[test]
fn zone_of_ill_objects() {
    let ill = |seed| {
        let mut world = ill_object(seed, 20.0);
        world.lasts = ONSET + Duration::from_secs(10);
        let manner = world.zones[0].0.at(Duration::ZERO);
        let spared = Manner { spares_probes: true, ..manner.always(Reply::Refuse) };
        world.zones[0].0 = Script { ill: None, ..Script::steady(manner).then(ONSET, spared) };
        world
    };
    let known = |_: &World, history: &History| {
        let mut views = history.events.iter().filter_map(|(at, event)| match event {
            Event::Leads { states, .. } => Some((*at, states[0])),
            _ => None,
        });
        let soon = views.any(|(at, state)| at < ONSET + KNOWN && state == "ejected");
        check(soon, || "home gives nothing, and nobody said so".into())
    };
    let laws: [Law<'_>; 2] =
        [("no read fails", &all_right), ("a home that gives nothing is ejected", &known)];
    hold("laws::objects::zone_of_ill_objects", 0..8, ill, &laws);
}
