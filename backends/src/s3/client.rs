//! One signed request at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_credential_types::Credentials;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::{Method, Request, Response};
use tokio_util::task::TaskTracker;
use url::Url;

use super::config::S3Config;
use super::credentials::{Provider, Refusal};
use super::place::{Place, is_region};
use super::request::{self, Address, Failure};
use super::sign::{Payload, sign};
use crate::answer::{self, refused};
use crate::clock::{self, Clock};
use crate::headers::{described, described_by_part};
use crate::transport::HttpClient;
use crate::upload::Upload;
use crate::{Digest, Error, Hasher, Key, Kind, Meta, Result, Transport};

/// Asks for encryption at rest.
const ENCRYPTION: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");

/// The digest of what is sent, where the store wants one.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");

/// Of a bucket that refuses what comes without one.
const CHECKSUM_WANTED: &str =
    "the bucket wants Content-MD5 or a checksum with each object, as Object Lock does";

/// What a refusal may teach; each is learned once a request, and so often it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lesson {
    Clock,
    Place,
    Credentials,
    Checksum,
}

/// What a request was signed with. A refusal teaches what differs from that: others that were under
/// way may have learned it meanwhile.
struct Signed {
    url: Url,
    credentials: Credentials,
    place: Arc<Place>,
    clock: i64,
    checksum: bool,
}

/// A request before it is signed.
pub(super) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::new(Kind::Invalid, format!("{name} is no header")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// With the digest of what is sent.
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

/// Signs, sends and sorts answers for one bucket.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: HttpClient,
    pub(super) address: Address,
    credentials: Provider,
    place: ArcSwap<Place>,
    encrypt: bool,
    /// Where aborts run.
    pub(super) tidying: TaskTracker,
    clock: Clock,
    /// How often a refusal has taught something that makes the next request another.
    lessons: AtomicU64,
    /// Whether the store wants a checksum with what is written. Others may refuse one, so that none is sent
    /// before a refusal has said so.
    checksums: AtomicBool,
    /// Whether the bucket was seen to exist, so that 404 can only mean the object.
    bucket_seen: AtomicBool,
}

impl Client {
    pub(super) fn new(config: &S3Config, credentials: Provider, transport: &Transport) -> Result<Self> {
        Ok(Self {
            http: transport.client()?,
            tidying: transport.tidying.clone(),
            address: Address::new(config)?,
            credentials,
            place: ArcSwap::from_pointee(Place::configured(&config.region)),
            encrypt: config.encrypt,
            clock: Clock::default(),
            lessons: AtomicU64::new(0),
            checksums: AtomicBool::new(false),
            bucket_seen: AtomicBool::new(false),
        })
    }

