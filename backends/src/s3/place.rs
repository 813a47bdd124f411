//! Finds the region of a bucket if the store says that the bucket is elsewhere. No I/O.

use http::{HeaderMap, StatusCode, header};
use url::Url;

use super::request::ErrorDetails;

/// The longest region name that is accepted, in bytes.
const MAX_REGION: usize = 64;

/// The suffixes of Amazon's hosts, the longer one first.
const AMAZON: [&str; 2] = [".amazonaws.com.cn", ".amazonaws.com"];

/// The region in signatures, and the host that replaces the configured one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) region: String,
    /// The host to use. `None` means the configured host.
    pub(super) host: Option<String>,
}

impl Place {
    pub(super) fn configured(region: &str) -> Self {
        Self { region: region.to_owned(), host: None }
    }

    /// The bucket's real place, if the answer to a request to `asked` names one that is not known yet.
    ///
    /// Only a region is taken from the answer. The host is derived from that region and is always one of
    /// Amazon's. It is used only if the request went to one of Amazon's hosts. An answer can therefore not
    /// redirect requests to a foreign host.
    pub(super) fn corrected(
        &self,
        asked: &Url,
        status: StatusCode,
        headers: &HeaderMap,
        failure: &ErrorDetails,
    ) -> Option<Self> {
        let asked = asked.host_str()?;
        let region = region(status, headers, failure)?;
        let host = regional(asked, &region).filter(|host| host != asked).or_else(|| self.host.clone());
        let place = Self { region, host };
        (place != *self).then_some(place)
    }
}

/// The region that a refusal names: in a header (HEAD has no body), in the body, or in the host that it
/// points to.
fn region(status: StatusCode, headers: &HeaderMap, failure: &ErrorDetails) -> Option<String> {
    let code = failure.code.as_deref();
    let elsewhere = match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::TEMPORARY_REDIRECT => true,
        StatusCode::BAD_REQUEST => code.is_none_or(|code| code == "AuthorizationHeaderMalformed"),
        // Some servers send this code with 403.
        StatusCode::FORBIDDEN => code == Some("AuthorizationHeaderMalformed"),
        _ => false,
    };
    if !elsewhere {
        return None;
    }
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let location = text(header::LOCATION).and_then(|location| Url::parse(location).ok());
    text(http::HeaderName::from_static("x-amz-bucket-region"))
        .map(str::to_owned)
        .or_else(|| failure.region.clone())
        .or_else(|| location.as_ref().and_then(Url::host_str).and_then(region_within))
        .or_else(|| failure.endpoint.as_deref().and_then(region_within))
        .filter(|region| is_region(region))
}

/// Whether a text can be the name of a region.
pub(super) fn is_region(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_REGION).contains(&text.len()) && text.bytes().all(known)
}

/// Parses one of Amazon's S3 hosts: the part before `s3`, whether it is a dual-stack host, the region if
/// there is one, and the suffix.
fn amazon(host: &str) -> Option<(&str, bool, Option<&str>, &'static str)> {
    let (name, suffix) =
        AMAZON.iter().find_map(|suffix| host.strip_suffix(suffix).map(|name| (name, *suffix)))?;
    // A bucket in a host name has no dot, but its name may start with `s3-`.
    let (bucket, service) = match name.split_once('.') {
        Some((bucket, service)) if bucket != "s3" && is_service(service) => (bucket, service),
        _ if is_service(name) => ("", name),
        _ => return None,
    };
    let place = service.strip_prefix("s3").unwrap_or_default().trim_start_matches(['.', '-']);
    let (dual, place) = match place.strip_prefix("dualstack.") {
        Some(region) => (true, region),
        None => (false, place),
    };
    // `s3-external-1` and `s3-accelerate` are names, not regions.
    let region = Some(place).filter(|place| !place.is_empty() && place.split('-').count() > 2);
    (!place.contains('.')).then_some((bucket, dual, region, suffix))
}

fn is_service(name: &str) -> bool {
    name == "s3" || name.starts_with("s3.") || name.starts_with("s3-")
}

fn region_within(host: &str) -> Option<String> {
    amazon(host)?.2.map(str::to_owned)
}

