//! The results of `heal` and `backfill`, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;

use replication::Timetable;
use serde_json::{Value, json};

use super::feed::FeedResult;
use super::plan::{CopyPlan, time, time_with_timetable};
use crate::audit::{Count, human_duration};

/// The result of `heal` as text: what was queued, or with `fed` as `None`, what would be queued.
#[must_use]
pub fn heal_text(plan: &CopyPlan, fed: Option<FeedResult>) -> String {
    let mut text = String::new();
    if !plan.zones.is_empty() {
        let mut table = crate::table::with_headers(["zone", "copies", "bytes"]);
        for (zone, count) in &plan.zones {
            table.add_row([zone.clone(), count.objects.to_string(), ByteSize(count.bytes).to_string()]);
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{table}\n");
    }
    text.push_str(&unfixable(plan));
    let all = plan.all();
    let _ = match fed {
        None => writeln!(text, "{} copies would be queued, {}", all.objects, ByteSize(all.bytes)),
        Some(fed) => writeln!(text, "{}", queued(fed)),
    };
    text
}

fn queued(fed: FeedResult) -> String {
    let earlier = match fed.earlier {
        0 => String::new(),
        earlier => format!("; an earlier run queued {earlier}"),
    };
    format!("{} copies are queued{earlier}. `quay-gateway queue` shows their progress", fed.queued)
}

/// The findings that a copy does not fix, or that need no bytes.
fn unfixable(plan: &CopyPlan) -> String {
    let mut text = String::new();
    if plan.unplaced > 0 {
        let _ = writeln!(
            text,
            "{} objects are in place but not recorded in Quay's database: they are recorded, nothing is copied",
            plan.unplaced
        );
    }
    for (kind, count) in &plan.unfixable {
        let _ = writeln!(text, "a copy does not fix: {count} {}", kind.as_str());
    }
    if plan.sourceless > 0 {
        let _ = writeln!(
            text,
            "{} copies are of blobs that no zone gives: only the registry may have one. Restore the object in the zone \
             that the finding names, or push the image again",
            plan.sourceless
        );
    }
    if plan.unknown > 0 {
        let _ = writeln!(
            text,
            "skipped: {} of blobs that Quay's database does not have; --unknown copies them too",
            plan.unknown
        );
    }
    text
}

/// The result of `heal` as JSON.
#[must_use]
pub fn heal_json(plan: &CopyPlan, fed: Option<FeedResult>) -> Value {
    let zones: BTreeMap<_, _> = plan.zones.iter().map(|(zone, of)| (zone, count(*of))).collect();
    let unfixable: BTreeMap<_, _> =
        plan.unfixable.iter().map(|(kind, count)| (kind.as_str(), count)).collect();
    json!({
        "zones": zones,
        "copies": count(plan.all()),
        "beyond": unfixable,
        "unplaced": plan.unplaced,
        "sourceless": plan.sourceless,
        "unknown_left_alone": plan.unknown,
        "queued": fed.map(|fed| fed.queued),
        "findings_dealt_with_before": fed.map(|fed| fed.earlier),
    })
}

fn count(count: Count) -> Value {
    json!({"objects": count.objects, "bytes": count.bytes})
}

/// Why a zone gets no copies.
#[must_use]
pub fn no_target(zone: &str) -> String {
    format!(
        "zone {zone} is not a target of copies, because Quay's garbage collection would not reach them: add it \
         to DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS, or accept that with replication.accept_orphans"
    )
}

/// The result of `backfill`: what it takes to fill a zone.
#[derive(Debug)]
pub struct BackfillReport<'a> {
    /// The zone.
    pub zone: &'a str,
    /// Whether the zone is a target of copies.
    pub target: bool,
    /// The copies that the zone needs.
    pub plan: &'a CopyPlan,
    /// The rate for the estimate, in bytes a second, instead of the configured limits.
    pub rate: Option<u64>,
    /// The configured limits.
    pub table: &'a Timetable,
    /// What was queued, if `--go` was given.
    pub fed: Option<FeedResult>,
}

impl BackfillReport<'_> {
    fn duration(&self) -> Option<Duration> {
        let bytes = self.plan.all().bytes;
        match self.rate {
            Some(rate) => time(bytes, rate),
            None => time_with_timetable(self.table, bytes, SystemTime::now()),
        }
    }

    /// The result as text.
    #[must_use]
    pub fn text(&self) -> String {
        let all = self.plan.all();
        let (zone, bytes) = (self.zone, ByteSize(all.bytes));
        let mut text = unfixable(self.plan);
        let duration = match (self.rate, self.duration()) {
            (Some(rate), Some(took)) => format!(", {} at {}/s", human_duration(took), ByteSize(rate)),
            (None, Some(took)) => format!(", {} with replication.limits", human_duration(took)),
            (_, None) => "; --rate 100MiB estimates how long that takes".to_owned(),
        };
        let lacking = all.objects.saturating_sub(self.plan.unplaced);
        let _ = writeln!(text, "{zone} lacks {lacking} blobs, {bytes}{duration}");
        if !self.target {
            let _ = writeln!(text, "\nnote: {}", no_target(zone));
        }
        let _ = match self.fed {
            Some(fed) => writeln!(text, "{}", queued(fed)),
            None => {
                writeln!(
                    text,
                    "nothing was queued: `quay-gateway backfill {zone} --findings --go` queues the copies"
                )
            }
        };
        text
    }

    /// The result as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let all = self.plan.all();
        json!({
            "zone": self.zone,
            "target": self.target,
            "copies": count(all),
            "bytes_per_second": self.rate,
            "seconds": self.duration().map(|took| took.as_secs()),
            "queued": self.fed.map(|fed| fed.queued),
        })
    }
}
