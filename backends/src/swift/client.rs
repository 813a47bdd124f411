//! Sends authorised requests to one container, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;
use reqwest::{Method, Request, Response};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::task::TaskTracker;
use url::Url;

use super::auth::{Session, Sessions};
use super::call::Call;
use super::config::{Access, SwiftConfig};
use super::request::{self, Folder, Names, NamesPage, SwiftInfo};
use super::tempurl;
use crate::answer::refused;
use crate::error::DROPPED;
use crate::headers::{meta_from_head, meta_from_part};
use crate::transport::HttpClient;
use crate::upload::Upload;
use crate::{Error, Key, Kind, Meta, RequestId, Result, Secret, Transport};

/// The default of `max_file_size`: Swift's own default, 5 GiB and 2 bytes.
const MAX_FILE_SIZE: u64 = 5_368_709_122;

/// The assumptions about a Swift that does not describe itself.
const DEFAULT_INFO: SwiftInfo = SwiftInfo { max_file_size: MAX_FILE_SIZE, version: None };

/// The part of a request's id that Swift appends to its own id, which is in its logs: the first 32 characters, encoded
/// (`swift/common/middleware/catch_errors.py`).
const TRANS_ID_EXTRA: HeaderName = HeaderName::from_static("x-trans-id-extra");

/// What HEAD says about an object.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) meta: Meta,
    /// `X-Object-Manifest` of a Dynamic Large Object.
    pub(super) manifest: Option<String>,
    /// Whether it is a Static Large Object.
    pub(super) is_static: bool,
}

#[derive(Debug)]
enum Authority {
    Sessions(Sessions),
    TempUrl { account: Url, key: Secret },
}

/// The authorisation of one request.
enum Pass {
    Session(Arc<Session>),
    TempUrl,
}

/// Authorises and sends requests to one container, and classifies the answers.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: HttpClient,
    pub(super) names: Names,
    /// The tracker of the tasks that remove the segments of cancelled writes.
    pub(super) tidying: TaskTracker,
    /// Locked between the look at the present object and the write of a manifest.
    pub(super) manifest_lock: Arc<Mutex<()>>,
    authority: Authority,
    info: OnceCell<SwiftInfo>,
    /// Whether the container is known to exist. If it is, a 404 can only mean the object.
    container_seen: AtomicBool,
}

impl Client {
    pub(super) fn new(config: &SwiftConfig, transport: &Transport) -> Result<Self> {
        let http = match &config.ca_file {
            Some(file) => transport.trusting_only(file)?.client()?,
            None => transport.client()?,
        };
        let authority = match (&config.access, &config.storage_url) {
            (Access::Login(login), _) => Authority::Sessions(Sessions::new(http.clone(), login, config)),
            (Access::TempUrl(key), Some(account)) => {
                Authority::TempUrl { account: account.clone(), key: key.clone() }
            }
            (Access::TempUrl(_), None) => {
                return Err(Error::new(Kind::Invalid, "temporary URLs need object_storage_url"));
            }
        };
        Ok(Self {
            http,
            names: Names::new(config),
            tidying: transport.tidying.clone(),
            manifest_lock: Arc::default(),
            authority,
            info: OnceCell::new(),
            container_seen: AtomicBool::new(false),
        })
    }

    async fn pass(&self) -> Result<Pass> {
        match &self.authority {
            Authority::Sessions(sessions) => sessions.get().await.map(Pass::Session),
            Authority::TempUrl { .. } => Ok(Pass::TempUrl),
        }
    }

    /// A new pass after one was refused, if there can be one.
    async fn next_pass(&self, refused: &Pass) -> Result<Option<Pass>> {
        match (&self.authority, refused) {
            (Authority::Sessions(sessions), Pass::Session(stale)) => {
                sessions.after(stale).await.map(|session| Some(Pass::Session(session)))
            }
            _ => Ok(None),
        }
    }

    fn authorised(&self, call: &Call, pass: &Pass) -> Result<Request> {
        let name = call.name.as_deref();
        let mut request = match (pass, &self.authority) {
            (Pass::Session(session), _) => {
                let url = self.names.url(&session.account, name, &call.query)?;
                session.request(call.method.clone(), url)?
            }
            (Pass::TempUrl, Authority::TempUrl { account, key }) => {
                if name.is_none() || !matches!(call.method, Method::GET | Method::HEAD) {
                    return Err(Error::new(
                        Kind::Invalid,
                        "temp_url_key without swift_password allows only reads",
                    ));
                }
                let path = self.names.url(account, name, &[])?;
                let path = percent_decode_str(path.path()).decode_utf8_lossy();
                let mut query = call.query.clone();
                query.extend(tempurl::query(key, call.method.as_str(), &path, SystemTime::now())?);
                Request::new(call.method.clone(), self.names.url(account, name, &query)?)
            }
            (Pass::TempUrl, Authority::Sessions(_)) => {
                return Err(Error::new(Kind::Invalid, "a temporary URL needs its key"));
            }
        };
        request.headers_mut().extend(call.headers.clone());
        if let Some(current) = RequestId::current() {
            request.headers_mut().insert(TRANS_ID_EXTRA, current.header().clone());
        }
        Ok(request)
    }

