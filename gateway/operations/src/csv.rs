//! CSV lines (RFC 4180) that no spreadsheet interprets as formulas. Pure.

use csv::{QuoteStyle, Terminator, WriterBuilder};

/// The first capacity of a line in bytes. Most lines fit.
const BUFFER: usize = 512;

/// One line, including its CR LF.
pub fn line(fields: impl IntoIterator<Item = String>) -> String {
    let fields: Vec<_> = fields.into_iter().map(no_formula).collect();
    let mut bytes = Vec::new();
    let mut builder = WriterBuilder::new();
    builder.terminator(Terminator::CRLF).buffer_capacity(BUFFER);
    // If a spreadsheet's separator is one of these, the text after it would be a field of its own. If its separator is
    // `;`, quotes in the middle of a field are text, and the text after a line break would begin a line.
    if fields.iter().any(|field| field.contains([';', '\t', '\r', '\n'])) {
        builder.quote_style(QuoteStyle::Always);
    }
    let mut writer = builder.from_writer(&mut bytes);
    // Writing to memory does not fail, and lines may have any number of fields.
    let _ = writer.write_record(fields);
    drop(writer);
    String::from_utf8(bytes).unwrap_or_default()
}

/// A field. A text that a spreadsheet would run as a formula gets an apostrophe.
fn no_formula(field: String) -> String {
    match field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err() {
        true => format!("'{field}"),
        false => field,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fields of every line.
    pub(crate) fn parsed(text: &str) -> Vec<Vec<String>> {
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
        let lines = reader.records().map(|line| line.expect("a line").iter().map(str::to_owned).collect());
        lines.collect()
    }

    #[test]
    fn formulas_are_quoted_and_numbers_are_not() {
        let fields = ["=1+1", "-x", "-1.5", "+a,b", "a\"b", ""].map(str::to_owned);
        assert_eq!(line(fields), "'=1+1,'-x,-1.5,\"'+a,b\",\"a\"\"b\",\r\n");
    }

    #[test]
    fn formulas_after_another_separator_are_quoted() {
        assert_eq!(line(["x;=1+1", "2"].map(str::to_owned)), "\"x;=1+1\",\"2\"\r\n");
        assert_eq!(line(["x\t=1+1"].map(str::to_owned)), "\"x\t=1+1\"\r\n");
        // There quotes that do not begin a field are text, and the line ends.
        assert_eq!(line(["x", "y\n=1+1"].map(str::to_owned)), "\"x\",\"y\n=1+1\"\r\n");
        assert_eq!(line(["x", "y\r=1+1"].map(str::to_owned)), "\"x\",\"y\r=1+1\"\r\n");
    }

    proptest! {
        #[test]
        fn fields_come_back(fields in prop::collection::vec("[a-z\",\r\n ]{0,12}", 1..5)) {
            let wanted: Vec<_> = fields.iter().map(|field| match field.starts_with('\r') {
                true => format!("'{field}"),
                false => field.clone(),
            }).collect();
            prop_assert_eq!(parsed(&line(fields)), vec![wanted]);
        }
    }
}
