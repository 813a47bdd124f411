//! Quay's tokens: remembers the credentials that Quay accepts, and gives tokens for them while Quay is away.

use std::sync::Arc;
use std::time::SystemTime;

use gateway_http::{Body, Problem, content_length};
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use limits::memory::Use;
use limits::pool::Identity;
use offline::{Credential, Login, Remembered, asked_repositories};
use registry::bearer::TOKEN_BYTES_MAX;
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Offline, clock};
use crate::Gateway;
use crate::forward;
use crate::read_along::read_along;
use crate::request::Client;

/// How long a client waits while others log in.
const LOGIN_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// Who asks for a token.
enum Applicant {
    Nobody,
    Known(Credential),
}

/// What a request for a token asks for. `None` if only Quay can judge it.
fn asked(gateway: &Gateway, request: &Parts, client: &Client) -> Option<(Applicant, Vec<String>)> {
    // As the registry gets them: without those that end at this hop, such as `Connection`.
    let headers = forward::judged(gateway, request, client);
    if !forward::only_authorization_is_judged(gateway, &headers) {
        return None;
    }
    let from = match headers.contains_key(AUTHORIZATION) {
        true => Applicant::Known(Credential::of(&headers)?),
        false => Applicant::Nobody,
    };
    let query = request.uri.query().unwrap_or_default();
    Some((from, asked_repositories(query, &gateway.settings.registry_hostname)?))
}

/// Learns from Quay's answer to a request for a token. The client does not wait for that.
pub(super) fn learn(
    gateway: &Arc<Gateway>,
    offline: &Offline,
    request: &Parts,
    since: Instant,
    response: Response<Body>,
    client: &Client,
) -> Response<Body> {
    if offline.remembered.credentials().is_none() {
        return response;
    }
    let Some((from, names)) = asked(gateway, request, client) else { return response };
    match (response.status(), from) {
        (StatusCode::OK, from) if request.method == Method::GET => {
            let length = content_length(response.headers()).and_then(|length| usize::try_from(length).ok());
            let Some(size) = length.filter(|size| *size <= 2 * TOKEN_BYTES_MAX) else { return response };
            let Some(memory) = gateway.memory.reserve(Use::Manifests, Some(client.holder()), size as u64)
            else {
                return response;
            };
            let (gateway, who) = (Arc::clone(gateway), client.identity);
            read_along(response, size, move |bytes| {
                let (bytes, _memory) = (Zeroizing::new(bytes), memory);
                if let Some(readable) = readable(&gateway, &bytes, &names) {
                    accepted(&gateway, who, from, (names, readable), clock(since));
                }
            })
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Applicant::Known(credential)) => {
            in_turn(offline, client.identity, move |remembered| {
                let credentials = remembered.credentials()?;
                credentials.refused(&credential, SystemTime::now()).err()
            });
            response
        }
        _ => response,
    }
}

/// The token in Quay's answer.
#[derive(Deserialize)]
struct Answer {
    token: Zeroizing<String>,
}

/// Which of the repositories the token in Quay's answer permits to read. `None` if it is not a token that Quay would accept.
fn readable(gateway: &Gateway, answer: &[u8], asked: &[String]) -> Option<Vec<String>> {
    let Answer { token } = serde_json::from_slice(answer).ok()?;
    let verified = gateway.tokens.as_ref()?.verified(&token).ok()?;
    Some(asked.iter().filter(|name| verified.grants().may_pull(name)).cloned().collect())
}

fn accepted(
    gateway: &Gateway,
    who: Identity,
    from: Applicant,
    (asked, readable): (Vec<String>, Vec<String>),
    at: SystemTime,
) {
    let Some(offline) = &gateway.offline else { return };
    match from {
        Applicant::Nobody => {
            let store = offline.remembered.store();
            for name in &asked {
                match readable.contains(name) {
                    true => store.served_anonymously(name, at),
                    false => store.refused_anonymously(name),
                }
            }
        }
        Applicant::Known(credential) => in_turn(offline, who, move |remembered| {
            remembered.credentials()?.accepted(&credential, &asked, &readable, at).err()
        }),
    }
}

/// Runs a function that hashes, in a task of its own and when it is its turn. If too many wait, it is left out.
fn in_turn(
    offline: &Offline,
    who: Identity,
    hash: impl FnOnce(&Remembered) -> Option<anyhow::Error> + Send + 'static,
) {
    let (logins, remembered) = (Arc::clone(&offline.logins), Arc::clone(&offline.remembered));
    tokio::spawn(async move {
        let Ok(_turn) = logins.take(&who, LOGIN_WAIT).await else { return };
        if let Ok(Some(error)) = tokio::task::spawn_blocking(move || hash(&remembered)).await {
            tracing::warn!(%error, "a credential cannot be remembered for offline use");
        }
    });
}

/// Answers a request for a token while Quay is away.
pub(super) async fn answer(
    gateway: &Gateway,
    offline: &Offline,
    request: &Parts,
    client: &Client,
) -> Result<Response<Body>, Problem> {
    if offline.remembered.credentials().is_none() {
        return Err(Problem::away());
    }
    if request.method != Method::GET {
        // As Quay: clients such as containerd try POST (OAuth 2) first, and go on with GET after this answer.
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("HEAD, GET, OPTIONS"));
        return Ok(answer);
    }
    let (from, asked) = asked(gateway, request, client).ok_or_else(Problem::away)?;
    let login = match from {
        // Quay refuses a request that names neither a credential nor a repository.
        Applicant::Nobody if asked.is_empty() => {
            return Ok(refusal(StatusCode::UNAUTHORIZED, "no credential"));
        }
        Applicant::Nobody => {
            offline.reading(move |known| known.login(None, &asked, SystemTime::now())).await?
        }
        Applicant::Known(credential) => {
            let _turn = offline.logins.take(&client.identity, LOGIN_WAIT).await?;
            let login = move |known: &Remembered| known.login(Some(&credential), &asked, SystemTime::now());
            offline.reading(login).await?
        }
    };
    match login.map_err(|error| Problem::gateway(format!("no token can be made: {error:#}")))? {
        Login::Token(token, seconds) => Ok(token_answer(&token, seconds)),
        Login::Wrong => Ok(refusal(StatusCode::UNAUTHORIZED, "invalid username or password")),
        Login::TooMany => {
            let mut answer = refusal(StatusCode::TOO_MANY_REQUESTS, "too many wrong passwords for this name");
            answer.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("60"));
            Ok(answer)
        }
        Login::Unknown => Err(Problem {
            message: "the registry is away, and it accepted no such credential lately".to_owned(),
            fix: "use a credential that was used through this gateway before, or retry when the registry is back",
            ..Problem::away()
        }),
    }
}

fn token_answer(token: &str, seconds: u64) -> Response<Body> {
    let body = serde_json::json!({"token": token, "expires_in": seconds}).to_string();
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    *answer.body_mut() = Body::full(body);
    answer
}

fn refusal(status: StatusCode, message: &str) -> Response<Body> {
    Problem::client(status, "UNAUTHORIZED", message, "check the user name and the password").response()
}
