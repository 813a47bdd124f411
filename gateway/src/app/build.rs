//! Builds the parts of a gateway in order.

use std::sync::Arc;

use anyhow::Context as _;
use blob_cache::{Cache, CopySource};
use certificates::ServerTls;
use config::{JournalSettings, Settings};
use limits::memory::Memory;
use limits::pool::Pool;
use postgres_connection::Database;
use quay_db::QuayDatabase;
use quay_db::redis::Locks;
use registry::redirects::RedirectClient;
use registry::service_account::Reader;
use registry::upload_affinity::Uploads;
use registry::upstream::Upstream;
use registry::{Names, RegistryClient};
use replication::{Bounds, FanOut, Journal, JournalError, Setup};
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zone_router::{PerZone, Policy, RoutedZone, Router, Zone};

use super::decisions::{self, Tokens};
use crate::Gateway;
use crate::access_log::AccessLog;
use crate::admin::{LatestCensus, Live};
use crate::copies::{Quay, ReadRepairs, Sampled, Sampler, Spool};
use crate::drains::DrainStates;
use crate::gateway::BYPASS_PARTS_MAX;
use crate::index_manifests::QueuedManifests;
use crate::metrics::{ContradictedSizes, Metrics};
use crate::permissions::Permissions;
use crate::pins::Pins;
use crate::server::{self, Protocols};
use crate::shared_uploads::SharedUploads;
use crate::traffic::Traffic;

/// The journal's file in `state_dir`, if the journal is an SQLite file.
const JOURNAL: &str = "journal.sqlite";

/// Builds the first gateway. Copies run from here on until `stop`, and probes until `generation`.
///
/// # Errors
/// - The cache's folder, the journal, Quay's database or `state_dir` cannot be used.
/// - A name in the settings cannot be part of a request.
pub(super) async fn gateway(
    settings: Settings,
    zones: Vec<Zone>,
    server_tls: Arc<ServerTls>,
    tls: &Arc<ClientConfig>,
    stop: &CancellationToken,
    generation: &CancellationToken,
) -> anyhow::Result<Gateway> {
    let (cache, pins) = open_cache(&settings).await?;
    let journal = journal(&settings, tls).await.context("the journal cannot be opened")?;
    let registry = registry::registry(&settings);
    let names = Names::of(&settings)?;
    let upstream = Arc::new(Upstream::new(&settings, tls)?);
    let stores = RedirectClient::new(tls, &settings)?;
    let client = RegistryClient::over(Arc::clone(&upstream), names.clone(), stores, &settings);
    let reader = Reader::new(&settings, &client, Arc::clone(&registry), tls)?.map(Arc::new);
    let database = quay_db::connect(&settings).await?.map(Arc::new);
    let quay = Arc::new(quay(&settings, reader.clone(), database.clone())?);
    let policies = policies(&settings);
    let router = Arc::new(Router::with(routed(&zones, policies.to_vec()), settings.routing));
    let drains = DrainStates::open(Arc::clone(&router), policies, &settings.state_dir);
    let drains = Arc::new(drains.context("state_dir cannot be used")?);
    let live = Arc::new(Live::new());
    router.observe_turns(Arc::clone(&live) as _);
    router.start(generation);
    upstream.start(generation);
    let metrics = Arc::new(Metrics::new(&zones));
    let access_log = settings.access_log.as_ref().map(AccessLog::open).transpose()?.map(Arc::new);
    let (permissions, Tokens { verifier: tokens, keys: token_keys }) = decisions(&settings).await?;
    let offline = decisions::offline(&settings).await?;
    let copying = Copying { journal, router: &router, cache: &cache, quay: &quay };
    let fanout = FanOut::start(copying.setup(&settings, zones), stop.clone());
    let targets = targets(&settings);
    let memory = settings.limits.memory_budget();
    tracing::info!(bytes = memory, "limits.memory");
    Ok(Gateway {
        client_tls: Arc::clone(tls),
        protocols: Arc::new(Protocols::new(&settings.limits, &settings.timeouts)),
        quay,
        registry,
        server_tls,
        names,
        upstream,
        reader,
        database,
        uploads: Uploads::default(),
        shared_uploads: shared_uploads(&settings, tls),
        client,
        permissions: Arc::new(permissions),
        offline,
        tokens,
        token_keys,
        sizes: Arc::new(ContradictedSizes::default()),
        bypass_parts: Pool::fixed("whole reads for a part of a blob that is not kept", BYPASS_PARTS_MAX, 0),
        cache,
        pins,
        metrics,
        access_log,
        traffic: Arc::new(Traffic::default()),
        sampler: Arc::new(Sampler::new(sampled(&router, &fanout, &targets))),
        census: Arc::new(LatestCensus::default()),
        live,
        sweep: Arc::default(),
        router,
        drains,
        repairs: Arc::new(ReadRepairs::new()),
        fanout,
        pushes: TaskTracker::new(),
        queued: Arc::new(QueuedManifests::new()),
        connections: Pool::new("limits.connections", settings.limits.connections, server::WAITING_MAX),
        // Requests do not wait for a slot: without one, they are refused at once.
        requests: Pool::new("limits.requests", settings.limits.requests, 0),
        memory: Memory::new(memory),
        targets,
        settings,
    })
}

