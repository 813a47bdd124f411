//! Following the registry's redirects to object stores, without any client's credentials.

mod guard;

use std::error::Error as _;
use std::sync::Arc;

use config::Settings;
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, LOCATION};
use http::uri::PathAndQuery;
use url::Url;

use self::guard::{Guard, Resolver};

/// Idle connections kept to one store outside the configuration.
const POOL_IDLE_CONNECTIONS_MAX: usize = 8;

/// The client for stores outside the configuration. It never sends a client's credentials.
#[derive(Debug, Clone)]
pub struct RedirectClient {
    guard: Arc<Guard>,
    client: reqwest::Client,
    /// For URLs whose port a listener of the gateway's has: it dials no address of this machine.
    outward: reqwest::Client,
    first_byte: std::time::Duration,
    redirects: usize,
}

/// Where a `Location` points.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// The registry itself, under either of its names: dialled where the configuration says, bytes unchanged,
    /// as Quay compares `_storage_proxy` paths byte for byte
    /// (`storage/downloadproxy.py:_validate_proxy_url`).
    Registry(PathAndQuery),
    /// A store.
    Store(Url),
}

impl RedirectClient {
    /// A client with this TLS policy.
    ///
    /// # Errors
    /// The TLS policy is not usable.
    pub fn new(tls: &Arc<rustls::ClientConfig>, settings: &Settings) -> Result<Self, reqwest::Error> {
        let (guard, timeouts) = (Arc::new(Guard::new(settings)), &settings.timeouts);
        let client = |own_port| {
            reqwest::Client::builder()
                .tls_backend_preconfigured((**tls).clone())
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .dns_resolver(Resolver { guard: Arc::clone(&guard), own_port })
                .connect_timeout(timeouts.zone_connect)
                .read_timeout(timeouts.zone_stall)
                .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS_MAX)
                .build()
        };
        Ok(Self {
            client: client(false)?,
            outward: client(true)?,
            guard,
            first_byte: timeouts.zone_first_byte,
            redirects: settings.limits.redirects,
        })
    }

    /// Asks for it, and where it has gone, `limits.redirects` times at most: the store's 200, whose
    /// URL is the last one. What is wrong comes back in words, without the URL.
    ///
    /// # Errors
    /// It may not be followed there, or gets no answer within `timeouts.zone_first_byte`, or one that is no
    /// 200.
    pub async fn get(&self, mut url: Url) -> Result<reqwest::Response, String> {
        for _ in 0..=self.redirects {
            let response = self.ask(&url).await?;
            if response.status().is_redirection() {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok());
                url = next.ok_or("it redirects to a place that is no URL")?;
            } else if response.status() == StatusCode::OK {
                return Ok(response);
            } else {
                return Err(format!("status {}", response.status().as_u16()));
            }
        }
        Err("its redirects do not end".into())
    }

    async fn ask(&self, url: &Url) -> Result<reqwest::Response, String> {
        self.guard.url(url).map_err(|refusal| refusal.to_string())?;
        let client = if self.guard.has_own_port(url) { &self.outward } else { &self.client };
        let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity").send();
        match tokio::time::timeout(self.first_byte, request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(causes(error.without_url())),
            Err(_) => Err(format!("no answer within {} s", self.first_byte.as_secs())),
        }
    }
}

/// An error down to its cause, such as a refusal of the resolver.
fn causes(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Where a `Location` points; `None` if it is no URL that can be followed.
pub fn parse_target(location: &str, is_registry: impl Fn(&str) -> bool) -> Option<Target> {
    if location.starts_with('/') && !location.starts_with("//") {
        return location.parse().ok().map(Target::Registry);
    }
    let (_, rest) = location.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if is_registry(authority) {
        return path.parse().ok().map(Target::Registry);
    }
    let url: Url = location.parse().ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(Target::Store(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(location: &str) -> Option<Target> {
        parse_target(location, |authority| authority.eq_ignore_ascii_case("quay.example.com"))
    }

    #[test]
    fn the_registry_keeps_its_bytes() {
        let path = "/_storage_proxy/ZXlK/https/store%2Fx/a//b/../c?Signature=a%2Fb%3D&Expires=1";
        let expected = Some(Target::Registry(path.parse().expect("a path")));
        assert_eq!(parsed(&format!("https://quay.example.com{path}")), expected);
        assert_eq!(parsed(path), expected);
    }

    #[test]
    fn others_are_stores() {
        let url = "https://store.example.com/b/k?X-Amz-Signature=0a";
        assert_eq!(parsed(url), Some(Target::Store(url.parse().expect("a URL"))));
        for wrong in ["", "store", "ftp://x/y", "//evil.example.com/x"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
