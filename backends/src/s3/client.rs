//! Sends signed requests to one bucket, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_credential_types::Credentials;
use aws_credentials::Provider;
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Request, Response};
use tokio_util::task::TaskTracker;
use url::Url;

use super::call::{CHECKSUM, Call, ENCRYPTION};
use super::config::S3Config;
use super::place::Place;
use super::refusal::{explained, failed, refused_credentials, request_id};
use super::request::{self, Address, ErrorDetails};
use super::sign::{Payload, sign};
use crate::answer::refused;
use crate::clock::{self, Clock};
use crate::headers::{meta_from_head, meta_from_part};
use crate::transport::HttpClient;
use crate::upload::Upload;
use crate::{Digest, Error, Hasher, Key, Kind, Meta, Result, Transport};

/// A setting that a refusal can correct. A request is repeated after each correction, at most once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Correction {
    Clock,
    Place,
    Credentials,
    Checksum,
}

/// What a request was signed with. The refusal is compared with these values, because a concurrent request
/// may have made the same correction already.
struct Signed {
    url: Url,
    credentials: Credentials,
    place: Arc<Place>,
    clock: i64,
    checksum: bool,
}

/// Signs and sends requests to one bucket, and classifies the answers.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: HttpClient,
    pub(super) address: Address,
    credentials: Provider,
    place: ArcSwap<Place>,
    encrypt: bool,
    /// The tracker of the tasks that abort uploads.
    pub(super) tidying: TaskTracker,
    clock: Clock,
    /// How many corrections were made. Each changes the next request.
    corrections: AtomicU64,
    /// Whether the store requires a checksum for writes. Other stores may refuse a checksum, so none is sent
    /// until a refusal requires it.
    checksums: AtomicBool,
    /// Whether the bucket is known to exist. If it is, a 404 can only mean the object.
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
            corrections: AtomicU64::new(0),
            checksums: AtomicBool::new(false),
            bucket_seen: AtomicBool::new(false),
        })
    }

    /// The headers of every write.
    pub(super) fn write_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if self.encrypt {
            headers.insert(ENCRYPTION, HeaderValue::from_static("AES256"));
        }
        headers
    }

    /// Whether writes need a checksum.
    pub(super) fn checksums(&self) -> bool {
        self.checksums.load(Ordering::Relaxed)
    }

    /// The signed request, and what it was signed with.
    async fn signed(&self, call: &Call, body: Payload) -> Result<(Request, Signed)> {
        let credentials = self.credentials.get().await?;
        let place = self.place.load_full();
        let mut url = call.url.clone();
        if let Some(host) = &place.host {
            url.set_host(Some(host))
                .map_err(|_| Error::new(Kind::Invalid, "the bucket is not valid in a host name"))?;
        }
        let mut request = Request::new(call.method.clone(), url.clone());
        *request.headers_mut() = call.headers.clone();
        let clock = self.clock.offset();
        sign(&mut request, body, &credentials, &place.region, clock::store_time(clock))?;
        let checksum = call.headers.contains_key(CHECKSUM);
        Ok((request, Signed { url, credentials, place, clock, checksum }))
    }

    /// Sends a request. Every answer is a result, whatever its status.
    pub(super) async fn send(&self, what: &str, call: &Call) -> Result<Response> {
        self.send_within(what, call, self.http.timeouts().first_byte).await
    }

    /// Like [`Client::send`], with another timeout for the headers.
    ///
    /// If a refusal leads to a [`Correction`], the request is repeated with it, at most once for each kind.
    pub(super) async fn send_within(&self, what: &str, call: &Call, bound: Duration) -> Result<Response> {
        let mut corrections = Vec::new();
        loop {
            let (mut request, signed) = self.signed(call, Payload::Signed(Digest::of(&call.body))).await?;
            if matches!(call.method, Method::POST | Method::PUT) {
                // The length is sent even if it is zero. The HTTP client would omit it, and Google would
                // answer 411.
                request.headers_mut().insert(header::CONTENT_LENGTH, call.body.len().into());
            }
            if !call.body.is_empty() {
                *request.body_mut() = Some(call.body.clone().into());
            }
            let answer = self.http.send(what, request, bound).await?;
            let (answer, correction) = self.with_correction(what, answer, &signed).await?;
            match correction {
                Some(correction) if !corrections.contains(&correction) => corrections.push(correction),
                _ => {
                    self.note_bucket(&answer);
                    return Ok(answer);
                }
            }
        }
    }

    /// Sends a request. Only a success is a result.
    pub(super) async fn ok(&self, what: &str, call: &Call) -> Result<Response> {
        let answer = self.send(what, call).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(explained(what, call, self.refusal(what, answer).await))
    }

    /// Sends a request with a streamed body. Only a success is a result.
    ///
    /// If the connection breaks during the request, the store may have sent an answer that was lost, such as
    /// 403 or 503. This method then asks for `key` and returns the error of that request.
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
                let (answer, _) = self.with_correction(what, answer, &signed).await?;
                Err(explained(what, call, self.refusal(what, answer).await))
            }
            Err((error, false)) => Err(error),
            Err((error, true)) => match self.head(key).await {
                Err(unheard) => Err(unheard),
                Ok(_) => Err(error),
            },
        }
    }

    /// Runs an attempt whose requests cannot be repeated one by one. If it fails and a refusal has led to a
    /// correction meanwhile, the attempt is repeated once.
    pub(super) async fn retry_if_corrected<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let known = self.corrections.load(Ordering::Relaxed);
        match attempt().await {
            Err(_) if self.corrections.load(Ordering::Relaxed) != known => attempt().await,
            done => done,
        }
    }

    pub(super) async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        let what = format!("head {key}");
        let answer = self.send(&what, &Call::new(Method::HEAD, self.address.object(key, &[])?)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(&what, answer).await.map(|()| None),
            status if status.is_success() => match meta_from_head(key, answer.headers()) {
                Some(meta) => Ok(Some(meta)),
                None => self.size_by_part(&what, key).await,
            },
            _ => Err(self.refusal(&what, answer).await),
        }
    }

    /// Whether the bytes of the object at a key have this digest.
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

    /// Reads the object's size from a read of its first byte. This is used if HEAD does not name the size.
    async fn size_by_part(&self, what: &str, key: &Key) -> Result<Option<Meta>> {
        let call =
            Call::new(Method::GET, self.address.object(key, &[])?).with_header(header::RANGE, "bytes=0-0")?;
        let answer = self.send(what, &call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(what, answer).await.map(|()| None),
            status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                meta_from_part(what, key, status, answer.headers()).map(Some)
            }
            _ => Err(self.refusal(what, answer).await),
        }
    }

    /// Accepts a 404 that means the object. Returns an error if the 404 means the bucket.
    ///
    /// The answer to a HEAD has no body, and some servers report the key as missing even if the bucket is
    /// missing. The bucket is therefore asked for until it was seen once.
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
            // If the gateway has no permission to ask for the bucket, it assumes that the bucket exists. If
            // the request failed for another reason, a later one may succeed.
            let error = self.refusal(what, answer).await;
            if error.is_transient() {
                return Err(error);
            }
        }
        self.bucket_seen.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The error for an answer that is not a success.
    pub(super) async fn refusal(&self, what: &str, answer: Response) -> Error {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.http.read_whole(what, answer).await.unwrap_or_default();
        failed(what, status, &headers, &body)
    }

    fn note_bucket(&self, answer: &Response) {
        if answer.status().is_success() {
            self.bucket_seen.store(true, Ordering::Relaxed);
        }
    }

    /// The correction in an answer, together with the unchanged answer. The body is read only if it may
    /// contain one.
    async fn with_correction(
        &self,
        what: &str,
        answer: Response,
        signed: &Signed,
    ) -> Result<(Response, Option<Correction>)> {
        if !matches!(answer.status().as_u16(), 301 | 307 | 400 | 401 | 403) {
            return Ok((answer, None));
        }
        let (status, headers) = (answer.status(), answer.headers().clone());
        // If the body breaks off, the status is still valid.
        let body = self.http.read_whole(what, answer).await.unwrap_or_default();
        let failure = request::failure(&body).unwrap_or_default();
        // This is `RequestTimeTooSkewed`. The answer to a HEAD has no body that could say so.
        let correction = if self.clock.learn(status, &headers, signed.clock) {
            Some(Correction::Clock)
        } else if self.corrected_place(status, &headers, &failure, signed) {
            Some(Correction::Place)
        } else if let Some(refusal) = refused_credentials(status, &failure, body.is_empty())
            && self.credentials.renew(&signed.credentials, refusal).await
        {
            Some(Correction::Credentials)
        } else if !signed.checksum && failure.wants_checksum() {
            if !self.checksums.swap(true, Ordering::Relaxed) {
                tracing::info!(
                    "the bucket requires a checksum with each object, for example because of Object Lock; the gateway sends one"
                );
            }
            Some(Correction::Checksum)
        } else {
            None
        };
        if correction.is_some() {
            self.corrections.fetch_add(1, Ordering::Relaxed);
        }
        let mut answer = http::Response::new(body);
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok((answer.into(), correction))
    }

    /// Whether a refusal named a region that was not known yet.
    fn corrected_place(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        failure: &ErrorDetails,
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
