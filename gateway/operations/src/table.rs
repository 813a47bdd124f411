//! The look of all tables: borders, bold headers, and a width that fits the terminal.

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};

/// The variable that forbids colours, whatever its value is, unless it is empty (no-color.org).
const NO_COLOUR_VARIABLE: &str = "NO_COLOR";

/// Whether output for a terminal may have colours.
#[must_use]
pub fn may_colour() -> bool {
    std::env::var_os(NO_COLOUR_VARIABLE).is_none_or(|value| value.is_empty())
}

/// An empty table with these headers.
///
/// On a terminal, it fits the terminal's width and may have colours. Elsewhere it is as wide as its contents.
pub(crate) fn with_headers<T: ToString>(headers: impl IntoIterator<Item = T>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    if table.is_tty() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if !may_colour() {
            // Without a terminal, the table has no width of its own.
            if let Some(width) = table.width() {
                table.set_width(width);
            }
            table.force_no_tty();
        }
    }
    table.set_header(headers.into_iter().map(|header| Cell::new(header).add_attribute(Attribute::Bold)));
    table
}
