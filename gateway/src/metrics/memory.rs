//! Metrics of the memory budget, read at the time of a scrape.

use std::fmt;

use super::families::Families;
use limits::memory::{MemoryStatus, Use};

pub(super) fn encode(families: &mut Families<'_>, status: &MemoryStatus) -> fmt::Result {
    let by_use = |values: [u64; Use::ALL.len()]| {
        Use::ALL.iter().zip(values).map(|(what, value)| ([("use", what.as_str())], value))
    };
    families.gauge("memory_budget_bytes", "Bytes that limits.memory allows", status.budget)?;
    let help = "Bytes of it that are reserved, by what for";
    families.gauges("memory_reserved_bytes", help, by_use(status.reserved))?;
    families.counters("memory_refused", "Reservations refused for want of room", by_use(status.refused))
}