    /// Sends a request without a body. Every answer is a result, whatever its status. If the server refuses
    /// the token, the request is repeated once with a new one.
    pub(super) async fn send(&self, what: &str, call: &Call) -> Result<Response> {
        let bound = self.http.timeouts().first_byte;
        let pass = self.pass().await?;
        let mut answer = self.http.send(what, self.authorised(call, &pass)?, bound).await?;
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Some(pass) = self.next_pass(&pass).await?
        {
            answer = self.http.send(what, self.authorised(call, &pass)?, bound).await?;
        }
        self.note_container(&answer);
        Ok(answer)
    }

    /// Sends a request. Only a success is a result.
    pub(super) async fn ok(&self, what: &str, call: &Call) -> Result<Response> {
        let answer = self.send(what, call).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(what, answer).await) }
    }

    /// Sends a request with a streamed body. If the server refuses the token, the body is opened and sent
    /// again with a new token. Only a success is a result.
    ///
    /// If the connection breaks during the request, the server may have sent an answer that was lost, such as
    /// 401 or 503. This method then asks for the object and returns the error of that request. That error
    /// says nothing about the write, whose outcome is then unknown.
    pub(super) async fn upload<F>(&self, what: &str, call: &Call, open: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<Upload>>,
    {
        let mut broke = false;
        let sent = self.try_upload(what, call, open, &mut broke).await;
        sent.map_err(|error| if broke { error.with_unknown_outcome() } else { error })
    }

    /// Implements [`Client::upload`]. `broke` is set if a connection broke during the request.
    async fn try_upload<F>(
        &self,
        what: &str,
        call: &Call,
        open: impl Fn() -> F,
        broke: &mut bool,
    ) -> Result<()>
    where
        F: Future<Output = Result<Upload>>,
    {
        let mut pass = self.pass().await?;
        let mut again = true;
        loop {
            let upload = open().await?;
            let mut request = self.authorised(call, &pass)?;
            request.headers_mut().insert(header::CONTENT_LENGTH, upload.length().into());
            let error = match self.http.upload(what, request, upload).await {
                Ok(answer) if answer.status() == StatusCode::ACCEPTED => return Err(dropped(what)),
                Ok(answer) if answer.status().is_success() => {
                    self.note_container(&answer);
                    return Ok(());
                }
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED && again => {
                    let error = self.refusal(what, answer).await;
                    pass = self.next_pass(&pass).await?.ok_or(error)?;
                    again = false;
                    continue;
                }
                Ok(answer) if answer.status() == StatusCode::NOT_FOUND => {
                    return Err(missing_container(what, &answer));
                }
                Ok(answer) => return Err(self.refusal(what, answer).await),
                Err((error, false)) => return Err(error),
                Err((error, true)) => error,
            };
            *broke = true;
            let name = call.name.clone().unwrap_or_default();
            let asked = self.send(what, &Call::object(Method::HEAD, name)).await?;
            if !asked.status().is_success() && asked.status() != StatusCode::NOT_FOUND {
                return Err(self.refusal(what, asked).await);
            }
            let now = self.pass().await?;
            match (&pass, &now) {
                (Pass::Session(then), Pass::Session(now)) if again && !Arc::ptr_eq(then, now) => {}
                _ => return Err(error),
            }
            (pass, again) = (now, false);
        }
    }

    /// The object under a name. If `newest` is set, Swift asks all replicas for the latest version.
    pub(super) async fn find(&self, what: &str, key: &Key, newest: bool) -> Result<Option<Found>> {
        let mut call = Call::object(Method::HEAD, self.names.of(key)?);
        if newest {
            call = call.with_header(HeaderName::from_static("x-newest"), "true")?;
        }
        let answer = self.send(what, &call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(what, answer).await.map(|()| None),
            status if status.is_success() => {
                let headers = answer.headers();
                let text = |name| {
                    let value = headers.get(name).map(HeaderValue::as_bytes)?;
                    Some(String::from_utf8_lossy(value).into_owned())
                };
                let meta = match meta_from_head(key, headers) {
                    Some(meta) => meta,
                    None => match self.size_by_part(what, key).await? {
                        Some(meta) => meta,
                        None => return Ok(None),
                    },
                };
                Ok(Some(Found {
                    meta,
                    manifest: text("x-object-manifest").filter(|manifest| !manifest.is_empty()),
                    is_static: text("x-static-large-object")
                        .is_some_and(|is| is.eq_ignore_ascii_case("true")),
                }))
            }
            _ => Err(self.refusal(what, answer).await),
        }
    }

    /// Reads the object's size from a read of its first byte. This is used if HEAD does not name the size.
    async fn size_by_part(&self, what: &str, key: &Key) -> Result<Option<Meta>> {
        let call = Call::object(Method::GET, self.names.of(key)?).with_header(header::RANGE, "bytes=0-0")?;
        let answer = self.send(what, &call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(what, answer).await.map(|()| None),
            status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                meta_from_part(what, key, status, answer.headers()).map(Some)
            }
            _ => Err(self.refusal(what, answer).await),
        }
    }

    /// Accepts a 404 that means the object. Returns an error if the 404 means the container. The container is
    /// asked for until it was seen once.
    pub(super) async fn absent(&self, what: &str, answer: Response) -> Result<()> {
        drop(answer);
        // A temporary URL cannot ask for the container.
        let unasked = matches!(self.authority, Authority::TempUrl { .. });
        if unasked || self.container_seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let answer = self.send("look for the container", &Call::container(Method::HEAD)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => return Err(missing_container(what, &answer)),
            status if status.is_success() => {}
            _ => {
                // If the gateway has no permission to ask for the container, it assumes that the container
                // exists. If the request failed for another reason, a later one may succeed.
                let error = self.refusal(what, answer).await;
                if error.is_transient() {
                    return Err(error);
                }
            }
        }
        self.container_seen.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the object of a name, without its segments. A missing object counts as removed.
    pub(super) async fn remove(&self, what: &str, name: &str) -> Result<()> {
        let answer = self.send(what, &Call::object(Method::DELETE, name)).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => self.absent(what, answer).await,
            _ => Err(self.refusal(what, answer).await),
        }
    }

    /// One page of the names that start with `prefix` and come after `marker`.
    pub(super) async fn page(&self, prefix: &str, marker: Option<&str>, limit: usize) -> Result<NamesPage> {
        let what = "list";
        let mut call = Call::container(Method::GET)
            .with_query("format", "json")
            .with_query("limit", limit.to_string())
            .with_query("prefix", prefix);
        if let Some(marker) = marker {
            call = call.with_query("marker", marker);
        }
        let answer = self.send(what, &call).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Err(missing_container(what, &answer));
        }
        if !answer.status().is_success() {
            return Err(self.refusal(what, answer).await);
        }
        let page = NamesPage::parse(&self.names, &self.http.read_whole(what, answer).await?)?;
        if page.last().as_deref().is_some_and(|last| marker.is_some_and(|marker| last <= marker)) {
            return Err(Error::new(Kind::Unavailable, format!("{what}: the server repeats the same page")));
        }
        Ok(page)
    }

    /// The largest object that one request can write, in bytes, according to `/info`. It is asked for once.
    pub(super) async fn max_file_size(&self) -> u64 {
        self.info().await.map_or(MAX_FILE_SIZE, |info| info.max_file_size)
    }

    /// Whether the server supports writes that never overwrite.
    pub(super) async fn has_conditional_puts(&self) -> bool {
        self.info().await.is_some_and(|info| info.version.is_some())
    }

    /// The server's description of itself. `None` if the server cannot be asked now.
    async fn info(&self) -> Option<&SwiftInfo> {
        let asked = self.info.get_or_try_init(|| async {
            let Pass::Session(session) = self.pass().await? else { return Ok(DEFAULT_INFO) };
            let what = "read /info";
            let request = Request::new(Method::GET, request::info_url(&session.account));
            let answer = self.http.send(what, request, self.http.timeouts().first_byte).await?;
            if answer.status().is_server_error() {
                return Err(self.refusal(what, answer).await);
            }
            // Not every Swift publishes it (`expose_info`).
            let said = request::server_info(&self.http.read_whole(what, answer).await?);
            Ok::<_, Error>(said.unwrap_or(DEFAULT_INFO))
        });
        asked.await.ok()
    }

    /// The error for an answer that is not a success.
    pub(super) async fn refusal(&self, what: &str, answer: Response) -> Error {
        let error = refused(what, answer.status(), answer.headers(), None);
        error.with_request_id(request_id(answer.headers()))
    }

    fn note_container(&self, answer: &Response) {
        if answer.status().is_success() {
            self.container_seen.store(true, Ordering::Relaxed);
        }
    }

    /// The folder with the segments of a Dynamic Large Object, if Quay or the gateway wrote it.
    pub(super) fn folder_of(&self, found: Option<&Found>) -> Option<Folder> {
        self.names.folder(found?.manifest.as_deref()?)
    }
}

/// Swift's proxy answers 202 to a PUT if an object server dropped it with 409. That happens if an object, or the mark
/// of a deletion, with a later time exists, for example because the clocks of two proxies differ
/// (`swift/proxy/controllers/obj.py`, "Object PUT returning 202 for 409").
fn dropped(what: &str) -> Error {
    let why =
        format!("{what}: the store dropped it, because what it has under this name is newer by its clocks");
    Error::new(Kind::Throttled { retry_after: None }, why).with_code(DROPPED).with_unknown_outcome()
}

fn missing_container(what: &str, answer: &Response) -> Error {
    let what = format!("{what}: swift_container does not exist");
    Error::new(Kind::Denied, what).with_code("NoSuchContainer").with_request_id(request_id(answer.headers()))
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    headers.get("x-trans-id").and_then(|id| id.to_str().ok()).map(str::to_owned)
}
