//! Proxies in front of the gateway that name their clients.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::ConfigError;
use super::located::Located;

pub(super) fn trusted_proxies(
    path: &Path,
    written: Option<&Located<Vec<String>>>,
) -> Result<Vec<IpNet>, ConfigError> {
    let Some(written) = written else { return Ok(Vec::new()) };
    let network = |text: &String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| {
            let why =
                format!("trusted_proxies: {text} is neither a network such as 10.0.0.0/8 nor an address");
            ConfigError::new(path, written.line, why)
        })
    };
    written.value.iter().map(network).collect()
}

/// # Errors
/// No proxy is trusted.
pub(super) fn proxy_protocol(
    path: &Path,
    written: Option<Located<bool>>,
    trusted: &[IpNet],
) -> Result<bool, ConfigError> {
    match written {
        Some(Located { line, value: true }) if trusted.is_empty() => Err(ConfigError::new(
            path,
            line,
            "proxy_protocol: the addresses of the proxies that send the header must be in trusted_proxies",
        )),
        written => Ok(written.is_some_and(|written| written.value)),
    }
}
