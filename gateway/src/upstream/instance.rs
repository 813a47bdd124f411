//! One instance of the registry: its connections, and how it fared of late.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::backoff::{Backoff, Pauses, Standing};
use super::choice::{View, far, worse};
use super::connect::Connect;
use super::{Does, Store};
use crate::config;
use crate::http::Body;

/// Quay's nginx keeps a connection for 5 s at most; one that is older here may be closing there.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept to an instance.
const POOL_IDLE_CONNECTIONS_MAX: usize = 64;

/// How long an instance that cannot be reached is passed over.
const REACH_PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

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
}

#[derive(Debug)]
struct Memory {
    reach: Backoff,
    uploads: Backoff,
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
            .build(connect);
        let memory = Memory { reach: Backoff::new(REACH_PAUSES), uploads: Backoff::new(UPLOAD_PAUSES) };
        Ok(Self {
            name: instance.name.as_str().into(),
            zone: instance.zone.as_str().into(),
            home,
            client,
            memory: Mutex::new(memory),
        })
    }

    /// As the choice sees it; uploads matter where the store does. Whether uploads work again is not
    /// for reads to try.
    pub(super) fn view(&self, now: Instant, does: Does, store: Store) -> View {
        let memory = self.memory();
        let reach = memory.reach.standing(now);
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
    pub(super) fn reachable(&self, now: Instant) -> bool {
        !matches!(self.memory().reach.standing(now), Standing::Paused(_))
    }

    /// The caller is about to ask it; if that is a try after a pause, it is the only one.
    pub(super) fn try_again(&self, now: Instant, does: Does) {
        let mut memory = self.memory();
        memory.reach.try_again(now);
        if does == Does::Writes {
            memory.uploads.try_again(now);
        }
    }

    pub(super) fn failed(&self, why: &str) {
        if let Some(pause) = self.memory().reach.failed(Instant::now()) {
            tracing::warn!(
                instance = &*self.name,
                why,
                again_in_s = pause.as_secs(),
                "an instance of Quay fails: requests go to the others, one at a time tries it again"
            );
        }
    }

    pub(super) fn answered(&self) {
        if let Some(down) = self.memory().reach.worked(Instant::now()) {
            tracing::info!(
                instance = &*self.name,
                after_s = down.as_secs(),
                "an instance of Quay answers again"
            );
        }
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

    /// A word for how it stands: `fine`, `failing`, or `uploads fail`.
    pub(super) fn state(&self) -> &'static str {
        let (now, memory) = (Instant::now(), self.memory());
        match (memory.reach.standing(now), memory.uploads.standing(now)) {
            (Standing::Fine, Standing::Fine) => "fine",
            (Standing::Fine, _) => "uploads fail",
            _ => "failing",
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
