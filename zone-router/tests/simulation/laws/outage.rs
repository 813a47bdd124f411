//! Laws about outages: if home dies, slows down or breaks off, the cost is small, and home leads again soon after.

use std::time::Duration;

use fastrand::Rng;
use zone_router::ZoneId;

use crate::history::quantile;
use crate::script::{Body, Manner, Reply, Script};
use crate::seeds::{Law, Verdict, check, hold};
use crate::trace::Ending;
use crate::world::{History, World};

/// When the fault of home begins. By then the router knows the times of the zones.
pub(super) const ONSET: Duration = Duration::from_secs(40);

/// After this time, no read asks a dead home first.
pub(super) const KNOWN: Duration = Duration::from_secs(2);

/// When the fault of home ends, if it ends.
pub(super) const HEALED: Duration = Duration::from_secs(70);

/// Hedges for which credit may have been saved.
const SAVED: usize = 10;

pub(super) const MS: Duration = Duration::from_millis(1);

/// A world with three zones about 40 ms away. `home` makes the script of the home zone.
pub(super) fn world(seed: u64, home: impl FnOnce(Manner, &mut Rng) -> Script) -> World {
    let mut rng = Rng::with_seed(seed);
    let mut zone = || {
        let mut manner = Manner::healthy(34.0 + rng.f64() * 12.0);
        manner.headers.spread = 0.05 + rng.f64() * 0.1;
        manner
    };
    let (mut first, others) = (zone(), [zone(), zone()]);
    // Home is the nearest zone, or as near as the others.
    first.headers.median = first.headers.median.min(others[0].headers.median).min(others[1].headers.median);
    let mut zones = vec![home(first, &mut rng)];
    zones.extend(others.map(Script::steady));
    let mut world = World::new(seed, zones);
    world.rate = [5.0, 20.0, 60.0][rng.usize(..3)];
    world.lasts = ONSET + Duration::from_secs(10);
    world
}

pub(super) fn all_right(_: &World, history: &History) -> Verdict {
    let failed = history.tries().into_iter().find(|tried| tried.how != Some(Ending::Right));
    check(failed.is_none(), || format!("{failed:?}"))
}

/// A first byte comes within the longest wait for the headers of these zones, plus the answer of the next zone.
fn first_byte_soon(_: &World, history: &History) -> Verdict {
    // The wait is three times the 95th percentile, which is exact to a fifth, plus 50 ms. The next zone's answer
    // follows.
    let healthy: Vec<_> = history
        .tries()
        .into_iter()
        .filter(|tried| tried.began < ONSET)
        .filter_map(|tried| tried.first_byte)
        .collect();
    let (p95, most) = (quantile(healthy.clone(), 0.95), quantile(healthy, 1.0));
    let bound = p95.mul_f64(3.0 * 1.2) + 50 * MS + most.max(2 * p95);
    check(bound < 500 * MS, || format!("no outage is worth {bound:?}"))?;
    for tried in history.tries().into_iter().filter(|tried| tried.began >= ONSET) {
        check(tried.first_byte.is_some_and(|after| after <= bound), || {
            format!("not within {bound:?}: {tried:?}")
        })?;
    }
    Ok(())
}

fn dead_home_is_avoided(_: &World, history: &History) -> Verdict {
    let late = |tried: &crate::history::Try| tried.began > ONSET + KNOWN && tried.asked.first() == Some(&0);
    let first = history.tries().into_iter().find(late);
    check(first.is_none(), || format!("home is dead: {first:?}"))
}

const OUTAGE: [Law<'_>; 3] = [
    ("no read fails in an outage", &all_right),
    ("the first byte comes soon in an outage", &first_byte_soon),
    ("a dead home is avoided after two seconds", &dead_home_is_avoided),
];

#[test]
fn outage() {
    let outage = |seed| {
        world(seed, |home, rng| {
            let reply = [Reply::Hang, Reply::Refuse][rng.usize(..2)];
            Script::steady(home).then(ONSET, home.always(reply))
        })
    };
    hold("laws::outage::outage", 0..150, outage, &OUTAGE);
}

