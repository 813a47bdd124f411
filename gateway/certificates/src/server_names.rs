//! The host names that a certificate is for.

use std::collections::HashSet;

/// The host names of a certificate, in lower case. Clients send no address as their server name, so addresses are left
/// out.
#[derive(Debug, Default)]
pub(crate) struct ServerNames {
    exact: HashSet<String>,
    /// `example.com` of `*.example.com`.
    one_label_below: HashSet<String>,
}

impl ServerNames {
    pub(crate) fn new(names: &[String]) -> Self {
        let mut found = Self::default();
        for name in names.iter().map(|name| name.to_ascii_lowercase()) {
            match name.strip_prefix("*.") {
                Some(parent) => found.one_label_below.insert(parent.to_owned()),
                None => found.exact.insert(name),
            };
        }
        found
    }

    /// Whether the certificate is for this host, in lower case. A wildcard stands for one whole label (RFC 9525 section 6.3).
    pub(crate) fn cover(&self, host: &str) -> bool {
        let below = host
            .split_once('.')
            .is_some_and(|(label, parent)| !label.is_empty() && self.one_label_below.contains(parent));
        below || self.exact.contains(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let names = ServerNames::new(&["Registry.example.com".into(), "*.apps.example.com".into()]);
        for host in ["registry.example.com", "a.apps.example.com"] {
            assert!(names.cover(host), "{host}");
        }
        for host in ["example.com", "apps.example.com", "a.b.apps.example.com", ".apps.example.com", "*", ""]
        {
            assert!(!names.cover(host), "{host}");
        }
    }
}
