//! The registry's own name, and the names of the gateway that clients dial.

use std::path::Path;

use rustls::pki_types::ServerName;
use url::Url;

use super::ConfigError;
use super::file::{ConfigFile, RegistryKind};
use super::instances;
use super::located::Located;
use super::quay::QuayFile;

/// How many names the gateway may have besides its first. Each request's `Host` is compared with all of them.
const MORE_MAX: usize = 64;

/// Names as `host[:port]`.
pub(super) struct Hostnames {
    pub(super) registry: String,
    pub(super) gateway: String,
    pub(super) more: Vec<String>,
}

/// # Errors
/// - A name is not valid, or the registry's own name is not known.
/// - Clients would be redirected to `http`.
pub(super) fn hostnames(
    path: &Path,
    file: &ConfigFile,
    quay: &QuayFile,
    instances: &[instances::ParsedInstance],
) -> Result<Hostnames, ConfigError> {
    let registry = own_name(path, file, quay, instances)?;
    let gateway = match &file.hostname {
        Some(hostname) => checked(path, "hostname", hostname.line, &hostname.value)?,
        None => registry.clone(),
    };
    let more = more(path, file.more_hostnames.as_ref())?;
    let is_registrys = |name: &String| name.eq_ignore_ascii_case(&registry);
    check_scheme(path, file, quay, is_registrys(&gateway) || more.iter().any(is_registrys))?;
    Ok(Hostnames { registry, gateway, more })
}

fn more(path: &Path, written: Option<&Located<Vec<String>>>) -> Result<Vec<String>, ConfigError> {
    let Some(Located { line, value }) = written else { return Ok(Vec::new()) };
    if value.len() > MORE_MAX {
        let why = format!("more_hostnames: {} names, the most are {MORE_MAX}", value.len());
        return Err(ConfigError::new(path, *line, why));
    }
    value.iter().map(|name| checked(path, "more_hostnames", *line, name)).collect()
}

/// A name that clients can dial and verify.
fn checked(path: &Path, key: &str, line: Option<u64>, name: &str) -> Result<String, ConfigError> {
    let error = |why: String| Err(ConfigError::new(path, line, format!("{key}: {why}")));
    let parsed: Result<http::uri::Authority, _> = name.parse();
    if name.contains('@') || !parsed.is_ok_and(|authority| authority.as_str() == name) {
        return error("must be a host name with an optional port, without https://".to_owned());
    }
    let host = without_port(name);
    if host.contains('*') {
        return error(format!("{name}: * is not possible here: write each name that clients dial"));
    }
    if host.ends_with('.') {
        return error(format!("{name}: leave out the dot at the end of the name"));
    }
    // As clients see it when they verify the gateway. A name may have an underscore.
    match ServerName::try_from(bare_host(name)) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => error(format!("{name} is no host name and no address: letters, digits, dots and hyphens")),
    }
}

/// The registry's own name.
fn own_name(
    path: &Path,
    file: &ConfigFile,
    quay: &QuayFile,
    written: &[instances::ParsedInstance],
) -> Result<String, ConfigError> {
    let address = || match file.registry.kind {
        RegistryKind::Distribution | RegistryKind::Oci => written.first().map(|only| authority(&only.url)),
        RegistryKind::Quay => None,
    };
    let given = || file.registry.server_name.as_ref().map(|name| name.value.clone());
    quay.server_hostname.clone().or_else(given).or_else(address).ok_or_else(|| {
        ConfigError::new(
            path,
            None,
            "the registry's own name is not known: set registry.config to Quay's config.yaml, which must have \
             SERVER_HOSTNAME, or set registry.server_name; if the registry is not Quay, set registry.kind to \
             distribution or oci",
        )
    })
}

/// If Quay and the gateway have the same name, clients follow Quay's own URLs, which must use TLS then.
fn check_scheme(path: &Path, file: &ConfigFile, quay: &QuayFile, one_name: bool) -> Result<(), ConfigError> {
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
            "Quay's PREFERRED_URL_SCHEME is {scheme}, so it would redirect clients of this gateway to {scheme}:// \
             under the same name: set PREFERRED_URL_SCHEME: https in Quay's config.yaml, or give the gateway a \
             hostname of its own"
        ),
    ))
}

/// Whether clients reach the registry under its own name without TLS. Quay says so itself; another registry is known only
/// if the gateway dials it by that name.
pub(super) fn is_plain(
    file: &ConfigFile,
    quay: &QuayFile,
    written: &[instances::ParsedInstance],
    registry: &str,
) -> bool {
    match &file.registry.config {
        Some(_) => quay.preferred_url_scheme.as_deref().unwrap_or("http") == "http",
        None => written.first().is_some_and(|one| {
            one.url.scheme() == "http" && authority(&one.url).eq_ignore_ascii_case(registry)
        }),
    }
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

/// The host of `host[:port]` as it stands in a certificate: an IPv6 address without its brackets.
pub fn bare_host(authority: &str) -> &str {
    without_port(authority).trim_matches(['[', ']'])
}
