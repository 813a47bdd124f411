//! Compares what the zones hold: which blobs are missing, which are wrong, and which objects belong to nobody.
//! Only reads.
//!
//! An audit has 256 steps, one for each first byte of a digest. In each step, all zones list what they have
//! below one prefix, the listings are compared, the findings are appended to a file, and a checkpoint is
//! written. Only a few steps are in memory at a time, whatever the number of blobs and the order of a listing.

mod checkpoint;
mod compare;
mod deep;
mod eta;
mod finding;
mod json;
mod layout;
mod listing;
mod percent;
mod progress;
mod records;
mod strays;
mod table;
mod tally;
mod unique_objects;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use backends::Digest;
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _};
use tokio_util::sync::CancellationToken;
use zone_router::Zone;

pub use checkpoint::{
    AuditPlan, Checkpoint, Findings, StartMode, findings, findings_file, from_file, load_checkpoint,
};
pub use eta::human_duration;
pub use finding::{CSV_HEAD, Finding, FindingKind};
pub use json::json;
pub use percent::{Percent, PercentError};
pub use progress::Progress;
pub use progress::ProgressLine;
pub use table::{SHOWN, table};
pub use table::{printable, with_bytes};
pub use tally::{Count, Tally, ZoneTally};
pub use unique_objects::{UniqueObjects, unique_objects};

use self::checkpoint::AuditFolder;
use self::compare::{BlobRecords, Compared, ZoneBlobs, compare, set_known};
use self::deep::{ReadTask, Verdict, read_all, refine};
use self::layout::{Layout, STEPS};
use self::listing::Listing;
use self::progress::AuditProgress;
use self::records::Records;
use blob_cache::DirectoryLock;
use config::Settings;
use registry;

/// Steps that are listed at the same time. They are compared one after the other.
const STEPS_AT_ONCE: usize = 4;

/// The options of an audit.
#[derive(Debug)]
pub struct AuditOptions {
    /// The audit's own folder, for its checkpoint and its findings. It is created if necessary.
    pub folder: PathBuf,
    /// What to do about an interrupted audit in the folder.
    pub begin: StartMode,
    /// Zones to leave out, by name.
    pub without: Vec<String>,
    /// Zones that should have every blob, by name, instead of the configured targets.
    pub targets: Option<Vec<String>>,
    /// The share of blobs to read and hash. With any share, blobs that have different sizes in different zones
    /// are read too.
    pub deep: Option<Percent>,
    /// The seed of that sample.
    pub seed: u64,
    /// Whether to list the whole root of each zone for strays.
    pub strays: bool,
    /// Blobs that were written within this time are skipped, because their copies may be in progress. Zero skips
    /// none.
    pub min_age: Duration,
    /// How long ago a resumed audit may have begun. `None` for no limit.
    pub oldest: Option<Duration>,
    /// Whether to read Quay's database, if it is configured, to find orphans, unplaced copies and lost blobs.
    pub database: bool,
}

/// The result of an audit.
#[derive(Debug)]
pub struct AuditReport {
    /// The plan and the counts.
    pub done: Checkpoint,
    /// The audit's folder.
    pub folder: PathBuf,
    /// How long this run took.
    pub took: Duration,
    /// Notes for the operator, besides the findings.
    pub notes: Vec<String>,
    /// Target zones that could not be used and that the operator did not leave out. Nothing is known about them.
    pub unseen: Vec<String>,
}

impl AuditReport {
    /// Whether every target zone was audited, and nothing is missing or wrong.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.unseen.is_empty() && self.done.tally.wrong() == 0
    }
}

