//! Builds the gateway of a later configuration, which takes the place of the one that runs.
//!
//! First [`prepare`] builds everything that may fail. It changes nothing. Then [`Prepared::succeed`] cannot fail.

use std::sync::Arc;

use backends::Transport;
use certificates::ServerTls;
use config::{NamedZone, Settings};
use registry::redirects::RedirectClient;
use registry::service_account::Reader;
use registry::upstream::Upstream;
use registry::{Names, RegistryClient};
use rustls::ClientConfig;
use tokio_util::task::TaskTracker;
use zone_router::Zone;

use super::build::{self, Copying};
use super::decisions::{self, Tokens};
use crate::Gateway;
use crate::server::{self, Protocols, descriptors};

/// The parts of a later configuration.
pub(super) struct Prepared {
    settings: Settings,
    client_tls: Arc<ClientConfig>,
    server_tls: Arc<ServerTls>,
    names: Names,
    upstream: Arc<Upstream>,
    client: RegistryClient,
    reader: Option<Arc<Reader>>,
    tokens: Tokens,
    zones: Vec<Zone>,
}

/// Builds everything that may fail. `settings` has the running values of the keys that need a restart. Blocks on the
/// disk.
///
/// # Errors
/// A certificate, a name or every zone cannot be used.
pub(super) fn prepare(
    running: &Gateway,
    settings: Settings,
    tidying: &TaskTracker,
) -> anyhow::Result<Prepared> {
    let same_tls =
        settings.ca_files == running.settings.ca_files && settings.ca_digest == running.settings.ca_digest;
    let client_tls = match same_tls {
        true => Arc::clone(&running.client_tls),
        false => certificates::client(&settings.ca_files)?,
    };
    let names = Names::of(&settings)?;
    let upstream = Arc::new(running.upstream.successor(&settings, &client_tls, same_tls)?);
    let stores = RedirectClient::new(&client_tls, &settings)?;
    let client = RegistryClient::over(Arc::clone(&upstream), names.clone(), stores, &settings);
    let reader = Reader::new(&settings, &client, Arc::clone(&running.registry), &client_tls)?;
    let reader = reader.map(|reader| match &running.reader {
        Some(before) if same_account(&running.settings, &settings) => reader.sharing_tokens(before),
        _ => reader,
    });
    let zones = zones(running, &settings, &client_tls, same_tls, tidying)?;
    Ok(Prepared {
        server_tls: server_tls(running, &settings)?,
        reader: reader.map(Arc::new),
        tokens: decisions::next_tokens(running, &settings)?,
        settings,
        client_tls,
        names,
        upstream,
        client,
        zones,
    })
}

/// Whether the account is the same at the same registry.
fn same_account(before: &Settings, after: &Settings) -> bool {
    let at = |settings: &Settings| (settings.registry_hostname.clone(), settings.instances.clone());
    before.account == after.account && at(before) == at(after)
}

/// The zones. A store whose configuration and transport are the same keeps its connections.
fn zones(
    running: &Gateway,
    settings: &Settings,
    tls: &Arc<ClientConfig>,
    same_tls: bool,
    tidying: &TaskTracker,
) -> anyhow::Result<Vec<Zone>> {
    let times = |settings: &Settings| {
        let timeouts = &settings.timeouts;
        (timeouts.zone_connect, timeouts.zone_first_byte, timeouts.zone_stall)
    };
    let same_transport = same_tls && times(settings) == times(&running.settings);
    let before = |named: &NamedZone| {
        let id = running.router.find(&named.name).filter(|_| same_transport && keeps(running, named))?;
        running.router.zones().nth(id.index()).filter(|zone| zone.unusable.is_none()).cloned()
    };
    let transport = Transport { tidying: tidying.clone(), ..config::transport(settings, Arc::clone(tls)) };
    Ok(config::zones_after(settings, &transport, before)?)
}