    /// What every new object is written with.
    pub(super) fn write_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if self.encrypt {
            headers.insert(ENCRYPTION, HeaderValue::from_static("AES256"));
        }
        headers
    }

    /// Whether what is written needs a checksum.
    pub(super) fn checksums(&self) -> bool {
        self.checksums.load(Ordering::Relaxed)
    }

    /// The request, signed, and what it was signed with.
    async fn signed(&self, call: &Call, body: Payload) -> Result<(Request, Signed)> {
        let credentials = self.credentials.get().await?;
        let place = self.place.load_full();
        let mut url = call.url.clone();
        if let Some(host) = &place.host {
            url.set_host(Some(host))
                .map_err(|_| Error::new(Kind::Invalid, "the bucket does not fit a host name"))?;
        }
        let mut request = Request::new(call.method.clone(), url.clone());
        *request.headers_mut() = call.headers.clone();
        let clock = self.clock.offset();
        sign(&mut request, body, &credentials, &place.region, clock::there(clock))?;
        let checksum = call.headers.contains_key(CHECKSUM);
        Ok((request, Signed { url, credentials, place, clock, checksum }))
    }

    /// Sends a request; any answer is a result.
    pub(super) async fn send(&self, what: &str, call: &Call) -> Result<Response> {
        self.send_within(what, call, self.http.timeouts().first_byte).await
    }

    /// [`Client::send`] with another bound to the headers.
    ///
    /// A refusal that teaches something is followed by the same request with that in mind: at most
    /// once for each [`Lesson`].
    pub(super) async fn send_within(&self, what: &str, call: &Call, bound: Duration) -> Result<Response> {
        let mut lessons = Vec::new();
        loop {
            let (mut request, signed) = self.signed(call, Payload::Signed(Digest::of(&call.body))).await?;
            if matches!(call.method, Method::POST | Method::PUT) {
                // Also of none, which nobody else says: Google wants to know (411).
                request.headers_mut().insert(header::CONTENT_LENGTH, call.body.len().into());
            }
            if !call.body.is_empty() {
                *request.body_mut() = Some(call.body.clone().into());
            }
            let answer = self.http.send(what, request, bound).await?;
            let (answer, lesson) = self.learned(what, answer, &signed).await?;
            match lesson {
                Some(lesson) if !lessons.contains(&lesson) => lessons.push(lesson),
                _ => {
                    self.note_bucket(&answer);
                    return Ok(answer);
                }
            }
        }
    }

    /// Sends a request; only a success is a result.
    pub(super) async fn ok(&self, what: &str, call: &Call) -> Result<Response> {
        let answer = self.send(what, call).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(explained(what, call, self.refusal(what, answer).await))
    }

    /// Sends a request with a body that is made as it goes; only a success is a result.
    ///
    /// Where the connection broke in mid-request the store may have answered unheard, such as 403
    /// or 503: then `key` is asked for, and what that is refused for is the error.
    pub(super) async fn upload(
        &self,
        what: &str,
        key: &Key,
        call: &Call,
        body: Payload,
        upload: Upload,
    ) -> Result<Response> {
        let (mut request, signed) = self.signed(call, body).await?;
        request.headers_mut().insert(header::CONTENT_LENGTH, upload.length().into());
        match self.http.upload(what, request, upload).await {
            Ok(answer) if answer.status().is_success() => {
                self.note_bucket(&answer);
                Ok(answer)
            }
            Ok(answer) => {
                let (answer, _) = self.learned(what, answer, &signed).await?;
                Err(explained(what, call, self.refusal(what, answer).await))
            }
            Err((error, false)) => Err(error),
            Err((error, true)) => match self.head(key).await {
                Err(unheard) => Err(unheard),
                Ok(_) => Err(error),
            },
        }
    }

    /// Does what cannot be sent again as it is, and does it anew, once, if it failed and a refusal
    /// taught something meanwhile.
    pub(super) async fn taught<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let known = self.lessons.load(Ordering::Relaxed);
        match attempt().await {
            Err(_) if self.lessons.load(Ordering::Relaxed) != known => attempt().await,
            done => done,
        }
    }

    pub(super) async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        let what = format!("head {key}");
        let answer = self.send(&what, &Call::new(Method::HEAD, self.address.object(key, &[])?)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(&what, answer).await.map(|()| None),
            status if status.is_success() => match described(key, answer.headers()) {
                Some(meta) => Ok(Some(meta)),
                None => self.size_by_part(&what, key).await,
            },
            _ => Err(self.refusal(&what, answer).await),
        }
    }

    /// Whether the object under a key has this digest, by its bytes.
    pub(super) async fn holds(&self, key: &Key, digest: Digest) -> Result<bool> {
        let what = format!("get {key}");
        let answer = self.send(&what, &Call::new(Method::GET, self.address.object(key, &[])?)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(&what, answer).await.map(|()| false),
            status if status.is_success() => {
                let mut body = self.http.object(what, None, answer)?.body;
                let mut hasher = Hasher::new();
                while let Some(piece) = body.try_next().await? {
                    hasher.update(&piece);
                }
                Ok(hasher.finish() == digest)
            }
            _ => Err(self.refusal(&what, answer).await),
        }
    }

    /// What a read of the first byte says of an object, where HEAD does not say how long it is.
    async fn size_by_part(&self, what: &str, key: &Key) -> Result<Option<Meta>> {
        let call =
            Call::new(Method::GET, self.address.object(key, &[])?).with_header(header::RANGE, "bytes=0-0")?;
        let answer = self.send(what, &call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(what, answer).await.map(|()| None),
            status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                described_by_part(what, key, status, answer.headers()).map(Some)
            }
            _ => Err(self.refusal(what, answer).await),
        }
    }

    /// A 404: fine if it means the object, an error if it means the bucket.
    ///
    /// HEAD has no body to tell, and some servers name the key even where the bucket is missing;
    /// so the bucket itself is asked for, until it was seen once.
    pub(super) async fn absent(&self, what: &str, answer: Response) -> Result<()> {
        let error = self.refusal(what, answer).await;
        if error.kind() == Kind::Denied {
            return Err(error);
        }
        if self.bucket_seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let call = Call::new(Method::HEAD, self.address.bucket(&[])?);
        let answer = self.send("look for the bucket", &call).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            let error = refused(what, StatusCode::NOT_FOUND, answer.headers(), Some("NoSuchBucket"));
            return Err(error.with_request_id(request_id(answer.headers())));
        }
        if !answer.status().is_success() {
            // Whoever may not ask for the bucket must do without; who could not just now may yet.
            let error = self.refusal(what, answer).await;
            if error.is_transient() {
                return Err(error);
            }
        }
        self.bucket_seen.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The error that an answer is.
    pub(super) async fn refusal(&self, what: &str, answer: Response) -> Error {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.http.whole(what, answer).await.unwrap_or_default();
        failed(what, status, &headers, &body)
    }

    fn note_bucket(&self, answer: &Response) {
        if answer.status().is_success() {
            self.bucket_seen.store(true, Ordering::Relaxed);
        }
    }

    /// What an answer teaches, beside the answer as it was. Its body is read for that where it is
    /// one that may.
    async fn learned(
        &self,
        what: &str,
        answer: Response,
        signed: &Signed,
    ) -> Result<(Response, Option<Lesson>)> {
        if !matches!(answer.status().as_u16(), 301 | 307 | 400 | 401 | 403) {
            return Ok((answer, None));
        }
        let (status, headers) = (answer.status(), answer.headers().clone());
        // A body that breaks off tells nothing, and the status still does.
        let body = self.http.whole(what, answer).await.unwrap_or_default();
        let failure = request::failure(&body).unwrap_or_default();
        // `RequestTimeTooSkewed`, which HEAD has no body to say.
        let lesson = if self.clock.learn(status, &headers, signed.clock) {
            Some(Lesson::Clock)
        } else if self.learned_place(status, &headers, &failure, signed) {
            Some(Lesson::Place)
        } else if let Some(refusal) = refused_credentials(status, &failure, body.is_empty())
            && self.credentials.renew(&signed.credentials, refusal).await
        {
            Some(Lesson::Credentials)
        } else if !signed.checksum && failure.wants_checksum() {
            if !self.checksums.swap(true, Ordering::Relaxed) {
                tracing::info!(
                    "the bucket wants a checksum with each object, as Object Lock does: one is sent"
                );
            }
            Some(Lesson::Checksum)
        } else {
            None
        };
        if lesson.is_some() {
            self.lessons.fetch_add(1, Ordering::Relaxed);
        }
        let mut answer = http::Response::new(body);
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok((answer.into(), lesson))
    }

    /// Whether a refusal named a region that we had not known.
    fn learned_place(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        failure: &Failure,
        signed: &Signed,
    ) -> bool {
        let Some(place) = signed.place.corrected(&signed.url, status, headers, failure) else { return false };
        if **self.place.load() != place {
            tracing::warn!(region = place.region, host = place.host, "the bucket is in another region");
            self.place.store(Arc::new(place));
        }
        true
    }
}

