//! How fast are the zones, from here? Blobs of images that the registry has, read from each zone's
//! store, by the registry's own way, and through the running gateway. Nothing is written.

mod chart;
mod csv;
mod figures;
mod files;
mod html;
mod image;
mod json;
mod plan;
mod progress;
mod read;
mod rounds;
mod row;
mod statistics;
mod svg;
mod table;
mod way;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use http::HeaderMap;
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use files::Folder;
pub use image::{ImageName, ImageNameError};
pub use json::json;
pub use plan::Chosen;
pub use progress::Progress;
pub use read::{Outcome, Read, Series};
pub use row::Row;
pub use statistics::Spread;
pub use table::table;

use self::plan::Plan;
use self::rounds::{Reads, Rounds};
use self::way::Way;
use config::{Account, Instance, RegistryKind, Settings, without_port};
use registry::service_account::Tokens;
use registry::{RegistryClient, registry};

/// Images at most.
pub const IMAGES_MAX: usize = 16;

/// Reads at most, of each class by each way.
pub const READS_MAX: u32 = 10_000;

/// Reads at the same moment at most.
pub const AT_ONCE_MAX: u32 = 64;

/// The longest that a run may be told to take.
pub const RUN_MAX: Duration = Duration::from_secs(3600);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose blobs are read; 1 to [`IMAGES_MAX`].
    pub images: Vec<ImageName>,
    /// Reads of each class by each way; 1 to [`READS_MAX`].
    pub reads: u32,
    /// How many of them at the same moment; 1 to [`AT_ONCE_MAX`].
    pub at_once: u32,
    /// Who reads, instead of `registry.account`.
    pub account: Option<Account>,
    /// Where the gateway is, instead of its `listen`.
    pub gateway: Option<SocketAddr>,
    /// When to stop, done or not; [`RUN_MAX`] at most.
    pub at_most: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// When it began.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// `Quay` or `registry`.
    pub registry: &'static str,
    /// The registry's own name, and where it was dialled.
    pub registry_at: (String, String),
    /// The gateway's name, and where it was dialled.
    pub gateway_at: (String, String),
    /// The images.
    pub images: Vec<String>,
    /// The blobs that were read.
    pub blobs: Vec<Chosen>,
    /// Reads of each class by each way, as asked for.
    pub reads: u32,
    /// Of these at the same moment.
    pub at_once: u32,
    /// A row for each class and way.
    pub rows: Vec<Row>,
    /// What went wrong: by which way, what was said, how often.
    pub failures: Vec<(Series, String, usize)>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// Every read, in order.
    pub all: Vec<Read>,
}

impl Report {
    /// Whether every read came through with the right bytes, or the zone had none to give.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.all.iter().any(|read| read.outcome == Outcome::Right)
    }

    /// What a way is called; a zone by its name alone.
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