/// Whether the zone had the same store before.
fn keeps(running: &Gateway, named: &NamedZone) -> bool {
    running.settings.zones.iter().any(|zone| zone.name == named.name && zone.store == named.store)
}

/// The certificates. If neither their files nor the names of the gateway are others, they stay as they are.
fn server_tls(running: &Gateway, settings: &Settings) -> anyhow::Result<Arc<ServerTls>> {
    let before = &running.settings;
    match settings.tls == before.tls && settings.hostnames().eq(before.hostnames()) {
        true => Ok(Arc::clone(&running.server_tls)),
        false => running.server_tls.successor(settings).map(Arc::new),
    }
}

impl Prepared {
    /// Makes the gateway that takes the place of `running`. Starts and stops the lanes of copies, and applies the limits
    /// of what both share. Nothing else runs yet.
    pub(super) fn succeed(self, running: &Gateway) -> Gateway {
        let Self { settings, client_tls, server_tls, names, upstream, client, reader, tokens, zones } = self;
        let kept = |name: &str| settings.zones.iter().any(|zone| zone.name == name && keeps(running, zone));
        let router = running.drains.replace(&zones, build::policies(&settings), |policies| {
            Arc::new(running.router.successor(build::routed(&zones, policies), settings.routing, kept))
        });
        let placements = settings.replication.placements.as_ref();
        let locations = placements.map(|placements| placements.locations.clone()).unwrap_or_default();
        let quay = Arc::new(running.quay.successor(reader.clone(), locations));
        running.metrics.set_zones(&zones);
        let journal = running.fanout.journal().clone();
        let copying = Copying { journal, router: &router, cache: &running.cache, quay: &quay };
        let fanout = running.fanout.successor(copying.setup(&settings, zones), kept);
        let targets = build::targets(&settings);
        running.sampler.follow(build::sampled(&router, &fanout, &targets));
        let shared_uploads =
            running.shared_uploads.clone().or_else(|| build::shared_uploads(&settings, &client_tls));
        resize(running, &settings);
        upstream.resize_pools(&settings.limits);
        Gateway {
            protocols: Arc::new(Protocols::new(&settings.limits, &settings.timeouts)),
            permissions: decisions::next_permissions(running, &settings),
            offline: decisions::next_offline(running, &settings),
            tokens: tokens.verifier,
            token_keys: tokens.keys,
            client_tls,
            server_tls,
            registry: Arc::clone(&running.registry),
            names,
            upstream,
            reader,
            database: running.database.clone(),
            uploads: running.uploads.clone(),
            shared_uploads,
            client,
            sizes: Arc::clone(&running.sizes),
            bypass_parts: Arc::clone(&running.bypass_parts),
            cache: Arc::clone(&running.cache),
            pins: Arc::clone(&running.pins),
            router,
            drains: Arc::clone(&running.drains),
            repairs: Arc::clone(&running.repairs),
            fanout,
            quay,
            metrics: Arc::clone(&running.metrics),
            access_log: running.access_log.clone(),
            traffic: Arc::clone(&running.traffic),
            census: Arc::clone(&running.census),
            live: Arc::clone(&running.live),
            sampler: Arc::clone(&running.sampler),
            connections: Arc::clone(&running.connections),
            memory: running.memory.clone(),
            sweep: Arc::clone(&running.sweep),
            requests: Arc::clone(&running.requests),
            pushes: running.pushes.clone(),
            queued: Arc::clone(&running.queued),
            targets,
            settings,
        }
    }
}

/// Applies the limits of what all gateways share that follow one another.
fn resize(running: &Gateway, settings: &Settings) {
    let limits = &settings.limits;
    descriptors::raise(limits);
    running.connections.resize(limits.connections, server::WAITING_MAX);
    running.requests.resize(limits.requests, 0);
    running.memory.set_budget(limits.memory_budget());
    running.cache.set_limits(limits, &settings.timeouts);
}
