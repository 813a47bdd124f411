//! The resolved configuration: checked and complete.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backends::proxy::ProxyRules;
use backends::{Digest, Secret, StoreConfig};
use ipnet::IpNet;
use replication::{LimitsByZone, Verify};
use zone_router::Policy;

use super::ConfigError;
use super::access_log::{AccessLogSettings, access_log};
use super::admin::{AdminSettings, admin};
use super::auth::{AuthSettings, auth};
use super::bounds::{Limits, Timeouts};
use super::file::{ConfigFile, RegistryKind};
use super::files::{existing, files_read, relative_to, secret_file};
use super::hostnames::{Hostnames, hostnames, is_plain};
use super::instances::{self, Instance};
use super::journal::{JournalSettings, journal};
use super::located::Located;
use super::offline::{OfflineSettings, offline};
use super::otlp::{OtlpSettings, otlp};
use super::patterns::{Patterns, patterns};
use super::pins::{Pin, pins};
use super::pitfalls::{PitfallInput, pitfalls};
use super::proxies::{proxy_protocol, trusted_proxies};
use super::proxy::{ProxyVariables, proxy};
use super::quay::QuayFile;
use super::replication::{ReplicationSettings, replication};
use super::roots;
use super::tls::{TlsSettings, tls};
use super::zones::{Preference, targets, zones};
use gateway_http::Allowed;

const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8443));
const STATE_DIR: &str = "/var/lib/quay-gateway";
/// The file in `state_dir` about the cache.
const UNREMOVED: &str = "cache-unremoved";
const CACHE_DIR: &str = "/var/cache/quay-gateway";
const CACHE_SIZE: bytesize::ByteSize = bytesize::ByteSize::gib(100);
/// The least time that a connection may be idle. The gateway looks at connections this often.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// The longest lame duck. A supervisor kills the process before that.
const LAME_DUCK_MAX: Duration = Duration::from_secs(600);
const CACHE_RESERVE: bytesize::ByteSize = bytesize::ByteSize::gib(1);

/// Allowed values for the timeout and the interval of probes of the registry's instances.
const PROBE_MIN: Duration = Duration::from_millis(50);
const PROBE_MAX: Duration = Duration::from_secs(3600);

/// Everything that the gateway is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address on which clients connect.
    pub listen: SocketAddr,
    /// The host name that clients use, with a port unless it is 443.
    pub hostname: String,
    /// Other names that clients may use, in the same form.
    pub more_hostnames: Vec<String>,
    /// The registry's own name for itself: Quay's `SERVER_HOSTNAME`.
    pub registry_hostname: String,
    /// Whether the registry itself, under its own name, speaks plain HTTP to clients.
    pub registry_is_plain: bool,
    /// What the gateway shows to clients, and what they must show.
    pub tls: TlsSettings,
    /// The folder for what must survive a restart: the journal and the certificate that the gateway makes.
    pub state_dir: PathBuf,
    /// Where pending copies are kept.
    pub journal: JournalSettings,
    /// The kind of registry.
    pub registry_kind: RegistryKind,
    /// The registry's instances, in the order of the file; at least one.
    pub instances: Vec<Instance>,
    /// The hosts to which the registry may redirect. `None` for any host.
    pub redirects_to: Option<Patterns>,
    /// Headers of clients that are forwarded to the registry in addition to those that always are.
    pub forward_headers: Allowed,
    /// The size of the largest layer that Quay accepts, in bytes.
    pub layer_max: u64,
    /// Which decisions about reads the gateway makes by itself.
    pub auth: AuthSettings,
    /// What is served while the registry is away. `None` if nothing is.
    pub offline: Option<OfflineSettings>,
    /// The service account: read-only, for the gateway's own requests to the registry.
    pub account: Option<Account>,
    /// Files of further trusted roots.
    pub ca_files: Vec<PathBuf>,
    /// Changes with the contents of these files.
    pub ca_digest: Digest,
    /// The digest of the roots that are trusted by the connections that are opened once: to the journal, to Quay's database
    /// and Redis, and to the collector of traces.
    pub opened_roots: Digest,
    /// Which requests to stores and to the registry go through a forward proxy.
    pub proxies: Arc<ProxyRules>,
    /// All zones: home first, then in the registry's order of preference.
    pub zones: Vec<NamedZone>,
    /// Warnings about settings that are probably not intended. Each names the fix.
    pub warnings: Vec<String>,
    /// The files that were read: this configuration first, then those that it names.
    pub files: Vec<PathBuf>,
    /// The bounds of probes and hedges.
    pub routing: zone_router::Settings,
    /// Names of the zones that every pushed blob is copied to.
    pub targets: Vec<String>,
    /// When an object that is already in the target zone counts as copied.
    pub verify: Verify,
    /// How many copies run at once, and how fast.
    pub copy_limits: LimitsByZone,
    /// Placements, locks and the sweep.
    pub replication: ReplicationSettings,
    /// The disk cache.
    pub cache: CacheSettings,
    /// Images that are kept in it.
    pub pins: Vec<Pin>,
    /// The admin API.
    pub admin: AdminSettings,
    /// The access log, if it is apart from the log.
    pub access_log: Option<AccessLogSettings>,
    /// The collector to which spans are exported.
    pub otlp: Option<OtlpSettings>,
    /// Networks of proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections from these networks begin with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// Limits on numbers and sizes.
    pub limits: Limits,
    /// Limits on durations.
    pub timeouts: Timeouts,
}

