//! The way of one request: through a proxy or not. Its errors name the proxy.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::{Proxy, ProxyFault, ProxyRules};

/// With this header, Squid says that an answer is its own error.
const X_SQUID_ERROR: &str = "x-squid-error";

/// RFC 9209. An answer with the parameter `error` was made by a proxy.
const PROXY_STATUS: &str = "proxy-status";

/// The way of one request.
#[derive(Debug)]
pub struct Route {
    proxy: Option<Arc<Proxy>>,
    host: String,
    is_https: bool,
}

impl Route {
    /// The way of a request to this URL.
    #[must_use]
    pub fn new(rules: &ProxyRules, url: &Url) -> Self {
        let proxy = rules.of(url).cloned();
        // Only a proxy's failure names the host.
        let host = url.host_str().filter(|_| proxy.is_some());
        Self { proxy, host: host.unwrap_or_default().to_owned(), is_https: url.scheme() == "https" }
    }

    /// The URL whose host the connection goes to: that of the proxy, or `url`.
    #[must_use]
    pub fn dialled<'a>(&'a self, url: &'a Url) -> &'a Url {
        self.proxy.as_ref().map_or(url, |proxy| proxy.url())
    }

    /// What the proxy has to do with the lack of an answer. `None` if there is no proxy on the way.
    #[must_use]
    pub fn fault(&self, error: &reqwest::Error) -> Option<ProxyFault> {
        Some(ProxyFault::of(self.proxy.as_ref()?, &self.host, self.is_https, error))
    }

    /// What the proxy has to do with an answer that came too late, or not to its end. `None` if there is no proxy on the
    /// way.
    #[must_use]
    pub fn behind(&self) -> Option<ProxyFault> {
        self.proxy.as_ref().map(|proxy| ProxyFault::Behind(proxy.to_string()))
    }

    /// Why the proxy gave this answer instead of the server. `None` if the server gave it: within a tunnel, a proxy cannot
    /// answer.
    #[must_use]
    pub fn answered_itself(&self, status: StatusCode, headers: &HeaderMap) -> Option<ProxyFault> {
        let proxy = self.proxy.as_ref().filter(|_| !self.is_https)?.to_string();
        match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(ProxyFault::Credentials(proxy)),
            status if is_of_proxy(headers) => {
                let (host, status) = (self.host.clone(), Some(status.as_u16()));
                Some(ProxyFault::NoTunnel { proxy, host, status })
            }
            _ => None,
        }
    }
}

fn is_of_proxy(headers: &HeaderMap) -> bool {
    let has_error = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("error="));
    headers.contains_key(X_SQUID_ERROR) || headers.get_all(PROXY_STATUS).iter().any(has_error)
}
