//! The configuration as it was understood: checked, complete, ready to build from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backends::{Secret, StoreConfig};
use ipnet::IpNet;
use replication::{LimitsByZone, Verify};
use url::Url;
use zone_router::Policy;

use super::ConfigError;
use super::admin::{AdminSettings, admin};
use super::bounds::{Limits, Timeouts};
use super::file::{File, RegistryKind};
use super::instances::{self, Instance};
use super::journal::{JournalSettings, journal};
use super::located::Located;
use super::patterns::{Patterns, patterns};
use super::pitfalls::{Facts, pitfalls};
use super::quay::QuayFile;
use super::replication::{ReplicationSettings, replication};
use super::roots;
use super::zones::{Preference, targets, zones};
use gateway_http::Allowed;

const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8443));
const STATE_DIR: &str = "/var/lib/quay-gateway";
const CACHE_DIR: &str = "/var/cache/quay-gateway";
const CACHE_SIZE: bytesize::ByteSize = bytesize::ByteSize::gib(100);
/// Longer than this, a supervisor has long killed it.
const LAME_DUCK_MAX: Duration = Duration::from_secs(600);
const CACHE_RESERVE: bytesize::ByteSize = bytesize::ByteSize::gib(1);

/// The bounds of what may be said of probes of the registry's instances.
const PROBE_MIN: Duration = Duration::from_millis(50);
const PROBE_MAX: Duration = Duration::from_secs(3600);

/// Everything the gateway is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// What clients dial, with a port unless it is 443.
    pub hostname: String,
    /// The registry's own name for itself: Quay's `SERVER_HOSTNAME`.
    pub registry_hostname: String,
    /// The certificate, or `None` to make one in `state_dir`.
    pub tls: Option<TlsSettings>,
    /// What must survive a restart: the journal and a certificate made here.
    pub state_dir: PathBuf,
    /// Where the copies still to be made are kept.
    pub journal: JournalSettings,
    /// Which registry it is.
    pub registry_kind: RegistryKind,
    /// Where the registry is dialled: one place, or the Quays of all zones as they are written.
    pub instances: Vec<Instance>,
    /// Where the registry's redirects may lead; `None` for any host.
    pub redirects_to: Option<Patterns>,
    /// Headers of clients that the registry sees beside those that always pass.
    pub forward_headers: Allowed,
    /// Bytes of the largest layer that Quay takes.
    pub layer_max: u64,
    /// A read-only account for what the gateway asks on its own behalf.
    pub account: Option<Account>,
    /// Extra trusted roots, PEM.
    pub ca_files: Vec<PathBuf>,
    /// All zones, home first, then in the registry's order of preference.
    pub zones: Vec<NamedZone>,
    /// What may not be meant so: a sentence for each, with the fix.
    pub warnings: Vec<String>,
    /// What an operator says of each zone, in their order.
    pub policies: Vec<Policy>,
    /// The bounds of probes and hedges.
    pub routing: zone_router::Settings,
    /// Names of the zones that every pushed blob is copied to.
    pub targets: Vec<String>,
    /// When an object that is there already counts as copied.
    pub verify: Verify,
    /// How much copies do at once, and how fast.
    pub copy_limits: LimitsByZone,
    /// What Quay is told of copies, and how gaps are found.
    pub replication: ReplicationSettings,
    /// The disk cache.
    pub cache: CacheSettings,
    /// Where operators look.
    pub admin: AdminSettings,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How much at once.
    pub limits: Limits,
    /// How long.
    pub timeouts: Timeouts,
}

impl Settings {
    /// Whether clients dial another name than the registry's own, so that its URLs need rewriting.
    #[must_use]
    pub fn names_differ(&self) -> bool {
        !self.hostname.eq_ignore_ascii_case(&self.registry_hostname)
    }
}

/// A certificate chain and its key, PEM files.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A registry account.
#[derive(Debug, Clone)]
pub struct Account {
    /// A user, or a robot such as `org+robot`, which reads one namespace.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

/// A zone and its store.
#[derive(Debug, Clone)]
pub struct NamedZone {
    /// Quay's location id.
    pub name: String,
    /// Its store, as Quay describes it.
    pub store: StoreConfig,
}

/// The disk cache.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// Its folder.
    pub dir: PathBuf,
    /// Bytes of blobs it may hold.
    pub size: u64,
    /// Bytes of the file system it leaves free.
    pub reserve: u64,
}

