//! The result of an audit as JSON.

use serde_json::{Value, json};

use super::tally::Count;
use super::{AuditReport, findings_file};

/// The report as one JSON object, without the findings, of which there may be millions.
#[must_use]
pub fn json(report: &AuditReport) -> Value {
    let zones = report.done.tally.zones.iter().map(|zone| {
        let found: serde_json::Map<_, _> =
            zone.found.iter().map(|(kind, of)| (kind.as_str().to_owned(), count(*of))).collect();
        json!({
            "name": zone.name,
            "target": zone.target,
            "blobs": count(zone.blobs),
            "hashed": count(zone.hashed),
            "found": found,
        })
    });
    json!({
        "wrong": report.done.tally.wrong(),
        "blobs": count(report.done.tally.blobs),
        "recent": report.done.tally.recent,
        "zones": zones.collect::<Vec<_>>(),
        "began": humantime::format_rfc3339_seconds(report.done.began).to_string(),
        "seconds": report.took.as_secs_f64(),
        "notes": report.notes,
        "unseen": report.unseen,
        "findings_file": findings_file(&report.folder),
    })
}

fn count(count: Count) -> Value {
    json!({"objects": count.objects, "bytes": count.bytes})
}
