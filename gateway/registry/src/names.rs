//! The registry's own name, and its replacement by the gateway's.

use anyhow::Context as _;
use http::header::{LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};

use config::Settings;

/// Rewrites URLs of the registry in its answers to the name that the client dialled.
///
/// Quay builds the token realm and the absolute `Location` of uploads and blobs from `SERVER_HOSTNAME` alone
/// (`util/__init__.py:get_app_url`); `Host` changes nothing. `service` is not rewritten: it becomes the
/// token's audience, which must be Quay's own name.
#[derive(Debug, Clone)]
pub struct Names {
    registry: String,
    gateway: GatewayName,
    more: Vec<GatewayName>,
}

/// A name of the gateway that clients may dial, as `host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayName(HeaderValue);

impl GatewayName {
    /// # Errors
    /// The name has characters that a header cannot have.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        name.parse().map(Self).with_context(|| format!("the hostname {name} cannot be used in a header"))
    }

    /// The name as the value of a header.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.0
    }

    fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    fn is(&self, authority: &str) -> bool {
        without_default_port(self.as_str()).eq_ignore_ascii_case(without_default_port(authority))
    }
}

/// Removes the port of `https`, which clients may write or leave out.
fn without_default_port(authority: &str) -> &str {
    authority.strip_suffix(":443").unwrap_or(authority)
}

impl Names {
    /// The names in these settings.
    ///
    /// # Errors
    /// One of the gateway's names cannot be part of a header.
    pub fn of(settings: &Settings) -> anyhow::Result<Self> {
        let more: Vec<_> = settings.more_hostnames.iter().map(String::as_str).collect();
        Self::new(&settings.registry_hostname, &settings.hostname, &more)
    }

    /// Names as `host[:port]`. `gateway` is used for clients that dial an unknown name.
    ///
    /// # Errors
    /// One of the gateway's names cannot be part of a header.
    pub fn new(registry: &str, gateway: &str, more: &[&str]) -> anyhow::Result<Self> {
        let gateway = GatewayName::new(gateway)?;
        let more = more.iter().map(|name| GatewayName::new(name)).collect::<Result<_, _>>()?;
        Ok(Self { registry: registry.to_owned(), gateway, more })
    }

    /// The gateway's name that a client dialled. A name that is not configured is never used, because a client can
    /// write anything there.
    #[must_use]
    pub fn dialled(&self, authority: Option<&str>) -> &GatewayName {
        let known = authority.and_then(|authority| self.more.iter().find(|name| name.is(authority)));
        known.unwrap_or(&self.gateway)
    }

    /// Whether a URL's authority is the registry, under any of the names.
    #[must_use]
    pub fn is_registry(&self, authority: &str) -> bool {
        authority.eq_ignore_ascii_case(&self.registry)
            || self.gateway.is(authority)
            || self.more.iter().any(|name| name.is(authority))
    }

    /// Whether a `Location` leads to the registry: because it is a path, or has one of the names.
    #[must_use]
    pub fn leads_here(&self, location: &str) -> bool {
        let rest = location.strip_prefix("https://").or_else(|| location.strip_prefix("http://"));
        match rest {
            Some(rest) => self.is_registry(rest.split(['/', '?', '#']).next().unwrap_or_default()),
            None => location.starts_with('/') && !location.starts_with("//"),
        }
    }

    /// Rewrites the headers of an answer on its way to a client that dialled this name.
    pub fn rewrite(&self, headers: &mut HeaderMap, dialled: &GatewayName) {
        let dialled = dialled.as_str();
        if self.registry.eq_ignore_ascii_case(dialled) {
            return;
        }
        if let Some(location) = headers.get(LOCATION).and_then(|value| self.location(value, dialled)) {
            headers.insert(LOCATION, location);
        }
        let challenges: Vec<_> =
            headers.get_all(WWW_AUTHENTICATE).iter().map(|value| self.challenge(value, dialled)).collect();
        for (index, challenge) in challenges.into_iter().enumerate() {
            match index {
                0 => drop(headers.insert(WWW_AUTHENTICATE, challenge)),
                _ => drop(headers.append(WWW_AUTHENTICATE, challenge)),
            }
        }
    }

    fn location(&self, value: &HeaderValue, dialled: &str) -> Option<HeaderValue> {
        let rest = self.after_registry(value.to_str().ok()?)?;
        format!("https://{dialled}{rest}").parse().ok()
    }

    fn challenge(&self, value: &HeaderValue, dialled: &str) -> HeaderValue {
        const REALM: &str = "realm=\"";
        let rewritten = value.to_str().ok().and_then(|text| {
            let start = text.find(REALM)? + REALM.len();
            let rest = self.after_registry(&text[start..])?;
            format!("{}https://{dialled}{rest}", &text[..start]).parse().ok()
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
        names.rewrite(&mut headers, names.dialled(None));
        headers[&name].to_str().expect("text").to_owned()
    }

    #[test]
    fn realm_but_never_service() {
        let names = Names::new("quay.example.com", "edge.example.com:8443", &[]).expect("names");
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
        let names = Names::new("quay.example.com", "edge.example.com", &[]).expect("names");
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
        let names = Names::new("quay.example.com", "edge.example.com:8443", &[]).expect("names");
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
    fn the_name_that_was_dialled_is_used() {
        let more = ["edge.example.com:8443", "quay.example.com", "other.example.com:443"];
        let names = Names::new("quay.example.com", "main.example.com", &more).expect("names");
        let located = |dialled: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, "http://quay.example.com/v2/a".parse().expect("a header value"));
            names.rewrite(&mut headers, names.dialled(dialled));
            headers[LOCATION].to_str().expect("text").to_owned()
        };
        for (dialled, location) in [
            ("EDGE.example.com:8443", "https://edge.example.com:8443/v2/a"),
            ("other.example.com", "https://other.example.com:443/v2/a"),
            ("main.example.com:443", "https://main.example.com/v2/a"),
            // Clients of this name follow the registry's own URLs.
            ("quay.example.com", "http://quay.example.com/v2/a"),
            // Names that are not configured.
            ("edge.example.com", "https://main.example.com/v2/a"),
            ("evil.example", "https://main.example.com/v2/a"),
            ("user@edge.example.com:8443", "https://main.example.com/v2/a"),
        ] {
            assert_eq!(located(Some(dialled)), location, "{dialled}");
        }
        assert_eq!(located(None), "https://main.example.com/v2/a");
        assert!(more.iter().all(|name| names.is_registry(name)));
        assert!(names.is_registry("other.example.com") && names.is_registry("main.example.com:443"));
    }

    #[test]
    fn one_name_changes_nothing() {
        let names = Names::new("quay.example.com", "quay.example.com", &[]).expect("names");
        assert_eq!(rewritten(&names, LOCATION, "http://quay.example.com/v2/"), "http://quay.example.com/v2/");
    }
}
