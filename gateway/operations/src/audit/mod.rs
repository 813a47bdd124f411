//! What lies in the zones, beside each other: which blobs are missing where, which are wrong, and what
//! belongs to nobody. Reads only.
//!
//! The digests of blobs are evenly spread, so an inventory goes by their first byte, in 256 steps: all
//! zones list what they have below one prefix, the listings are compared, what was found is appended to a
//! file, and a checkpoint is written. Memory holds a few steps at most, whatever the number of blobs and
//! the order of a listing.

mod beside;
mod checkpoint;
mod compare;
mod deep;
mod finding;
mod json;
mod layout;
mod listing;
mod pace;
mod percent;
mod progress;
mod records;
mod strays;
mod table;
mod tally;

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

pub use beside::{Alone, alone};
pub use checkpoint::{Begin, Checkpoint, Findings, Plan, findings, findings_file, found, from_file};
pub use finding::{CSV_HEAD, Finding, Kind};
pub use json::json;
pub use pace::spoken;
pub use percent::Percent;
pub use progress::Line;
pub use progress::Progress;
pub use table::{SHOWN, table};
pub use table::{printable, with_bytes};
pub use tally::{Count, Tally, ZoneTally};

use self::checkpoint::Folder;
use self::compare::{Compared, Listed, Rows, compare, note_records};
use self::deep::{Read, Verdict, read_all, refine};
use self::layout::{Layout, STEPS};
use self::listing::Listing;
use self::progress::Course;
use self::records::Records;
use blob_cache::DirectoryLock;
use config::Settings;
use registry;

/// Steps that are listed at once; they are compared one after the other.
const STEPS_AT_ONCE: usize = 4;

/// How to audit.
#[derive(Debug)]
pub struct Options {
    /// The audit's own folder: how far it is, and what was found. Made, if need be.
    pub folder: PathBuf,
    /// What to do about an audit that was cut.
    pub begin: Begin,
    /// Zones to leave out, by name.
    pub without: Vec<String>,
    /// Zones where every blob should be, by name, instead of the configuration's.
    pub targets: Option<Vec<String>>,
    /// Which share of the blobs to read and hash. Where there is one, also those are read of which zones
    /// have different sizes.
    pub deep: Option<Percent>,
    /// What draws the sample.
    pub seed: u64,
    /// Whether to look for what belongs to nobody in the whole root of each zone.
    pub strays: bool,
    /// Blobs written within so long are left alone: their copies may be under way. None are, if it is zero.
    pub min_age: Duration,
    /// How long ago an audit may have begun that is gone on with; for ever, if that is not said.
    pub oldest: Option<Duration>,
    /// Whether to ask Quay's database, where it is configured: what Quay knows nothing of, and what it
    /// believes to be where it is not.
    pub database: bool,
}

/// What came of an audit.
#[derive(Debug)]
pub struct Report {
    /// What it did and counted.
    pub done: Checkpoint,
    /// Its folder.
    pub folder: PathBuf,
    /// How long this run of it took.
    pub took: Duration,
    /// What there is to know beside what was found.
    pub notes: Vec<String>,
    /// Zones where every blob should be that could not be used, though nobody left them out: nothing is
    /// known of them.
    pub unseen: Vec<String>,
}

impl Report {
    /// Whether every zone that was to be audited was, and nothing is missing or wrong.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.unseen.is_empty() && self.done.tally.wrong() == 0
    }
}

