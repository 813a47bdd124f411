//! The table at the end.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// Columns where nobody says how wide the terminal is.
const WIDTH: u16 = 110;
const WIDTH_MIN: u16 = 70;
const WIDTH_MAX: u16 = 130;

/// What one side did in one step.
#[derive(Debug)]
pub(crate) struct Did {
    /// Whether it did the job.
    pub(crate) job: bool,
    /// What was measured.
    pub(crate) seen: String,
}

/// A step, with and without the gateway.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) step: &'static str,
    pub(crate) gateway: Did,
    pub(crate) alone: Did,
}

/// The table.
pub(crate) fn table(rows: &[Row], terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    let width = table.width().filter(|_| terminal).unwrap_or(WIDTH);
    table.set_width(width.clamp(WIDTH_MIN, WIDTH_MAX));
    let head = ["", "with the gateway", "Quay alone"];
    table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row([Cell::new(row.step), cell(&row.gateway), cell(&row.alone)]);
    }
    table
}

fn cell(did: &Did) -> Cell {
    let (mark, color) = if did.job { ("✓", Color::Green) } else { ("✗", Color::Red) };
    Cell::new(format!("{mark} {}", did.seen)).fg(color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_who_did_the_job() {
        let did = |job, seen: &str| Did { job, seen: seen.into() };
        let rows = [Row { step: "pull", gateway: did(true, "1.0 s"), alone: did(false, "fails") }];
        let text = table(&rows, false).to_string();
        assert!(text.contains("✓ 1.0 s") && text.contains("✗ fails"), "{text}");
    }
}
