//! Metrics of pinned images, read at the time of a scrape.

use std::fmt;

use super::families::Families;
use crate::pins::PinsStatus;

pub(super) fn encode(families: &mut Families<'_>, status: PinsStatus) -> fmt::Result {
    let PinsStatus { complete, failed, pending, last_success } = status;
    let states = [("complete", complete), ("failed", failed), ("pending", pending)];
    let help = "Images of pins, by what became of them when they were last read";
    families.gauges("pins", help, states.map(|(state, count)| ([("state", state)], count)))?;
    let help =
        "When a pinned image was last complete in the cache, in seconds since 1970; 0 before the first";
    families.gauge("pins_complete_timestamp_seconds", help, last_success)
}