/// Audits the zones. `found` is told of everything that is found, as it is, from the beginning also where
/// an audit goes on.
///
/// # Errors
/// A zone could not be listed, a file not be written, or it was stopped: what is done so far is kept in
/// the folder, and can be gone on with.
pub async fn run(
    settings: &Settings,
    options: &Options,
    progress: Progress,
    stop: &CancellationToken,
    found: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<Report> {
    let began = std::time::Instant::now();
    certificates::install_provider();
    let transport = config::transport(settings, certificates::client(&settings.ca_files)?);
    let Chosen { zones, mut notes, unusable } =
        chosen(config::zones(settings, &transport)?, &options.without)?;
    let records = match options.database {
        true => quay_db::connect(settings).await?.map(|quay| Box::new(quay) as Box<dyn Records>),
        false => None,
    };
    let targets = options.targets.as_ref().unwrap_or(&settings.targets);
    let targets: BTreeSet<_> = targets.iter().map(String::as_str).collect();
    let unseen = unusable.into_iter().filter(|name| targets.contains(name.as_str())).collect();
    if !zones.iter().any(|zone| targets.contains(&*zone.name)) {
        notes.push("none of these zones is a target of copies: nothing counts as missing".to_owned());
    }
    let plan = Plan {
        zones: zones.iter().map(|zone| (zone.name.to_string(), targets.contains(&*zone.name))).collect(),
        deep: options.deep,
        seed: options.seed,
        strays: options.strays,
        registry: records.is_some(),
        kind: format!("{:?}", settings.registry_kind),
        places: places(settings, &zones),
    };
    let _lock = DirectoryLock::take(&options.folder).context("the audit's folder cannot be used")?;
    let mut folder = Folder::open(&options.folder, plan, options.begin, options.oldest)?;
    for finding in findings(&options.folder)? {
        found(&finding?)?;
    }
    let audit = Audit {
        layout: Layout::new(settings.registry_kind, registry::registry(settings)),
        zones,
        targets,
        records,
        options,
    };
    let mut course = progress.course(folder.at.steps);
    let walked = tokio::select! {
        biased;
        () = stop.cancelled() => Err(anyhow::anyhow!("asked to stop")),
        walked = audit.walk(&mut folder, &mut course, found) => walked,
    };
    course.clear();
    walked.with_context(|| {
        format!(
            "{} of {STEPS} steps are done and kept in {}: --resume goes on from there",
            folder.at.steps,
            options.folder.display()
        )
    })?;
    Ok(Report { done: folder.at, folder: options.folder.clone(), took: began.elapsed(), notes, unseen })
}

/// Zones to audit, and others.
struct Chosen {
    zones: Vec<Zone>,
    /// What there is to say of the others.
    notes: Vec<String>,
    /// Those that cannot be used, and were not left out.
    unusable: Vec<String>,
}

/// The zones that can be listed and are not left out, and what there is to say of the others.
fn chosen(zones: Vec<Zone>, without: &[String]) -> anyhow::Result<Chosen> {
    let names: Vec<_> = zones.iter().map(|zone| zone.name.to_string()).collect();
    if let Some(unknown) = without.iter().find(|name| !names.contains(name)) {
        bail!("--without: there is no zone {unknown}; zones are {}", names.join(", "));
    }
    let mut chosen = Chosen { zones: Vec::new(), notes: Vec::new(), unusable: Vec::new() };
    for zone in zones {
        if without.iter().any(|name| *name == *zone.name) {
            chosen.notes.push(format!("zone {} was left out", zone.name));
        } else if let Some(unusable) = config::unusable(&zone) {
            chosen.notes.push(format!("{unusable}; it was left out"));
            chosen.unusable.push(zone.name.to_string());
        } else {
            chosen.zones.push(zone);
        }
    }
    match chosen.zones.is_empty() {
        true => bail!("no zone is left to audit"),
        false => Ok(chosen),
    }
}

/// Where the stores of these zones are.
fn places(settings: &Settings, zones: &[Zone]) -> Vec<String> {
    let named = |zone: &Zone| settings.zones.iter().find(|named| named.name == *zone.name);
    let place = |zone: &Zone| {
        let store = &named(zone)?.store;
        Some(Digest::of(format!("{} {}", store.driver(), store.location()?).as_bytes()).to_string())
    };
    zones.iter().map(|zone| place(zone).unwrap_or_default()).collect()
}

/// From when on blobs are too young to say anything of them, if any are.
fn recent(now: SystemTime, min_age: Duration) -> Option<SystemTime> {
    let since = || now.checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
    (!min_age.is_zero()).then(since)
}

/// An audit at work.
struct Audit<'a> {
    layout: Layout,
    zones: Vec<Zone>,
    targets: BTreeSet<&'a str>,
    records: Option<Box<dyn Records>>,
    options: &'a Options,
}

/// What one step came to.
struct Step {
    compared: Compared,
    /// Zone by zone.
    blobs: Vec<Count>,
    hashed: Vec<Count>,
}

