//! Encodes the URLs of objects and adds queries to them. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{ParseError, Url};

/// All characters except those that never need encoding (RFC 3986, 2.3). Signature Version 4 uses the same
/// set.
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same set for a path, which keeps its slashes.
pub(crate) const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// The URL of `text` with a query.
pub(crate) fn with_query<'a>(
    mut text: String,
    query: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Url, ParseError> {
    for (index, (name, value)) in query.into_iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.extend(utf8_percent_encode(value, ENCODED));
    }
    Url::parse(&text)
}

/// Whether it is an http or https URL that has only a host and a path.
pub(crate) fn is_plain(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
}
