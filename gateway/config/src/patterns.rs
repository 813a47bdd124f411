//! Lists of host names and patterns, such as `registry.redirects_to`.

use std::fmt;
use std::path::Path;

use super::ConfigError;
use super::located::Located;

/// The most names in a list.
const NAMES_MAX: usize = 256;

/// Host names, addresses and patterns. `*.example.com` matches every name below `example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Creates a list. `None` if it is too long or one of the names is not valid.
    #[must_use]
    pub fn new(names: Vec<String>) -> Option<Self> {
        let plain = |name: &String| {
            let rest = name.strip_prefix("*.").unwrap_or(name);
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
            let is_address = rest.parse::<std::net::IpAddr>().is_ok();
            !rest.is_empty() && rest.bytes().all(known) && (is_address || !rest.contains(':'))
        };
        let sound = names.len() <= NAMES_MAX && names.iter().all(plain);
        sound.then(|| Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect()))
    }

    /// Whether a host, in lower case, is in the list or matches a pattern.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let below = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        self.0.iter().any(|name| name == host || name.strip_prefix("*.").is_some_and(below))
    }

    /// Whether a host, in lower case, is in the list itself.
    #[must_use]
    pub fn names_exactly(&self, host: &str) -> bool {
        self.0.iter().any(|name| name == host)
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Checks a list of names.
///
/// # Errors
/// The list is too long, or one of the names is not valid.
pub(super) fn patterns(
    path: &Path,
    key: &str,
    names: Option<&Located<Vec<String>>>,
) -> Result<Option<Patterns>, ConfigError> {
    let Some(names) = names else { return Ok(None) };
    let why = || {
        format!(
            "{key}: must be a list of at most {NAMES_MAX} host names or addresses, without scheme, port or \
             path; *.example.com matches every name below example.com"
        )
    };
    let patterns = Patterns::new(names.value.clone());
    patterns.map(Some).ok_or_else(|| ConfigError::new(path, names.line, why()))
}
