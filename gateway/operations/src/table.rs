//! The look of all tables: borders, bold headers, and a width that fits the terminal.

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};

/// An empty table with these headers.
///
/// On a terminal, it fits the terminal's width and may have colours. Elsewhere it is as wide as its contents.
pub(crate) fn with_headers<T: ToString>(headers: impl IntoIterator<Item = T>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    if table.is_tty() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(headers.into_iter().map(|header| Cell::new(header).add_attribute(Attribute::Bold)));
    table
}
