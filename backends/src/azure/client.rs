//! One authorised request at a time.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::{Method, Request, Response};
use url::Url;

use super::config::{AzureConfig, Credentials};
use super::request::{self, Address};
use super::sign::Signer;
use crate::answer::refused;
use crate::clock::{self, Clock};
use crate::headers::{described, described_by_part};
use crate::transport::HttpClient;
use crate::upload::Upload;
use crate::{Error, Key, Kind, Meta, RequestId, Result, Secret, Transport};

/// The version of the service that is spoken, the same for all requests.
const VERSION: HeaderValue = HeaderValue::from_static("2021-12-02");

/// What Azure writes to its logs beside a request: up to 1 KiB, and signed as all of `x-ms-`.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// A request before it is authorised.
pub(super) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None }
    }

    pub(super) fn with_header(mut self, name: &'static str, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::new(Kind::Invalid, format!("{name} is no header")))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }

    pub(super) fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }
}

#[derive(Debug)]
enum Authority {
    Key(Signer),
    Sas(Secret),
}

/// Authorises, sends and sorts answers for one container.
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
                let why = "AzureStorage without azure_account_key or sas_token: nothing proves who asks";
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

    /// The store's clock less ours, in seconds, as far as it was learned.
    pub(super) fn clock_offset(&self) -> i64 {
        self.clock.offset()
    }

    /// The request that a call is, with a body of `length` bytes if it has one, by the store's clock
    /// as it was taken to be.
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
            Authority::Key(signer) => signer.sign(&mut request, clock::there(clock))?,
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

    /// Sends a request; any answer is a result.
    pub(super) async fn send(&self, what: &str, call: &Call) -> Result<Response> {
        self.send_within(what, call, self.http.timeouts().first_byte).await
    }

    /// [`Client::send`] with another bound to the headers.
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

    /// Sends a request; only a success is a result.
    pub(super) async fn ok(&self, what: &str, call: &Call, bound: Duration) -> Result<Response> {
        let answer = self.send_within(what, call, bound).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(what, answer).await) }
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
            status if status.is_success() => match described(key, answer.headers()) {
                Some(meta) => Ok(Some(meta)),
                None => self.size_by_part(&what, key).await,
            },
            _ => Err(self.refusal(&what, answer).await),
        }
    }

    /// What a read of the first byte says of an object, where HEAD does not say how long it is.
    async fn size_by_part(&self, what: &str, key: &Key) -> Result<Option<Meta>> {
        let call =
            Call::new(Method::GET, self.address.blob(key, &[])?).with_header("x-ms-range", "bytes=0-0")?;
        let answer = self.send(what, &call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => self.absent(what, answer).await.map(|()| None),
            status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                described_by_part(what, key, status, answer.headers()).map(Some)
            }
            _ => Err(self.refusal(what, answer).await),
        }
    }

    /// A 404: fine if it says that it means the blob, an error if it means anything else.
    pub(super) async fn absent(&self, what: &str, answer: Response) -> Result<()> {
        let error = self.refusal(what, answer).await;
        if error.code() == Some("BlobNotFound") { Ok(()) } else { Err(error) }
    }

    /// The error that an answer is.
    pub(super) async fn refusal(&self, what: &str, answer: Response) -> Error {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = self.http.whole(what, answer).await.unwrap_or_default();
        let failure = request::failure(&headers, &body);
        let what = match failure.code.as_deref() {
            Some("BlobArchived") => format!("{what}: the blob is in the archive tier, rehydrate it first"),
            _ => what.to_owned(),
        };
        refused(&what, status, &headers, failure.code.as_deref()).with_request_id(failure.request_id)
    }

    /// Whether a refusal told us the time. A shared access signature has no time of ours in it.
    fn learned_clock(&self, answer: &Response, taken: i64) -> bool {
        matches!(self.authority, Authority::Key(_))
            && self.clock.learn(answer.status(), answer.headers(), taken)
    }
}
