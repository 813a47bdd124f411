//! The steps that connect to a server: name resolution, TCP, TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::proxy::{Duplex, Proxy, ProxyRules, tunnel};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use url::Url;

use super::advice::StepError;
use super::step::{StepName, StepNote, StepRunner};

/// If a certificate has fewer days left, there is a warning.
const DAYS_LEFT_MIN: i64 = 30;

const DAY: i64 = 24 * 3600;

/// A server to connect to.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// The name in its certificate. `None` for plain HTTP.
    pub(super) server_name: Option<String>,
    /// The proxy that leads to it.
    pub(super) proxy: Option<Arc<Proxy>>,
    /// Whether plain HTTP goes through a tunnel of the proxy too, as to the registry.
    pub(super) tunnel: bool,
}

impl Server {
    /// The server of a URL. Its certificate must be for the URL's host.
    pub(super) fn of(url: &Url, proxies: &ProxyRules) -> Self {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let server_name = (url.scheme() == "https").then(|| host.clone());
        let tunnel = server_name.is_some();
        Self { host, port, server_name, proxy: proxies.of(url).cloned(), tunnel }
    }

    /// The host and port to which the gateway connects by itself.
    fn dialled(&self) -> (&str, u16) {
        self.proxy.as_ref().map_or((&self.host, self.port), |proxy| (proxy.host(), proxy.port()))
    }
}

/// The proxies that lead to these servers, as text. `None` if there are none.
pub(super) fn proxies(servers: &[Server]) -> Option<String> {
    let mut all: Vec<_> =
        servers.iter().filter_map(|server| Some(server.proxy.as_ref()?.to_string())).collect();
    all.dedup();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The steps for connecting to these servers.
pub(super) fn plan(servers: &[Server]) -> Vec<StepName> {
    match servers {
        [] => Vec::new(),
        _ if servers.iter().any(|server| server.server_name.is_some()) => {
            vec![StepName::Resolve, StepName::Connect, StepName::Tls]
        }
        _ => vec![StepName::Resolve, StepName::Connect],
    }
}

/// Runs these steps, each for all servers. The connections are closed again. `None` if a step failed.
pub(super) async fn reach(
    runner: &mut StepRunner,
    servers: &[Server],
    tls: &Arc<rustls::ClientConfig>,
    bound: Duration,
) -> Option<()> {
    if servers.is_empty() {
        return Some(());
    }
    let addresses = runner.step(StepName::Resolve, bound, resolve(servers)).await?;
    let connections = runner.step(StepName::Connect, bound, connect(servers, &addresses, tls)).await?;
    if plan(servers).contains(&StepName::Tls) {
        runner.step(StepName::Tls, bound, tls_handshake(servers, connections, tls)).await?;
    }
    Some(())
}

async fn resolve(servers: &[Server]) -> Result<(Vec<Vec<SocketAddr>>, Option<StepNote>), StepError> {
    let mut found = Vec::new();
    for server in servers {
        let (host, port) = server.dialled();
        let resolve_error = |error: std::io::Error| StepError::Resolve(host.to_owned(), error.to_string());
        let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(resolve_error)?.collect();
        if addresses.is_empty() {
            return Err(StepError::Resolve(host.to_owned(), "the name has no address".into()));
        }
        found.push(addresses);
    }
    Ok((found, None))
}

async fn connect(
    servers: &[Server],
    addresses: &[Vec<SocketAddr>],
    tls: &Arc<rustls::ClientConfig>,
) -> Result<(Vec<Box<dyn Duplex>>, Option<StepNote>), StepError> {
    let mut connections = Vec::new();
    for (server, addresses) in servers.iter().zip(addresses) {
        let (host, port) = server.dialled();
        let connected = backends::dial_any(host, addresses).await;
        let tcp = connected.map_err(|error| StepError::Connect(host.to_owned(), port, error))?;
        connections.push(match &server.proxy {
            Some(proxy) if server.tunnel => {
                let opened = tunnel(tcp, proxy, (&server.host, server.port), tls).await;
                opened.map_err(|error| StepError::Tunnel(error.to_string()))?
            }
            _ => Box::new(tcp) as Box<dyn Duplex>,
        });
    }
    let note = proxies(servers).map(|proxies| StepNote::Info(format!("through the proxy {proxies}")));
    Ok((connections, note))
}

async fn tls_handshake(
    servers: &[Server],
    connections: Vec<Box<dyn Duplex>>,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<((), Option<StepNote>), StepError> {
    let mut note = None;
    for (server, connection) in servers.iter().zip(connections) {
        let Some(name) = &server.server_name else { continue };
        let failed = |error: std::io::Error| StepError::Tls(name.clone(), error);
        let server_name = ServerName::try_from(name.clone())
            .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(server_name, connection).await.map_err(failed)?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let ends = leaf.and_then(|leaf| expiry(leaf));
        note = more_severe(note, ends.map(|ends| life_left(ends, now())));
    }
    Ok(((), note))
}

/// The warning of the two, or else the later note.
fn more_severe(one: Option<StepNote>, other: Option<StepNote>) -> Option<StepNote> {
    match (&one, &other) {
        (Some(StepNote::Warning(_)), _) | (Some(_), None) => one,
        _ => other,
    }
}

/// When a certificate expires, in seconds since 1970.
fn expiry(certificate: &[u8]) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

fn life_left(ends: i64, now: i64) -> StepNote {
    match (ends - now) / DAY {
        days if days < DAYS_LEFT_MIN => {
            StepNote::Warning(format!("the certificate expires in {days} days: renew it"))
        }
        days => StepNote::Info(format!("the certificate is valid for {days} days")),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_days_are_enough() {
        assert_eq!(life_left(30 * DAY, 0), StepNote::Info("the certificate is valid for 30 days".into()));
        let soon = life_left(30 * DAY - 1, 0);
        assert_eq!(soon, StepNote::Warning("the certificate expires in 29 days: renew it".into()));
        assert_eq!(more_severe(Some(soon.clone()), Some(StepNote::Info(String::new()))), Some(soon));
    }

    #[test]
    fn a_url_gives_host_port_and_server_name() {
        let of = |url: &str| Server::of(&url.parse().expect("a URL"), &ProxyRules::default());
        let server = of("https://[::1]:8443/");
        assert_eq!((server.host.as_str(), server.port), ("::1", 8443));
        assert_eq!(server.server_name.as_deref(), Some("::1"));
        let server = of("http://rgw.corp/swift");
        assert_eq!((server.port, server.server_name), (80, None));
        assert_eq!(plan(&[of("http://a"), of("https://b")]).len(), 3);
        assert_eq!(plan(&[of("http://a")]).len(), 2);
        assert!(plan(&[]).is_empty());
    }
}
