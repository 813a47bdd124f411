//! Building requests and parsing answers: no I/O.

use std::cmp::Ordering;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::de::from_str;
use quick_xml::escape::escape;
use serde::Deserialize;
use url::Url;

use super::config::{S3Config, Style};
use crate::{Error, Key, Kind, Meta, Result, key};

/// What is wrong with an answer, and what that means.
pub(crate) type Wrong = (Kind, &'static str);

/// The characters that Signature Version 4 leaves as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A key's characters that stay: the same and the slash.
const ENCODED_KEY: &AsciiSet = &ENCODED.remove(b'/');

/// S3's bound on the length of a key, in bytes.
const MAX_KEY: usize = 1024;

/// The URLs of one bucket.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Up to and including the bucket, without a slash at the end.
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
                    .map_err(|_| Error::new(Kind::Invalid, "the bucket does not fit a host name"))?;
                endpoint.as_str().trim_end_matches('/').to_owned()
            }
        };
        Ok(Self { bucket: whole, root: config.root.clone() })
    }

    /// An object's URL.
    pub(super) fn object(&self, key: &Key, query: &[(&str, &str)]) -> Result<Url> {
        let path = key::join(&self.root, key.checked()?);
        if path.len() > MAX_KEY {
            return Err(Error::new(
                Kind::Invalid,
                format!("not a key: root and key have over {MAX_KEY} bytes"),
            ));
        }
        self.url(&format!("/{}", utf8_percent_encode(&path, ENCODED_KEY)), query)
    }

    /// The bucket's own URL.
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

    /// The key below the root that a listed name stands for.
    pub(super) fn key_of(&self, name: &str) -> Option<Key> {
        name.strip_prefix(&key::join(&self.root, "")).filter(|key| !key.is_empty()).map(Key::new)
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url> {
        let mut text = format!("{}{path}", self.bucket);
        for (index, (name, value)) in query.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(&format!("{name}={}", utf8_percent_encode(value, ENCODED)));
        }
        Url::parse(&text).map_err(|_| Error::new(Kind::Invalid, "bucket and key make no URL"))
    }
}

/// The `Range` header that asks for a range which is not empty.
pub(crate) fn range_header(range: &Range<u64>) -> String {
    // Servers parse into 64 bits with a sign; so far nothing is as long.
    if range.end > i64::MAX as u64 {
        format!("bytes={}-", range.start)
    } else {
        format!("bytes={}-{}", range.start, range.end - 1)
    }
}

/// `Content-Range: bytes first-last/size` (RFC 9110, 14.4), as a range and the size.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (digits(first)?, digits(last)?, digits(size)?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

/// What part of an object an answer brings, and the object's size; `asked` is `None` for the whole.
///
/// # Errors
/// [`Kind::Unavailable`] if it brings less than was asked for or does not say, [`Kind::Corrupt`] if
/// it brings other bytes or more.
pub(crate) fn placed(
    asked: Option<&Range<u64>>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(Range<u64>, u64), Wrong> {
    let broken = |kind, why| Err((kind, why));
    let length = content_length(headers);
    match (status, asked) {
        (StatusCode::OK, asked) => {
            let Some(size) = length else { return broken(Kind::Unavailable, "an answer without a length") };
            match asked {
                Some(asked) if asked.start > 0 || asked.end < size => {
                    broken(Kind::Unavailable, "the store ignores ranges")
                }
                _ => Ok((0..size, size)),
            }
        }
        (StatusCode::PARTIAL_CONTENT, Some(asked)) => {
            let Some((range, size)) = content_range(headers) else {
                return broken(Kind::Unavailable, "a part without a Content-Range");
            };
            let end = asked.end.min(size);
            if range.start != asked.start || range.end > end {
                return broken(Kind::Corrupt, "another part than was asked for");
            }
            let length = length.unwrap_or(range.end - range.start);
            match length.cmp(&(end - asked.start)) {
                _ if range.end < end => broken(Kind::Unavailable, "less than was asked for"),
                Ordering::Less => broken(Kind::Unavailable, "a body shorter than its Content-Range"),
                Ordering::Greater => broken(Kind::Corrupt, "a body longer than its Content-Range"),
                Ordering::Equal => Ok((range, size)),
            }
        }
        _ => broken(Kind::Unavailable, "a part where the whole was asked for"),
    }
}

/// `Content-Length`.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    digits(headers.get(header::CONTENT_LENGTH)?.to_str().ok()?)
}

/// Digits and nothing else: `parse` alone would take a `+`.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `Last-Modified`.
pub(crate) fn last_modified(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::LAST_MODIFIED)?.to_str().ok()?).ok()
}

/// What an error says of itself.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Failure {
    pub(super) code: Option<String>,
    pub(super) request_id: Option<String>,
}

/// The `<Error>` that a body holds, if it does.
pub(super) fn failure(body: &[u8]) -> Option<Failure> {
    let text = std::str::from_utf8(body).ok()?;
    let root = text.trim_start().trim_start_matches('\u{feff}');
    let root = match root.strip_prefix("<?xml") {
        Some(declared) => declared.split_once("?>")?.1.trim_start(),
        None => root,
    };
    if !root.starts_with("<Error") {
        return None;
    }
    Some(from_str(text.trim_start()).unwrap_or_default())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Initiated {
    upload_id: String,
}

/// The id in an answer to CreateMultipartUpload.
pub(super) fn upload_id(body: &[u8]) -> Result<String> {
    xml::<Initiated>(body).map(|initiated| initiated.upload_id)
}

/// The body of CompleteMultipartUpload, from the parts' ETags as they were given: some servers
/// send quotes and some do not.
pub(super) fn completion(etags: &[String]) -> String {
    let mut text =
        String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (index, etag) in etags.iter().enumerate() {
        let (number, etag) = (index + 1, escape(etag));
        text.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
    }
    text.push_str("</CompleteMultipartUpload>");
    text
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

/// One page of a listing.
pub(super) struct Page {
    pub(super) found: Vec<Meta>,
    /// What asks for the next page; `None` at the last one.
    pub(super) next: Option<String>,
}

/// Parses a page; names outside the root are left out.
pub(super) fn page(address: &Address, body: &[u8]) -> Result<Page> {
    let list: ListBucketResult = xml(body)?;
    if list.is_truncated && list.next_continuation_token.is_none() {
        return Err(Error::new(Kind::Unavailable, "a page of a listing ends without a token for the next"));
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

fn xml<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T> {
    let unread = || Error::new(Kind::Unavailable, "the answer is not the XML that S3 promises");
    let text = std::str::from_utf8(body).map_err(|_| unread())?;
    from_str(text.trim_start()).map_err(|error| unread().with_cause(error))
}

/// `2009-10-12T17:50:30.000Z` (RFC 3339 in UTC), to the second.
pub(crate) fn timestamp(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split('.').next()?.splitn(3, ':').map(digits);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !fits {
        return None;
    }
    // Days since 1970 in years that begin in March, so that the leap day is the last of a year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = (365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day).checked_sub(719_469)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
