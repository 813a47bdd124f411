//! The whole gateway. Everything is built, and the listeners are bound, before anything starts.

mod build;
mod decisions;
mod follow;
mod reload;
mod successor;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use replication::Authority;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::reload::{Reloaded, Reloader};
use crate::access_log::AccessLog;
use crate::admin;
use crate::copies;
use crate::gateway::Current;
use crate::offline::Offline;
use crate::otlp::Traces;
use crate::server;
use crate::server::descriptors;
use blob_cache::DirectoryLock;
use certificates::ServerTls;
use config::Settings;
use limits::memory;
use registry::RegistryClient;
use registry::service_account::Reader;

/// The time for the lanes to stop. They stop at once unless the journal does not answer.
const LANES_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for aborting unfinished uploads at stores. Their parts use space at the store, and nobody sees
/// them.
const TIDYING_TIMEOUT: Duration = Duration::from_secs(3);

/// A gateway that is bound and ready to run.
#[derive(Debug)]
pub struct App {
    reloader: Reloader,
    listener: TcpListener,
    admin_listener: TcpListener,
    stop_copies: CancellationToken,
    /// Clean-up at the stores that is still in progress.
    tidying: TaskTracker,
    _state: DirectoryLock,
}

impl App {
    /// Builds everything and binds both listeners. From here on clients may connect; they are answered once
    /// [`App::run`] runs. Copies that were left over start at once.
    ///
    /// # Errors
    /// A folder, a certificate, an address, a zone or the journal cannot be used. The error names it.
    pub async fn bind(settings: Settings) -> anyhow::Result<Self> {
        certificates::install_provider();
        descriptors::raise(&settings.limits);
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let listener = listen("listen", settings.listen).await?;
        let admin_listener = listen("admin.listen", settings.admin.listen).await?;
        let state = DirectoryLock::take(&settings.state_dir).context("state_dir cannot be used")?;
        let server_tls = open_server_tls(&settings).await?;
        let client_tls = certificates::client(&settings.ca_files)?;
        let transport = config::transport(&settings, Arc::clone(&client_tls));
        let zones = config::zones(&settings, &transport)?;
        for unusable in zones.iter().filter_map(config::unusable) {
            tracing::warn!("{unusable}");
        }
        let stop_copies = CancellationToken::new();
        let generation = stop_copies.child_token();
        let gateway =
            build::gateway(settings, zones, server_tls, &client_tls, &stop_copies, &generation).await?;
        let current = Arc::new(Current::new(gateway));
        let tidying = transport.tidying.clone();
        let app = Self {
            reloader: Reloader::new(current, tidying, stop_copies.clone(), generation),
            listener,
            admin_listener,
            stop_copies,
            tidying: transport.tidying,
            _state: state,
        };
        Ok(app)
    }