/// The policies of the configuration, one for each zone.
pub(super) fn policies(settings: &Settings) -> PerZone<Policy> {
    settings.zones.iter().map(|zone| zone.policy).collect()
}

pub(super) fn routed(zones: &[Zone], policies: Vec<Policy>) -> Vec<RoutedZone> {
    let zones = zones.iter().cloned().zip(policies);
    zones.map(|(zone, policy)| RoutedZone { zone, policy }).collect()
}

/// The zones to which every pushed blob is copied.
pub(super) fn targets(settings: &Settings) -> Vec<Arc<str>> {
    settings.targets.iter().map(|name| name.as_str().into()).collect()
}

pub(super) fn sampled(router: &Router, fanout: &FanOut, targets: &[Arc<str>]) -> Sampled {
    Sampled::new(fanout.clone(), router.home().map(|zone| &zone.name), targets)
}

/// What copies need beside the configuration.
pub(super) struct Copying<'a> {
    pub(super) journal: Journal,
    pub(super) router: &'a Arc<Router>,
    pub(super) cache: &'a Arc<Cache>,
    pub(super) quay: &'a Arc<Quay>,
}

impl Copying<'_> {
    pub(super) fn setup(self, settings: &Settings, zones: Vec<Zone>) -> Setup {
        Setup {
            bounds: copy_bounds(settings),
            limits: settings.copy_limits.clone(),
            verify: settings.verify,
            router: Some(Arc::clone(self.router)),
            local: Some(Arc::new(CopySource(Arc::clone(self.cache)))),
            authority: Some(Arc::<Quay>::clone(self.quay)),
            ..Setup::new(zones, self.journal)
        }
    }
}

/// The drivers wait `timeouts.zone_stall` for a source that gives no bytes. Copies notice it sooner, and have
/// as long to continue from another source.
fn copy_bounds(settings: &Settings) -> Bounds {
    Bounds { stall: settings.timeouts.zone_stall * 2 / 5, ..Bounds::default() }
}

/// Opens the journal. If its database cannot be reached now, the journal waits for it.
async fn journal(settings: &Settings, tls: &ClientConfig) -> Result<Journal, JournalError> {
    match &settings.journal {
        JournalSettings::Sqlite => Journal::open(&settings.state_dir.join(JOURNAL)),
        JournalSettings::Postgres(database) => Journal::connect(Database::clone(database), tls).await,
    }
}

/// What replicas share of uploads. If the registry has only one instance, there is nothing to know.
pub(super) fn shared_uploads(settings: &Settings, tls: &ClientConfig) -> Option<Arc<SharedUploads>> {
    match &settings.journal {
        JournalSettings::Postgres(database) if settings.instances.len() > 1 => {
            Some(SharedUploads::connect(database, tls))
        }
        JournalSettings::Postgres(_) | JournalSettings::Sqlite => None,
    }
}

/// Quay, as copies use it.
pub(super) fn quay(
    settings: &Settings,
    reader: Option<Arc<Reader>>,
    database: Option<Arc<QuayDatabase>>,
) -> anyhow::Result<Quay> {
    let placements = settings.replication.placements.as_ref();
    let locks = match placements.and_then(|placements| placements.lock.as_ref()) {
        Some(redis) => {
            Some(Locks::new(redis.clone(), certificates::client_with(settings, redis.root.as_ref())?))
        }
        None => None,
    };
    let locations = placements.map(|placements| placements.locations.clone()).unwrap_or_default();
    let spool = Spool::new(&settings.state_dir, settings.replication.fetch_max);
    Ok(Quay::new(reader, database, locks, locations, spool))
}

async fn decisions(settings: &Settings) -> anyhow::Result<(Permissions, Tokens)> {
    let settings = settings.clone();
    tokio::task::spawn_blocking(move || decisions::first(&settings)).await?
}

async fn open_cache(settings: &Settings) -> anyhow::Result<(Arc<Cache>, Arc<Pins>)> {
    let settings = settings.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let cache = Cache::open(&settings.cache, &settings.limits, &settings.timeouts)?;
        // Before the first fill, so that it evicts none of them.
        let pins = Arc::new(Pins::open(&settings.state_dir, &settings.pins, Arc::clone(&cache)));
        anyhow::Ok((cache, pins))
    })
    .await?;
    opened.context("cache.dir cannot be used")
}