/// Audits the zones. Calls `on_finding` for every finding, including those from before a resumed audit was
/// interrupted.
///
/// # Errors
/// The options do not fit the configuration or the folder, a zone cannot be listed, the registry's records
/// cannot be read, a file cannot be written, `on_finding` fails, or `stop` was cancelled. The progress is kept in
/// the folder and can be resumed.
pub async fn run(
    settings: &Settings,
    options: &AuditOptions,
    progress: Progress,
    stop: &CancellationToken,
    on_finding: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<AuditReport> {
    let began = std::time::Instant::now();
    certificates::install_provider();
    let transport = config::transport(settings, certificates::client(&settings.ca_files)?);
    let ZoneSelection { zones, mut notes, unusable } =
        select_zones(config::zones(settings, &transport)?, &options.without)?;
    let records = match options.database {
        true => quay_db::connect(settings).await?.map(|quay| Box::new(quay) as Box<dyn Records>),
        false => None,
    };
    let targets = options.targets.as_ref().unwrap_or(&settings.targets);
    let targets: BTreeSet<_> = targets.iter().map(String::as_str).collect();
    let unseen = unusable.into_iter().filter(|name| targets.contains(name.as_str())).collect();
    if !zones.iter().any(|zone| targets.contains(&*zone.name)) {
        notes.push("none of these zones is a target of copies, so nothing counts as missing".to_owned());
    }
    let plan = AuditPlan {
        zones: zones.iter().map(|zone| (zone.name.to_string(), targets.contains(&*zone.name))).collect(),
        deep: options.deep,
        seed: options.seed,
        strays: options.strays,
        registry: records.is_some(),
        kind: format!("{:?}", settings.registry_kind),
        places: places(settings, &zones),
    };
    let _lock = DirectoryLock::take(&options.folder).context("the audit's folder cannot be used")?;
    let mut folder = AuditFolder::open(&options.folder, plan, options.begin, options.oldest)?;
    for finding in findings(&options.folder)? {
        on_finding(&finding?)?;
    }
    let audit = Audit {
        layout: Layout::new(settings.registry_kind, registry::registry(settings)),
        zones,
        targets,
        records,
        options,
    };
    let mut progress = progress.audit(folder.checkpoint.steps);
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
        result = audit.run(&mut folder, &mut progress, on_finding) => result,
    };
    progress.clear();
    result.with_context(|| {
        format!(
            "{} of {STEPS} steps are done and kept in {}: --resume continues from there",
            folder.checkpoint.steps,
            options.folder.display()
        )
    })?;
    Ok(AuditReport {
        done: folder.checkpoint,
        folder: options.folder.clone(),
        took: began.elapsed(),
        notes,
        unseen,
    })
}

/// The zones to audit, and what to report about the others.
struct ZoneSelection {
    zones: Vec<Zone>,
    /// Notes about the zones that are not audited.
    notes: Vec<String>,
    /// Zones that cannot be used and that the operator did not leave out.
    unusable: Vec<String>,
}

/// Selects the zones that can be used and are not left out.
///
/// # Errors
/// There is no zone of a name in `without`, or no zone remains.
fn select_zones(zones: Vec<Zone>, without: &[String]) -> anyhow::Result<ZoneSelection> {
    let names: Vec<_> = zones.iter().map(|zone| zone.name.to_string()).collect();
    if let Some(unknown) = without.iter().find(|name| !names.contains(name)) {
        bail!("--without: there is no zone {unknown}; zones are {}", names.join(", "));
    }
    let mut select_zones = ZoneSelection { zones: Vec::new(), notes: Vec::new(), unusable: Vec::new() };
    for zone in zones {
        if without.iter().any(|name| *name == *zone.name) {
            select_zones.notes.push(format!("zone {} was left out", zone.name));
        } else if let Some(unusable) = config::unusable(&zone) {
            select_zones.notes.push(format!("{unusable}; it was left out"));
            select_zones.unusable.push(zone.name.to_string());
        } else {
            select_zones.zones.push(zone);
        }
    }
    match select_zones.zones.is_empty() {
        true => bail!("no zone remains to be audited"),
        false => Ok(select_zones),
    }
}

/// Digests of the locations of these zones' stores.
fn places(settings: &Settings, zones: &[Zone]) -> Vec<String> {
    let named = |zone: &Zone| settings.zones.iter().find(|named| named.name == *zone.name);
    let place = |zone: &Zone| {
        let store = &named(zone)?.store;
        Some(Digest::of(format!("{} {}", store.driver(), store.location()?).as_bytes()).to_string())
    };
    zones.iter().map(|zone| place(zone).unwrap_or_default()).collect()
}

/// The time from which on a blob counts as recent. `None` if no blob does.
fn recent(now: SystemTime, min_age: Duration) -> Option<SystemTime> {
    let since = || now.checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
    (!min_age.is_zero()).then(since)
}

/// A running audit.
struct Audit<'a> {
    layout: Layout,
    zones: Vec<Zone>,
    targets: BTreeSet<&'a str>,
    records: Option<Box<dyn Records>>,
    options: &'a AuditOptions,
}

/// The result of one step.
struct StepResult {
    compared: Compared,
    /// The blobs of each zone.
    blobs: Vec<Count>,
    /// The blobs of each zone that were read and hashed.
    hashed: Vec<Count>,
}

