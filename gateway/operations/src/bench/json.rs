//! The results as JSON.

use serde_json::{Value, json};

use super::BenchReport;
use super::row::Row;
use super::statistics::Spread;

/// The report as one JSON object. Times are in milliseconds and rates in millions of bytes a second; missing values
/// are null.
#[must_use]
pub fn json(report: &BenchReport) -> Value {
    let failures = report.failures.iter().map(|(series, error, count)| {
        json!({"path": series.path(), "zone": series.zone(), "error": error, "count": count})
    });
    let blobs = report.blobs.iter().map(|blob| {
        json!({
            "repository": blob.repository,
            "digest": blob.digest.to_string(),
            "size": blob.size,
            "class": blob.class.as_str(),
        })
    });
    let at = |(name, address): &(String, String)| json!({"name": name, "address": address});
    json!({
        "at": humantime::format_rfc3339_seconds(report.at).to_string(),
        "seconds": report.took.as_secs_f64(),
        "registry": at(&report.registry_at),
        "gateway": at(&report.gateway_at),
        "images": report.images,
        "blobs": blobs.collect::<Vec<_>>(),
        "reads": report.reads,
        "at_once": report.at_once,
        "passed": report.passed(),
        "rows": report.rows.iter().map(|one| row(report, one)).collect::<Vec<_>>(),
        "failures": failures.collect::<Vec<_>>(),
        "notes": report.notes,
    })
}

fn row(report: &BenchReport, row: &Row) -> Value {
    json!({
        "path": row.series.path(),
        "zone": row.series.zone(),
        "label": report.label(&row.series),
        "class": row.class.as_str(),
        "reads": row.reads(),
        "right": row.right,
        "absent": row.absent,
        "failed": row.failed,
        "wrong_bytes": row.wrong,
        "cache_hits": row.series.is_gateway().then_some(row.hits),
        "first_byte_ms": row.first_byte.map(spread),
        "whole_ms": row.whole.map(spread),
        "mb_per_s": row.rate.map(rounded),
        "first_byte_ratio": row.first_byte_ratio.map(rounded),
        "mb_per_s_ratio": row.rate_ratio.map(rounded),
    })
}

fn spread(of: Spread) -> Value {
    json!({
        "min": rounded(of.min),
        "p25": rounded(of.p25),
        "p50": rounded(of.p50),
        "p75": rounded(of.p75),
        "p95": rounded(of.p95),
        "max": rounded(of.max),
    })
}

/// Rounds to a thousandth, which is a microsecond for times.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn rows_have_their_figures_or_null() {
        let value = json(&example());
        let rows = value["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 12);
        let of = |path: &str, zone: Option<&str>| {
            rows.iter().find(|row| row["path"] == path && row["zone"] == json!(zone)).expect("a row")
        };
        assert!(of("zone", Some("zone-a"))["first_byte_ms"]["p95"].is_f64());
        assert_eq!(of("zone", Some("dead"))["whole_ms"], Value::Null);
        assert_eq!(of("gateway-later", None)["cache_hits"], 12);
        assert_eq!(of("registry", None)["first_byte_ratio"], Value::Null);
        assert_eq!((&value["passed"], &value["failures"][0]["count"]), (&json!(false), &json!(24)));
    }
}