impl Audit<'_> {
    async fn walk(
        &self,
        folder: &mut Folder,
        course: &mut Course,
        found: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
    ) -> anyhow::Result<()> {
        // Bytes, all 256 of them.
        let rest = (folder.at.steps..STEPS).map(|first| self.step(first as u8));
        let mut steps = std::pin::pin!(stream::iter(rest).buffered(STEPS_AT_ONCE));
        while let Some(step) = steps.next().await {
            let step = step?;
            step.compared.findings.iter().try_for_each(&mut *found)?;
            folder.add(&step.compared.findings)?;
            let tally = &mut folder.at.tally;
            tally.take(&step.compared);
            for (zone, (blobs, hashed)) in tally.zones.iter_mut().zip(step.blobs.iter().zip(&step.hashed)) {
                zone.blobs.merge(*blobs);
                zone.hashed.merge(*hashed);
            }
            folder.at.steps += 1;
            folder.save()?;
            course.at(folder.at.steps, &folder.at.tally);
        }
        if self.options.strays {
            strays::walk(&self.zones, &self.layout, folder, course, found).await?;
        }
        folder.at.done = true;
        folder.save()
    }

    async fn step(&self, first: u8) -> anyhow::Result<Step> {
        let recent = recent(SystemTime::now(), self.options.min_age);
        let list = |zone: &Zone| {
            let (store, name) = (Arc::clone(&zone.store), Arc::clone(&zone.name));
            async move {
                listing::list(&store, &self.layout, first, recent).await.with_context(|| {
                    format!("zone {name} cannot be listed (`quay-gateway check` says more, --without {name} goes on without it)")
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
        note_records(&mut step.compared.findings, rows.as_ref());
        Ok(step)
    }

    /// The listings beside each other; they come back for who wants to read what is in them.
    fn compared(&self, listings: Vec<Listing>, rows: Option<&Rows>) -> (Step, Vec<Listed<'_>>) {
        let mut strays = Vec::new();
        let mut blobs = Vec::new();
        let mut listed = Vec::new();
        for (zone, listing) in self.zones.iter().zip(listings) {
            blobs.push(listing.blobs);
            strays.extend(listing.strays.iter().map(|(key, size)| Finding::stray(&zone.name, key, *size)));
            let target = self.targets.contains(&*zone.name);
            listed.push(Listed { zone: &zone.name, target, blobs: listing.seen });
        }
        let mut compared = compare(&mut listed, rows);
        compared.findings.extend(strays);
        let hashed = vec![Count::default(); blobs.len()];
        (Step { compared, blobs, hashed }, listed)
    }

    /// Reads the sample, and what zones have in different sizes.
    async fn read(&self, step: &mut Step, listed: Vec<Listed<'_>>) {
        let share = self.options.deep.unwrap_or(Percent::ZERO);
        let doubtful = &step.compared.doubtful;
        let mut reads = Vec::new();
        for (zone, listed) in self.zones.iter().zip(listed) {
            for seen in listed.blobs {
                // Sorted, as they were compared.
                let doubtful = doubtful.binary_search(&seen.digest).is_ok();
                if doubtful || share.takes(&seen.digest, self.options.seed) {
                    let (digest, key) = (seen.digest, self.layout.key(&seen.digest));
                    reads.push(Read { zone, digest, key, size: seen.size });
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
    fn of_no_age_none_is_too_young() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(recent(now, Duration::ZERO), None, "nor what a store's fast clock dates tomorrow");
        assert_eq!(recent(now, Duration::from_secs(1)), Some(now - Duration::from_secs(1)));
        assert_eq!(recent(now, Duration::MAX), Some(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn a_zone_that_cannot_be_used_is_no_zone_left_out() {
        let zones = || ["a", "b"].map(|name| Zone::unusable(name, "why")).into_iter();
        let memory = || Zone::new("c", Arc::new(backends::memory::MemoryStore::new()));
        let some = chosen(zones().chain([memory()]).collect(), &["a".to_owned()]).expect("one is left");
        assert_eq!((some.zones.len(), some.notes.len(), some.unusable), (1, 2, vec!["b".to_owned()]));
        assert!(chosen(zones().collect(), &[]).is_err());
    }
}