/// Reads what is asked for. Writes nothing; the gateway, as for any client, keeps what is read
/// through it, and mends a home zone that lacks it.
///
/// # Errors
/// Nothing can be measured: the registry or the gateway does not answer, an image is not there or may
/// not be read, no zone can be used. Says what to do about it.
pub async fn run(settings: &Settings, options: &Options, progress: Progress) -> anyhow::Result<Report> {
    ensure!((1..=IMAGES_MAX).contains(&options.images.len()), "give 1 to {IMAGES_MAX} images");
    ensure!((1..=READS_MAX).contains(&options.reads), "--reads: 1 to {READS_MAX}");
    ensure!((1..=AT_ONCE_MAX).contains(&options.at_once), "--at-once: 1 to {AT_ONCE_MAX}");
    ensure!(options.at_most <= RUN_MAX, "--at-most: no more than {} s", RUN_MAX.as_secs());
    certificates::install_provider();
    let (at, began) = (SystemTime::now(), Instant::now());
    let tls = certificates::client(&settings.ca_files)?;
    let quay = first_instance(settings)?;
    let client = RegistryClient::new("registry", &quay, &tls)?;
    let account = options.account.as_ref().or(settings.account.as_ref());
    let tokens = Tokens::new(&client, account.cloned(), &tls)?;
    tokens.challenge().await?;
    let deadline = began + options.at_most;
    let planned = planned(settings, options, &client, &tokens);
    let (images, plan) = timeout_at(deadline, planned)
        .await
        .context("the registry is too slow: the time was up before it had told what these images are")??;
    let (dialled, gateway) = gateway(settings, options.gateway).await?;
    let mut notes = Vec::new();
    let mut ways = Vec::new();
    for zone in config::zones(settings, &config::transport(settings, Arc::clone(&tls)))? {
        match config::unusable(&zone) {
            Some(why) => notes.push(why),
            None => ways.push(Way::Zone(zone)),
        }
    }
    ways.push(Way::Registry(client));
    ways.push(Way::Gateway(gateway));
    let series: Vec<_> = ways.iter().flat_map(Way::series).collect();
    let turns = options.reads.div_ceil(options.at_once);
    let rounds = Rounds {
        plan: &plan,
        ways: &ways,
        layout: &*registry(settings),
        turns,
        at_once: options.at_once,
        deadline,
    };
    let bar = progress.bar(u64::from(turns) * (ways.len() * plan.classes.len()) as u64);
    let reads = rounds.run(&tokens, &bar).await;
    bar.clear();
    notes.extend(about(&plan, &reads));
    let classes: Vec<_> = plan.classes.iter().map(|(class, _)| *class).collect();
    Ok(Report {
        at,
        took: began.elapsed(),
        registry: match settings.registry_kind {
            RegistryKind::Quay => "Quay",
            RegistryKind::Distribution => "registry",
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

/// The settings as if the home zone's instance of the registry were the only one: what clients have
/// without the gateway, none answering in its place.
fn first_instance(settings: &Settings) -> anyhow::Result<Settings> {
    let home = settings.zones.first().map(|zone| &zone.name);
    let at_home = settings.instances.iter().find(|instance| Some(&instance.zone) == home);
    let instance = at_home.or(settings.instances.first()).context("the registry has no instance")?;
    Ok(Settings { instances: vec![instance.clone()], ..settings.clone() })
}

/// The images by their names at this registry, and which of their blobs are read.
async fn planned(
    settings: &Settings,
    options: &Options,
    client: &RegistryClient,
    tokens: &Tokens,
) -> anyhow::Result<(Vec<ImageName>, Plan)> {
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
    let plan = Plan::of(&found);
    if plan.classes.is_empty() {
        bail!("these images have no blob that the registry itself holds: name one with layers of its own");
    }
    Ok((images, plan))
}

/// The gateway as a client meets it, and where.
async fn gateway(
    settings: &Settings,
    address: Option<SocketAddr>,
) -> anyhow::Result<(SocketAddr, RegistryClient)> {
    let address = address.unwrap_or_else(|| reachable(settings.listen));
    let mut roots = settings.ca_files.clone();
    let made = settings.state_dir.join("ca.pem");
    if settings.tls.is_none() && made.is_file() {
        roots.push(made.clone());
    }
    let url: Url = format!("https://{address}").parse().context("the gateway's address makes no URL")?;
    let server_name = without_port(&settings.hostname).trim_matches(['[', ']']).to_owned();
    let instance = Instance { name: "gateway".into(), url, server_name, zone: String::new() };
    let as_registry = Settings {
        instances: vec![instance],
        registry_hostname: settings.hostname.clone(),
        ..settings.clone()
    };
    let client = RegistryClient::new("gateway", &as_registry, &certificates::client(&roots)?)?;
    if let Err(error) = client.get("/v2/", HeaderMap::new()).await {
        let said = error.to_string();
        let fix = match said.contains("certificate") {
            true => format!(
                "its certificate must be for {} and from whom `ca`, the system or {} names",
                settings.hostname,
                made.display()
            ),
            false => "start it with `quay-gateway run`, or name where it is with --gateway".to_owned(),
        };
        bail!("the gateway does not answer at {address}: {said}: {fix}");
    }
    Ok((address, client))
}

/// Where to dial what listens there.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What there is to know of how it was measured.
fn about(plan: &Plan, reads: &Reads) -> Vec<String> {
    let mut notes = reads.notes.clone();
    for class in plan.missing() {
        let (name, sizes) = (class.as_str(), plan::sizes(class));
        notes.push(format!(
            "no blob of these images is {name} ({sizes}), so nothing is said of that class: name an image that has \
             one with a further --image"
        ));
    }
    if plan.left_out > 0 {
        let (left, most) = (plan.left_out, plan::BLOBS_PER_CLASS_MAX);
        notes.push(format!("{left} more blobs of these images were not read: {most} of each class are"));
    }
    let of = |series: Series, hit: bool| {
        let mut all = reads.all.iter().filter(|read| read.series == series && read.outcome == Outcome::Right);
        let count = all.clone().count();
        (all.by_ref().filter(|read| read.is_hit() == hit).count(), count)
    };
    if let (hits @ 1.., all) = of(Series::GatewayFirst, true) {
        notes.push(format!(
            "{hits} of the gateway's {all} first reads came from its cache: it held those blobs before this run"
        ));
    }
    if let (misses @ 1.., all) = of(Series::GatewayLater, false) {
        notes.push(format!(
            "{misses} of the gateway's {all} later reads did not come from its cache: results.csv has its \
             Cache-Status of each; see cache.size and cache.reserve"
        ));
    }
    notes
}

#[cfg(test)]
pub(crate) mod tests {
    use zone_router::SizeClass;

    use super::*;

    /// A report with every kind of row, and names that need care.
    pub(crate) fn example() -> Report {
        let zone = |name: &str| Series::Zone(name.into());
        let ways = [zone("zone-a"), zone("<zone> & \"b\""), zone("dead"), Series::Registry];
        let ways: Vec<_> = ways.into_iter().chain([Series::GatewayFirst, Series::GatewayLater]).collect();
        let classes = [SizeClass::Small, SizeClass::Large];
        let mut all = Vec::new();
        for (place, series) in ways.iter().enumerate() {
            for (class, bytes) in classes.into_iter().zip([20_000, 50_000_000]) {
                for turn in 0..12 {
                    let ms = (place as u64 * 17 + turn * 3 + bytes / 1_000_000 + 5) % 200 + 1;
                    let mut read = read::example(series.clone(), class, turn as u32, ms, bytes);
                    if *series == zone("dead") {
                        read.outcome = Outcome::Failed("get: unavailable: \"refused\", <x> & y".into());
                    }
                    if series.is_gateway() {
                        read.told = Some("quay-gateway; hit".into());
                    }
                    all.push(read);
                }
            }
        }
        Report {
            at: SystemTime::UNIX_EPOCH,
            took: Duration::from_secs(12),
            registry: "Quay",
            registry_at: ("quay.corp".into(), "https://10.0.0.1/".into()),
            gateway_at: ("edge.corp".into(), "127.0.0.1:8443".into()),
            images: vec!["org/app:v1".into()],
            blobs: Vec::new(),
            reads: 12,
            at_once: 1,
            rows: row::rows(&all, &classes, &ways),
            failures: row::failures(&all),
            notes: vec!["a note with <angles>".into()],
            all,
        }
    }

    #[test]
    fn what_listens_everywhere_is_dialled_here() {
        for (listen, dialled) in [
            ("0.0.0.0:8443", "127.0.0.1:8443"),
            ("[::]:8443", "[::1]:8443"),
            ("10.1.2.3:443", "10.1.2.3:443"),
        ] {
            assert_eq!(reachable(listen.parse().expect("an address")).to_string(), dialled);
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let first = read::example(Series::GatewayFirst, SizeClass::Small, 1, 1, 1);
        let hit = Read { told: Some("quay-gateway; hit".into()), ..first };
        let later = read::example(Series::GatewayLater, SizeClass::Small, 2, 1, 1);
        let notes = about(&Plan::default(), &Reads { all: vec![hit, later], notes: vec!["x".into()] });
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
    fn a_failure_is_no_pass() {
        let report = example();
        assert!(!report.passed());
        assert!(Report { failures: Vec::new(), ..report.clone() }.passed());
        assert!(!Report { failures: Vec::new(), all: Vec::new(), ..report }.passed());
    }
}