/// Checks the file and completes it from Quay's own.
pub(super) fn resolve(path: &Path, file: File, preference: Option<&str>) -> Result<Settings, ConfigError> {
    let fail = |line: Option<u64>, message: String| ConfigError::new(path, line, message);
    let quay = quay_file(path, &file)?;
    let written = instances::written(path, &file)?;
    let registry_hostname = own_name(path, &file, &quay, &written)?;
    let hostname = match &file.hostname {
        Some(hostname) => checked_hostname(path, hostname)?,
        None => registry_hostname.clone(),
    };
    check_scheme(path, &file, &quay, hostname == registry_hostname)?;
    file.limits.check().map_err(|why| fail(None, why))?;
    let preference = Preference::of(&quay, preference);
    let zones = zones(path, &file, &quay, &preference)?;
    let replication = replication(path, &file, &quay)?;
    let targets = targets(&file, &quay, &zones, replication.placements.is_some());
    let instances = instances::instances(path, &file, written, &zones, &registry_hostname)?;
    let mut warnings = pitfalls(&Facts {
        kind: file.registry.kind,
        quay: &quay,
        preference: &preference,
        zones: &zones,
        targets: &targets,
        placements: replication.placements.as_ref(),
        accept_orphans: replication.accept_orphans,
    });
    if file.registry.instances.is_some() {
        warnings.extend(instances::warning(&instances, &zones));
    }
    let ca_files = ca_files(path, &file, &mut warnings)?;
    Ok(Settings {
        listen: file.listen.unwrap_or(LISTEN),
        hostname,
        registry_hostname,
        tls: tls(path, &file)?,
        state_dir: file
            .state_dir
            .as_ref()
            .map_or_else(|| STATE_DIR.into(), |dir| relative_to(path, &dir.value)),
        journal: journal(path, file.journal.as_ref())?,
        registry_kind: file.registry.kind,
        instances,
        redirects_to: patterns(path, "registry.redirects_to", file.registry.redirects_to.as_ref())?,
        forward_headers: forward_headers(path, file.registry.forward_headers.as_ref())?,
        layer_max: quay.layer_max(),
        account: account(path, &file)?,
        ca_files,
        verify: file.replication.verify.into(),
        copy_limits: file.replication.limits.limits(path, &zones)?,
        policies: file.routing.policies(path, &zones)?,
        routing: file.routing.settings(path)?,
        zones,
        warnings,
        targets,
        replication,
        cache: cache(path, &file)?,
        admin: admin(path, &file.admin)?,
        trusted_proxies: trusted_proxies(path, file.trusted_proxies.as_ref())?,
        limits: file.limits,
        timeouts: checked_timeouts(path, file.timeouts)?,
    })
}

/// The registry's name for itself.
fn own_name(
    path: &Path,
    file: &File,
    quay: &QuayFile,
    written: &[instances::Written],
) -> Result<String, ConfigError> {
    let dialled = || match file.registry.kind {
        RegistryKind::Distribution => written.first().map(|only| authority(&only.url)),
        RegistryKind::Quay => None,
    };
    let given = || file.registry.server_name.as_ref().map(|name| name.value.clone());
    quay.server_hostname.clone().or_else(given).or_else(dialled).ok_or_else(|| {
        ConfigError::new(
            path,
            None,
            "the registry's own name is not known: set registry.config to Quay's config.yaml (it needs \
             SERVER_HOSTNAME), or registry.server_name",
        )
    })
}

fn quay_file(path: &Path, file: &File) -> Result<QuayFile, ConfigError> {
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

/// Where both have one name, clients follow Quay's own URLs, and they must lead to TLS.
fn check_scheme(path: &Path, file: &File, quay: &QuayFile, one_name: bool) -> Result<(), ConfigError> {
    let Some(config) = file.registry.config.as_ref().filter(|_| one_name) else { return Ok(()) };
    // Quay's default (`config.py:PREFERRED_URL_SCHEME`).
    let scheme = quay.preferred_url_scheme.as_deref().unwrap_or("http");
    if scheme == "https" {
        return Ok(());
    }
    Err(ConfigError::new(
        path,
        config.line,
        format!(
            "Quay's PREFERRED_URL_SCHEME is {scheme}, so it would send clients of this \
        gateway to {scheme}:// under the same name: set PREFERRED_URL_SCHEME: https in Quay's config.yaml, or give the \
        gateway a hostname of its own"
        ),
    ))
}

fn checked_hostname(path: &Path, hostname: &Located<String>) -> Result<String, ConfigError> {
    let parsed: Result<http::uri::Authority, _> = hostname.value.parse();
    match parsed {
        Ok(authority) if authority.as_str() == hostname.value && !hostname.value.contains('@') => {
            Ok(hostname.value.clone())
        }
        _ => Err(ConfigError::new(
            path,
            hostname.line,
            "hostname: must be a host name with an optional port, without https://",
        )),
    }
}

fn tls(path: &Path, file: &File) -> Result<Option<TlsSettings>, ConfigError> {
    match (&file.tls.certificate, &file.tls.key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(TlsSettings {
            certificate: existing(path, "tls.certificate", certificate)?,
            key: existing_secret(path, "tls.key", key)?,
        })),
        (Some(certificate), None) => Err(ConfigError::new(
            path,
            certificate.line,
            "tls.certificate without tls.key: give both, or neither to have a certificate made",
        )),
        (None, Some(key)) => Err(ConfigError::new(
            path,
            key.line,
            "tls.key without tls.certificate: give both, or neither to have a certificate made",
        )),
    }
}

/// Names in `registry.forward_headers` at most.
const FORWARD_HEADERS_MAX: usize = 64;

