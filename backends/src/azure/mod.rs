//! Azure Blob Storage: block blobs in one container.

mod blocks;
mod call;
mod client;
mod config;
mod request;
mod sign;

use std::ops::Range;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use http::StatusCode;
use reqwest::Method;

pub(crate) use config::PARAMS;
pub use config::{AzureConfig, Credentials};
pub use sign::{AccountKey, Signer};

use crate::headers::{content_length, range_header};
use crate::pages::{Page, listing};
use crate::store::get_nothing;
use crate::upload::Upload;
use crate::{Key, MARKER, Meta, Object, Result, Source, Store, Transport};
use call::Call;
use client::Client;

/// The largest blob that is written by a single request, in bytes.
const SINGLE_PUT: u64 = 64 * 1024 * 1024;

/// The largest blob that Put Blob takes, in bytes (since version 2019-12-12).
const MAX_SINGLE_PUT: u64 = 5000 * 1024 * 1024;

/// The default size of a block, in bytes. One `put` keeps up to three blocks in memory.
const BLOCK: u64 = 8 * 1024 * 1024;

/// Names per page of a listing. Azure would return 5000, with about one KiB of properties each. Such a page
/// would exceed the longest answer that is read as a whole.
const LIST_PAGE: usize = 1000;

/// The content type with which Azure serves the blob.
const CONTENT_TYPE: &str = "x-ms-blob-content-type";

/// The content type of every blob.
const OCTETS: &str = "application/octet-stream";

/// A container of Azure Blob Storage.
#[derive(Debug)]
pub struct AzureStore {
    client: Client,
    single_put: u64,
    block: u64,
    list_page: usize,
}

impl AzureStore {
    /// The store that `config` describes. Opens no connection.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) if there is neither an account key nor a shared access
    /// signature.
    pub fn new(config: &AzureConfig, transport: &Transport) -> Result<Self> {
        let client = Client::new(config, transport)?;
        Ok(Self { client, single_put: SINGLE_PUT, block: BLOCK, list_page: LIST_PAGE })
    }

    /// Writes blobs of more than `threshold` bytes (at most 5000 MiB) in blocks of `block` bytes (1 to 4000
    /// MiB).
    #[must_use]
    pub fn with_blocks(mut self, threshold: u64, block: u64) -> Self {
        self.single_put = threshold.min(MAX_SINGLE_PUT);
        self.block = block.clamp(1, blocks::MAX_BLOCK);
        self
    }

    /// Sets the number of names per page of a listing, 1 to 1000.
    #[must_use]
    pub fn with_list_page(mut self, names: usize) -> Self {
        self.list_page = names.clamp(1, LIST_PAGE);
        self
    }

    async fn put_single(&self, key: &Key, source: &Source) -> Result<()> {
        let what = format!("put {key}");
        let call = Call::new(Method::PUT, self.client.address.blob(key, &[])?)
            .with_header("x-ms-blob-type", "BlockBlob")?
            .with_header(CONTENT_TYPE, OCTETS)?;
        let upload = Upload::proven(source, &self.client.http.timeouts()).await?;
        self.client.upload(&what, key, &call, upload).await.map(drop)
    }

    async fn put_once(&self, key: &Key, source: &Source) -> Result<()> {
        if source.size() <= self.single_put {
            return self.put_single(key, source).await;
        }
        match blocks::put(&self.client, key, source, self.block).await {
            // The blob has staged blocks of another writer with ids of another length. A single-request write
            // removes them.
            Err(error) if error.code() == Some("InvalidBlobOrBlock") && source.size() <= MAX_SINGLE_PUT => {
                self.put_single(key, source).await
            }
            written => written,
        }
    }

    async fn page(&self, prefix: &str, marker: Option<&str>) -> Result<Page> {
        let what = format!("list {prefix}");
        let call = Call::new(Method::GET, self.client.address.page(prefix, self.list_page, marker)?);
        let answer = self.client.ok(&what, &call, self.client.http.timeouts().first_byte).await?;
        let body = self.client.http.read_whole(&what, answer).await?;
        request::page(&self.client.address, &body)
    }
}

#[async_trait]
impl Store for AzureStore {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.client.head(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        if let Some(asked) = range.as_ref().filter(|asked| asked.is_empty()) {
            return get_nothing(self, key, asked.clone()).await;
        }
        let what = format!("get {key}");
        let mut call = Call::new(Method::GET, self.client.address.blob(key, &[])?);
        if let Some(asked) = &range {
            call = call.with_header("x-ms-range", &range_header(asked))?;
        }
        let answer = self.client.send(&what, &call).await?;
        // Azurite answers 206 with an empty body where Azure answers 416.
        let nothing = answer.status() == StatusCode::RANGE_NOT_SATISFIABLE
            || (answer.status() == StatusCode::PARTIAL_CONTENT
                && content_length(answer.headers()) == Some(0));
        match (answer.status(), &range) {
            (StatusCode::NOT_FOUND, _) => self.client.absent(&what, answer).await.map(|()| None),
            (_, Some(asked)) if nothing => get_nothing(self, key, asked.clone()).await,
            (status, _) if status.is_success() => {
                self.client.http.object(what, range.as_ref(), answer).map(Some)
            }
            _ => Err(self.client.refusal(&what, answer).await),
        }
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        let clock = self.client.clock_offset();
        match self.put_once(key, source).await {
            // The refusal corrected the clock offset, so the write is repeated.
            Err(_) if self.client.clock_offset() != clock => self.put_once(key, source).await,
            written => written,
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        let prefix = prefix.to_owned();
        listing(format!("list {prefix}"), move |marker| {
            let prefix = prefix.clone();
            async move { self.page(&prefix, marker.as_deref()).await }
        })
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let what = format!("delete {key}");
        let call = Call::new(Method::DELETE, self.client.address.blob(key, &[])?);
        let answer = self.client.send(&what, &call).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => self.client.absent(&what, answer).await,
            _ => Err(self.client.refusal(&what, answer).await),
        }
    }

    async fn probe(&self) -> Result<()> {
        let url = self.client.address.blob(&Key::new(MARKER), &[])?;
        let call = Call::new(Method::GET, url).with_header("x-ms-range", "bytes=0-0")?;
        let answer = self.client.send("probe", &call).await?;
        match answer.status() {
            // 416: the object exists and is empty.
            status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                self.client.http.read_whole("probe", answer).await.map(drop)
            }
            StatusCode::NOT_FOUND => self.client.absent("probe", answer).await,
            _ => Err(self.client.refusal("probe", answer).await),
        }
    }
}
