//! A request before it is authorised.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::Method;

use crate::{Error, Kind, Result};

/// A request before it is authorised.
pub(super) struct Call {
    pub(super) method: Method,
    /// The name of the object. `None` for the container.
    pub(super) name: Option<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
}

impl Call {
    pub(super) fn object(method: Method, name: impl Into<String>) -> Self {
        Self { method, name: Some(name.into()), query: Vec::new(), headers: HeaderMap::new() }
    }

    pub(super) fn container(method: Method) -> Self {
        Self { method, name: None, query: Vec::new(), headers: HeaderMap::new() }
    }

    pub(super) fn with_query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| Error::new(Kind::Invalid, format!("{name} is not a valid header")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// A PUT of a new object.
    pub(super) fn put(name: impl Into<String>) -> Self {
        let mut call = Self::object(Method::PUT, name);
        let kind = HeaderValue::from_static("application/octet-stream");
        call.headers.insert(header::CONTENT_TYPE, kind);
        call
    }
}
