//! The results as CSV. Pure.

use super::BenchReport;
use super::json::rounded;
use super::read::ReadOutcome;
use super::row::milliseconds;
use super::statistics::Spread;
use crate::csv::line;

/// One line for every read, in order.
pub(super) fn results(report: &BenchReport) -> String {
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
            ReadOutcome::Failed(why) => why.clone(),
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
            read.source.clone().unwrap_or_default(),
            error,
        ]);
    }
    text
}

/// One line for each size class and path.
#[must_use]
pub fn summary(report: &BenchReport) -> String {
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

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;
    use crate::csv::tests::parsed;

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
}
