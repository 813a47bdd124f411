//! Metrics of the pools that clients share, read at the time of a scrape.

use super::text::Text;
use limits::pool::PoolStatus;

/// The metrics of every pool in the OpenMetrics text form, without its end mark.
pub(super) fn render(pools: &[PoolStatus]) -> String {
    let mut text = Text::default();
    for (name, kind, help, value) in FIGURES {
        text.head(name, kind, help);
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        for pool in pools {
            text.line(&name, &format!("{{pool=\"{}\"}}", pool.key), value(pool) as f64);
        }
    }
    text.end()
}

type Figure = (&'static str, &'static str, &'static str, fn(&PoolStatus) -> u64);

const FIGURES: [Figure; 5] = [
    ("pool_slots", "gauge", "What clients share: how much of it there is, by the key that says so", |pool| {
        pool.slots as u64
    }),
    ("pool_in_use", "gauge", "How much of it is in use", |pool| pool.used as u64),
    ("pool_waiting", "gauge", "How many wait for some of it", |pool| pool.waiting as u64),
    ("pool_waited", "counter", "How many had to wait", |pool| pool.waited),
    ("pool_refused", "counter", "How many got none", |pool| pool.refused),
];
