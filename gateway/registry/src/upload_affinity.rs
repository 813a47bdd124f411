//! Upload affinity: one push stays with one upstream instance.
//!
//! The bytes of an upload go to the store that its first instance prefers, whichever instance receives them
//! (`data/registry_model/blobuploader.py`), and older versions of Quay cannot continue an upload of another
//! instance. So the gateway adds the instance's name to the `Location` of an upload, as a query parameter.
//! Every replica of the gateway finds it there, and removes it before the registry sees the request. Only
//! configured names are accepted.

use std::sync::Arc;
use std::time::Duration;

use http::header::LOCATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode};
use moka::sync::Cache;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::time::Instant;

use crate::Names;
use crate::upstream::{InstanceId, Upstream};
use gateway_http::Problem;

/// The name of the query parameter.
const PARAMETER: &str = "quay-gateway-instance";

/// The characters that a query may contain without an escape (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The most repositories whose last upload is remembered.
const UPLOADS_MAX: u64 = 10_000;

/// How long it is remembered. Quay keeps an uploaded blob without a manifest for the same time
/// (`PUSH_TEMP_TAG_EXPIRATION_SEC`).
pub const UPLOADS_MEMORY: Duration = Duration::from_secs(3600);

/// A push counts as in progress for this long after its last upload.
const PUSH_TIMEOUT: Duration = Duration::from_secs(300);

/// The name of the instance of each repository's most recent upload, and when that was.
#[derive(Debug, Clone)]
pub struct Uploads(Cache<Arc<str>, (Arc<str>, Instant)>);

impl Default for Uploads {
    /// No uploads are remembered.
    fn default() -> Self {
        Self(Cache::builder().max_capacity(UPLOADS_MAX).time_to_live(UPLOADS_MEMORY).build())
    }
}

impl Uploads {
    /// The instance with which a push to this repository stays. While the push is in progress, this does not
    /// depend on the instance's health. Later, the instance must be reachable.
    pub fn last(&self, repository: &str, upstream: &Upstream) -> Option<InstanceId> {
        let (name, at) = self.0.get(repository)?;
        let instance = upstream.named(&name)?;
        (at.elapsed() < PUSH_TIMEOUT || upstream.is_reachable(instance)).then_some(instance)
    }

    /// Remembers that the latest upload to this repository went to this instance.
    pub fn remember(&self, repository: &str, instance: &str) {
        self.0.insert(repository.into(), (instance.into(), Instant::now()));
    }

    /// Remembers that an upload to this repository went to this instance so long ago, unless a later one is known.
    pub fn learn(&self, repository: &str, instance: &str, age: Duration) {
        let Some(at) = Instant::now().checked_sub(age) else { return };
        if self.0.get(repository).is_none_or(|(_, known)| known < at) {
            self.0.insert(repository.into(), (instance.into(), at));
        }
    }
}

/// Removes the parameter from a request target. Returns the rest, and the instance that the parameter names.
///
/// # Errors
/// 404 if the parameter names no configured instance, or occurs twice.
pub fn extract(
    target: &PathAndQuery,
    upstream: &Upstream,
) -> Result<(PathAndQuery, Option<InstanceId>), Problem> {
    let unknown = || {
        let why = "the upload's Location names no instance of this registry";
        Problem::client(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", why, "begin the upload again")
    };
    let (rest, names) = split(target.as_str());
    let instance = match names.as_slice() {
        [] => return Ok((target.clone(), None)),
        [name] => upstream.named(name).ok_or_else(unknown)?,
        _ => return Err(unknown()),
    };
    Ok((PathAndQuery::try_from(rest).map_err(|_| unknown())?, Some(instance)))
}

/// A request target without the parameter, with every other byte unchanged, and the parameter's values.
fn split(target: &str) -> (String, Vec<String>) {
    let Some((path, query)) = target.split_once('?') else { return (target.to_owned(), Vec::new()) };
    let mut names = Vec::new();
    let mut rest = Vec::new();
    for part in query.split('&') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key == PARAMETER {
            // Go writes a space as a plus sign.
            true => names.push(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned()),
            false => rest.push(part),
        }
    }
    let rest = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    (rest, names)
}