/// Whether temporary credentials are what was refused. A HEAD has no body to say: Amazon answers it
/// 400, others 403, which may as well mean that nobody may see this object.
fn refused_credentials(status: StatusCode, failure: &Failure, silent: bool) -> Option<Refusal> {
    match (failure.code.as_deref(), status) {
        (Some(code), _) => answer::is_expired(code).then_some(Refusal::Expired),
        (None, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) => silent.then_some(Refusal::Expired),
        (None, StatusCode::FORBIDDEN) => silent.then_some(Refusal::Silent),
        _ => None,
    }
}

/// The refusal of a write, with what to do about it where that is known: of one that asked for encryption
/// where there is none to be had, such as by RadosGW over plain HTTP.
fn explained(what: &str, call: &Call, error: Error) -> Error {
    let refused = matches!(
        error.code(),
        Some("InvalidRequest" | "InvalidArgument" | "NotImplemented" | "InvalidEncryptionAlgorithmError")
    );
    let known = error.to_string().contains(CHECKSUM_WANTED);
    if known || !refused || !call.headers.contains_key(ENCRYPTION) {
        return error;
    }
    let advice = "S3Storage writes ask for encryption at rest (AES256), which this store may refuse, as RadosGW \
                  does over plain HTTP; use https, or Quay's RadosGWStorage, which does not ask for it";
    Error::new(error.kind(), format!("{what}: {advice}")).with_cause(error)
}

/// The error that status, headers and body of an answer are.
pub(super) fn failed(what: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let failure = request::failure(body).unwrap_or_default();
    // Amazon's answer to a request signed for, or sent to, another region.
    let region = headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
    let elsewhere = matches!(
        status,
        StatusCode::MOVED_PERMANENTLY | StatusCode::TEMPORARY_REDIRECT | StatusCode::BAD_REQUEST
    );
    let region = region.or(failure.region.as_deref()).filter(|region| is_region(region));
    let what = match region.filter(|_| elsewhere) {
        Some(region) => format!("{what}: the bucket is in region {region}"),
        None if failure.wants_checksum() => {
            format!("{what}: {CHECKSUM_WANTED}")
        }
        None => what.to_owned(),
    };
    refused(&what, status, headers, failure.code.as_deref())
        .with_request_id(request_id(headers).or(failure.request_id))
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    headers.get("x-amz-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned)
}