/// Probes are answered, but no read is. A TCP connect does not show such an outage. From time to time, one read must
/// check whether it is over.
#[test]
fn half_alive() {
    let half_alive = |seed| {
        let mut world = world(seed, |home, rng| {
            let reply = [Reply::Hang, Reply::Refuse][rng.usize(..2)];
            let ill = Manner { spares_probes: true, ..home.always(reply) };
            Script::steady(home).then(ONSET, ill)
        });
        world.lasts = ONSET + Duration::from_secs(60);
        world
    };
    let few = |_: &World, history: &History| {
        let after = history.tries().into_iter().filter(|tried| tried.began > ONSET + KNOWN);
        let first = after.filter(|tried| tried.asked.first() == Some(&0)).count();
        // One read after each opening of the breaker, and some reads at the beginning whose hedges hid the fault.
        check(first <= 20, || format!("{first} reads looked for home"))
    };
    let laws: [Law<'_>; 2] =
        [("no read fails in an outage", &all_right), ("a half-alive home is avoided", &few)];
    hold("laws::outage::half_alive", 0..60, half_alive, &laws);
}

/// From two seconds after its beginning, a brown-out has little effect.
fn brown_out_is_not_felt(world: &World, history: &History) -> Verdict {
    let tries = history.tries();
    let between = |from: Duration, to: Duration| -> Vec<_> {
        tries
            .iter()
            .filter(|t| t.began >= from && t.began < to)
            .filter_map(|tried| tried.first_byte)
            .collect()
    };
    let healthy = quantile(between(ONSET / 2, ONSET), 0.99);
    let ill = quantile(between(ONSET + KNOWN, world.lasts), 0.99);
    check(ill <= healthy.mul_f64(1.5), || format!("p99 was {healthy:?} and is {ill:?}"))?;
    let (all, extra) = history.requests(ONSET + KNOWN);
    check(extra <= all / 20 + SAVED, || format!("{extra} extra requests of {all}"))
}

#[test]
fn brown_out() {
    let brown_out = |seed| world(seed, |home, _| Script::steady(home).then(ONSET, home.slower(10.0)));
    let mut laws = vec![("no read fails in a brown-out" as _, &all_right as _)];
    laws.push(("a brown-out is hardly felt", &brown_out_is_not_felt as _));
    hold("laws::outage::brown_out", 0..100, brown_out, &laws);
}

/// Home leads again soon after its fault has ended.
pub(super) fn home_leads_again(world: &World, history: &History) -> Verdict {
    // The bound is the longest pause of the breaker, the half-open time, and the time for which home must be as good as
    // the others.
    let bound = world.settings.pause.max + Duration::from_secs(30);
    let home = Some(ZoneId::HOME);
    let (at, last) = history.leaders().last().copied().unwrap_or((Duration::ZERO, home));
    check(last == home && at <= HEALED + bound, || format!("{last:?} leads since {at:?}"))
}

#[test]
fn healing() {
    let healing = |seed| {
        let mut world = world(seed, |home, rng| {
            let ill = match rng.u8(..4) {
                0 => home.always(Reply::Hang),
                1 => home.always(Reply::Refuse),
                2 => home.bodies(Body::Cut, 1.0),
                _ => home.slower(10.0),
            };
            Script::steady(home).then(ONSET, ill).then(HEALED, home)
        });
        world.lasts = HEALED + world.settings.pause.max + Duration::from_secs(60);
        world
    };
    let laws: [Law<'_>; 2] = [("no read fails", &all_right), ("home leads again", &home_leads_again)];
    hold("laws::outage::healing", 0..50, healing, &laws);
}

/// If a store dies in the middle of a body, this costs at most a second.
#[test]
fn mid_body() {
    let mid_body = |seed| {
        let mut world = world(seed, |home, rng| {
            let body = [Body::Cut, Body::Stall][rng.usize(..2)];
            Script::steady(home).then(ONSET, home.bodies(body, [0.1, 1.0][rng.usize(..2)]))
        });
        world.rate = world.rate.min(20.0);
        world
    };
    let short = |_: &World, history: &History| {
        let longest = history.tries().into_iter().max_by_key(|tried| tried.took);
        check(longest.as_ref().is_none_or(|tried| tried.took <= Duration::from_millis(1000 + 60)), || {
            format!("{longest:?}")
        })
    };
    let laws: [Law<'_>; 2] = [("no read fails", &all_right), ("a stall lasts a second at most", &short)];
    hold("laws::outage::mid_body", 0..100, mid_body, &laws);
}

/// All zones fail for a while. When one of them works again, the very next read is served.
#[test]
fn all_down() {
    let all_down = |seed| {
        let mut world = world(seed, |home, _| Script::steady(home));
        let mut rng = Rng::with_seed(seed);
        let survivor = rng.usize(..3);
        for (zone, (script, _)) in world.zones.iter_mut().enumerate() {
            let manner = script.at(Duration::ZERO);
            let dead = manner.always([Reply::Hang, Reply::Refuse][rng.usize(..2)]);
            *script = Script::steady(manner).then(ONSET, dead);
            if zone == survivor {
                *script = script.clone().then(HEALED, manner);
            }
        }
        world.rate = 2.0;
        world.lasts = HEALED + Duration::from_secs(20);
        world
    };
    let back = |_: &World, history: &History| {
        for tried in history.tries().into_iter().filter(|tried| tried.began >= HEALED) {
            check(tried.how == Some(Ending::Right), || format!("one zone is there: {tried:?}"))?;
            // Each dead zone costs a wait of at most a second.
            let soon = tried.first_byte.is_some_and(|after| after < Duration::from_millis(2500));
            check(soon, || format!("late: {tried:?}"))?;
        }
        Ok(())
    };
    hold("laws::outage::all_down", 0..60, all_down, &[("the one that is back serves", &back)]);
}