/// Adds the instance to the `Location` of an upload, if these headers have one and it leads to the registry.
pub fn mark(headers: &mut HeaderMap, names: &Names, instance: &str) {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(location) = location.filter(|location| names.leads_here(location)) else { return };
    let path = location.split(['?', '#']).next().unwrap_or_default();
    if path.contains("/blobs/uploads/")
        && let Ok(marked) = HeaderValue::try_from(named(location, instance))
    {
        headers.insert(LOCATION, marked);
    }
}

fn named(location: &str, instance: &str) -> String {
    let (url, fragment) = match location.find('#') {
        Some(at) => location.split_at(at),
        None => (location, ""),
    };
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{PARAMETER}={}{fragment}", utf8_percent_encode(instance, RESERVED))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    fn marked(location: &str) -> String {
        let names = Names::new("quay.example.com", "edge.example.com", &[]).expect("names");
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().expect("a header"));
        mark(&mut headers, &names, "zone-a");
        headers[LOCATION].to_str().expect("text").to_owned()
    }

    #[test]
    fn locations_of_uploads_alone_are_marked() {
        for upload in [
            "/v2/o/a/blobs/uploads/1",
            "https://edge.example.com/v2/o/a/blobs/uploads/1",
            "http://quay.example.com/v2/o/a/blobs/uploads/1",
        ] {
            assert_eq!(marked(upload), format!("{upload}?quay-gateway-instance=zone-a"));
        }
        let with_query = "/v2/o/a/blobs/uploads/1?_state=a%2Fb%3D";
        assert_eq!(marked(with_query), format!("{with_query}&quay-gateway-instance=zone-a"));
        for other in [
            "/v2/o/a/blobs/sha256:0",
            "/v2/o/a/manifests/x?/blobs/uploads/",
            "https://store.example.com/v2/o/a/blobs/uploads/1",
            "//store.example.com/v2/o/a/blobs/uploads/1",
        ] {
            assert_eq!(marked(other), other);
        }
    }

    #[test]
    fn clients_may_encode_the_query_again() {
        let location = named("https://edge.example.com/v2/a/blobs/uploads/1?x=%2f", "zone b~2+é");
        // As Go's url.Values.Encode does: decoded, with the digest added, sorted, and encoded again.
        let mut url: Url = location.parse().expect("a URL");
        let mut pairs: Vec<_> = url.query_pairs().into_owned().collect();
        pairs.push(("digest".into(), "sha256:0".into()));
        pairs.sort();
        url.query_pairs_mut().clear().extend_pairs(pairs);
        let (rest, names) = split(&url[url::Position::BeforePath..]);
        assert_eq!(names, ["zone b~2+é"]);
        assert_eq!(rest, "/v2/a/blobs/uploads/1?digest=sha256%3A0&x=%2F");
    }

    proptest! {
        #[test]
        fn all_other_bytes_stay_unchanged(query in "([a-z]{1,3}(=[a-zA-Z0-9%&=?/:+]{0,12})?)?", name in "\\PC{1,12}", with in any::<bool>()) {
            let target = if with { format!("/v2/a/blobs/uploads/1?{query}") } else { "/v2/a/blobs/uploads/1".into() };
            prop_assert_eq!(split(&target), (target.clone(), vec![]));
            let given = named(&target, &name);
            prop_assert!(given.parse::<PathAndQuery>().is_ok());
            prop_assert_eq!(split(&given), (target.clone(), vec![name.clone()]));
            let (rest, names) = split(&format!("{given}&digest=sha256:0"));
            let expected = if with { format!("{target}&digest=sha256:0") } else { format!("{target}?digest=sha256:0") };
            prop_assert_eq!((rest, names), (expected, vec![name]));
        }
    }
}
