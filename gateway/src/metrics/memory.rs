//! Metrics of the memory budget, read at the time of a scrape.

use super::text::Text;
use limits::memory::{MemoryStatus, Use};

/// The metrics in the OpenMetrics text form, without its end mark.
pub(super) fn render(status: &MemoryStatus) -> String {
    let mut text = Text::default();
    text.head("memory_budget_bytes", "gauge", "Bytes that limits.memory allows");
    text.line("memory_budget_bytes", "", status.budget as f64);
    text.head("memory_reserved_bytes", "gauge", "Bytes of it that are reserved, by what for");
    for (what, bytes) in Use::ALL.iter().zip(status.reserved) {
        text.line("memory_reserved_bytes", &format!("{{use=\"{}\"}}", what.as_str()), bytes as f64);
    }
    text.head("memory_refused", "counter", "Reservations refused for want of room");
    for (what, count) in Use::ALL.iter().zip(status.refused) {
        text.line("memory_refused_total", &format!("{{use=\"{}\"}}", what.as_str()), count as f64);
    }
    text.end()
}
