//! One upstream instance: its connections and its health.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::{Mutex, MutexGuard};
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff::{Backoff, Circuit, Pauses};
use super::breaker::{Breaker, Change, Evidence};
use super::choice::{View, far, worse};
use super::connect::Connect;
use super::{StoreState, StoreUse};
use backends::proxy::ProxyRules;
use config::Settings;
use gateway_http::Body;

/// How long an idle connection is kept. Quay's nginx closes it after 5 s, so an older one may already be
/// closing.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The most idle connections to one instance.
const POOL_IDLE_CONNECTIONS_MAX: usize = 64;

/// The bytes that a connection buffers in each direction, besides one piece of a body.
const BUFFER: usize = 64 * 1024;

/// How long no new upload goes to an instance at which uploads fail. The pauses are long, because every try
/// is a client's push that may fail. If the cause is the store, the health of its zone shows sooner that it
/// works again.
const UPLOAD_PAUSES: Pauses = Pauses { first: Duration::from_secs(5), longest: Duration::from_secs(60) };

/// All that an instance is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    instance: config::Instance,
    home: bool,
    connect_timeout: Duration,
}

impl Origin {
    /// Those of all instances in the settings.
    pub(super) fn all(settings: &Settings) -> impl Iterator<Item = Self> {
        let home = settings.zones.first().map(|zone| zone.name.as_str());
        settings.instances.iter().map(move |instance| Self {
            home: home == Some(instance.zone.as_str()),
            instance: instance.clone(),
            connect_timeout: settings.timeouts.registry_connect,
        })
    }
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) origin: Origin,
    pub(super) name: Arc<str>,
    /// The zone whose store the instance prefers.
    pub(super) zone: Arc<str>,
    pub(super) home: bool,
    pub(super) client: Client<Connect, Body>,
    memory: Mutex<Memory>,
    suspicion: Notify,
    errors: AtomicU64,
}

#[derive(Debug)]
struct Memory {
    breaker: Breaker,
    uploads: Backoff,
}

/// The state of an instance, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The zone that it prefers.
    pub zone: Arc<str>,
    /// `closed`: requests are sent to it. `open`: no requests are sent. `half-open`: no requests are sent
    /// yet, but it answers probes again.
    pub state: &'static str,
    /// The last failure, if `state` is not `closed`.
    pub why: Option<String>,
    /// The same for new uploads. `half-open`: the next upload tries it.
    pub uploads: &'static str,
    /// The number of requests that it answered with 5xx or not at all.
    pub errors: u64,
}

impl Instance {
    /// # Errors
    /// A name cannot be part of a certificate.
    pub(super) fn new(
        origin: &Origin,
        proxies: &ProxyRules,
        tls: &rustls::ClientConfig,
    ) -> anyhow::Result<Self> {
        let Origin { instance, home, connect_timeout } = origin;
        let url = &instance.url;
        let proxy = proxies.of(url).map(|proxy| (Arc::clone(proxy), Arc::new(tls.clone())));
        let tls = match url.scheme() {
            "https" => {
                // Only HTTP/1.1 is offered: Quay closes a connection after one request, and its rate limits
                // count HTTP/2 requests by connection.
                let mut tls = tls.clone();
                tls.alpn_protocols = vec![b"http/1.1".to_vec()];
                Some((Arc::new(tls).into(), ServerName::try_from(instance.server_name.clone())?))
            }
            _ => None,
        };
        let connect = Connect {
            host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).into(),
            port: url.port_or_known_default().unwrap_or(443),
            tls,
            proxy,
            timeout: *connect_timeout,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(BUFFER)
            .build(connect);
        let memory = Memory { breaker: Breaker::default(), uploads: Backoff::new(UPLOAD_PAUSES) };
        Ok(Self {
            origin: origin.clone(),
            name: instance.name.as_str().into(),
            zone: instance.zone.as_str().into(),
            home: *home,
            client,
            memory: Mutex::new(memory),
            suspicion: Notify::new(),
            errors: AtomicU64::new(0),
        })
    }

    /// What the choice needs to know about the instance. The results of uploads count for requests that use
    /// the store. Only an upload tries whether uploads work again.
    pub(super) fn view(&self, now: Instant, uses: StoreUse, store: StoreState) -> View {
        let memory = self.memory();
        let reach = memory.breaker.circuit();
        let circuit = match (uses, memory.uploads.circuit(now)) {
            (StoreUse::Unused, _) => reach,
            (StoreUse::Reads, Circuit::HalfOpen(at)) => worse(reach, Circuit::Open(at)),
            (StoreUse::Reads | StoreUse::Writes, uploads) => worse(reach, uploads),
        };
        let (store_serves, far) = match uses {
            StoreUse::Unused => (true, 0),
            StoreUse::Reads | StoreUse::Writes => (store.serves, far(store.probe)),
        };
        View { home: self.home, store_serves, far, circuit }
    }

