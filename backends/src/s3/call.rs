//! A request before it is signed.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Method;
use url::Url;

use crate::{Digest, Error, Kind, Result};

/// Requests encryption at rest.
pub(super) const ENCRYPTION: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");

/// The digest of the body, if the store requires one.
pub(super) const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");

/// A request before it is signed.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::new(Kind::Invalid, format!("{name} is not a valid header")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// Adds the digest of the body as a checksum.
    pub(super) fn with_checksum(mut self, digest: Option<Digest>) -> Result<Self> {
        match digest {
            Some(digest) => self = self.with_header(CHECKSUM, &digest.base64())?,
            None => drop(self.headers.remove(CHECKSUM)),
        }
        Ok(self)
    }

    pub(super) fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}
