//! The table of results.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// The width in columns if the width of the terminal is unknown.
const WIDTH: u16 = 110;
const WIDTH_MIN: u16 = 70;
const WIDTH_MAX: u16 = 130;

/// The result of one side in one step.
#[derive(Debug)]
pub(crate) struct SideResult {
    /// Whether the step succeeded.
    pub(crate) passed: bool,
    /// The measurements as text.
    pub(crate) measured: String,
}

/// A step with the gateway and with Quay only.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) step: &'static str,
    pub(crate) gateway: SideResult,
    pub(crate) quay_only: SideResult,
}

/// Creates the table.
pub(crate) fn table(rows: &[Row], terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    let width = table.width().filter(|_| terminal).unwrap_or(WIDTH);
    table.set_width(width.clamp(WIDTH_MIN, WIDTH_MAX));
    let head = ["", "with the gateway", "Quay only"];
    table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row([Cell::new(row.step), cell(&row.gateway), cell(&row.quay_only)]);
    }
    table
}

fn cell(result: &SideResult) -> Cell {
    let (mark, color) = if result.passed { ("✓", Color::Green) } else { ("✗", Color::Red) };
    Cell::new(format!("{mark} {}", result.measured)).fg(color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_which_side_succeeded() {
        let result = |passed, measured: &str| SideResult { passed, measured: measured.into() };
        let rows = [Row { step: "pull", gateway: result(true, "1.0 s"), quay_only: result(false, "fails") }];
        let text = table(&rows, false).to_string();
        assert!(text.contains("✓ 1.0 s") && text.contains("✗ fails"), "{text}");
    }
}
