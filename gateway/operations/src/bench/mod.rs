//! Measures how fast the zones are from this machine. Reads blobs of images from each zone's store, by the
//! registry's own path (as clients do without the gateway), and through the running gateway. Writes nothing.

mod csv;
mod figures;
mod files;
mod image;
mod json;
mod plan;
mod progress;
mod read;
mod read_path;
mod rounds;
mod row;
mod statistics;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, timeout_at};

pub use crate::images::{ImageName, ImageNameError};
pub use csv::summary as csv;
pub use files::ReportFolder;
pub use json::json;
pub use plan::ChosenBlob;
pub use progress::BenchProgress;
pub use read::{Read, ReadOutcome, Series};
pub use row::Row;
pub use statistics::Spread;
pub use table::table;

use self::plan::ReadPlan;
use self::read_path::ReadPath;
use self::rounds::{Reads, Rounds};
use crate::gateway_client;
use config::{Account, RegistryKind, Settings};
use registry::service_account::Tokens;
use registry::{RegistryClient, registry};

/// The most images.
pub const IMAGES_MAX: usize = 16;

/// The most reads of each size class by each path.
pub const READS_MAX: u32 = 10_000;

/// The most reads at the same time.
pub const AT_ONCE_MAX: u32 = 64;

/// The longest run that may be requested.
pub const RUN_MAX: Duration = Duration::from_secs(3600);

/// The options of a benchmark.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// The images whose blobs are read; 1 to [`IMAGES_MAX`].
    pub images: Vec<ImageName>,
    /// Reads of each size class by each path; 1 to [`READS_MAX`].
    pub reads: u32,
    /// Reads at the same time; 1 to [`AT_ONCE_MAX`].
    pub at_once: u32,
    /// The account that reads, instead of `registry.account`.
    pub account: Option<Account>,
    /// The gateway's address, instead of its `listen`.
    pub gateway: Option<SocketAddr>,
    /// The longest run; [`RUN_MAX`] at most.
    pub at_most: Duration,
}

/// The result of a benchmark.
#[derive(Debug, Clone)]
pub struct BenchReport {
    /// When it began.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// `Quay` or `registry`.
    pub registry: &'static str,
    /// The registry's own name, and the address that was used.
    pub registry_at: (String, String),
    /// The gateway's name, and the address that was used.
    pub gateway_at: (String, String),
    /// The images.
    pub images: Vec<String>,
    /// The blobs that were read.
    pub blobs: Vec<ChosenBlob>,
    /// The requested number of reads of each size class by each path.
    pub reads: u32,
    /// The requested number of reads at the same time.
    pub at_once: u32,
    /// A row for each size class and path.
    pub rows: Vec<Row>,
    /// The failures: the path, the error, and how often it occurred.
    pub failures: Vec<(Series, String, usize)>,
    /// Notes for the operator.
    pub notes: Vec<String>,
    /// Every read, in order.
    pub all: Vec<Read>,
}

impl BenchReport {
    /// Whether some read succeeded and none failed. A blob that a zone does not have is not a failure.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.all.iter().any(|read| read.outcome == ReadOutcome::Right)
    }

    /// The name of a path in the output. A zone has its own name.
    #[must_use]
    pub fn label(&self, series: &Series) -> String {
        match series {
            Series::Zone(name) => name.to_string(),
            Series::Registry => self.registry.to_owned(),
            Series::GatewayFirst => "gateway, first".to_owned(),
            Series::GatewayLater => "gateway, later".to_owned(),
        }
    }
}

