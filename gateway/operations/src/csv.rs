//! CSV lines (RFC 4180). Pure.

/// One line, including its CR LF.
pub fn line(fields: impl IntoIterator<Item = String>) -> String {
    let fields: Vec<_> = fields.into_iter().map(|field| quoted(&field)).collect();
    fields.join(",") + "\r\n"
}

/// A field, quoted if necessary. A text that a spreadsheet would run as a formula gets an apostrophe.
fn quoted(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err();
    let field = if formula { format!("'{field}") } else { field.to_owned() };
    match field.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fields of every line.
    pub(crate) fn parsed(text: &str) -> Vec<Vec<String>> {
        let (mut lines, mut fields, mut field, mut within) = (Vec::new(), Vec::new(), String::new(), false);
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match (c, within) {
                ('"', true) if rest.peek() == Some(&'"') => field.extend(rest.next()),
                ('"', _) => within = !within,
                (',', false) => fields.push(std::mem::take(&mut field)),
                ('\r', false) if rest.peek() == Some(&'\n') => {
                    rest.next();
                    fields.push(std::mem::take(&mut field));
                    lines.push(std::mem::take(&mut fields));
                }
                (c, _) => field.push(c),
            }
        }
        assert!(!within && field.is_empty() && fields.is_empty());
        lines
    }

    #[test]
    fn no_formula_and_numbers_as_they_are() {
        assert_eq!(["=1+1", "-x", "-1.5", "+a,b"].map(quoted), ["'=1+1", "'-x", "-1.5", "\"'+a,b\""]);
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
