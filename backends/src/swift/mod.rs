//! OpenStack Swift, and servers with its protocol, such as Ceph RadosGW.

mod auth;
mod call;
mod client;
mod config;
mod request;
mod segments;
mod tempurl;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderName, StatusCode, header};
use reqwest::Method;

pub(crate) use config::PARAMS;
pub use config::{Access, Account, Domain, Identity, Login, Named, Service, SwiftConfig};

use crate::headers::range_header;
use crate::store::get_nothing;
use crate::upload::Upload;
use crate::{CopySource, Digest, Error, Key, Kind, MARKER, Meta, Object, Result, Source, Store, Transport};
use call::Call;
use client::Client;
use segments::WrittenForm;

/// The largest object that is written by a single request, in bytes, if the server accepts it.
const SINGLE_PUT: u64 = 5 * 1024 * 1024 * 1024;

/// The largest object, in bytes, that is sent without a check whether one exists already. If one exists, the
/// object must be sent again.
const NEW_MAX: u64 = 1 << 20;

/// The size of a segment in bytes. Quay uses the same (`swift.py:_MAXIMUM_SEGMENT_SIZE`).
const SEGMENT: u64 = 200_000_000;

const COPY_FROM: HeaderName = HeaderName::from_static("x-copy-from");

/// Names per page of a listing.
const LIST_PAGE: usize = 1000;

/// Concurrent HEAD requests for the real sizes of large objects in one listing.
const HEADS_IN_FLIGHT: usize = 8;

/// A store with the Swift protocol.
#[derive(Debug)]
pub struct SwiftStore {
    client: Arc<Client>,
    single_put: u64,
    segment: u64,
    list_page: usize,
    /// The scope within which stores can copy each other's objects: the account and the identity.
    copy_scope: Option<Digest>,
}

impl SwiftStore {
    /// The store that `config` describes. Reads `ca_file` but opens no connection.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if `ca_file` cannot be read, or if temporary URLs are configured without an account.
    pub fn new(config: &SwiftConfig, transport: &Transport) -> Result<Self> {
        let client = Arc::new(Client::new(config, transport)?);
        let copy_scope = match &config.access {
            Access::Login(login) => {
                let text = format!("swift\n{login:?}\n{:?}\n{:?}", config.service, config.storage_url);
                Some(Digest::of(text.as_bytes()))
            }
            Access::TempUrl(_) => None,
        };
        Ok(Self { client, single_put: SINGLE_PUT, segment: SEGMENT, list_page: LIST_PAGE, copy_scope })
    }

    /// Writes objects of more than `threshold` bytes in segments of `segment` bytes. If the server accepts
    /// less in one request, its limit applies to both.
    #[must_use]
    pub fn with_segments(mut self, threshold: u64, segment: u64) -> Self {
        self.single_put = threshold;
        self.segment = segment.max(1);
        self
    }

    /// Sets the number of names per page of a listing, 1 to 1000.
    #[must_use]
    pub fn with_list_page(mut self, names: usize) -> Self {
        self.list_page = names.clamp(1, LIST_PAGE);
        self
    }

    /// Writes a small object in one request if none exists yet, which is the usual case. Returns `false` if
    /// an object exists.
    async fn put_new(&self, what: &str, key: &Key, source: &Source) -> Result<bool> {
        let call = Call::put(self.client.names.of(key)?).with_header(header::IF_NONE_MATCH, "*")?;
        let timeouts = self.client.http.timeouts();
        match self.client.upload(what, &call, || Upload::proven(source, &timeouts)).await {
            Err(error) if error.code() == Some(StatusCode::PRECONDITION_FAILED.as_str()) => Ok(false),
            done => done.map(|()| true),
        }
    }

    async fn put_single(&self, what: &str, key: &Key, source: &Source) -> Result<()> {
        let call = Call::put(self.client.names.of(key)?);
        let timeouts = self.client.http.timeouts();
        self.client.upload(what, &call, || Upload::proven(source, &timeouts)).await
    }

