//! Lists of tags and repositories (`endpoints/v2/tag.py`, `catalog.py`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http::{HeaderMap, StatusCode};

use super::Instance;
use super::access::{Need, bad_token, bearer, check};
use super::answer::{QuayAnswer, error, json};

/// The default and the maximum number of entries per page.
const PAGE: usize = 100;

fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(given, _)| given == name)
        .map(|(_, value)| value.into_owned())
}

fn page_size(query: &str) -> usize {
    parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(PAGE).min(PAGE)
}

/// `GET /v2/<repository>/tags/list`. Its Link is relative.
pub(super) fn list(quay: &Instance, headers: &HeaderMap, repository: &str, query: &str) -> QuayAnswer {
    if let Err(refusal) = check(quay, headers, repository, Need::Pull, "GET, OPTIONS, HEAD") {
        return *refusal;
    }
    let state = quay.database.lock();
    let Some(found) = state.repositories.get(repository) else {
        return error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry");
    };
    let last = parameter(query, "last").unwrap_or_default();
    let n = page_size(query);
    let mut tags: Vec<&str> =
        found.tags.keys().map(String::as_str).filter(|tag| *tag > last.as_str()).collect();
    let more = tags.len() > n;
    tags.truncate(n);
    let answer = json(
        StatusCode::OK,
        &format!(r#"{{"name":"{repository}","tags":{}}}"#, serde_json::Value::from(tags.clone())),
    );
    match tags.last() {
        Some(last) if more => {
            answer.with("link", &format!("</v2/{repository}/tags/list?n={n}&last={last}>; rel=\"next\""))
        }
        _ => answer,
    }
}

/// `GET /v2/_catalog`: the repositories that the token's user may pull.
pub(super) fn catalog(quay: &Instance, headers: &HeaderMap, query: &str) -> QuayAnswer {
    let user = match bearer(quay, headers) {
        Err(why) => return *bad_token(quay, why, None, "GET, OPTIONS, HEAD"),
        Ok(claims) => claims.map(|claims| claims.sub),
    };
    let state = quay.database.lock();
    let start = parameter(query, "next_page")
        .and_then(|page| URL_SAFE.decode(page).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let start = start.unwrap_or_default();
    let n = page_size(query);
    let readable =
        state.repositories.keys().map(String::as_str).filter(|name| state.may_pull(user.as_deref(), name));
    let mut names: Vec<&str> = readable.filter(|name| *name > start.as_str()).collect();
    let more = names.len() > n;
    names.truncate(n);
    let answer =
        json(StatusCode::OK, &format!(r#"{{"repositories":{}}}"#, serde_json::Value::from(names.clone())));
    match names.last() {
        Some(last) if more => {
            let page = URL_SAFE.encode(last).replace('=', "%3D");
            answer.with("link", &format!("</v2/_catalog?n={n}&next_page={page}>; rel=\"next\""))
        }
        _ => answer,
    }
}