impl Settings {
    /// Whether clients may use another name than the registry's own, so that the registry's URLs must be rewritten.
    #[must_use]
    pub fn names_differ(&self) -> bool {
        self.hostnames().any(|name| !name.eq_ignore_ascii_case(&self.registry_hostname))
    }

    /// All names that clients may use, as `host[:port]`, with `hostname` first.
    pub fn hostnames(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.hostname).chain(&self.more_hostnames)
    }
}

/// A registry account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// A user, or a robot such as `org+robot`, which reads one namespace.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// A zone: its name, its store, and how it is read.
#[derive(Debug, Clone)]
pub struct NamedZone {
    /// The name, which is the name of a location in Quay.
    pub name: String,
    /// The store, as Quay's configuration describes it.
    pub store: StoreConfig,
    /// What `routing.zones` says of it.
    pub policy: Policy,
}

impl NamedZone {
    /// A zone with the default policy.
    pub(super) fn new(name: String, store: StoreConfig) -> Self {
        Self { name, store, policy: Policy::default() }
    }
}

/// The disk cache.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// The folder.
    pub dir: PathBuf,
    /// The file in `state_dir` that names blobs whose files could not be removed from the folder.
    pub unremoved: PathBuf,
    /// The most bytes of blobs in it.
    pub size: u64,
    /// Bytes of the file system that it leaves free.
    pub reserve: u64,
}

/// Checks the file and completes it from Quay's own file.
///
/// # Errors
/// A key is missing, a value is not valid, a file cannot be read, or two keys contradict each other.
pub(super) fn resolve(
    path: &Path,
    file: ConfigFile,
    preference: Option<&str>,
    proxy_variables: &ProxyVariables,
) -> Result<Settings, ConfigError> {
    let fail = |line: Option<u64>, message: String| ConfigError::new(path, line, message);
    let quay = quay_file(path, &file)?;
    let written = instances::parsed(path, &file)?;
    let Hostnames { registry: registry_hostname, gateway: hostname, more: more_hostnames } =
        hostnames(path, &file, &quay, &written)?;
    let registry_is_plain = is_plain(&file, &quay, &written, &registry_hostname);
    file.limits.check().map_err(|error| fail(None, error.to_string()))?;
    let preference = Preference::of(&quay, preference);
    let mut zones = zones(path, &file, &quay, &preference)?;
    file.routing.set_policies(path, &mut zones)?;
    let replication = replication(path, &file, &quay)?;
    let targets = targets(&file, &quay, &zones, replication.placements.is_some());
    let instances = instances::instances(path, &file, written, &zones, &registry_hostname)?;
    let mut warnings = pitfalls(&PitfallInput {
        kind: file.registry.kind,
        quay: &quay,
        preference: &preference,
        zones: &zones,
        targets: &targets,
        placements: replication.placements.as_ref(),
        accept_orphans: replication.accept_orphans,
    });
    let several = file.registry.instances.is_some().then(|| instances::warning(&instances, &zones));
    warnings.extend(several.into_iter().flatten());
    let ca_files = ca_files(path, &file, &mut warnings)?;
    let proxies = Arc::new(proxy(path, &file.proxy, proxy_variables, &mut warnings)?);
    let state_dir = state_dir(path, &file);
    let cache = cache(path, &file, &state_dir)?;
    let trusted_proxies = trusted_proxies(path, file.trusted_proxies.as_ref())?;
    let ca_digest = roots::contents(&ca_files);
    let pins = pins(path, &file, [&hostname, &registry_hostname].into_iter().chain(&more_hostnames))?;
    Ok(Settings {
        admin: admin(path, &file.admin, std::iter::once(&hostname).chain(&more_hostnames))?,
        listen: file.listen.unwrap_or(LISTEN),
        hostname,
        more_hostnames,
        registry_is_plain,
        tls: tls(path, &file.tls)?,
        state_dir,
        journal: journal(path, file.journal.as_ref())?,
        registry_kind: file.registry.kind,
        instances,
        redirects_to: patterns(path, "registry.redirects_to", file.registry.redirects_to.as_ref())?,
        forward_headers: forward_headers(path, file.registry.forward_headers.as_ref())?,
        layer_max: quay.layer_max(),
        auth: auth(path, &file, &quay, &registry_hostname)?,
        offline: offline(path, &file.offline, file.registry.kind)?,
        registry_hostname,
        account: account(path, &file)?,
        files: files_read(path, &file, &ca_files),
        ca_digest,
        opened_roots: ca_digest,
        ca_files,
        proxies,
        verify: file.replication.verify.into(),
        copy_limits: file.replication.limits.limits(path, &zones)?,
        routing: file.routing.settings(path)?,
        zones,
        warnings,
        targets,
        replication,
        cache,
        pins,
        access_log: access_log(path, &file.access_log),
        otlp: otlp(path, &file.tracing.otlp)?,
        proxy_protocol: proxy_protocol(path, file.proxy_protocol, &trusted_proxies)?,
        trusted_proxies,
        limits: file.limits,
        timeouts: checked_timeouts(path, file.timeouts)?,
    })
}

