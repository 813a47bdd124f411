//! A client of a running gateway's public endpoint, for commands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use config::{Instance, Settings, bare_host};
use http::HeaderMap;
use registry::RegistryClient;
use url::Url;

/// The gateway's address, and a client for it that connects as other clients do. `address` replaces its `listen`.
///
/// # Errors
/// The gateway does not answer, or its certificate cannot be verified. The text says what to do.
pub(crate) async fn connect(
    settings: &Settings,
    address: Option<SocketAddr>,
) -> anyhow::Result<(SocketAddr, RegistryClient)> {
    let address = address.unwrap_or_else(|| reachable(settings.listen));
    let mut roots = settings.ca_files.clone();
    let made = settings.state_dir.join("ca.pem");
    if settings.tls.pairs.is_empty() && made.is_file() {
        roots.push(made.clone());
    }
    let url: Url =
        format!("https://{address}").parse().context("the gateway's address is not valid in a URL")?;
    let server_name = bare_host(&settings.hostname).to_owned();
    let instance = Instance { name: "gateway".into(), url, server_name, zone: String::new() };
    let as_registry = Settings {
        instances: vec![instance],
        registry_hostname: settings.hostname.clone(),
        proxies: Arc::default(),
        ..settings.clone()
    };
    let client = RegistryClient::new("gateway", &as_registry, &certificates::client(&roots)?)?;
    if let Err(error) = client.get("/v2/", HeaderMap::new()).await {
        let message = error.to_string();
        let fix = match message.contains("certificate") {
            true => format!(
                "its certificate must be for {} and be signed by a CA in `ca`, in the system's roots or in {}",
                settings.hostname,
                made.display()
            ),
            false => "start it with `quay-gateway run`, or give its address with --gateway".to_owned(),
        };
        bail!("the gateway does not answer at {address}: {message}: {fix}");
    }
    Ok((address, client))
}

/// The address to connect to for a gateway that listens at this address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_listens_everywhere_is_reached_by_loopback() {
        for (listen, dialled) in [
            ("0.0.0.0:8443", "127.0.0.1:8443"),
            ("[::]:8443", "[::1]:8443"),
            ("10.1.2.3:443", "10.1.2.3:443"),
        ] {
            assert_eq!(reachable(listen.parse().expect("an address")).to_string(), dialled);
        }
    }
}
