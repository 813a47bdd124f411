//! Sends authorised requests to one container, one at a time.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use reqwest::{Method, Request, Response};

use super::call::Call;
use super::config::{AzureConfig, Credentials};
use super::request::{self, Address};
use super::sign::Signer;
use crate::answer::refused;
use crate::clock::{self, Clock};
use crate::headers::{meta_from_head, meta_from_part};
use crate::transport::HttpClient;
use crate::upload::Upload;
use crate::{Error, Key, Kind, Meta, RequestId, Result, Secret, Transport};

/// The version of the service that all requests use.
const VERSION: HeaderValue = HeaderValue::from_static("2021-12-02");

/// The header that Azure writes to its logs beside a request: up to 1 KiB, and signed like every `x-ms-` header.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

#[derive(Debug)]
enum Authority {
    Key(Signer),
    Sas(Secret),
}

/// Authorises and sends requests to one container, and classifies the answers.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: HttpClient,
    pub(super) address: Address,
    authority: Authority,
    clock: Clock,
}

impl Client {
    pub(super) fn new(config: &AzureConfig, transport: &Transport) -> Result<Self> {
        let authority = match &config.credentials {
            Credentials::Key(key) => Authority::Key(Signer::new(&config.account, key.clone())),
            Credentials::Sas(token) => Authority::Sas(token.clone()),
            Credentials::Missing => {
                let why = "AzureStorage needs azure_account_key or sas_token";
                return Err(Error::new(Kind::Invalid, why));
            }
        };
        Ok(Self {
            http: transport.client()?,
            address: Address::new(config),
            authority,
            clock: Clock::default(),
        })
    }

    /// The store's clock minus our clock, in seconds. Zero until a difference is learned.
    pub(super) fn clock_offset(&self) -> i64 {
        self.clock.offset()
    }

    /// Builds and authorises the request of a call. `length` is the length of the body, if it has one.
    /// `clock` is the assumed clock offset.
    fn authorised(&self, call: &Call, length: Option<u64>, clock: i64) -> Result<Request> {
        let mut request = Request::new(call.method.clone(), call.url.clone());
        *request.headers_mut() = call.headers.clone();
        request.headers_mut().insert("x-ms-version", VERSION);
        if let Some(current) = RequestId::current() {
            request.headers_mut().insert(CLIENT_REQUEST_ID, current.header().clone());
        }
        if let Some(length) = length {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        match &self.authority {
            Authority::Key(signer) => signer.sign(&mut request, clock::store_time(clock))?,
            Authority::Sas(token) => {
                let query = match request.url().query() {
                    Some(query) => format!("{query}&{}", token.reveal()),
                    None => token.reveal().to_owned(),
                };
                request.url_mut().set_query(Some(&query));
            }
        }
        Ok(request)
    }

    /// Sends a request. Every answer is a result, whatever its status.
    pub(super) async fn send(&self, what: &str, call: &Call) -> Result<Response> {
        self.send_within(what, call, self.http.timeouts().first_byte).await
    }

    /// Like [`Client::send`], with another timeout for the headers.
    pub(super) async fn send_within(&self, what: &str, call: &Call, bound: Duration) -> Result<Response> {
        let mut again = true;
        loop {
            let clock = self.clock.offset();
            let length = call.body.as_ref().map(|body| body.len() as u64);
            let mut request = self.authorised(call, length, clock)?;
            *request.body_mut() = call.body.clone().map(Into::into);
            let answer = self.http.send(what, request, bound).await?;
            if !(self.learned_clock(&answer, clock) && again) {
                return Ok(answer);
            }
            again = false;
        }
    }

    /// Sends a request. Only a success is a result.
    pub(super) async fn ok(&self, what: &str, call: &Call, bound: Duration) -> Result<Response> {
        let answer = self.send_within(what, call, bound).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(what, answer).await) }
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
        upload: Upload,
    ) -> Result<Response> {
        let clock = self.clock.offset();
        let request = self.authorised(call, Some(upload.length()), clock)?;
        match self.http.upload(what, request, upload).await {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => {
                self.learned_clock(&answer, clock);
                Err(self.refusal(what, answer).await)
            }
            Err((error, false)) => Err(error),
            Err((error, true)) => match self.head(key).await {
                Err(unheard) => Err(unheard),
                Ok(_) => Err(error),
            },
        }
    }

    pub(super) async fn head(&self, key: &Key) -> Result<Option<Meta>> {
        let what = format!("head {key}");
        let answer = self.send(&what, &Call::new(Method::HEAD, self.address.blob(key, &[])?)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(&what, answer).await.map(|()| None),
            status if status.is_success() => match meta_from_head(key, answer.headers()) {
                Some(meta) => Ok(Some(meta)),
                None => self.size_by_part(&what, key).await,
            },
            _ => Err(self.refusal(&what, answer).await),
        }
    }

    /// Reads the object's size from a read of its first byte. This is used if HEAD does not name the size.
    async fn size_by_part(&self, what: &str, key: &Key) -> Result<Option<Meta>> {
        let call =
            Call::new(Method::GET, self.address.blob(key, &[])?).with_header("x-ms-range", "bytes=0-0")?;
        let answer = self.send(what, &call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(what, answer).await.map(|()| None),
            status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                meta_from_part(what, key, status, answer.headers()).map(Some)
            }
            _ => Err(self.refusal(what, answer).await),
        }
    }

    /// Accepts a 404 that means the blob. Returns an error if the 404 means anything else.
    pub(super) async fn absent(&self, what: &str, answer: Response) -> Result<()> {
        let error = self.refusal(what, answer).await;
        if error.code() == Some("BlobNotFound") { Ok(()) } else { Err(error) }
    }

    /// The error for an answer that is not a success.
    pub(super) async fn refusal(&self, what: &str, answer: Response) -> Error {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.http.read_whole(what, answer).await.unwrap_or_default();
        let failure = request::failure(&headers, &body);
        let what = match failure.code.as_deref() {
            Some("BlobArchived") => format!("{what}: the blob is in the archive tier, rehydrate it first"),
            _ => what.to_owned(),
        };
        refused(&what, status, &headers, failure.code.as_deref()).with_request_id(failure.request_id)
    }

    /// Whether a refusal changed the clock offset. A shared access signature does not depend on our clock.
    fn learned_clock(&self, answer: &Response, taken: i64) -> bool {
        matches!(self.authority, Authority::Key(_))
            && self.clock.learn(answer.status(), answer.headers(), taken)
    }
}
