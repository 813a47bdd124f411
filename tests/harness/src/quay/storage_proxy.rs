//! `FEATURE_PROXY_STORAGE` (`storage/downloadproxy.py`): clients reach stores through Quay's own name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::TryStreamExt;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RANGE, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Value, json};

use super::answer::{QuayAnswer, nginx};
use super::{Instance, tokens};
use crate::body::streamed;

/// The validity of a link, in seconds.
const LIFE: i64 = 600;

/// The link to a signed URL of a store.
pub(super) fn url(quay: &Instance, signed: &str) -> Option<String> {
    let (scheme, rest) = signed.split_once("://")?;
    let (host, uri) = rest.split_once('/')?;
    let now = tokens::now();
    let claims = json!({
        "iss": "quay", "aud": quay.hostname, "nbf": now, "iat": now, "exp": now + LIFE, "sub": "storageproxy",
        "access": [{"type": "storageproxy", "uri": uri, "host": host, "scheme": scheme}], "context": {},
    });
    let token = quay.key.sign(&claims).ok()?;
    Some(format!("{}/_storage_proxy/{}/{scheme}/{host}/{uri}", quay.origin(), URL_SAFE_NO_PAD.encode(token)))
}

/// `GET /_storage_proxy/…`. The path must be the signed one, byte for byte.
pub(super) async fn answer(quay: &Instance, path: &str, query: &str, headers: &HeaderMap) -> QuayAnswer {
    let original = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let Some((host, uri)) = signed(quay, &original) else { return nginx(StatusCode::FORBIDDEN) };
    let mut request = quay.http.get(format!("http://{host}/{uri}"));
    if let Some(range) = headers.get(RANGE) {
        request = request.header(RANGE, range);
    }
    let Ok(object) = request.send().await else { return nginx(StatusCode::BAD_GATEWAY) };
    let response: http::Response<reqwest::Body> = object.into();
    let (mut head, body) = response.into_parts();
    let bytes = http_body_util::BodyDataStream::new(body).map_err(reqwest::Error::without_url);
    let mut answer = QuayAnswer::new(head.status, "", streamed(bytes));
    for hop in [CONNECTION, TRANSFER_ENCODING] {
        head.headers.remove(hop);
    }
    answer.headers_mut().extend(head.headers);
    answer.headers_mut().remove(CONTENT_TYPE);
    // Quay's nginx copies the request's header into the answer.
    answer.headers_mut().remove(HOST);
    answer.with("host", &host)
}

/// The host and the rest of a link, if its token is valid for exactly this path and query.
fn signed(quay: &Instance, original: &str) -> Option<(String, String)> {
    let rest = original.strip_prefix("/_storage_proxy/")?;
    let (encoded, _) = rest.split_once('/')?;
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    let kid = jsonwebtoken::decode_header(&token).ok()?.kid?;
    let key = quay.database.lock().keys.iter().find(|key| key.kid == kid)?.decoding().ok()?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[&quay.hostname]);
    validation.sub = Some("storageproxy".to_owned());
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).ok()?.claims;
    let access = claims["access"].get(0)?;
    let part = |name: &str| access[name].as_str().map(str::to_owned);
    let (scheme, host, uri) = (part("scheme")?, part("host")?, part("uri")?);
    (format!("/_storage_proxy/{encoded}/{scheme}/{host}/{uri}") == original).then_some((host, uri))
}
