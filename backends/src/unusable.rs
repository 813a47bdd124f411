//! A placeholder for a store whose configuration cannot be used.

use std::ops::Range;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::{Error, Key, Kind, Meta, Object, Result, Source, Store};

/// Every call fails at once with [`Kind::Invalid`] and the reason. No request is sent.
#[derive(Debug, Clone)]
pub struct UnusableStore {
    reason: String,
}

impl UnusableStore {
    /// `reason` says what is wrong, in words for an operator. It must not contain a secret.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }

    fn error(&self) -> Error {
        Error::new(Kind::Invalid, format!("unusable: {}", self.reason))
    }
}

#[async_trait]
impl Store for UnusableStore {
    async fn head(&self, _: &Key) -> Result<Option<Meta>> {
        Err(self.error())
    }

    async fn get(&self, _: &Key, _: Option<Range<u64>>) -> Result<Option<Object>> {
        Err(self.error())
    }

    async fn put(&self, _: &Key, _: &Source) -> Result<()> {
        Err(self.error())
    }

    fn list(&self, _: &str) -> BoxStream<'_, Result<Meta>> {
        stream::once(async { Err(self.error()) }).boxed()
    }

    async fn delete(&self, _: &Key) -> Result<()> {
        Err(self.error())
    }

    async fn probe(&self) -> Result<()> {
        Err(self.error())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn every_call_fails_at_once_with_the_reason() {
        let store = UnusableStore::new("no such driver");
        let key = Key::new("k");
        let source = Source::bytes(bytes::Bytes::new());
        let errors = [
            store.head(&key).now_or_never().expect("at once").expect_err("fails"),
            store.get(&key, None).now_or_never().expect("at once").expect_err("fails"),
            store.put(&key, &source).now_or_never().expect("at once").expect_err("fails"),
            store.list("").next().now_or_never().expect("at once").expect("an item").expect_err("fails"),
            store.delete(&key).now_or_never().expect("at once").expect_err("fails"),
            store.probe().now_or_never().expect("at once").expect_err("fails"),
        ];
        for error in errors {
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains("no such driver"), "{error}");
            assert!(!error.is_transient() && !error.counts_against_store());
        }
    }
}