    /// A listed object with its real size. Listings report 0 for a Dynamic Large Object.
    async fn sized(&self, listed: Meta) -> Result<Option<Meta>> {
        if listed.size > 0 {
            return Ok(Some(listed));
        }
        self.head(&listed.key).await
    }
}

#[async_trait]
impl Store for SwiftStore {
    async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        Ok(self.client.find(&format!("head {key}"), key, false).await?.map(|found| found.meta))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Object>> {
        if let Some(asked) = range.as_ref().filter(|asked| asked.is_empty()) {
            return get_nothing(self, key, asked.clone()).await;
        }
        let what = format!("get {key}");
        let mut call = Call::object(Method::GET, self.client.names.of(key)?);
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
        let what = format!("put {key}");
        if source.size() <= NEW_MAX.min(self.single_put)
            && self.client.has_conditional_puts().await
            && self.put_new(&what, key, source).await?
        {
            return Ok(());
        }
        // This request also tests the token before the body is sent.
        let old = self.client.find(&what, key, false).await?;
        let limit = self.client.max_file_size().await;
        if source.size() > self.single_put.min(limit) {
            return segments::put(&self.client, key, source, self.segment, limit).await;
        }
        self.put_single(&what, key, source).await?;
        let replaced = self.client.folder_of(old.as_ref());
        segments::remove_replaced(&self.client, key, replaced, &WrittenForm::Whole(source.size())).await;
        Ok(())
    }

    fn copy_source(&self, key: &Key) -> Option<CopySource> {
        Some(CopySource::new(self.copy_scope?, self.client.names.path(key).ok()?))
    }

    async fn copy(&self, key: &Key, from: &CopySource, size: u64) -> Result<bool> {
        let Some(from) = from.path(self.copy_scope) else { return Ok(false) };
        // A larger copy would need segments, but the segments would stay in the source's container.
        if size > self.single_put.min(self.client.max_file_size().await) {
            return Ok(false);
        }
        let what = format!("copy {key} within the store");
        if self.client.find(&what, key, true).await?.is_some() {
            return Ok(false);
        }
        let call = Call::put(self.client.names.of(key)?).with_header(COPY_FROM, from)?;
        self.client.upload(&what, &call, || async { Ok(Upload::pieces(vec![])) }).await?;
        Ok(true)
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<Meta>> {
        let prefix = self.client.names.join(prefix);
        // The state is the marker of the next page. It is `Some(None)` before the first page.
        stream::try_unfold(Some(None::<String>), move |state| {
            let prefix = prefix.clone();
            async move {
                let Some(marker) = state else { return Ok(None) };
                let page = self.client.page(&prefix, marker.as_deref(), self.list_page).await?;
                let next = page.last().map(Some);
                Ok::<_, Error>(Some((stream::iter(page.found.into_iter().map(Ok)), next)))
            }
        })
        .try_flatten()
        .map_ok(|listed| self.sized(listed))
        .try_buffered(HEADS_IN_FLIGHT)
        .try_filter_map(|sized| async move { Ok(sized) })
        .boxed()
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let what = format!("delete {key}");
        let Some(found) = self.client.find(&what, key, true).await? else { return Ok(()) };
        let name = self.client.names.of(key)?;
        if found.is_static {
            let call = Call::object(Method::DELETE, name)
                .with_query("multipart-manifest", "delete")
                .with_header(header::ACCEPT, "application/json")?;
            let answer = self.client.ok(&what, &call).await?;
            let body = self.client.http.read_whole(&what, answer).await?;
            return match request::bulk_failure(&body) {
                Some(status) => Err(Error::new(Kind::Unavailable, what).with_code(status)),
                None => Ok(()),
            };
        }
        // Remove the manifest first and then its segments, as `swift.py:remove` does.
        self.client.remove(&what, &name).await?;
        match self.client.folder_of(Some(&found)) {
            Some(folder) => segments::remove_folder(&self.client, &folder).await,
            None => Ok(()),
        }
    }

    async fn probe(&self) -> Result<()> {
        let name = self.client.names.of(&Key::new(MARKER))?;
        let call = Call::object(Method::GET, name).with_header(header::RANGE, "bytes=0-0")?;
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
