//! What holds for every challenge of a registry.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use registry::{Bearer, Names};
use url::Url;

const REGISTRY: &str = "quay.example.com";
const GATEWAY: &str = "gateway.example.com";

/// The input is the value of `WWW-Authenticate`. A realm that is taken for the registry's leads to the registry, as a URL
/// parser reads it. If the gateway replaces the registry's name, the realm leads to the gateway; any other realm stays as
/// it is. The service is never changed, because it becomes the audience of the token.
pub(crate) fn hold(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(WWW_AUTHENTICATE, value.clone());
    let before = Bearer::of(&headers);
    let names = Names::new(REGISTRY, GATEWAY, &[]).expect("names");
    if let Some(bearer) = &before
        && names.is_registry(bearer.authority())
        && let Ok(url) = Url::parse(&bearer.realm)
        && url.has_host()
    {
        let host = url.host_str().unwrap_or_default();
        assert!(host == REGISTRY || host == GATEWAY, "{} leads to {host}", bearer.realm);
    }
    names.rewrite(&mut headers, names.dialled(None));
    let after = Bearer::of(&headers);
    assert_eq!(before.as_ref().map(|bearer| &bearer.service), after.as_ref().map(|bearer| &bearer.service));
    let (Some(before), Some(after)) = (before, after) else { return };
    if after.realm == before.realm {
        return;
    }
    let [from, to] = [&before, &after].map(|bearer| bearer.authority().to_ascii_lowercase());
    assert_eq!((from.as_str(), to.as_str()), (REGISTRY, GATEWAY), "{} became {}", before.realm, after.realm);
    let path = |realm: &str| realm.split_once("://").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    let [was, is] = [path(&before.realm), path(&after.realm)];
    assert_eq!(was.get(REGISTRY.len()..), is.get(GATEWAY.len()..), "more than the name was replaced");
}
