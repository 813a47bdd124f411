//! One login: a request to Keystone, or to Swift itself.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Request, Response};
use serde_json::Value;
use url::Url;

use super::{Session, keystone};
use crate::answer::refused;
use crate::swift::config::{Account, Identity, Login, Service};
use crate::transport::HttpClient;
use crate::{Error, Kind, Result, Secret};

const WHAT: &str = "log in";

/// Logs in. If `storage_url` is given, it replaces the account's URL from the answer.
pub(super) async fn log_in(
    http: &HttpClient,
    login: &Login,
    service: &Service,
    storage_url: Option<&Url>,
) -> Result<Session> {
    match &login.identity {
        Identity::V1 { user, key } => v1(http, login, user, key, storage_url).await,
        Identity::V2(account) => {
            let body = keystone::v2_request(account);
            let answer = post(http, login, "tokens", &body, Some(account)).await?;
            let granted = keystone::v2_granted(&http.read_whole(WHAT, answer).await?)?;
            session(granted, None, service, storage_url)
        }
        Identity::V3(account) => {
            v3(http, login, &keystone::v3_request(account), Some(account), service, storage_url).await
        }
        Identity::ApplicationCredential { id, secret } => {
            v3(http, login, &keystone::credential_request(id, secret), None, service, storage_url).await
        }
    }
}

async fn v3(
    http: &HttpClient,
    login: &Login,
    body: &Value,
    account: Option<&Account>,
    service: &Service,
    storage_url: Option<&Url>,
) -> Result<Session> {
    let answer = post(http, login, "auth/tokens", body, account).await?;
    let token = secret(answer.headers(), "x-subject-token");
    let granted = keystone::v3_granted(&http.read_whole(WHAT, answer).await?)?;
    session(granted, token, service, storage_url)
}

fn session(
    granted: keystone::Granted,
    token: Option<Secret>,
    service: &Service,
    storage_url: Option<&Url>,
) -> Result<Session> {
    let token = token
        .or(granted.token)
        .ok_or_else(|| Error::new(Kind::Unavailable, "log in: Keystone's answer has no token"))?;
    let account = match storage_url {
        Some(url) => url.clone(),
        None => keystone::find(&granted.endpoints, service)?,
    };
    Ok(Session::new(token, account, granted.life))
}

async fn post(
    http: &HttpClient,
    login: &Login,
    path: &str,
    body: &Value,
    account: Option<&Account>,
) -> Result<Response> {
    let url = format!("{}/{path}", login.url.as_str().trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|_| Error::new(Kind::Invalid, "auth_url is not a valid URL"))?;
    let mut request = Request::new(Method::POST, url);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
    request.headers_mut().insert(header::ACCEPT, json);
    *request.body_mut() = Some(body.to_string().into());
    let answer = http.send(WHAT, request, http.timeouts().first_byte).await?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let why = match (answer.status(), account) {
        (StatusCode::UNAUTHORIZED, Some(account)) => keystone::hint(account),
        (StatusCode::UNAUTHORIZED, None) => "Keystone refuses the application credential".to_owned(),
        (StatusCode::NOT_FOUND, _) => {
            "nothing is there: auth_url and auth_version must match, for example /v3 and 3".to_owned()
        }
        _ => "Keystone refuses".to_owned(),
    };
    Err(refusal(&why, &answer))
}

/// Logs in with `X-Auth-User` and `X-Auth-Key`, as swiftclient's `get_auth_1_0` does.
async fn v1(
    http: &HttpClient,
    login: &Login,
    user: &str,
    key: &Secret,
    storage_url: Option<&Url>,
) -> Result<Session> {
    let mut request = Request::new(Method::GET, login.url.clone());
    for (name, value) in [("x-auth-user", user), ("x-auth-key", key.reveal())] {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| Error::new(Kind::Invalid, format!("log in: {name} is not valid in a header")))?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    let answer = http.send(WHAT, request, http.timeouts().first_byte).await?;
    if !answer.status().is_success() {
        let why = match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "swift_user or swift_password is wrong; the user is often `account:user`"
            }
            StatusCode::NOT_FOUND => "nothing is there: auth_url of version 1 often ends in /auth/v1.0",
            _ => "Swift refuses",
        };
        return Err(refusal(why, &answer));
    }
    let headers = answer.headers();
    let token = secret(headers, "x-storage-token").or_else(|| secret(headers, "x-auth-token"));
    let token = token.ok_or_else(|| Error::new(Kind::Invalid, "log in: no token; auth_url is wrong"))?;
    let account = match (storage_url, text(headers, "x-storage-url")) {
        (Some(url), _) => url.clone(),
        (None, Some(url)) => Url::parse(url)
            .map_err(|_| Error::new(Kind::Invalid, "log in: X-Storage-Url is not a valid URL"))?,
        (None, None) => return Err(Error::new(Kind::Invalid, "log in: no X-Storage-Url; auth_url is wrong")),
    };
    let life = text(headers, "x-auth-token-expires").and_then(|seconds| seconds.parse().ok());
    Ok(Session::new(token, account, life.map(Duration::from_secs)))
}

fn refusal(why: &str, answer: &Response) -> Error {
    let id = ["x-openstack-request-id", "x-trans-id"].into_iter().find_map(|id| text(answer.headers(), id));
    refused(&format!("{WHAT}: {why}"), answer.status(), answer.headers(), None)
        .with_request_id(id.map(str::to_owned))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn secret(headers: &HeaderMap, name: &str) -> Option<Secret> {
    text(headers, name).map(Secret::new)
}
