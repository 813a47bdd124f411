//! Forward proxies: which requests go through one, and through which.
//!
//! Every client of the gateway asks the same [`ProxyRules`]. A request to a host near this machine never goes through a
//! proxy: loopback, link-local addresses and the metadata services of clouds.

mod fault;
mod no_proxy;
mod route;
mod tunnel;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

pub use fault::ProxyFault;
pub use no_proxy::{NoProxy, NoProxyError};
pub use route::Route;
pub use tunnel::{Duplex, tunnel};

use crate::Secret;
use crate::metadata::{is_metadata_address, is_metadata_name};

/// Why a text is not the URL of a proxy. It does not repeat the text, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// The text is not a URL with a host.
    #[error("it is not a URL such as http://proxy.example.com:3128")]
    NotUrl,
    /// The scheme is not `http` or `https`.
    #[error("its scheme is neither http nor https; SOCKS is not supported")]
    Scheme,
    /// There is a path or a query.
    #[error("it has a path or a query: give only scheme, host and port")]
    Path,
    /// The credentials are not `user:password`.
    #[error("its credentials are not `user:password`")]
    Credentials,
}

/// A forward proxy. It is printed without its credentials.
#[derive(Clone)]
pub struct Proxy {
    /// Without credentials.
    url: Url,
    credentials: Option<Credentials>,
}

#[derive(Clone)]
struct Credentials {
    user: String,
    password: Secret,
}

impl Proxy {
    /// Parses the URL of a proxy, as `http://[user:password@]host[:port]` or `https://…`.
    ///
    /// # Errors
    /// The text is not such a URL.
    pub fn parse(text: &Secret) -> Result<Self, ProxyUrlError> {
        let mut url: Url = text.reveal().trim().parse().map_err(|_| ProxyUrlError::NotUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ProxyUrlError::Scheme);
        }
        if !url.has_host() {
            return Err(ProxyUrlError::NotUrl);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyUrlError::Path);
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(Into::into);
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(Credentials {
                user: decoded(user).map_err(|_| ProxyUrlError::Credentials)?,
                password: Secret::new(
                    decoded(password.unwrap_or_default()).map_err(|_| ProxyUrlError::Credentials)?,
                ),
            }),
        };
        // Neither fails for a URL with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self { url, credentials })
    }

    /// Uses these credentials, written `user:password`.
    ///
    /// # Errors
    /// There is no colon, or a control character.
    pub fn with_credentials(self, text: &Secret) -> Result<Self, ProxyUrlError> {
        let plain = !text.reveal().chars().any(char::is_control);
        let (user, password) =
            text.reveal().split_once(':').filter(|_| plain).ok_or(ProxyUrlError::Credentials)?;
        let credentials = Credentials { user: user.to_owned(), password: Secret::new(password) };
        Ok(Self { credentials: Some(credentials), ..self })
    }

    /// Whether it has credentials.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Its URL, without credentials.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Its host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Its port: 80 or 443 if its URL names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// Whether the connection to the proxy itself uses TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let Credentials { user, password } = self.credentials.as_ref()?;
        let encoded = BASE64_STANDARD.encode(format!("{user}:{}", password.reveal()));
        // Base64 is valid in a header.
        let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Its URL with credentials, for a client that takes them from there.
    fn full_url(&self) -> Url {
        let mut url = self.url.clone();
        if let Some(Credentials { user, password }) = &self.credentials {
            let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            // Neither fails for a URL with a host.
            let _ = url.set_username(&encoded(user));
            let _ = url.set_password(Some(&encoded(password.reveal())));
        }
        url
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Which requests go through which proxy. By default, none does.
#[derive(Debug, Clone, Default)]
pub struct ProxyRules {
    /// The proxy for `http` URLs.
    pub http: Option<Arc<Proxy>>,
    /// The proxy for `https` URLs.
    pub https: Option<Arc<Proxy>>,
    /// The hosts to which the gateway connects by itself.
    pub no_proxy: NoProxy,
}

impl ProxyRules {
    /// The proxy for requests to this URL. `None` if the gateway connects by itself.
    #[must_use]
    pub fn of(&self, url: &Url) -> Option<&Arc<Proxy>> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }?;
        let (host, port) = (url.host()?, url.port_or_known_default()?);
        (!is_near(&host) && !self.no_proxy.names(&host, port)).then_some(proxy)
    }

    /// Whether there is no proxy at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// A text that differs if a proxy or its credentials differ. Show it to nobody.
    #[must_use]
    pub fn compared(&self) -> Secret {
        let full = |proxy: &Option<Arc<Proxy>>| proxy.as_ref().map(|proxy| proxy.full_url().to_string());
        Secret::new(format!("{:?} {:?}", full(&self.http), full(&self.https)))
    }

    /// Makes a client of reqwest follow these rules, and nothing else: not the environment of the process.
    pub fn applied_to(self: &Arc<Self>, client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        if self.is_empty() {
            return client.no_proxy();
        }
        let rules = Arc::clone(self);
        client.proxy(reqwest::Proxy::custom(move |url| rules.of(url).map(|proxy| proxy.full_url())))
    }
}

/// Whether a host is this machine or a service of it.
fn is_near(host: &Host<&str>) -> bool {
    let is_near_address = |address: IpAddr| {
        let address = address.to_canonical();
        address.is_loopback() || is_metadata_address(address)
    };
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost") || is_metadata_name(&name)
        }
        Host::Ipv4(address) => is_near_address((*address).into()),
        Host::Ipv6(address) => is_near_address((*address).into()),
    }
}

#[cfg(test)]
mod tests;