    /// Whether requests may be sent to it.
    pub(super) fn reachable(&self) -> bool {
        self.memory().breaker.circuit() == Circuit::Closed
    }

    /// Whether it answers no pull.
    pub(super) fn is_away(&self) -> bool {
        self.memory().breaker.is_away()
    }

    /// Whether the instance does not answer probes.
    pub(super) fn is_silent(&self) -> bool {
        self.memory().breaker.is_silent()
    }

    /// Records that the caller is about to send a request. If the request is the one upload that is tried
    /// after a pause, no other upload is tried.
    pub(super) fn try_again(&self, now: Instant, uses: StoreUse) {
        if uses == StoreUse::Writes {
            self.memory().uploads.try_again(now);
        }
    }

    /// Records an observation. `why` describes a failure for operators.
    pub(super) fn note(&self, evidence: Evidence, why: &str) {
        if matches!(evidence, Evidence::Error(_) | Evidence::Gone | Evidence::Doubt) {
            self.errors.fetch_add(1, Ordering::Relaxed);
            self.suspect();
        }
        let change = self.memory().breaker.note(Instant::now(), evidence, why);
        match change {
            None => {}
            Some(Change::Opened) => tracing::warn!(
                instance = &*self.name,
                why,
                "an instance of Quay fails; requests go to the other instances until its probes succeed"
            ),
            Some(Change::Closed(down)) => tracing::info!(
                instance = &*self.name,
                after_s = down.as_secs(),
                "an instance of Quay answers again"
            ),
        }
    }

    /// Counts a request that was answered with an error, if the error says nothing about other requests.
    pub(super) fn erred(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests an immediate probe of the instance.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Waits until a probe is requested.
    pub(super) async fn suspected(&self) {
        self.suspicion.notified().await;
    }

    /// Whether there was a recent failure.
    pub(super) fn is_doubtful(&self) -> bool {
        self.memory().breaker.is_doubtful()
    }

    pub(super) fn upload_failed(&self, status: u16) {
        if let Some(pause) = self.memory().uploads.failed(Instant::now()) {
            tracing::warn!(
                instance = &*self.name,
                zone = &*self.zone,
                status,
                again_in_s = pause.as_secs(),
                "uploads fail at an instance of Quay, possibly because of its store; new uploads go to the other instances"
            );
        }
    }

    pub(super) fn upload_worked(&self) {
        if let Some(down) = self.memory().uploads.worked(Instant::now()) {
            tracing::info!(
                instance = &*self.name,
                after_s = down.as_secs(),
                "uploads work again at an instance of Quay"
            );
        }
    }

    /// The state, for operators.
    pub(super) fn state(&self) -> InstanceState {
        let memory = self.memory();
        let uploads = match memory.uploads.circuit(Instant::now()) {
            Circuit::Closed => "closed",
            Circuit::HalfOpen(_) => "half-open",
            Circuit::Open(_) => "open",
        };
        InstanceState {
            name: Arc::clone(&self.name),
            zone: Arc::clone(&self.zone),
            state: memory.breaker.state(),
            why: memory.breaker.why().map(str::to_owned),
            uploads,
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreState = StoreState { serves: true, probe: None };

    fn instance() -> Instance {
        let config = config::Instance {
            url: "http://127.0.0.1:1".parse().expect("a URL"),
            zone: "a".into(),
            name: "a".into(),
            server_name: "a".into(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let origin = Origin { instance: config, home: true, connect_timeout: Duration::from_secs(1) };
        Instance::new(&origin, &ProxyRules::default(), &tls).expect("a plain one")
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_does_not_use_up_the_try_of_an_upload() {
        let instance = instance();
        instance.upload_failed(500);
        tokio::time::advance(UPLOAD_PAUSES.first).await;
        let now = Instant::now();
        for uses in [StoreUse::Unused, StoreUse::Reads] {
            instance.try_again(now, uses);
            assert!(matches!(instance.view(now, StoreUse::Reads, STORE).circuit, Circuit::Open(_)));
            assert!(matches!(instance.view(now, StoreUse::Writes, STORE).circuit, Circuit::HalfOpen(_)));
        }
        assert!(matches!(instance.view(now, StoreUse::Unused, STORE).circuit, Circuit::Closed));
        instance.try_again(now, StoreUse::Writes);
        assert!(matches!(instance.view(now, StoreUse::Writes, STORE).circuit, Circuit::Open(_)));
    }
}
