//! A bucket of an S3 server. Its client shares no code with the drivers under test.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::process::plain_client;

/// The timeout until a new store accepts writes. It may refuse them for a moment, for example SeaweedFS until
/// its volume server has registered.
pub(super) const CREATE_BOUND: Duration = Duration::from_secs(20);

/// A bucket, and the keys for it.
#[derive(Clone)]
pub struct Bucket {
    /// The server's port on 127.0.0.1, plain HTTP.
    pub port: u16,
    /// The bucket's name.
    pub name: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
    /// The region that requests are signed for.
    pub region: &'static str,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({} on port {})", self.name, self.port)
    }
}

impl Bucket {
    /// The region that docker-registry is configured with. Most servers accept any region.
    pub const REGION: &'static str = "us-east-1";

    /// Creates a bucket and tests that it accepts objects.
    ///
    /// # Errors
    /// The server refuses, or does not accept an object within 20 s.
    pub(super) async fn create(port: u16, name: &str, access_key: &str, secret_key: &str) -> Result<Self> {
        let [name, access_key, secret_key] = [name, access_key, secret_key].map(str::to_owned);
        Self { port, name, access_key, secret_key, region: Self::REGION }.made().await
    }

    /// Creates the bucket at the server and tests that it accepts objects.
    pub(super) async fn made(self) -> Result<Self> {
        let bucket = self;
        let end = Instant::now() + CREATE_BOUND;
        loop {
            let made = bucket.send(Method::PUT, "", Bytes::new()).await?.status();
            let wrote = bucket.send(Method::PUT, "/started", Bytes::from_static(b"started")).await?.status();
            if made.is_success() && wrote.is_success() {
                break;
            }
            ensure!(Instant::now() < end, "{bucket:?} cannot be used: created {made}, wrote {wrote}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bucket.send(Method::DELETE, "/started", Bytes::new()).await?;
        Ok(bucket)
    }

    /// Creates another bucket at the same server.
    ///
    /// # Errors
    /// The server refuses, or does not accept an object within 20 s.
    pub async fn sibling(&self, name: &str) -> Result<Self> {
        Self { name: name.to_owned(), ..self.clone() }.made().await
    }

    /// The bytes of an object. `None` if it does not exist.
    ///
    /// # Errors
    /// The server does not answer, or answers neither 200 nor 404.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let answer = self.send(Method::GET, &format!("/{key}"), Bytes::new()).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer.bytes().await?)),
            StatusCode::NOT_FOUND => Ok(None),
            status => anyhow::bail!("{self:?}: GET {key}: {status}"),
        }
    }

    /// The length of an object in bytes. `None` if it does not exist.
    ///
    /// # Errors
    /// The server does not answer, or answers neither 200 nor 404.
    pub async fn length(&self, key: &str) -> Result<Option<u64>> {
        let answer = self.send(Method::HEAD, &format!("/{key}"), Bytes::new()).await?;
        match answer.status() {
            StatusCode::OK => {
                let length = answer.headers().get(CONTENT_LENGTH).context("HEAD without Content-Length")?;
                Ok(Some(length.to_str()?.parse()?))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => anyhow::bail!("{self:?}: HEAD {key}: {status}"),
        }
    }

    /// Writes an object.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn write(&self, key: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let status = self.send(Method::PUT, &format!("/{key}"), bytes.into()).await?.status();
        ensure!(status.is_success(), "{self:?}: PUT {key}: {status}");
        Ok(())
    }

    /// Removes an object.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn remove(&self, key: &str) -> Result<()> {
        let status = self.send(Method::DELETE, &format!("/{key}"), Bytes::new()).await?.status();
        ensure!(status.is_success(), "{self:?}: DELETE {key}: {status}");
        Ok(())
    }

    /// The number of multipart uploads that were started and neither completed nor aborted.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn open_uploads(&self) -> Result<usize> {
        let answer = self.send(Method::GET, "?uploads=", Bytes::new()).await?;
        ensure!(answer.status() == StatusCode::OK, "{self:?}: GET ?uploads: {}", answer.status());
        Ok(answer.text().await?.matches("<UploadId>").count())
    }

    /// Starts a multipart upload and leaves it unfinished.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn begin_upload(&self, key: &str) -> Result<()> {
        let status = self.send(Method::POST, &format!("/{key}?uploads="), Bytes::new()).await?.status();
        ensure!(status.is_success(), "{self:?}: POST {key}?uploads: {status}");
        Ok(())
    }

    /// The entry of the bucket in Quay's `DISTRIBUTED_STORAGE_CONFIG`, with the port `port`, for example a
    /// proxy's.
    #[must_use]
    pub fn as_zone(&self, port: u16, storage_path: &str) -> Value {
        json!(["RadosGWStorage", {
            "hostname": "127.0.0.1", "port": port, "is_secure": false, "storage_path": storage_path,
            "access_key": self.access_key, "secret_key": self.secret_key, "bucket_name": self.name,
            "region_name": self.region,
        }])
    }

    /// Sends one signed request. `key` starts with a slash (an object) or a question mark, or is empty (the
    /// bucket).
    async fn send(&self, method: Method, key: &str, body: Bytes) -> Result<reqwest::Response> {
        let url = format!("http://127.0.0.1:{}/{}{key}", self.port, self.name);
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = Credentials::new(&self.access_key, &self.secret_key, None, None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()?;
        let signable =
            SignableRequest::new(method.as_str(), &url, std::iter::empty(), SignableBody::Bytes(&body))?;
        let (instructions, _) = sign(signable, &parameters.into())?.into_parts();
        let mut request = http::Request::builder().method(method).uri(&url);
        if request.method_ref() == Some(&Method::PUT) {
            // The HTTP client omits the length of an empty body, and RadosGW would answer 411.
            request = request.header(CONTENT_LENGTH, body.len());
        }
        let mut request = request.body(body)?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(plain_client().execute(request.try_into()?).await?)
    }
}
