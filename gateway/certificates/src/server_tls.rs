//! The TLS configuration for clients, which follows its files while the gateway runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use tokio::sync::Notify;
use tokio::time::Instant;

use config::{Settings, TlsPair, bare_host};
use followed_files::{Latest, Outcome};

use crate::by_name::ByName;
use crate::client_ca::ClientCa;
use crate::expiry::TimeLeft;
use crate::facts::covers_host;
use crate::made;
use crate::pair::Pair;

/// The TLS configuration for clients: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
///
/// It is replaced whole, and with it the sessions that may be resumed. So no client resumes a session that a new
/// `tls.client_ca` would refuse. Open connections keep the configuration of their handshake.
#[derive(Debug)]
pub struct ServerTls {
    /// The names that clients dial, as `host[:port]`.
    hostnames: Vec<String>,
    /// The folder of the certificate that the gateway makes, if the configuration names none.
    made_in: Option<PathBuf>,
    files: Vec<TlsPair>,
    client_ca_file: Option<PathBuf>,
    state: Mutex<State>,
    configs: ArcSwap<ServerConfigs>,
    loaded: AtomicU64,
    refused: AtomicU64,
    pub(crate) asked: Notify,
}

/// What is made of the files.
#[derive(Debug)]
struct ServerConfigs {
    clients: Arc<ServerConfig>,
    admin: Arc<ServerConfig>,
}

/// The last good contents of the files.
#[derive(Debug)]
struct State {
    /// One for each of `files`, in order.
    pairs: Vec<Latest<Arc<Pair>>>,
    client_ca: Option<Latest<Arc<ClientCa>>>,
}

/// What reading all files again showed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// Whether something is served that was not served before.
    pub(crate) changed: bool,
    /// Whether files are wrong that may be right in a moment.
    pub(crate) doubtful: bool,
}

/// A certificate that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedCertificate {
    /// The first name that it is for, or its file if it has none.
    pub name: String,
    /// The file of the chain.
    pub file: PathBuf,
    /// When it or another certificate of its chain expires, in seconds since 1970. A root in the chain does not count.
    pub expires: i64,
    /// From when it is valid, in seconds since 1970.
    pub begins: i64,
}

/// The state of the certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsStatus {
    /// The certificates that are served, in the order of the configuration.
    pub certificates: Vec<ServedCertificate>,
    /// How often files were read again and taken.
    pub loaded: u64,
    /// How often files were read again and refused.
    pub refused: u64,
}

