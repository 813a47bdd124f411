//! What came of healing and filling, in words and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use replication::Timetable;
use serde_json::{Value, json};

use super::feed::Fed;
use super::plan::{Plan, time, time_by};
use crate::audit::{Count, spoken};

/// What was queued, or would be where nothing was fed.
#[must_use]
pub fn healed(plan: &Plan, fed: Option<Fed>) -> String {
    let mut text = String::new();
    if !plan.zones.is_empty() {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        // Without a terminal there is no width to keep to.
        if table.is_tty() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        let heads = ["zone", "copies", "bytes"];
        table.set_header(heads.iter().map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
        for (zone, count) in &plan.zones {
            table.add_row([zone.clone(), count.objects.to_string(), ByteSize(count.bytes).to_string()]);
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{table}\n");
    }
    text.push_str(&beyond(plan));
    let all = plan.all();
    let _ = match fed {
        None => writeln!(text, "{} copies would be queued, {}", all.objects, ByteSize(all.bytes)),
        Some(fed) => writeln!(text, "{}", queued(fed)),
    };
    text
}

fn queued(fed: Fed) -> String {
    let earlier = match fed.earlier {
        0 => String::new(),
        earlier => format!("; {earlier} were by an earlier run"),
    };
    format!("{} copies are queued{earlier}. `quay-gateway queue` shows how far they are", fed.queued)
}

/// What no copy mends, or not every one.
fn beyond(plan: &Plan) -> String {
    let mut text = String::new();
    if plan.unplaced > 0 {
        let _ = writeln!(
            text,
            "{} objects are there and Quay does not know it: nothing is copied, its database is told",
            plan.unplaced
        );
    }
    for (kind, count) in &plan.beyond {
        let _ = writeln!(text, "no copy mends: {count} {}", kind.as_str());
    }
    if plan.unknown > 0 {
        let _ = writeln!(
            text,
            "left alone: {} of blobs that Quay's database does not have; --unknown copies them too",
            plan.unknown
        );
    }
    text
}

/// The same for programs.
#[must_use]
pub fn healed_json(plan: &Plan, fed: Option<Fed>) -> Value {
    let zones: BTreeMap<_, _> = plan.zones.iter().map(|(zone, of)| (zone, count(*of))).collect();
    let beyond: BTreeMap<_, _> = plan.beyond.iter().map(|(kind, count)| (kind.as_str(), count)).collect();
    json!({
        "zones": zones,
        "copies": count(plan.all()),
        "beyond": beyond,
        "unplaced": plan.unplaced,
        "unknown_left_alone": plan.unknown,
        "queued": fed.map(|fed| fed.queued),
        "findings_dealt_with_before": fed.map(|fed| fed.earlier),
    })
}

fn count(count: Count) -> Value {
    json!({"objects": count.objects, "bytes": count.bytes})
}

/// Why copies do not go there.
#[must_use]
pub fn no_target(zone: &str) -> String {
    format!(
        "zone {zone} is none that copies go to, as Quay's garbage collection would not reach them: add it to \
         DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS, or accept that with replication.accept_orphans"
    )
}

/// What it takes to fill a zone.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The zone.
    pub zone: &'a str,
    /// Whether copies go there.
    pub target: bool,
    /// What it lacks.
    pub plan: &'a Plan,
    /// Bytes a second that were asked about, instead of what the configuration allows.
    pub rate: Option<u64>,
    /// What the configuration allows.
    pub table: &'a Timetable,
    /// What was queued, if anything was to be.
    pub fed: Option<Fed>,
}

impl Outcome<'_> {
    fn takes(&self) -> Option<Duration> {
        let bytes = self.plan.all().bytes;
        match self.rate {
            Some(rate) => time(bytes, rate),
            None => time_by(self.table, bytes, SystemTime::now()),
        }
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let all = self.plan.all();
        let (zone, bytes) = (self.zone, ByteSize(all.bytes));
        let mut text = beyond(self.plan);
        let takes = match (self.rate, self.takes()) {
            (Some(rate), Some(took)) => format!(", {} at {}/s", spoken(took), ByteSize(rate)),
            (None, Some(took)) => format!(", {} by replication.limits", spoken(took)),
            (_, None) => "; --rate 100MiB tells how long that takes".to_owned(),
        };
        let lacking = all.objects.saturating_sub(self.plan.unplaced);
        let _ = writeln!(text, "{zone} lacks {lacking} blobs, {bytes}{takes}");
        if !self.target {
            let _ = writeln!(text, "\nnote: {}", no_target(zone));
        }
        let _ = match self.fed {
            Some(fed) => writeln!(text, "{}", queued(fed)),
            None => {
                writeln!(text, "nothing is queued: `quay-gateway backfill {zone} --findings --go` does that")
            }
        };
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let all = self.plan.all();
        json!({
            "zone": self.zone,
            "target": self.target,
            "copies": count(all),
            "bytes_per_second": self.rate,
            "seconds": self.takes().map(|took| took.as_secs()),
            "queued": self.fed.map(|fed| fed.queued),
        })
    }
}