impl Audit<'_> {
    async fn run(
        &self,
        folder: &mut AuditFolder,
        progress: &mut AuditProgress,
        on_finding: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
    ) -> anyhow::Result<()> {
        // The step is the first byte of the digests, so it fits in a `u8`.
        let rest = (folder.checkpoint.steps..STEPS).map(|first| self.step(first as u8));
        let mut steps = std::pin::pin!(stream::iter(rest).buffered(STEPS_AT_ONCE));
        while let Some(step) = steps.next().await {
            let step = step?;
            step.compared.findings.iter().try_for_each(&mut *on_finding)?;
            folder.add(&step.compared.findings)?;
            let tally = &mut folder.checkpoint.tally;
            tally.take(&step.compared);
            for (zone, (blobs, hashed)) in tally.zones.iter_mut().zip(step.blobs.iter().zip(&step.hashed)) {
                zone.blobs.merge(*blobs);
                zone.hashed.merge(*hashed);
            }
            folder.checkpoint.steps += 1;
            folder.save()?;
            progress.at(folder.checkpoint.steps, &folder.checkpoint.tally);
        }
        if self.options.strays {
            strays::run(&self.zones, &self.layout, folder, progress, on_finding).await?;
        }
        folder.checkpoint.done = true;
        folder.save()
    }

    async fn step(&self, first: u8) -> anyhow::Result<StepResult> {
        let recent = recent(SystemTime::now(), self.options.min_age);
        let list = |zone: &Zone| {
            let (store, name) = (Arc::clone(&zone.store), Arc::clone(&zone.name));
            async move {
                listing::list(&store, &self.layout, first, recent).await.with_context(|| {
                    format!(
                        "zone {name} cannot be listed (`quay-gateway check` shows why, --without {name} continues \
                         without it)"
                    )
                })
            }
        };
        let records = async {
            match &self.records {
                Some(records) => records.beginning_with(first).await.map(Some),
                None => Ok(None),
            }
        };
        let (listings, rows) = tokio::try_join!(try_join_all(self.zones.iter().map(list)), records)?;
        let (mut step, listed) = self.compared(listings, rows.as_ref());
        if self.options.deep.is_some() {
            self.read(&mut step, listed).await;
        }
        set_known(&mut step.compared.findings, rows.as_ref());
        Ok(step)
    }

    /// Compares the listings. Returns them too, because a deep audit reads some of their blobs.
    fn compared(
        &self,
        listings: Vec<Listing>,
        rows: Option<&BlobRecords>,
    ) -> (StepResult, Vec<ZoneBlobs<'_>>) {
        let mut strays = Vec::new();
        let mut blobs = Vec::new();
        let mut listed = Vec::new();
        for (zone, listing) in self.zones.iter().zip(listings) {
            blobs.push(listing.blobs);
            strays.extend(listing.strays.iter().map(|(key, size)| Finding::stray(&zone.name, key, *size)));
            let target = self.targets.contains(&*zone.name);
            listed.push(ZoneBlobs { zone: &zone.name, target, blobs: listing.seen });
        }
        let mut compared = compare(&mut listed, rows);
        compared.findings.extend(strays);
        let hashed = vec![Count::default(); blobs.len()];
        (StepResult { compared, blobs, hashed }, listed)
    }

    /// Reads the sample, and the blobs that have different sizes.
    async fn read(&self, step: &mut StepResult, listed: Vec<ZoneBlobs<'_>>) {
        let share = self.options.deep.unwrap_or(Percent::ZERO);
        let conflicting = &step.compared.conflicting;
        let mut reads = Vec::new();
        for (zone, listed) in self.zones.iter().zip(listed) {
            for seen in listed.blobs {
                // The list is sorted, because blobs are compared in the order of their digests.
                let conflicting = conflicting.binary_search(&seen.digest).is_ok();
                if conflicting || share.takes(&seen.digest, self.options.seed) {
                    let (digest, key) = (seen.digest, self.layout.key(&seen.digest));
                    reads.push(ReadTask { zone, digest, key, size: seen.size });
                }
            }
        }
        let verdicts = read_all(reads).await;
        for zones in verdicts.values() {
            for (zone, count) in self.zones.iter().zip(&mut step.hashed) {
                if let Some(Verdict::Right(bytes) | Verdict::Wrong(bytes)) = zones.get(&*zone.name) {
                    count.add(*bytes);
                }
            }
        }
        refine(&mut step.compared, &verdicts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_minimum_age_of_zero_no_blob_is_recent() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(
            recent(now, Duration::ZERO),
            None,
            "not even one that a store's fast clock dates in the future"
        );
        assert_eq!(recent(now, Duration::from_secs(1)), Some(now - Duration::from_secs(1)));
        assert_eq!(recent(now, Duration::MAX), Some(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn an_unusable_zone_is_not_a_zone_that_was_left_out() {
        let zones = || ["a", "b"].map(|name| Zone::unusable(name, "why")).into_iter();
        let memory = || Zone::new("c", Arc::new(backends::memory::MemoryStore::new()));
        let some = select_zones(zones().chain([memory()]).collect(), &["a".to_owned()]).expect("one is left");
        assert_eq!((some.zones.len(), some.notes.len(), some.unusable), (1, 2, vec!["b".to_owned()]));
        assert!(select_zones(zones().collect(), &[]).is_err());
    }
}