/// Runs the benchmark. It writes nothing itself. The gateway caches what is read through it and copies it to a home
/// zone that lacks it, as for any client.
///
/// # Errors
/// An option is out of its range, the registry or the gateway does not answer, an image does not exist or may not
/// be read, or no zone can be used. The error says how to fix it.
pub async fn run(
    settings: &Settings,
    options: &BenchOptions,
    progress: BenchProgress,
) -> anyhow::Result<BenchReport> {
    ensure!((1..=IMAGES_MAX).contains(&options.images.len()), "--image: give 1 to {IMAGES_MAX} images");
    ensure!((1..=READS_MAX).contains(&options.reads), "--reads: must be 1 to {READS_MAX}");
    ensure!((1..=AT_ONCE_MAX).contains(&options.at_once), "--at-once: must be 1 to {AT_ONCE_MAX}");
    ensure!(options.at_most <= RUN_MAX, "--at-most: must not be more than {} s", RUN_MAX.as_secs());
    certificates::install_provider();
    let (at, began) = (SystemTime::now(), Instant::now());
    let tls = certificates::client(&settings.ca_files)?;
    let quay = first_instance(settings)?;
    let client = RegistryClient::new("registry", &quay, &tls)?;
    let account = options.account.as_ref().or(settings.account.as_ref());
    let tokens = Tokens::new(&client, account.cloned(), &tls, &settings.proxies)?;
    tokens.challenge().await?;
    let deadline = began + options.at_most;
    let planned = planned(settings, options, &client, &tokens);
    let (images, plan) = timeout_at(deadline, planned).await.context(
        "the registry is too slow: it did not return the manifests of these images within --at-most",
    )??;
    let (dialled, gateway) = gateway_client::connect(settings, options.gateway).await?;
    let mut notes = Vec::new();
    let mut paths = Vec::new();
    for zone in config::zones(settings, &config::transport(settings, Arc::clone(&tls)))? {
        match config::unusable(&zone) {
            Some(why) => notes.push(why),
            None => paths.push(ReadPath::Zone(zone)),
        }
    }
    paths.push(ReadPath::Registry(client));
    paths.push(ReadPath::Gateway(gateway));
    let series: Vec<_> = paths.iter().flat_map(ReadPath::series).collect();
    let turns = options.reads.div_ceil(options.at_once);
    let rounds = Rounds {
        plan: &plan,
        paths: &paths,
        layout: &*registry(settings),
        turns,
        at_once: options.at_once,
        deadline,
    };
    let bar = progress.bar(u64::from(turns) * (paths.len() * plan.classes.len()) as u64);
    let reads = rounds.run(&tokens, &bar).await;
    bar.clear();
    notes.extend(about(&plan, &reads));
    let classes: Vec<_> = plan.classes.iter().map(|(class, _)| *class).collect();
    Ok(BenchReport {
        at,
        took: began.elapsed(),
        registry: match settings.registry_kind {
            RegistryKind::Quay => "Quay",
            RegistryKind::Distribution | RegistryKind::Oci => "registry",
        },
        registry_at: (settings.registry_hostname.clone(), quay.instances[0].url.to_string()),
        gateway_at: (settings.hostname.clone(), dialled.to_string()),
        images: images.iter().map(ToString::to_string).collect(),
        blobs: plan.blobs(),
        reads: options.reads,
        at_once: options.at_once,
        rows: row::rows(&reads.all, &classes, &series),
        failures: row::failures(&reads.all),
        notes,
        all: reads.all,
    })
}

/// The settings with the home zone's instance of the registry as the only one, so that no other instance answers
/// instead. That is what clients have without the gateway.
fn first_instance(settings: &Settings) -> anyhow::Result<Settings> {
    let home = settings.zones.first().map(|zone| &zone.name);
    let at_home = settings.instances.iter().find(|instance| Some(&instance.zone) == home);
    let instance = at_home.or(settings.instances.first()).context("the registry has no instance")?;
    Ok(Settings { instances: vec![instance.clone()], ..settings.clone() })
}

/// The images by their names at this registry, and the plan of the blobs to read.
async fn planned(
    settings: &Settings,
    options: &BenchOptions,
    client: &RegistryClient,
    tokens: &Tokens,
) -> anyhow::Result<(Vec<ImageName>, ReadPlan)> {
    let names = [settings.hostname.as_str(), settings.registry_hostname.as_str()];
    let manifest_max = usize::try_from(settings.limits.manifest.as_u64()).unwrap_or(usize::MAX);
    let mut images = Vec::new();
    let mut found = Vec::new();
    for image in &options.images {
        let image = image.at(&names)?;
        let blobs = image::blobs(client, tokens, &image, manifest_max).await?;
        found.push((image.repository.clone(), blobs));
        images.push(image);
    }
    let plan = ReadPlan::of(&found);
    if plan.classes.is_empty() {
        bail!("the registry stores no blob of these images itself: name an image with layers of its own");
    }
    Ok((images, plan))
}