    /// The address where clients connect.
    ///
    /// # Errors
    /// The kernel does not return the address of the listener.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address of the admin API.
    ///
    /// # Errors
    /// The kernel does not return the address of the listener.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin_listener.local_addr()
    }

    /// A handle that applies another configuration while the gateway runs.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until `shutdown`, and then still accepts new clients for `timeouts.lame_duck`. After that,
    /// requests in progress may finish within `timeouts.drain`. Copies in progress continue after the next
    /// start.
    pub async fn run(self, shutdown: CancellationToken) {
        self.run_until(shutdown, CancellationToken::new()).await;
    }

    /// Like [`App::run`], but accepts no new clients from `hurry` on.
    pub async fn run_until(self, shutdown: CancellationToken, hurry: CancellationToken) {
        let (current, gateway) = (self.reloader.current(), self.reloader.current().load());
        let zones: Vec<_> = gateway.router.zones().map(|zone| &*zone.name).collect();
        let registry: Vec<_> =
            gateway.settings.instances.iter().map(|instance| instance.url.as_str()).collect();
        tracing::info!(
            listen = self.listener.local_addr().ok().map(tracing::field::display),
            admin = self.admin_listener.local_addr().ok().map(tracing::field::display),
            hostname = gateway.settings.hostname,
            registry = registry.join(","),
            zones = zones.join(","),
            "quay-gateway is up"
        );
        // The admin API stays up while the last requests finish.
        let stop_admin = CancellationToken::new();
        let (draining, stop) = (shutdown.clone(), stop_admin.clone());
        let admin = tokio::spawn(admin::serve(Arc::clone(current), self.admin_listener, draining, stop));
        tokio::spawn(admin::watch(Arc::clone(current), stop_admin.clone()));
        tokio::spawn(copies::sample(Arc::clone(&gateway.sampler), self.stop_copies.clone()));
        tokio::spawn(memory::give_back(gateway.memory.clone(), self.stop_copies.clone()));
        self.reloader.start().await;
        let pushes = gateway.pushes.clone();
        // A later configuration may take its place.
        drop(gateway);
        let closing = CancellationToken::new();
        tokio::spawn(lame_duck(Arc::clone(current), shutdown, hurry, closing.clone()));
        let drained = server::serve(Arc::clone(current), self.listener, closing).await;
        pushes.close();
        if tokio::time::timeout_at(drained, pushes.wait()).await.is_err() {
            tracing::error!(pushes = pushes.len(), "cut: pushes whose copies may not be queued");
        }
        self.stop_copies.cancel();
        let sweep = async {
            if let Some(sweep) = self.reloader.take_sweep().await {
                let _ = sweep.await;
            }
        };
        if tokio::time::timeout(LANES_TIMEOUT, sweep).await.is_err() {
            tracing::warn!("the sweep or a reload does not end: a disk may hang");
        }
        let fanout = current.load().fanout.clone();
        if tokio::time::timeout(LANES_TIMEOUT, fanout.stopped()).await.is_err() {
            tracing::warn!("the copies do not stop: the journal does not answer");
        }
        self.tidying.close();
        if tokio::time::timeout(TIDYING_TIMEOUT, self.tidying.wait()).await.is_err() {
            tracing::warn!(
                uploads = self.tidying.len(),
                "cut: parts of unfinished uploads stay at their stores"
            );
        }
        stop_admin.cancel();
        let _ = admin.await;
        let ended = current.load();
        // A change that is still in progress may remove links, and would be lost.
        let all_pushed = ended.pushes.is_empty();
        let finish = move || {
            ended.access_log.as_deref().map(AccessLog::finish);
            if all_pushed {
                ended.permissions.close();
            }
            ended.offline.as_deref().map(Offline::close);
        };
        let _ = tokio::task::spawn_blocking(finish).await;
        tracing::info!("quay-gateway has stopped");
    }
}

/// From `shutdown` on, still accepts clients for `timeouts.lame_duck` or until `hurry`. Then cancels
/// `closing`.
async fn lame_duck(
    current: Arc<Current>,
    shutdown: CancellationToken,
    hurry: CancellationToken,
    closing: CancellationToken,
) {
    shutdown.cancelled().await;
    let lame_duck = current.load().settings.timeouts.lame_duck.unwrap_or_default();
    if !lame_duck.is_zero() {
        tracing::info!(
            seconds = lame_duck.as_secs(),
            "not ready any more; clients that still come are served"
        );
        let _ = tokio::time::timeout(lame_duck, hurry.cancelled()).await;
    }
    closing.cancel();
}

/// Builds what can be built from a configuration without binding, connecting or writing. Returns one sentence
/// for each zone that cannot be used.
///
/// # Errors
/// Certificates or zones of the configuration are wrong, in the same way as for [`App::bind`].
pub fn rehearse(settings: &Settings) -> anyhow::Result<Vec<String>> {
    certificates::install_provider();
    certificates::rehearse(settings)?;
    Traces::check(settings)?;
    let zones =
        config::zones(settings, &config::transport(settings, certificates::client(&settings.ca_files)?))?;
    Ok(zones.iter().filter_map(config::unusable).collect())
}

async fn listen(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}

/// The registry as copies use it, with connections of its own. Needs a Tokio runtime.
///
/// # Errors
/// The configuration or Quay's database has an error that does not go away by itself.
pub async fn authority(settings: &Settings) -> anyhow::Result<Arc<dyn Authority>> {
    certificates::install_provider();
    let tls = certificates::client(&settings.ca_files)?;
    let client = RegistryClient::new("registry", settings, &tls)?;
    let reader = Reader::new(settings, &client, registry::registry(settings), &tls)?;
    let database = quay_db::connect(settings).await?.map(Arc::new);
    Ok(Arc::new(build::quay(settings, reader.map(Arc::new), database)?))
}

/// Reads or makes the certificates that clients see.
async fn open_server_tls(settings: &Settings) -> anyhow::Result<Arc<ServerTls>> {
    let settings = settings.clone();
    let opened = tokio::task::spawn_blocking(move || ServerTls::open(&settings)).await?;
    opened.map(Arc::new)
}
