//! Tables for spreadsheets, as RFC 4180 has them. Pure.

use super::Report;
use super::json::rounded;
use super::read::Outcome;
use super::row::milliseconds;
use super::statistics::Spread;

/// One line for every read, in the order in which they were done.
pub(super) fn results(report: &Report) -> String {
    let mut text = line(
        [
            "path",
            "zone",
            "class",
            "digest",
            "turn",
            "outcome",
            "first_byte_ms",
            "whole_ms",
            "bytes",
            "told",
            "error",
        ]
        .map(str::to_owned),
    );
    for read in &report.all {
        let error = match &read.outcome {
            Outcome::Failed(why) => why.clone(),
            _ => String::new(),
        };
        text += &line([
            read.series.path().to_owned(),
            read.series.zone().unwrap_or_default().to_owned(),
            read.class.as_str().to_owned(),
            read.digest.to_string(),
            read.turn.to_string(),
            read.outcome.as_str().to_owned(),
            number(read.first_byte.map(milliseconds)),
            number(Some(milliseconds(read.whole))),
            read.bytes.to_string(),
            read.told.clone().unwrap_or_default(),
            error,
        ]);
    }
    text
}

/// One line for each class and way.
pub(super) fn summary(report: &Report) -> String {
    let spread = |name: &str| ["min", "p25", "p50", "p75", "p95", "max"].map(|at| format!("{name}_{at}_ms"));
    let first = ["path", "zone", "class", "reads", "right", "absent", "failed", "wrong_bytes", "cache_hits"];
    let last = ["mb_per_s", "first_byte_ratio", "mb_per_s_ratio"];
    let heads = first.map(str::to_owned).into_iter().chain(spread("first_byte")).chain(spread("whole"));
    let mut text = line(heads.chain(last.map(str::to_owned)));
    for row in &report.rows {
        let names = [row.series.path(), row.series.zone().unwrap_or_default(), row.class.as_str()];
        let counts =
            [row.reads(), row.right, row.absent, row.failed, row.wrong].map(|count| count.to_string());
        let hits = if row.series.is_gateway() { row.hits.to_string() } else { String::new() };
        let ratios = [row.rate, row.first_byte_ratio, row.rate_ratio].map(number);
        text += &line(
            names
                .map(str::to_owned)
                .into_iter()
                .chain(counts)
                .chain([hits])
                .chain(numbers(row.first_byte))
                .chain(numbers(row.whole))
                .chain(ratios),
        );
    }
    text
}

fn numbers(of: Option<Spread>) -> [String; 6] {
    let each: [fn(Spread) -> f64; 6] =
        [|of| of.min, |of| of.p25, |of| of.p50, |of| of.p75, |of| of.p95, |of| of.max];
    each.map(|pick| number(of.map(pick)))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| rounded(value).to_string())
}

fn line(fields: impl IntoIterator<Item = String>) -> String {
    let fields: Vec<_> = fields.into_iter().map(|field| quoted(&field)).collect();
    fields.join(",") + "\r\n"
}

/// A field, in quotes where it needs them. What others wrote must be no formula for a spreadsheet.
fn quoted(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err();
    let field = if formula { format!("'{field}") } else { field.to_owned() };
    match field.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::example;
    use super::*;

    /// Lines of fields.
    fn parsed(text: &str) -> Vec<Vec<String>> {
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
    fn every_line_has_every_field() {
        let report = example();
        for (text, lines) in [(results(&report), report.all.len()), (summary(&report), report.rows.len())] {
            let parsed = parsed(&text);
            assert_eq!(parsed.len(), lines + 1);
            assert!(parsed.iter().all(|line| line.len() == parsed[0].len()));
        }
        assert!(results(&report).contains("\"get: unavailable: \"\"refused\"\", <x> & y\""));
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
