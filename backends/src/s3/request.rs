//! Builds requests and parses answers. No I/O.

use percent_encoding::utf8_percent_encode;
use quick_xml::de::from_str;
use quick_xml::escape::escape;
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::config::{S3Config, Style};
use crate::error::word;
use crate::pages::Page;
use crate::timestamp::timestamp;
use crate::urls::{ENCODED, ENCODED_PATH, with_query};
use crate::{Digest, Error, Key, Kind, Meta, Result, key};

/// S3's limit for the length of a key, in bytes.
const MAX_KEY: usize = 1024;

/// The URLs of one bucket.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The URL up to and including the bucket, without a slash at the end.
    bucket: String,
    root: String,
}

impl Address {
    pub(super) fn new(config: &S3Config) -> Result<Self> {
        let mut endpoint = config.endpoint.clone();
        let bucket = utf8_percent_encode(&config.bucket, ENCODED).to_string();
        let whole = match config.style {
            Style::Path => format!("{}/{bucket}", endpoint.as_str().trim_end_matches('/')),
            Style::VirtualHost => {
                let host = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
                endpoint
                    .set_host(Some(&host))
                    .map_err(|_| Error::new(Kind::Invalid, "the bucket is not valid in a host name"))?;
                endpoint.as_str().trim_end_matches('/').to_owned()
            }
        };
        Ok(Self { bucket: whole, root: config.root.clone() })
    }

    /// The URL of an object.
    pub(super) fn object(&self, key: &Key, query: &[(&str, &str)]) -> Result<Url> {
        self.url(&format!("/{}", self.name(key)?), query)
    }

    /// The encoded name of an object in the bucket.
    pub(super) fn name(&self, key: &Key) -> Result<String> {
        let path = key::join(&self.root, key.checked()?);
        if path.len() > MAX_KEY {
            return Err(Error::new(
                Kind::Invalid,
                format!("not a valid key: root and key have more than {MAX_KEY} bytes"),
            ));
        }
        Ok(utf8_percent_encode(&path, ENCODED_PATH).to_string())
    }

    /// The URL of the bucket.
    pub(super) fn bucket(&self, query: &[(&str, &str)]) -> Result<Url> {
        self.url("/", query)
    }

    /// The URL of one page of a listing.
    pub(super) fn page(&self, prefix: &str, page: usize, token: Option<&str>) -> Result<Url> {
        let prefix = key::join(&self.root, prefix);
        let page = page.to_string();
        let mut query = vec![("list-type", "2"), ("max-keys", page.as_str()), ("prefix", prefix.as_str())];
        query.extend(token.map(|token| ("continuation-token", token)));
        self.bucket(&query)
    }

    /// The key of a listed name, if it lies below the root.
    pub(super) fn key_of(&self, name: &str) -> Option<Key> {
        key::below(&key::join(&self.root, ""), name)
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url> {
        let text = format!("{}{path}", self.bucket);
        with_query(text, query.iter().copied())
            .map_err(|_| Error::new(Kind::Invalid, "bucket and key do not form a valid URL"))
    }
}

/// The contents of an error answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ErrorDetails {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) request_id: Option<String>,
    /// The region to sign for, sent with `AuthorizationHeaderMalformed`.
    pub(crate) region: Option<String>,
    /// The host to use, sent with `PermanentRedirect` and `TemporaryRedirect`.
    pub(crate) endpoint: Option<String>,
}

impl ErrorDetails {
    /// Whether the store requires a checksum for writes, as for a bucket with Object Lock: "Content-MD5 OR
    /// x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
    /// (PutObject; UploadPart likewise).
    pub(super) fn wants_checksum(&self) -> bool {
        let named = matches!(self.code.as_deref(), Some("InvalidRequest" | "MissingContentMD5"));
        let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        named && (message.contains("content-md5") || message.contains("x-amz-checksum"))
    }
}

/// The `<Error>` in a body, if the body has one.
pub(crate) fn failure(body: &[u8]) -> Option<ErrorDetails> {
    let text = std::str::from_utf8(body).ok()?;
    (root(text)? == "Error").then(|| from_str(text.trim_start()).unwrap_or_default())
}

/// The name of a document's outermost element, which the XML parser ignores.
pub(crate) fn root(text: &str) -> Option<&str> {
    let text = text.trim_start().trim_start_matches('\u{feff}');
    let text = match text.strip_prefix("<?xml") {
        Some(declared) => declared.split_once("?>")?.1.trim_start(),
        None => text,
    };
    let name = text.strip_prefix('<')?.split([' ', '\t', '\r', '\n', '/', '>']).next()?;
    Some(name.rsplit(':').next().unwrap_or(name))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Initiated {
    upload_id: String,
}

/// The id in an answer to CreateMultipartUpload.
pub(super) fn upload_id(body: &[u8]) -> Result<String> {
    xml::<Initiated>("InitiateMultipartUploadResult", body).map(|initiated| initiated.upload_id)
}

/// A part that the store has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    /// The ETag that identifies it.
    pub(super) etag: String,
    /// Its digest, if it was sent with one.
    pub(super) checksum: Option<Digest>,
}

/// The body of CompleteMultipartUpload. ETags are repeated unchanged, because some servers send quotes and
/// some do not.
pub(super) fn completion(parts: &[Done]) -> String {
    let mut text =
        String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (index, part) in parts.iter().enumerate() {
        let (number, etag) = (index + 1, escape(&part.etag));
        text.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>"));
        if let Some(checksum) = &part.checksum {
            text.push_str(&format!("<ChecksumSHA256>{}</ChecksumSHA256>", checksum.base64()));
        }
        text.push_str("</Part>");
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

/// Whether a complete body says that an upload is completed.
pub(super) fn is_completed(body: &[u8]) -> bool {
    xml::<IgnoredAny>("CompleteMultipartUploadResult", body).is_ok()
}

#[derive(Debug, Deserialize)]
struct Copied {
    #[serde(rename = "ETag")]
    etag: String,
}

/// The ETag in an answer to CopyObject or UploadPartCopy. `result` is the name of the outermost element.
pub(super) fn copied(result: &str, body: &[u8]) -> Option<String> {
    xml::<Copied>(result, body).ok().map(|copied| copied.etag)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ListBucketResult {
    is_truncated: bool,
    next_continuation_token: Option<String>,
    contents: Vec<Contents>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    size: u64,
    last_modified: Option<String>,
}

/// Parses a page. Names outside the root are skipped.
pub(super) fn page(address: &Address, body: &[u8]) -> Result<Page> {
    let list: ListBucketResult = xml("ListBucketResult", body)?;
    if list.is_truncated && list.next_continuation_token.is_none() {
        return Err(Error::new(Kind::Unavailable, "a page of a listing has no token for the next page"));
    }
    let found = list
        .contents
        .into_iter()
        .filter_map(|found| {
            Some(Meta {
                key: address.key_of(&found.key)?,
                size: found.size,
                modified: found.last_modified.as_deref().and_then(timestamp),
            })
        })
        .collect();
    Ok(Page { found, next: list.next_continuation_token.filter(|_| list.is_truncated) })
}

/// Parses a document whose outermost element is `name`.
fn xml<'de, T: Deserialize<'de>>(name: &str, body: &'de [u8]) -> Result<T> {
    let unread = || Error::new(Kind::Unavailable, "the answer is not valid S3 XML");
    let text = std::str::from_utf8(body).map_err(|_| unread())?;
    if root(text) != Some(name) {
        return Err(unread());
    }
    from_str(text.trim_start()).map_err(|error| unread().with_cause(word(&error.to_string())))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
