//! `proxy`: the forward proxy between the gateway and its stores and registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backends::Secret;
use backends::proxy::{NoProxy, Proxy, ProxyRules};
use serde::Deserialize;

use super::ConfigError;
use super::env::keys;
use super::files::secret_file;
use super::located::Located;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProxyEntry {
    pub url: Option<Located<Secret>>,
    pub credentials_file: Option<Located<PathBuf>>,
    pub no_proxy: Option<Located<Vec<String>>>,
    pub from_environment: Option<Located<bool>>,
}

keys!(ProxyEntry { url, credentials_file, no_proxy, from_environment });

/// The variables that name proxies, as Go reads them: in capital letters first.
#[derive(Debug, Default)]
pub(super) struct ProxyVariables {
    http: Option<Secret>,
    https: Option<Secret>,
    no_proxy: Option<String>,
}

impl ProxyVariables {
    pub(super) fn of(variables: &[(String, String)]) -> Self {
        let value = |name: &str| {
            let value = variables.iter().find(|(other, value)| other == name && !value.trim().is_empty());
            value.map(|(_, value)| value.clone())
        };
        let either = |name: &str| value(name).or_else(|| value(&name.to_ascii_lowercase()));
        Self {
            http: either("HTTP_PROXY").map(Secret::new),
            https: either("HTTPS_PROXY").map(Secret::new),
            no_proxy: either("NO_PROXY"),
        }
    }
}

/// Checks `proxy`. Without it there is no proxy, whatever the environment says.
///
/// # Errors
/// A value is not valid, a file cannot be read, or two keys contradict each other.
pub(super) fn proxy(
    path: &Path,
    entry: &ProxyEntry,
    variables: &ProxyVariables,
    warnings: &mut Vec<String>,
) -> Result<ProxyRules, ConfigError> {
    let fail = |line: Option<u64>, why: &str| Err(ConfigError::new(path, line, why));
    let ProxyEntry { url, credentials_file, no_proxy, from_environment } = entry;
    let others = [
        url.as_ref().map(|url| url.line),
        credentials_file.as_ref().map(|file| file.line),
        no_proxy.as_ref().map(|entries| entries.line),
    ];
    let other = others.into_iter().flatten().next();
    if from_environment.as_ref().is_some_and(|on| on.value) {
        return match other {
            Some(line) => fail(
                line,
                "proxy.from_environment takes all from HTTP_PROXY, HTTPS_PROXY and NO_PROXY: remove the other keys of \
                 proxy, or from_environment",
            ),
            None => from_variables(variables, warnings),
        };
    }
    let Some(url) = url else {
        return match other {
            Some(line) => {
                fail(line, "proxy.url is missing: set it to the proxy, such as http://proxy.example.com:3128")
            }
            None => Ok(ProxyRules::default()),
        };
    };
    let mut proxy = Proxy::parse(&url.value)
        .map_err(|why| ConfigError::new(path, url.line, format!("proxy.url: {why}")))?;
    if let Some(file) = credentials_file {
        if proxy.has_credentials() {
            return fail(
                file.line,
                "proxy.credentials_file: proxy.url has credentials already: remove one of them",
            );
        }
        let text = secret_file(path, "proxy.credentials_file", file)?;
        proxy = proxy.with_credentials(&text).map_err(|_| {
            let why = "proxy.credentials_file: the file must contain `user:password` on one line";
            ConfigError::new(path, file.line, why)
        })?;
    }
    let no_proxy = match no_proxy {
        Some(entries) => NoProxy::parse(&entries.value)
            .map_err(|why| ConfigError::new(path, entries.line, format!("proxy.no_proxy: {why}")))?,
        None => NoProxy::default(),
    };
    let proxy = Some(Arc::new(proxy));
    Ok(ProxyRules { http: proxy.clone(), https: proxy, no_proxy })
}

fn from_variables(variables: &ProxyVariables, warnings: &mut Vec<String>) -> Result<ProxyRules, ConfigError> {
    let parsed = |name: &str, value: &Option<Secret>| {
        let Some(value) = value else { return Ok(None) };
        let text = value.reveal().trim();
        // As in Go and curl, `http` is meant if there is no scheme.
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        match Proxy::parse(&Secret::new(full)) {
            Ok(proxy) => Ok(Some(Arc::new(proxy))),
            Err(why) => Err(ConfigError::variable(name, &why.to_string())),
        }
    };
    let rules = ProxyRules {
        http: parsed("HTTP_PROXY", &variables.http)?,
        https: parsed("HTTPS_PROXY", &variables.https)?,
        no_proxy: NoProxy::from_variable(variables.no_proxy.as_deref().unwrap_or_default()),
    };
    if rules.is_empty() {
        warnings.push(
            "proxy.from_environment is true, but neither HTTPS_PROXY nor HTTP_PROXY is set: no proxy is used"
                .to_owned(),
        );
    }
    Ok(rules)
}
