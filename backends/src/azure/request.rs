//! Builds requests and parses answers. No I/O.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use quick_xml::de::from_str;
use serde::Deserialize;
use url::Url;

use super::config::AzureConfig;
use crate::error::word;
use crate::pages::Page;
use crate::urls::{ENCODED, ENCODED_PATH, with_query};
use crate::{Digest, Error, Key, Kind, Meta, Result, key, s3};

/// Azure's limit for the length of a blob's name, in characters.
const MAX_NAME: usize = 1024;

/// The URLs of one container.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The URL up to and including the container, without a slash at the end.
    container: String,
    root: String,
}

impl Address {
    pub(super) fn new(config: &AzureConfig) -> Self {
        let container = utf8_percent_encode(&config.container, ENCODED);
        let endpoint = config.endpoint.as_str().trim_end_matches('/');
        Self { container: format!("{endpoint}/{container}"), root: config.root.clone() }
    }

    /// The URL of a blob. Quay strips slashes at the end of a name (`_blob_name_from_path`), so a key that
    /// ends in a slash would be the name of another blob.
    pub(super) fn blob(&self, key: &Key, query: &[(&str, &str)]) -> Result<Url> {
        let name = key::join(&self.root, key.checked()?);
        if name.ends_with('/') || name.chars().count() > MAX_NAME {
            let why = format!(
                "{name:?} is not a valid name of a blob: it ends in `/` or is longer than {MAX_NAME}"
            );
            return Err(Error::new(Kind::Invalid, why));
        }
        self.url(&format!("/{}", utf8_percent_encode(&name, ENCODED_PATH)), query)
    }

    /// The URL of one page of a listing.
    pub(super) fn page(&self, prefix: &str, page: usize, marker: Option<&str>) -> Result<Url> {
        let prefix = key::join(&self.root, prefix);
        let page = page.to_string();
        let mut query = vec![
            ("restype", "container"),
            ("comp", "list"),
            ("maxresults", page.as_str()),
            ("prefix", prefix.as_str()),
        ];
        query.extend(marker.map(|marker| ("marker", marker)));
        self.url("", &query)
    }

    /// The key of a listed name, if it lies below the root.
    fn key_of(&self, name: &str) -> Option<Key> {
        key::below(&key::join(&self.root, ""), name)
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url> {
        let text = format!("{}{path}", self.container);
        with_query(text, query.iter().copied())
            .map_err(|_| Error::new(Kind::Invalid, "container and key do not form a valid URL"))
    }
}

/// The error code and the request id of an error answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorDetails {
    pub(super) code: Option<String>,
    pub(super) request_id: Option<String>,
}

/// Reads the code and the id from the headers, which HEAD also has, or from the body.
pub(super) fn failure(headers: &HeaderMap, body: &[u8]) -> ErrorDetails {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = || s3::request::failure(body).and_then(|failure| failure.code);
    ErrorDetails { code: header("x-ms-error-code").or_else(body), request_id: header("x-ms-request-id") }
}

/// The id of a block, made from its number and its digest.
///
/// All writers of a blob share one list of uncommitted blocks, and a commit empties it ("Put Block List").
/// The id identifies the bytes, so writers of the same bytes stage the same blocks. If one of them commits,
/// the others find their blocks in the blob. The id has 48 bytes, like the ids of Microsoft's SDK for Python,
/// which Quay uses: Azure refuses ids of different lengths in one list.
pub(super) fn block_id(number: u64, digest: Digest) -> String {
    let mut id = format!("blob-part-{number:06}").into_bytes();
    id.extend_from_slice(digest.as_bytes());
    STANDARD.encode(id)
}

/// The body of Put Block List. `Latest` selects the staged block, or else the committed one.
pub(super) fn block_list(ids: &[String]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for id in ids {
        text.push_str(&format!("<Latest>{id}</Latest>"));
    }
    text.push_str("</BlockList>");
    text
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EnumerationResults {
    #[serde(default)]
    blobs: Blobs,
    next_marker: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Blobs {
    blob: Vec<Blob>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: Name,
    properties: Properties,
}

#[derive(Debug, Deserialize)]
struct Name {
    /// Whether the name is percent-encoded because it has characters that XML cannot contain ("List Blobs",
    /// 2021-02-12).
    #[serde(rename = "@Encoded", default)]
    encoded: bool,
    #[serde(rename = "$text", default)]
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Properties {
    #[serde(rename = "Last-Modified")]
    last_modified: Option<String>,
    #[serde(rename = "Content-Length")]
    content_length: u64,
    /// `directory` in accounts with a hierarchical namespace, whose listings include folders.
    resource_type: Option<String>,
}

/// Parses an answer to List Blobs. Names outside the root are skipped.
pub(super) fn page(address: &Address, body: &[u8]) -> Result<Page> {
    let unread = || Error::new(Kind::Unavailable, "the answer is not valid Azure XML");
    let text = std::str::from_utf8(body).map_err(|_| unread())?;
    // Azure starts listings with a byte order mark.
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if s3::request::root(text) != Some("EnumerationResults") {
        return Err(unread());
    }
    let results: EnumerationResults =
        from_str(text).map_err(|error| unread().with_cause(word(&error.to_string())))?;
    let mut found = Vec::new();
    for Blob { name, properties } in results.blobs.blob {
        if properties.resource_type.as_deref() == Some("directory") {
            continue;
        }
        let name = match name.encoded {
            true => percent_decode_str(&name.text).decode_utf8().map_err(|_| unread())?.into_owned(),
            false => name.text,
        };
        let modified = properties.last_modified.as_deref().and_then(http_date);
        found.extend(address.key_of(&name).map(|key| Meta {
            key,
            size: properties.content_length,
            modified,
        }));
    }
    Ok(Page { found, next: results.next_marker.filter(|marker| !marker.is_empty()) })
}

fn http_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