fn state_dir(path: &Path, file: &ConfigFile) -> PathBuf {
    file.state_dir.as_ref().map_or_else(|| STATE_DIR.into(), |dir| relative_to(path, &dir.value))
}

fn quay_file(path: &Path, file: &ConfigFile) -> Result<QuayFile, ConfigError> {
    let Some(config) = &file.registry.config else { return Ok(QuayFile::default()) };
    if file.registry.kind != RegistryKind::Quay {
        return Err(ConfigError::new(
            path,
            config.line,
            "registry.config is Quay's file, but registry.kind is not quay: remove one of them",
        ));
    }
    super::read_yaml(&relative_to(path, &config.value), Some((path, config.line)))
}

/// The most names in `registry.forward_headers`.
const FORWARD_HEADERS_MAX: usize = 64;

fn forward_headers(path: &Path, names: Option<&Located<Vec<String>>>) -> Result<Allowed, ConfigError> {
    let Some(names) = names else { return Ok(Allowed::default()) };
    let fail = |why: &str| ConfigError::new(path, names.line, format!("registry.forward_headers: {why}"));
    match names.value.len() > FORWARD_HEADERS_MAX {
        true => Err(fail(&format!("more than {FORWARD_HEADERS_MAX} names"))),
        false => Allowed::new(&names.value).map_err(fail),
    }
}

fn account(path: &Path, file: &ConfigFile) -> Result<Option<Account>, ConfigError> {
    match (&file.registry.account.username, &file.registry.account.password_file) {
        (None, None) => Ok(None),
        (Some(username), Some(password_file)) => {
            let password = secret_file(path, "registry.account.password_file", password_file)?;
            Ok(Some(Account { username: username.value.clone(), password }))
        }
        (Some(given), None) => Err(ConfigError::new(
            path,
            given.line,
            "registry.account.username without password_file: set both",
        )),
        (None, Some(given)) => Err(ConfigError::new(
            path,
            given.line,
            "registry.account.password_file without username: set both",
        )),
    }
}

/// The operator's further roots, and those that Quay itself trusts. A problem with the latter is only a
/// warning, because Quay starts with it.
fn ca_files(path: &Path, file: &ConfigFile, warnings: &mut Vec<String>) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    if let Some(ca) = &file.ca {
        files.push(existing(path, "ca", ca)?);
    }
    if let Some(config) = &file.registry.config {
        let (found, problems) = roots::from_quay_config(&relative_to(path, &config.value));
        files.extend(found);
        warnings.extend(problems);
    }
    Ok(files)
}

fn cache(path: &Path, file: &ConfigFile, state_dir: &Path) -> Result<CacheSettings, ConfigError> {
    let size = file.cache.size.as_ref().map_or(CACHE_SIZE, |size| size.value);
    if size.as_u64() == 0 {
        return Err(ConfigError::new(
            path,
            file.cache.size.as_ref().and_then(|size| size.line),
            "cache.size: must be more than 0, such as 100GiB",
        ));
    }
    Ok(CacheSettings {
        dir: file.cache.dir.as_ref().map_or_else(|| CACHE_DIR.into(), |dir| relative_to(path, &dir.value)),
        unremoved: state_dir.join(UNREMOVED),
        size: size.as_u64(),
        reserve: file.cache.reserve.unwrap_or(CACHE_RESERVE).as_u64(),
    })
}

fn checked_timeouts(path: &Path, timeouts: Timeouts) -> Result<Timeouts, ConfigError> {
    if timeouts.permission > Timeouts::default().permission {
        return Err(ConfigError::new(
            path,
            None,
            "timeouts.permission: must not be more than 60s, for which Quay itself caches that a repository exists",
        ));
    }
    if timeouts.idle < IDLE_MIN {
        return Err(ConfigError::new(path, None, "timeouts.idle: must be at least 1s"));
    }
    if timeouts.lame_duck.is_some_and(|lame_duck| lame_duck > LAME_DUCK_MAX) {
        let most = humantime::format_duration(LAME_DUCK_MAX);
        return Err(ConfigError::new(
            path,
            None,
            format!("timeouts.lame_duck: must not be more than {most}"),
        ));
    }
    for (name, given) in
        [("registry_probe", timeouts.registry_probe), ("registry_probe_every", timeouts.registry_probe_every)]
    {
        if !(PROBE_MIN..=PROBE_MAX).contains(&given) {
            let why = format!("timeouts.{name}: must be between 50ms and 1h");
            return Err(ConfigError::new(path, None, why));
        }
    }
    Ok(timeouts)
}
