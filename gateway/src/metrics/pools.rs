//! Metrics of the pools that clients share, read at the time of a scrape.

use std::fmt;

use super::families::Families;
use limits::pool::PoolStatus;

pub(super) fn encode(families: &mut Families<'_>, pools: &[PoolStatus]) -> fmt::Result {
    for (name, help, value) in GAUGES {
        families.gauges(name, help, pools.iter().map(|pool| ([("pool", pool.key)], value(pool) as u64)))?;
    }
    for (name, help, value) in COUNTERS {
        families.counters(name, help, pools.iter().map(|pool| ([("pool", pool.key)], value(pool))))?;
    }
    Ok(())
}

type Figure<V> = (&'static str, &'static str, fn(&PoolStatus) -> V);

const GAUGES: [Figure<usize>; 3] = [
    ("pool_slots", "What clients share: how much of it there is, by the key that says so", |pool| pool.slots),
    ("pool_in_use", "How much of it is in use", |pool| pool.used),
    ("pool_waiting", "How many wait for some of it", |pool| pool.waiting),
];

const COUNTERS: [Figure<u64>; 2] = [
    ("pool_waited", "How many had to wait", |pool| pool.waited),
    ("pool_refused", "How many got none", |pool| pool.refused),
];