/// Notes about the measurement.
fn about(plan: &ReadPlan, reads: &Reads) -> Vec<String> {
    let mut notes = reads.notes.clone();
    for class in plan.missing() {
        let (name, sizes) = (class.as_str(), plan::sizes(class));
        notes.push(format!(
            "no blob of these images is {name} ({sizes}), so that class is not measured: add an image that has one \
             with a further --image"
        ));
    }
    if plan.left_out > 0 {
        let (left, most) = (plan.left_out, plan::BLOBS_PER_CLASS_MAX);
        notes.push(format!(
            "{left} more blobs of these images were not read: at most {most} of each class are"
        ));
    }
    let of = |series: Series, hit: bool| {
        let mut all =
            reads.all.iter().filter(|read| read.series == series && read.outcome == ReadOutcome::Right);
        let count = all.clone().count();
        (all.by_ref().filter(|read| read.is_hit() == hit).count(), count)
    };
    if let (hits @ 1.., all) = of(Series::GatewayFirst, true) {
        notes.push(format!(
            "{hits} of the gateway's {all} first reads came from its cache, which had those blobs before this run"
        ));
    }
    if let (misses @ 1.., all) = of(Series::GatewayLater, false) {
        notes.push(format!(
            "{misses} of the gateway's {all} later reads did not come from its cache: results.csv has the \
             Cache-Status of each; check cache.size and cache.reserve"
        ));
    }
    notes
}

#[cfg(test)]
pub(crate) mod tests {
    use zone_router::SizeClass;

    use super::*;

    /// A report with every kind of row, and with names that must be escaped.
    pub(crate) fn example() -> BenchReport {
        let zone = |name: &str| Series::Zone(name.into());
        let paths = [zone("zone-a"), zone("<zone> & \"b\""), zone("dead"), Series::Registry];
        let paths: Vec<_> = paths.into_iter().chain([Series::GatewayFirst, Series::GatewayLater]).collect();
        let classes = [SizeClass::Small, SizeClass::Large];
        let mut all = Vec::new();
        for (place, series) in paths.iter().enumerate() {
            for (class, bytes) in classes.into_iter().zip([20_000, 50_000_000]) {
                for turn in 0..12 {
                    let ms = (place as u64 * 17 + turn * 3 + bytes / 1_000_000 + 5) % 200 + 1;
                    let mut read = read::example(series.clone(), class, turn as u32, ms, bytes);
                    if *series == zone("dead") {
                        read.outcome = ReadOutcome::Failed("get: unavailable: \"refused\", <x> & y".into());
                    }
                    if series.is_gateway() {
                        read.source = Some("quay-gateway; hit".into());
                    }
                    all.push(read);
                }
            }
        }
        BenchReport {
            at: SystemTime::UNIX_EPOCH,
            took: Duration::from_secs(12),
            registry: "Quay",
            registry_at: ("quay.corp".into(), "https://10.0.0.1/".into()),
            gateway_at: ("edge.corp".into(), "127.0.0.1:8443".into()),
            images: vec!["org/app:v1".into()],
            blobs: Vec::new(),
            reads: 12,
            at_once: 1,
            rows: row::rows(&all, &classes, &paths),
            failures: row::failures(&all),
            notes: vec!["a note with <angles>".into()],
            all,
        }
    }

    #[test]
    fn what_was_not_measured_gives_a_note() {
        let first = read::example(Series::GatewayFirst, SizeClass::Small, 1, 1, 1);
        let hit = Read { source: Some("quay-gateway; hit".into()), ..first };
        let later = read::example(Series::GatewayLater, SizeClass::Small, 2, 1, 1);
        let notes = about(&ReadPlan::default(), &Reads { all: vec![hit, later], notes: vec!["x".into()] });
        let text = notes.join("\n");
        for wanted in [
            "x\n",
            "is large (over 16 MiB)",
            "1 of the gateway's 1 first reads",
            "1 of the gateway's 1 later",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[test]
    fn a_benchmark_with_a_failure_does_not_pass() {
        let report = example();
        assert!(!report.passed());
        assert!(BenchReport { failures: Vec::new(), ..report.clone() }.passed());
        assert!(!BenchReport { failures: Vec::new(), all: Vec::new(), ..report }.passed());
    }
}
