//! The S3 family: Amazon S3, Ceph RadosGW, NooBaa (RHOCS), IBM Cloud Object Storage, and Google Cloud Storage
//! through its S3-compatible XML API.

#[cfg(feature = "bench")]
pub mod bench;
mod call;
mod client;
mod config;
mod multipart;
mod place;
mod refusal;
pub(crate) mod request;
mod server_side_copy;
mod sign;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use aws_credentials::{Http, Provider};
use futures_util::stream::BoxStream;
use http::{StatusCode, header};
use reqwest::Method;

pub use aws_credentials::{Environment, Role};
pub(crate) use config::{
    AKAMAI, CLOUD_FLARE, CLOUD_FRONT, GOOGLE_CLOUD, IBM_CLOUD, MULTI_CDN, RADOS_GW, S3_STORAGE, STS_S3,
};
pub use config::{S3Config, Style};
pub use sign::Signer;

use crate::headers::range_header;
use crate::pages::{Page, listing};
use crate::store::get_nothing;
use crate::upload::Upload;
use crate::{CopySource, Digest, Key, MARKER, Meta, Object, Result, Source, Store, Transport};
use call::Call;
use client::Client;
use sign::Payload;

/// The largest object that is written by a single request, in bytes.
const SINGLE_PUT: u64 = 64 * 1024 * 1024;

/// The default size of a part, in bytes. One `put` keeps up to three parts in memory, at most 48 MiB.
const PART: u64 = 8 * 1024 * 1024;

/// The smallest part that S3 accepts, in bytes. The last part may be smaller.
const MIN_PART: u64 = 5 * 1024 * 1024;

/// Names per page of a listing. This is S3's maximum.
const LIST_PAGE: usize = 1000;

/// A store that speaks S3.
#[derive(Debug)]
pub struct S3Store {
    client: Arc<Client>,
    single_put: u64,
    part: u64,
    list_page: usize,
    single_copy: u64,
    copied_part: u64,
    bucket: String,
    /// The scope within which stores can copy each other's objects.
    copy_scope: Option<Digest>,
}

impl S3Store {
    /// The store that `config` describes. Opens no connection. If the configuration has no keys, the first
    /// request that needs credentials looks for them as boto3 does.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) if the bucket is not valid in the endpoint's URL.
    pub fn new(config: &S3Config, transport: &Transport) -> Result<Self> {
        Self::with_environment(config, None, &Environment::of_process(), transport)
    }

    /// Like [`S3Store::new`], with the environment of the process. If there is a role, it is assumed with the
    /// keys.
    ///
    /// # Errors
    /// The errors of [`S3Store::new`].
    pub fn with_environment(
        config: &S3Config,
        role: Option<&Role>,
        environment: &Environment,
        transport: &Transport,
    ) -> Result<Self> {
        let http: Arc<dyn Http> = Arc::new(transport.credentials_client()?);
        let keys = (!config.access_key.reveal().is_empty() && !config.secret_key.reveal().is_empty())
            .then(|| sign::keys(config));
        let provider = Provider::new(keys, role, environment, &http);
        let client = Arc::new(Client::new(config, provider, transport)?);
        Ok(Self {
            client,
            single_put: SINGLE_PUT,
            part: PART,
            list_page: LIST_PAGE,
            single_copy: server_side_copy::SINGLE_COPY,
            copied_part: server_side_copy::COPIED_PART,
            bucket: config.bucket.clone(),
            copy_scope: server_side_copy::scope(config).filter(|_| role.is_none()),
        })
    }

    /// Writes objects of more than `threshold` bytes in parts of `part` bytes (at least 5 MiB).
    #[must_use]
    pub fn with_multipart(mut self, threshold: u64, part: u64) -> Self {
        self.single_put = threshold;
        self.part = part.max(MIN_PART);
        self
    }

    /// Lets the store copy objects of more than `threshold` bytes in parts of `part` bytes (at least 5 MiB).
    #[must_use]
    pub fn with_copied_parts(mut self, threshold: u64, part: u64) -> Self {
        self.single_copy = threshold;
        self.copied_part = part.max(MIN_PART);
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
        let url = self.client.address.object(key, &[])?;
        let checksum = self.client.checksums().then(|| source.digest());
        let call = Call::new(Method::PUT, url).with_headers(self.client.write_headers());
        let call = call.with_checksum(checksum)?;
        let upload = Upload::proven(source, &self.client.http.timeouts()).await?;
        self.client.upload(&what, key, &call, Payload::Signed(source.digest()), upload).await.map(drop)
    }

    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        let what = format!("list {prefix}");
        let url = self.client.address.page(prefix, self.list_page, token)?;
        let answer = self.client.ok(&what, &Call::new(Method::GET, url)).await?;
        let body = self.client.http.read_whole(&what, answer).await?;
        request::page(&self.client.address, &body)
    }
}

#[async_trait]
impl Store for S3Store {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        self.client.head(key).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        if let Some(asked) = range.as_ref().filter(|asked| asked.is_empty()) {
            return get_nothing(self, key, asked.clone()).await;
        }
        let what = format!("get {key}");
        let mut call = Call::new(Method::GET, self.client.address.object(key, &[])?);
        if let Some(asked) = &range {
            call = call.with_header(header::RANGE, &range_header(asked))?;
        }
        let answer = self.client.send(&what, &call).await?;
        match (answer.status(), &range) {
            (StatusCode::NOT_FOUND, _) => self.client.absent(&what, answer).await.map(|()| None),
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(asked)) => get_nothing(self, key, asked.clone()).await,
            (status, _) if status.is_success() => {
                self.client.http.object(what, range.as_ref(), answer).map(Some)
            }
            _ => Err(self.client.refusal(&what, answer).await),
        }
    }

    async fn put(&self, key: &Key, source: &Source) -> Result<()> {
        if source.size() > self.single_put {
            return multipart::put(&self.client, key, source, self.part).await;
        }
        self.client.retry_if_corrected(|| self.put_single(key, source)).await
    }

    fn copy_source(&self, key: &Key) -> Option<CopySource> {
        let name = self.client.address.name(key).ok()?;
        Some(CopySource::new(self.copy_scope?, server_side_copy::path(&self.bucket, &name)))
    }

    async fn copy(&self, key: &Key, from: &CopySource, size: u64) -> Result<bool> {
        let version = from.version();
        let Some(path) = from.path(self.copy_scope) else { return Ok(false) };
        if size > self.single_copy && !server_side_copy::may_be_parts(path) {
            return Ok(false);
        }
        if self.client.head(key).await?.is_some() {
            return Ok(false);
        }
        let from = server_side_copy::From { path, version };
        server_side_copy::copy(&self.client, key, from, size, self.single_copy, self.copied_part)
            .await
            .map(|()| true)
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        let prefix = prefix.to_owned();
        listing(format!("list {prefix}"), move |token| {
            let prefix = prefix.clone();
            async move { self.page(&prefix, token.as_deref()).await }
        })
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let what = format!("delete {key}");
        let call = Call::new(Method::DELETE, self.client.address.object(key, &[])?);
        let answer = self.client.send(&what, &call).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => self.client.absent(&what, answer).await,
            _ => Err(self.client.refusal(&what, answer).await),
        }
    }

    async fn probe(&self) -> Result<()> {
        let url = self.client.address.object(&Key::new(MARKER), &[])?;
        let call = Call::new(Method::GET, url).with_header(header::RANGE, "bytes=0-0")?;
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
