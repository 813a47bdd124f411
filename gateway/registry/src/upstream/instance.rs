//! One instance of the registry: its connections, and how it fared of late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff::{Backoff, Pauses, Standing};
use super::breaker::{Breaker, Change, Evidence};
use super::choice::{View, far, worse};
use super::connect::Connect;
use super::{Does, Store};
use gateway_http::Body;

/// Quay's nginx keeps a connection for 5 s at most; one that is older here may be closing there.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept to an instance.
const POOL_IDLE_CONNECTIONS_MAX: usize = 64;

/// What a connection buffers in one direction, in bytes; a piece of a body comes on top.
const BUFFER: usize = 64 * 1024;

/// How long new uploads pass over an instance at which uploads fail. Longer, as every try is a
/// client's push that may fail; where it is the store that fails, the health of its zone says sooner
/// when it is back.
const UPLOAD_PAUSES: Pauses = Pauses { first: Duration::from_secs(5), longest: Duration::from_secs(60) };

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: Arc<str>,
    /// The zone that its own preferred store is.
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

/// How an instance stands, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The zone that it prefers.
    pub zone: Arc<str>,
    /// `closed`: in use; `open`: out of use; `half-open`: probes are answered again.
    pub state: &'static str,
    /// What failed last, unless it is in use.
    pub why: Option<String>,
    /// The same of new uploads alone; `half-open`: the next one tries it.
    pub uploads: &'static str,
    /// Requests that it answered with 5xx or not at all.
    pub errors: u64,
}

impl Instance {
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub(super) fn new(
        instance: &config::Instance,
        home: bool,
        connect_timeout: Duration,
        tls: &rustls::ClientConfig,
    ) -> anyhow::Result<Self> {
        let url = &instance.url;
        let tls = match url.scheme() {
            "https" => {
                // The registry speaks HTTP/1.1 here: one request a connection is Quay's habit, and
                // its rate limits count HTTP/2 by connection.
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
            timeout: connect_timeout,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(BUFFER)
            .build(connect);
        let memory = Memory { breaker: Breaker::default(), uploads: Backoff::new(UPLOAD_PAUSES) };
        Ok(Self {
            name: instance.name.as_str().into(),
            zone: instance.zone.as_str().into(),
            home,
            client,
            memory: Mutex::new(memory),
            suspicion: Notify::new(),
            errors: AtomicU64::new(0),
        })
    }

    /// As the choice sees it; uploads matter where the store does. Whether uploads work again is not
    /// for reads to try.
    pub(super) fn view(&self, now: Instant, does: Does, store: Store) -> View {
        let memory = self.memory();
        let reach = memory.breaker.standing();
        let standing = match (does, memory.uploads.standing(now)) {
            (Does::Nothing, _) => reach,
            (Does::Reads, Standing::Due(at)) => worse(reach, Standing::Paused(at)),
            (Does::Reads | Does::Writes, uploads) => worse(reach, uploads),
        };
        let (store_serves, far) = match does {
            Does::Nothing => (true, 0),
            Does::Reads | Does::Writes => (store.serves, far(store.probe)),
        };
        View { home: self.home, store_serves, far, standing }
    }

    /// Whether requests may go to it, for all that is known.
    pub(super) fn reachable(&self) -> bool {
        self.memory().breaker.standing() == Standing::Fine
    }

    /// Whether it is out of use and does not even answer probes.
    pub(super) fn is_silent(&self) -> bool {
        self.memory().breaker.is_silent()
    }

    /// The caller is about to ask it; if that is a try of uploads after a pause, it is the only one.
    pub(super) fn try_again(&self, now: Instant, does: Does) {
        if does == Does::Writes {
            self.memory().uploads.try_again(now);
        }
    }

    /// Takes notice of how it fared; `why` says in words what a failure was.
    pub(super) fn note(&self, evidence: Evidence, why: &str) {
        if matches!(evidence, Evidence::Error | Evidence::Gone) {
            self.errors.fetch_add(1, Ordering::Relaxed);
            self.suspect();
        }
        let change = self.memory().breaker.note(Instant::now(), evidence, why);
        match change {
            None => {}
            Some(Change::Opened) => tracing::warn!(
                instance = &*self.name,
                why,
                "an instance of Quay fails: requests go to the others, if there are any, until probes find it well"
            ),
            Some(Change::Closed(down)) => tracing::info!(
                instance = &*self.name,
                after_s = down.as_secs(),
                "an instance of Quay answers again"
            ),
        }
    }

    /// Counts a request that it answered with an error which says nothing of others.
    pub(super) fn erred(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Has it probed now.
    pub(super) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Until somebody suspects it.
    pub(super) async fn suspected(&self) {
        self.suspicion.notified().await;
    }

    /// Whether anything speaks against it.
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
                "uploads fail at an instance of Quay, perhaps for its store: new ones go to the others"
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

    /// How it stands.
    pub(super) fn state(&self) -> InstanceState {
        let memory = self.memory();
        let uploads = match memory.uploads.standing(Instant::now()) {
            Standing::Fine => "closed",
            Standing::Due(_) => "half-open",
            Standing::Paused(_) => "open",
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
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: Store = Store { serves: true, probe: None };

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
        Instance::new(&config, true, Duration::from_secs(1), &tls).expect("a plain one")
    }

    #[tokio::test(start_paused = true)]
    async fn reads_leave_the_one_try_to_an_upload() {
        let instance = instance();
        instance.upload_failed(500);
        tokio::time::advance(UPLOAD_PAUSES.first).await;
        let now = Instant::now();
        for does in [Does::Nothing, Does::Reads] {
            instance.try_again(now, does);
            assert!(matches!(instance.view(now, Does::Reads, STORE).standing, Standing::Paused(_)));
            assert!(matches!(instance.view(now, Does::Writes, STORE).standing, Standing::Due(_)));
        }
        assert!(matches!(instance.view(now, Does::Nothing, STORE).standing, Standing::Fine));
        instance.try_again(now, Does::Writes);
        assert!(matches!(instance.view(now, Does::Writes, STORE).standing, Standing::Paused(_)));
    }
}