/// The host of `region` that corresponds to `host`, which is one of Amazon's.
fn regional(host: &str, region: &str) -> Option<String> {
    let (bucket, dual, _, suffix) = amazon(host)?;
    // Chinese regions have their own suffix, and no host of one partition serves the other.
    if region.starts_with("cn-") != suffix.ends_with(".cn") {
        return None;
    }
    let dot = if bucket.is_empty() { "" } else { "." };
    let dual = if dual { "dualstack." } else { "" };
    Some(format!("{bucket}{dot}s3.{dual}{region}{suffix}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure(code: &str, region: Option<&str>) -> ErrorDetails {
        ErrorDetails {
            code: Some(code.to_owned()),
            region: region.map(str::to_owned),
            ..ErrorDetails::default()
        }
    }

    fn corrected(
        asked: &str,
        status: u16,
        header: Option<(&str, &str)>,
        failure: &ErrorDetails,
    ) -> Option<Place> {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.insert(name, value.parse().expect("a value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let asked = Url::parse(asked).expect("a URL");
        Place::configured("us-east-1").corrected(&asked, status, &headers, failure)
    }

    #[test]
    fn amazons_answers_correct_the_place() {
        let none = ErrorDetails::default();
        let region = ("x-amz-bucket-region", "eu-west-1");
        let temporary = ("location", "https://blobs.s3.eu-west-1.amazonaws.com/key");
        let malformed = failure("AuthorizationHeaderMalformed", Some("eu-west-1"));
        let permanent =
            ErrorDetails { endpoint: Some("blobs.s3-eu-west-1.amazonaws.com".into()), ..none.clone() };
        for (asked, status, header, failure, host) in [
            (
                "https://blobs.s3.amazonaws.com/k",
                301,
                Some(region),
                &none,
                "blobs.s3.eu-west-1.amazonaws.com",
            ),
            ("https://blobs.s3.amazonaws.com/k", 301, None, &permanent, "blobs.s3.eu-west-1.amazonaws.com"),
            (
                "https://blobs.s3.amazonaws.com/k",
                307,
                Some(temporary),
                &none,
                "blobs.s3.eu-west-1.amazonaws.com",
            ),
            ("https://s3.amazonaws.com/blobs/k", 307, Some(temporary), &none, "s3.eu-west-1.amazonaws.com"),
            ("https://s3.us-east-1.amazonaws.com/b", 400, Some(region), &none, "s3.eu-west-1.amazonaws.com"),
            ("https://s3.us-east-1.amazonaws.com/b", 400, None, &malformed, "s3.eu-west-1.amazonaws.com"),
            (
                "https://s3.dualstack.us-east-1.amazonaws.com/b",
                301,
                Some(region),
                &none,
                "s3.dualstack.eu-west-1.amazonaws.com",
            ),
            (
                "https://s3-blobs.s3.amazonaws.com/k",
                301,
                Some(region),
                &none,
                "s3-blobs.s3.eu-west-1.amazonaws.com",
            ),
        ] {
            let place = corrected(asked, status, header, failure).expect(asked);
            assert_eq!((place.region.as_str(), place.host.as_deref()), ("eu-west-1", Some(host)), "{asked}");
        }
    }

    #[test]
    fn other_stores_keep_their_host() {
        let malformed = failure("AuthorizationHeaderMalformed", Some("RegionOne"));
        for status in [400, 403] {
            let place = corrected("http://swift:8080/b/k", status, None, &malformed).expect("another region");
            assert_eq!(place, Place { region: "RegionOne".to_owned(), host: None });
        }
        let private = "https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com/k";
        let region = ("x-amz-bucket-region", "eu-west-1");
        assert_eq!(
            corrected(private, 301, Some(region), &ErrorDetails::default()).expect("a region").host,
            None
        );
    }

    #[test]
    fn answers_cannot_redirect_to_a_foreign_host() {
        let none = ErrorDetails::default();
        let denied = failure("AccessDenied", Some("eu-west-1"));
        let region = ("x-amz-bucket-region", "eu-west-1");
        let amazon = "https://blobs.s3.amazonaws.com/k";
        for (asked, status, header, failure) in [
            (amazon, 307, Some(("location", "https://evil.example/k")), &none),
            (amazon, 307, Some(("location", "https://s3.eu-west-1.amazonaws.com.evil.example/k")), &none),
            (amazon, 301, Some(("x-amz-bucket-region", "evil.example/x")), &none),
            (amazon, 301, Some(("x-amz-bucket-region", "")), &none),
            (amazon, 403, Some(region), &denied),
            (amazon, 400, Some(region), &denied),
            (amazon, 200, Some(region), &none),
            (amazon, 404, Some(region), &none),
            ("http://rgw:8080/b", 301, Some(("x-amz-bucket-region", "us-east-1")), &none),
        ] {
            assert_eq!(corrected(asked, status, header, failure), None, "{status} {header:?}");
        }
    }

    #[test]
    fn a_known_region_is_not_a_correction() {
        let headers: HeaderMap =
            [(http::HeaderName::from_static("x-amz-bucket-region"), "eu-west-1".parse().expect("a value"))]
                .into_iter()
                .collect();
        let (moved, failure) = (StatusCode::MOVED_PERMANENTLY, ErrorDetails::default());
        let asked = Url::parse("https://blobs.s3.amazonaws.com/k").expect("a URL");
        let place = Place::configured("us-east-1");
        let place = place.corrected(&asked, moved, &headers, &failure).expect("elsewhere");
        let asked = Url::parse("https://blobs.s3.eu-west-1.amazonaws.com/k").expect("a URL");
        assert_eq!(place.corrected(&asked, moved, &headers, &failure), None);
    }

    proptest! {
        #[test]
        fn hosts_stay_with_amazon(host in "[a-z0-9.-]{0,40}(\\.amazonaws\\.com(\\.cn)?)?", region in "[a-z0-9-]{1,20}") {
            if let Some(found) = regional(&host, &region) {
                prop_assert!(AMAZON.iter().any(|suffix| host.ends_with(suffix) && found.ends_with(suffix)));
            }
        }
    }
}