fn forward_headers(path: &Path, names: Option<&Located<Vec<String>>>) -> Result<Allowed, ConfigError> {
    let Some(names) = names else { return Ok(Allowed::default()) };
    let fail = |why: &str| ConfigError::new(path, names.line, format!("registry.forward_headers: {why}"));
    match names.value.len() > FORWARD_HEADERS_MAX {
        true => Err(fail(&format!("more than {FORWARD_HEADERS_MAX} names"))),
        false => Allowed::new(&names.value).map_err(fail),
    }
}

fn account(path: &Path, file: &File) -> Result<Option<Account>, ConfigError> {
    match (&file.registry.account.username, &file.registry.account.password_file) {
        (None, None) => Ok(None),
        (Some(username), Some(password_file)) => {
            let password = secret_file(path, "registry.account.password_file", password_file)?;
            Ok(Some(Account { username: username.value.clone(), password }))
        }
        (Some(given), None) => Err(ConfigError::new(
            path,
            given.line,
            "registry.account.username without password_file: give both",
        )),
        (None, Some(given)) => Err(ConfigError::new(
            path,
            given.line,
            "registry.account.password_file without username: give both",
        )),
    }
}

/// The operator's extra roots, and those that Quay itself trusts. What is odd about the latter is a
/// warning: Quay starts with it.
fn ca_files(path: &Path, file: &File, warnings: &mut Vec<String>) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    if let Some(ca) = &file.ca {
        files.push(existing(path, "ca", ca)?);
    }
    if let Some(config) = &file.registry.config {
        let (found, odd) = roots::quays_own(&relative_to(path, &config.value));
        files.extend(found);
        warnings.extend(odd);
    }
    Ok(files)
}

fn cache(path: &Path, file: &File) -> Result<CacheSettings, ConfigError> {
    let size = file.cache.size.as_ref().map_or(CACHE_SIZE, |size| size.value);
    if size.as_u64() == 0 {
        return Err(ConfigError::new(
            path,
            file.cache.size.as_ref().and_then(|size| size.line),
            "cache.size: must be more than nothing, such as 100GiB",
        ));
    }
    Ok(CacheSettings {
        dir: file.cache.dir.as_ref().map_or_else(|| CACHE_DIR.into(), |dir| relative_to(path, &dir.value)),
        size: size.as_u64(),
        reserve: file.cache.reserve.unwrap_or(CACHE_RESERVE).as_u64(),
    })
}

fn trusted_proxies(path: &Path, written: Option<&Located<Vec<String>>>) -> Result<Vec<IpNet>, ConfigError> {
    let Some(written) = written else { return Ok(Vec::new()) };
    let network = |text: &String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| {
            let why = format!("trusted_proxies: {text} is no network such as 10.0.0.0/8, and no address");
            ConfigError::new(path, written.line, why)
        })
    };
    written.value.iter().map(network).collect()
}

fn checked_timeouts(path: &Path, timeouts: Timeouts) -> Result<Timeouts, ConfigError> {
    if timeouts.permission > Timeouts::default().permission {
        return Err(ConfigError::new(
            path,
            None,
            "timeouts.permission: more than 60s would outlast Quay's own memory of a deleted repository",
        ));
    }
    if timeouts.lame_duck.is_some_and(|lame_duck| lame_duck > LAME_DUCK_MAX) {
        let most = humantime::format_duration(LAME_DUCK_MAX);
        return Err(ConfigError::new(path, None, format!("timeouts.lame_duck: more than {most}")));
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

/// A file that must be there, its path relative to the configuration's folder.
pub(super) fn existing(path: &Path, key: &str, file: &Located<PathBuf>) -> Result<PathBuf, ConfigError> {
    let found = relative_to(path, &file.value);
    match found.is_file() {
        true => Ok(found),
        false => {
            // What was pasted here in place of a path may be a key.
            let shown = found.to_str().filter(|path| !path.contains(['\n', '{']) && !path.contains("-----"));
            let shown = shown.unwrap_or("of this name");
            Err(ConfigError::new(path, file.line, format!("{key}: there is no file {shown}")))
        }
    }
}

/// The same for a file that holds a secret: a path that is not there may be the secret itself, so it
/// is not shown.
fn existing_secret(path: &Path, key: &str, file: &Located<PathBuf>) -> Result<PathBuf, ConfigError> {
    let found = relative_to(path, &file.value);
    match found.is_file() {
        true => Ok(found),
        false => {
            let why = format!("{key}: there is no such file; relative paths start at this file's folder");
            Err(ConfigError::new(path, file.line, why))
        }
    }
}

/// A secret that lies in a file of its own, without the end of its line. The path is not shown if the
/// file cannot be read: it may be the secret itself.
pub(super) fn secret_file(path: &Path, key: &str, file: &Located<PathBuf>) -> Result<Secret, ConfigError> {
    let text = std::fs::read_to_string(relative_to(path, &file.value)).map_err(|error| {
        let why = format!(
            "{key}: the file that it names cannot be read: {error}; relative paths start at this file's folder"
        );
        ConfigError::new(path, file.line, why)
    })?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

pub(super) fn relative_to(config: &Path, path: &Path) -> PathBuf {
    config.parent().unwrap_or_else(|| Path::new("")).join(path)
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The host of `host[:port]`.
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
