//! A resolver for HTTP clients that open their own connections and try one address after the other. It puts
//! the address that answers first at the front.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::dial::{best_first, shun_best};

/// The maximum number of hosts of one client whose port is remembered.
const HOSTS_MAX: usize = 256;

/// The resolver of one client. The client asks it for names only, but the best address depends on the port.
/// The client must therefore call [`Resolver::expect`] before each request.
#[derive(Debug, Clone, Default)]
pub struct Resolver(Arc<Mutex<HashMap<String, u16>>>);

impl Resolver {
    /// Announces a request to this URL.
    pub fn expect(&self, url: &Url) {
        let Some((host, port)) = place(url) else { return };
        let mut ports = self.0.lock();
        if ports.get(host) == Some(&port) {
            return;
        }
        if ports.len() >= HOSTS_MAX {
            ports.clear();
        }
        ports.insert(host.to_owned(), port);
    }

    /// Reports that no connection was made for a request to this URL. The best address is no longer
    /// preferred.
    pub fn unconnected(&self, url: &Url) {
        if let Some((host, port)) = place(url) {
            shun_best(host, port);
        }
    }

    fn port(&self, host: &str) -> Option<u16> {
        self.0.lock().get(host).copied()
    }
}

/// The name and port that a URL dials. `None` if the host is an IP address, which needs no resolver.
fn place(url: &Url) -> Option<(&str, u16)> {
    Some((url.domain()?, url.port_or_known_default()?))
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        // If the port is not known, the addresses keep the order of the resolver.
        let port = self.port(name.as_str()).unwrap_or_default();
        Box::pin(async move {
            let mut addresses = match port {
                0 => tokio::net::lookup_host((name.as_str(), 0)).await?.collect(),
                port => best_first(name.as_str(), port).await?,
            };
            // The connector sets the port of the URL.
            addresses.iter_mut().for_each(|address| address.set_port(0));
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_resolved_and_ports_left_to_the_connector() {
        let resolver = Resolver::default();
        let url: Url = "http://localhost:9/".parse().expect("a URL");
        resolver.expect(&url);
        assert_eq!(resolver.port("localhost"), Some(9));
        let name = "localhost".parse().expect("a name");
        let found: Vec<_> = resolver.resolve(name).await.expect("addresses").collect();
        assert!(
            !found.is_empty() && found.iter().all(|it| it.ip().is_loopback() && it.port() == 0),
            "{found:?}"
        );
    }

    #[test]
    fn hosts_are_bounded_and_ip_addresses_are_not_remembered() {
        let resolver = Resolver::default();
        resolver.expect(&"http://127.0.0.1:9/".parse().expect("a URL"));
        assert!(resolver.0.lock().is_empty());
        for host in 0..2 * HOSTS_MAX {
            resolver.expect(&format!("https://host-{host}/").parse().expect("a URL"));
        }
        assert!(resolver.0.lock().len() <= HOSTS_MAX);
    }
}
