//! The client for token servers other than the registry.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use backends::Resolver;
use backends::proxy::{ProxyRules, Route};
use http::{HeaderMap, StatusCode};
use url::Url;

/// The client for token servers other than the registry.
pub(super) struct TokenServers {
    web: reqwest::Client,
    resolver: Resolver,
    proxies: Arc<ProxyRules>,
}

impl TokenServers {
    /// # Errors
    /// The TLS policy cannot be used.
    pub(super) fn new(
        tls: &rustls::ClientConfig,
        proxies: &Arc<ProxyRules>,
        bound: Duration,
    ) -> Result<Self, reqwest::Error> {
        let resolver = Resolver::default();
        let web = reqwest::Client::builder()
            .dns_resolver(resolver.clone())
            .tls_backend_preconfigured(tls.clone())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(bound);
        Ok(Self { web: proxies.applied_to(web).build()?, resolver, proxies: Arc::clone(proxies) })
    }

    /// Asks the token server at `url`, and reads at most `longest` bytes of its answer.
    ///
    /// # Errors
    /// It cannot be reached or breaks off, its answer is too long, or the password would be sent without TLS.
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: HeaderMap,
        longest: usize,
    ) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let local =
            matches!(url.host(), Some(url::Host::Ipv4(ip)) if ip.is_loopback()) || host == "localhost";
        ensure!(
            url.scheme() == "https" || headers.is_empty() || local,
            "the registry sends clients to http://{host} for tokens, without TLS: the password is not sent there; \
             give that token server a certificate"
        );
        let route = Route::new(&self.proxies, url);
        let what = format!("the token server {host} gives no token");
        let failed = |error: reqwest::Error| match route.fault(&error) {
            Some(fault) => anyhow::Error::new(error.without_url()).context(fault).context(what.clone()),
            None => anyhow::Error::new(error.without_url()).context(what.clone()),
        };
        self.resolver.expect(route.dialled(url));
        let mut answer = self.web.get(url.clone()).headers(headers).send().await.map_err(failed)?;
        if let Some(fault) = route.answered_itself(answer.status(), answer.headers()) {
            return Err(fault).context(what);
        }
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > longest {
                bail!("the answer of the token server {host} is too long");
            }
            body.extend_from_slice(&piece);
        }
        Ok((status, body))
    }
}
