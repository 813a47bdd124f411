//! Shared Key signatures with the account's key (Microsoft's "Authorize with Shared Key").

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Request;
use sha2::Sha256;
use url::Url;
use zeroize::Zeroizing;

use crate::{Error, Kind, Result, Secret};

/// The header with the time of the request.
const DATE: HeaderName = HeaderName::from_static("x-ms-date");

/// The headers whose values are signed without their names, in this order.
const PLACED: [HeaderName; 11] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    HeaderName::from_static("content-md5"),
    header::CONTENT_TYPE,
    header::DATE,
    header::IF_MODIFIED_SINCE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
];

/// The key of an account. It cannot be printed.
#[derive(Clone)]
pub struct AccountKey(Zeroizing<Vec<u8>>);

impl AccountKey {
    /// Parses the base64 form that Azure shows. `None` if the text is not base64.
    #[must_use]
    pub fn parse(text: &Secret) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.reveal()).ok()?);
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    fn signature(&self, text: &str) -> Result<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(|_| unsigned())?;
        mac.update(text.as_bytes());
        Ok(STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<account key>")
    }
}

/// Signs requests to one account.
#[derive(Debug)]
pub struct Signer {
    account: String,
    key: AccountKey,
}

impl Signer {
    /// A signer with the key of an account.
    #[must_use]
    pub fn new(account: &str, key: AccountKey) -> Self {
        Self { account: account.to_owned(), key }
    }

    /// Signs a request. If the request has a body, its `Content-Length` must already be set.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the value of a header is not text.
    pub fn sign(&self, request: &mut Request, now: SystemTime) -> Result<()> {
        let date = httpdate::fmt_http_date(now);
        request.headers_mut().insert(DATE, HeaderValue::from_str(&date).map_err(|_| unsigned())?);
        let text = string_to_sign(request.method(), request.url(), request.headers(), &self.account)?;
        let authorization = format!("SharedKey {}:{}", self.account, self.key.signature(&text)?);
        let mut value = HeaderValue::from_str(&authorization).map_err(|_| unsigned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
        Ok(())
    }
}

/// `StringToSign` of version 2015-02-21 and later.
fn string_to_sign(method: &Method, url: &Url, headers: &HeaderMap, account: &str) -> Result<String> {
    let mut text = format!("{method}\n");
    for name in PLACED {
        match value(headers, &name)? {
            // "If Content-Length is zero, set it to an empty string" (2015-02-21).
            Some("0") if name == header::CONTENT_LENGTH => {}
            found => text.push_str(found.unwrap_or_default()),
        }
        text.push('\n');
    }
    text.push_str(&canonical_headers(headers)?);
    text.push_str(&canonical_resource(url, account));
    Ok(text)
}

/// The `x-ms-` headers, sorted, one line each. The service sorts them lexicographically. If no name is a
/// prefix of another, that is the order of bytes.
fn canonical_headers(headers: &HeaderMap) -> Result<String> {
    let mut lines = BTreeMap::new();
    for name in headers.keys().filter(|name| name.as_str().starts_with("x-ms-")) {
        lines.insert(name.as_str(), value(headers, name)?.unwrap_or_default());
    }
    Ok(lines.into_iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect())
}

/// `/account`, the path as it is sent, and the decoded query: sorted, one line for each name.
fn canonical_resource(url: &Url, account: &str) -> String {
    let mut query = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in url.query_pairs() {
        query.entry(name.to_lowercase()).or_default().push(value.into_owned());
    }
    let mut text = format!("/{account}{}", url.path());
    for (name, mut values) in query {
        values.sort_unstable();
        text.push_str(&format!("\n{name}:{}", values.join(",")));
    }
    text
}

fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    headers.get(name).map(|value| value.to_str().map_err(|_| unsigned())).transpose()
}

fn unsigned() -> Error {
    Error::new(Kind::Invalid, "sign a request: account, container or key is not valid in a header")
}

#[cfg(test)]
#[path = "sign_tests.rs"]
mod tests;
