//! The `WWW-Authenticate` challenge of a registry: where a client gets a token. Pure.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// A Bearer challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The URL that gives tokens.
    pub realm: String,
    /// The service, which becomes the token's audience; empty if none is named.
    pub service: String,
}

impl Bearer {
    /// The first Bearer challenge of an answer (RFC 6750 section 3).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let text = texts.filter_map(bearer).next()?;
        Some(Self {
            realm: parameter(text, "realm")?.to_owned(),
            service: parameter(text, "service").unwrap_or_default().to_owned(),
        })
    }

    /// The realm's host and port, as they are written in the realm. Empty if its scheme is not that of HTTP, because then
    /// a URL parser finds another host.
    pub fn authority(&self) -> &str {
        let is_http = |scheme: &str| ["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        let rest = match self.realm.split_once("://") {
            Some((scheme, rest)) if is_http(scheme) => rest,
            Some(_) => "",
            None => self.realm.as_str(),
        };
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }
}

/// What follows the word `Bearer`.
fn bearer(challenge: &str) -> Option<&str> {
    let (scheme, rest) = challenge.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(rest)
}

/// A quoted parameter of a challenge.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text;
    while let Some((key, after)) = rest.split_once("=\"") {
        let (value, next) = after.split_once('"')?;
        if key.trim_start_matches([',', ' ']).eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(challenge: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().expect("a header"));
        headers
    }

    #[test]
    fn challenges_are_read_in_any_order() {
        let read = |text: &str| Bearer::of(&headers(text));
        let expected = Bearer { realm: "https://a/b?c=d".into(), service: "s".into() };
        assert_eq!(read(r#"bearer service="s", scope="x", realm="https://a/b?c=d""#), Some(expected));
        assert_eq!(read(r#"Basic realm="r""#), None);
        assert_eq!(read(r#"Bearer service="s""#), None);
        assert_eq!(read(r#"Bearer xrealm="s""#), None);
    }

    #[test]
    fn the_authority_is_the_host_that_a_url_parser_finds() {
        for (realm, authority) in [
            ("https://a:1/b?c=d", "a:1"),
            ("HTTP://a?c", "a"),
            ("https:b://a/", ""),
            ("b://a/", ""),
            ("a/b", "a"),
        ] {
            let bearer = Bearer { realm: realm.into(), service: String::new() };
            assert_eq!(bearer.authority(), authority, "{realm}");
        }
    }

    proptest! {
        #[test]
        fn no_header_causes_a_panic(text in "[ -~]{0,80}") {
            let _ = Bearer::of(&headers(&text)).map(|bearer| bearer.authority().len());
        }
    }
}