impl ServerTls {
    /// Reads the certificates of the configuration. If it names none, a CA and a certificate are made in `state_dir`.
    ///
    /// # Errors
    /// A certificate, a key or `tls.client_ca` is missing or cannot be read, a key does not belong to its certificate,
    /// or a certificate cannot be made.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let hostnames: Vec<_> = settings.hostnames().cloned().collect();
        let (made_in, files) = match settings.tls.pairs.is_empty() {
            true => {
                let (certificate, key) = made::ensure(&settings.state_dir, &hostnames)?;
                (Some(settings.state_dir.clone()), vec![TlsPair { certificate, key }])
            }
            false => (None, settings.tls.pairs.clone()),
        };
        Self::read(hostnames, made_in, files, settings.tls.client_ca.clone())
    }

    /// The certificates of a later configuration. The counts go on.
    ///
    /// # Errors
    /// The same as [`ServerTls::open`].
    pub fn successor(&self, settings: &Settings) -> anyhow::Result<Self> {
        let new = Self::open(settings)?;
        new.loaded.store(self.loaded.load(Ordering::Relaxed), Ordering::Relaxed);
        new.refused.store(self.refused.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(new)
    }

    fn read(
        hostnames: Vec<String>,
        made_in: Option<PathBuf>,
        files: Vec<TlsPair>,
        client_ca_file: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let read = |files: &TlsPair| {
            let read = || Pair::read(&files.certificate, &files.key);
            // A Secret may have been swapped between the reads of its two files.
            read().or_else(|_| read()).map(Arc::new).map(Latest::new)
        };
        let pairs: Vec<_> = files.iter().map(read).collect::<Result<_, _>>()?;
        let client_ca =
            client_ca_file.as_deref().map(ClientCa::read).transpose()?.map(Arc::new).map(Latest::new);
        let state = State { pairs, client_ca };
        Ok(Self {
            hostnames,
            made_in,
            files,
            client_ca_file,
            configs: ArcSwap::from_pointee(state.configs()),
            state: Mutex::new(state),
            loaded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            asked: Notify::new(),
        })
    }

    /// The configuration for the next client.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs.load().clients)
    }

    /// The configuration for the next operator: the same certificates, without certificates of clients, and HTTP/1.1.
    #[must_use]
    pub fn admin_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs.load().admin)
    }

    /// Asks for the files to be read again soon.
    pub fn reload_soon(&self) {
        self.asked.notify_one();
    }

    /// The certificates that are served, and how often they were reloaded.
    #[must_use]
    pub fn status(&self) -> ServerTlsStatus {
        let state = self.state.lock();
        let served = |(files, pair): (&TlsPair, &Latest<Arc<Pair>>)| {
            let file = files.certificate.clone();
            let name = pair.value().leaf().names.first().cloned();
            let name = name.unwrap_or_else(|| file.display().to_string());
            let (expires, begins) = (pair.value().expires(), pair.value().leaf().not_before);
            ServedCertificate { name, file, expires, begins }
        };
        ServerTlsStatus {
            certificates: self.files.iter().zip(&state.pairs).map(served).collect(),
            loaded: self.loaded.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// The files that others replace.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &Path> {
        let given = self.files.iter().filter(|_| self.made_in.is_none());
        given
            .flat_map(|files| [files.certificate.as_path(), files.key.as_path()])
            .chain(self.client_ca_file.as_deref())
    }

    /// Reads all files again, and takes what is good and new. What is wrong at `now` changes nothing. Blocks on the
    /// disk.
    pub(crate) fn reload(&self, now: Instant) -> Reloaded {
        // Nobody waits for the lock while a disk is slow.
        let renewed = self.made_in.as_ref().map_or(Ok(()), |dir| made::renew(dir, &self.hostnames));
        let pairs: Vec<_> = match renewed {
            Ok(()) => self.files.iter().map(|files| Pair::read(&files.certificate, &files.key)).collect(),
            // There is only the one that the gateway makes.
            Err(error) => vec![Err(error)],
        };
        let client_ca = self.client_ca_file.as_deref().map(ClientCa::read);
        let mut state = self.state.lock();
        let mut reloaded = Reloaded::default();
        for ((files, latest), read) in self.files.iter().zip(&mut state.pairs).zip(pairs) {
            let same = |one: &Pair, other: &Pair| one.chain() == other.chain();
            let read = read.and_then(|pair| match same(&pair, latest.value()) {
                // The one that is served may expire where it lies.
                true => Ok(pair),
                false => pair.valid_now(&files.certificate),
            });
            let same = |one: &Arc<Pair>, other: &Arc<Pair>| same(one, other);
            let outcome = latest.take(read.map(Arc::new), same, |error| format!("{error:#}"), now);
            self.note(&mut reloaded, outcome, &files.certificate);
        }
        if let (Some(file), Some(latest), Some(read)) =
            (&self.client_ca_file, &mut state.client_ca, client_ca)
        {
            let read = read.map(Arc::new);
            let outcome =
                latest.take(read, |one, other| one.is_same(other), |error| format!("{error:#}"), now);
            self.note(&mut reloaded, outcome, file);
        }
        if reloaded.changed {
            self.configs.store(Arc::new(state.configs()));
        }
        reloaded
    }

    /// Counts and logs what reading one file again showed.
    fn note(&self, reloaded: &mut Reloaded, outcome: Outcome, file: &Path) {
        let file = file.display();
        match outcome {
            Outcome::Same | Outcome::StillRefused => {}
            Outcome::Changed => {
                reloaded.changed = true;
                self.loaded.fetch_add(1, Ordering::Relaxed);
                tracing::info!(%file, "a new certificate is used for new connections");
            }
            Outcome::Doubted(why) => {
                reloaded.doubtful = true;
                if let Some(error) = why {
                    tracing::info!(%file, error, "a new certificate cannot be used yet: it is read again in a moment");
                }
            }
            Outcome::Refused(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%file, error, "a new certificate is refused: the one before it stays in use");
            }
        }
    }

    /// Logs what operators should do about the certificates that are served.
    pub(crate) fn report(&self) {
        let state = self.state.lock();
        for (files, latest) in self.files.iter().zip(&state.pairs) {
            let (file, leaf) = (files.certificate.display(), latest.value().leaf());
            match TimeLeft::until(latest.value().expires(), leaf) {
                TimeLeft::Days(_) => {}
                TimeLeft::Expired if TimeLeft::of(leaf) != TimeLeft::Expired => {
                    tracing::warn!(
                        %file,
                        "an intermediate certificate has expired, so some clients may refuse the gateway: replace it, or \
                         leave it out if no client needs it"
                    );
                }
                TimeLeft::FewDays(days) => {
                    tracing::warn!(%file, days, "a certificate expires soon: renew it");
                }
                TimeLeft::Expired => {
                    tracing::error!(%file, "a certificate has expired, so clients refuse it: replace it");
                }
                TimeLeft::NotYet => {
                    tracing::warn!(%file, "a certificate is not valid yet: correct the clock, or wait");
                }
            }
        }
        for hostname in &self.hostnames {
            let host = bare_host(hostname);
            if !state.pairs.iter().any(|pair| covers_host(&pair.value().chain()[0], host)) {
                tracing::warn!(
                    hostname,
                    "no certificate covers a configured hostname, so clients that dial it refuse the gateway: issue a \
                     certificate with that name"
                );
            }
        }
    }
}

/// Reads the files that the configuration names, and makes nothing.
///
/// # Errors
/// The errors of [`ServerTls::open`] about these files.
pub fn rehearse(settings: &Settings) -> anyhow::Result<Vec<Pair>> {
    if let Some(file) = &settings.tls.client_ca {
        ClientCa::read(file)?;
    }
    settings.tls.pairs.iter().map(|files| Pair::read(&files.certificate, &files.key)).collect()
}

impl State {
    fn configs(&self) -> ServerConfigs {
        let client_ca = self.client_ca.as_ref().map(|ca| &**ca.value());
        let clients = self.config(client_ca, &[b"h2", b"http/1.1"]);
        ServerConfigs { clients, admin: self.config(None, &[b"http/1.1"]) }
    }

    /// A configuration with ticket keys of its own, so that no session of the one before it is resumed.
    fn config(&self, client_ca: Option<&ClientCa>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let pairs = self.pairs.iter().map(|pair| Arc::clone(pair.value())).collect();
        let builder = ServerConfig::builder();
        let builder = match client_ca {
            Some(ca) => builder.with_client_cert_verifier(Arc::clone(ca.verifier())),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(pairs)));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // The clients keep the sessions, as tickets. rustls' own store would hold 256 sessions. Without random bytes no
        // handshake succeeds, so that error needs no answer here. A ticket may outlive the certificate that a client
        // showed, so clients that must show one get none.
        if client_ca.is_none()
            && let Ok(ticketer) = Ticketer::new()
        {
            config.ticketer = ticketer;
        }
        Arc::new(config)
    }
}

#[cfg(test)]
mod tests;
