//! The registry's own name, and its replacement by the gateway's.

use http::header::{LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};

/// Rewrites URLs of the registry in its answers to the name that clients dial.
///
/// Quay builds the token realm and the absolute `Location` of uploads and blobs from `SERVER_HOSTNAME` alone
/// (`util/__init__.py:get_app_url`); `Host` changes nothing. `service` is not rewritten: it becomes the
/// token's audience, which must be Quay's own name.
#[derive(Debug, Clone)]
pub struct Names {
    registry: String,
    gateway: String,
}

impl Names {
    /// Names as `host[:port]`.
    #[must_use]
    pub fn new(registry: &str, gateway: &str) -> Self {
        Self { registry: registry.to_owned(), gateway: gateway.to_owned() }
    }

    /// Whether a URL's authority is the registry, under either name.
    #[must_use]
    pub fn is_registry(&self, authority: &str) -> bool {
        authority.eq_ignore_ascii_case(&self.registry) || authority.eq_ignore_ascii_case(&self.gateway)
    }

    /// Whether a `Location` leads to the registry: because it is a path, or has one of the two names.
    #[must_use]
    pub fn leads_here(&self, location: &str) -> bool {
        let rest = location.strip_prefix("https://").or_else(|| location.strip_prefix("http://"));
        match rest {
            Some(rest) => self.is_registry(rest.split(['/', '?', '#']).next().unwrap_or_default()),
            None => location.starts_with('/') && !location.starts_with("//"),
        }
    }

    /// Rewrites the headers of an answer on its way to the client.
    pub fn rewrite(&self, headers: &mut HeaderMap) {
        if self.registry.eq_ignore_ascii_case(&self.gateway) {
            return;
        }
        if let Some(location) = headers.get(LOCATION).and_then(|value| self.location(value)) {
            headers.insert(LOCATION, location);
        }
        let challenges: Vec<_> =
            headers.get_all(WWW_AUTHENTICATE).iter().map(|value| self.challenge(value)).collect();
        for (index, challenge) in challenges.into_iter().enumerate() {
            match index {
                0 => drop(headers.insert(WWW_AUTHENTICATE, challenge)),
                _ => drop(headers.append(WWW_AUTHENTICATE, challenge)),
            }
        }
    }

    fn location(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let rest = self.after_registry(value.to_str().ok()?)?;
        format!("https://{}{rest}", self.gateway).parse().ok()
    }

    fn challenge(&self, value: &HeaderValue) -> HeaderValue {
        const REALM: &str = "realm=\"";
        let rewritten = value.to_str().ok().and_then(|text| {
            let start = text.find(REALM)? + REALM.len();
            let rest = self.after_registry(&text[start..])?;
            format!("{}https://{}{rest}", &text[..start], self.gateway).parse().ok()
        });
        rewritten.unwrap_or_else(|| value.clone())
    }

    /// The part of a URL after `http[s]://<registry>`.
    fn after_registry<'a>(&self, url: &'a str) -> Option<&'a str> {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
        let end = rest.find(['/', '?', '#', '"']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        authority.eq_ignore_ascii_case(&self.registry).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(names: &Names, name: http::HeaderName, value: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(&name, value.parse().expect("a header value"));
        names.rewrite(&mut headers);
        headers[&name].to_str().expect("text").to_owned()
    }

    #[test]
    fn realm_but_never_service() {
        let names = Names::new("quay.example.com", "edge.example.com:8443");
        assert_eq!(
            rewritten(
                &names,
                WWW_AUTHENTICATE,
                r#"Bearer realm="https://quay.example.com/v2/auth",service="quay.example.com",scope="repository:a/b:pull""#
            ),
            r#"Bearer realm="https://edge.example.com:8443/v2/auth",service="quay.example.com",scope="repository:a/b:pull""#
        );
    }

    #[test]
    fn absolute_locations_of_the_registry_only() {
        let names = Names::new("quay.example.com", "edge.example.com");
        assert_eq!(
            rewritten(&names, LOCATION, "http://quay.example.com/v2/a/blobs/uploads/1?x=y"),
            "https://edge.example.com/v2/a/blobs/uploads/1?x=y"
        );
        for other in [
            "/v2/a/manifests/1",
            "https://store.example.com/b/k?sig=quay.example.com",
            "https://quay.example.com.evil.example/x",
        ] {
            assert_eq!(rewritten(&names, LOCATION, other), other);
        }
    }

    #[test]
    fn a_location_leads_to_the_registry_or_elsewhere() {
        let names = Names::new("quay.example.com", "edge.example.com:8443");
        for ours in [
            "/v2/x",
            "http://quay.example.com/v2/x",
            "https://EDGE.example.com:8443?x",
            "https://quay.example.com",
        ] {
            assert!(names.leads_here(ours), "{ours}");
        }
        for other in
            ["", "v2/x", "//quay.example.com/x", "https://quay.example.com.evil/x", "ftp://quay.example.com/"]
        {
            assert!(!names.leads_here(other), "{other}");
        }
    }

    #[test]
    fn one_name_changes_nothing() {
        let names = Names::new("quay.example.com", "quay.example.com");
        assert_eq!(rewritten(&names, LOCATION, "http://quay.example.com/v2/"), "http://quay.example.com/v2/");
    }
}
