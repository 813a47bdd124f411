//! The location of a zone's S3 store, its entry in Quay's configuration, and signed requests to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use backends::Digest;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

/// Bytes of a file that are read at a time for an upload.
const PIECE: usize = 256 * 1024;

const REGION: &str = "us-east-1";

/// A bucket of an S3 server with plain HTTP and path style. The server is an embedded zone or a real one.
#[derive(Clone)]
pub struct Location {
    /// Quay's location id, such as `zone-a`.
    pub name: String,
    /// The address for clients.
    pub address: SocketAddr,
    /// The bucket.
    pub bucket: String,
    /// Quay's `storage_path`, with its leading `/`.
    pub storage_path: String,
    /// S3 access key.
    pub access_key: String,
    /// S3 secret key.
    pub secret_key: String,
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Location")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Location {
    /// The location of an embedded zone. Its address is set later.
    pub(super) fn embedded(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            bucket: format!("quay-{name}"),
            storage_path: "/datastorage/registry".to_owned(),
            access_key: format!("AK{}", name.to_uppercase().replace('-', "")),
            secret_key: format!("secret-of-{name}-{:016x}", fastrand::u64(..)),
        }
    }

    /// The entry of the store in Quay's `DISTRIBUTED_STORAGE_CONFIG`: `[RadosGWStorage, {…}]`.
    #[must_use]
    pub fn quay_entry(&self) -> Value {
        json!(["RadosGWStorage", {
            "hostname": self.address.ip().to_string(),
            "port": self.address.port(),
            "is_secure": false,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "bucket_name": self.bucket,
            "storage_path": self.storage_path,
        }])
    }

    /// Quay's key of a blob (`digest/digest_tools.py:content_path`, `storage/cloud.py:_init_path`).
    #[must_use]
    pub fn key(&self, digest: &Digest) -> String {
        let hex = digest.hex();
        let path = format!("{}/sha256/{}/{hex}", self.storage_path, &hex[..2]);
        path.strip_prefix('/').unwrap_or(&path).to_owned()
    }

    /// The key of another object below the root, such as Quay's `_verify`.
    #[must_use]
    pub fn key_of(&self, path: &str) -> String {
        let path = format!("{}/{path}", self.storage_path);
        path.strip_prefix('/').unwrap_or(&path).to_owned()
    }

    fn url(&self, key: &str) -> String {
        format!("http://{}/{}/{key}", self.address, self.bucket)
    }

    /// The URL of a GET of `key`, signed in the query and valid for `expires` from `now`.
    ///
    /// # Errors
    /// The key is not valid in a URL.
    pub fn presign(&self, key: &str, now: SystemTime, expires: Duration) -> Result<String> {
        let mut settings = settings();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.expires_in = Some(expires);
        let mut request = Request::get(self.url(key)).body(())?;
        self.sign(&mut request, settings, now)?;
        Ok(request.uri().to_string())
    }

    /// A request for `key`, signed in a header. Its body is not signed.
    ///
    /// # Errors
    /// The key is not valid in a URL.
    pub fn request(&self, method: Method, key: &str) -> Result<Request<()>> {
        let mut request = Request::builder().method(method).uri(self.url(key)).body(())?;
        self.sign(&mut request, settings(), SystemTime::now())?;
        Ok(request)
    }

    fn sign(&self, request: &mut Request<()>, settings: SigningSettings, now: SystemTime) -> Result<()> {
        let identity = Credentials::new(&self.access_key, &self.secret_key, None, None, "harness").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("s3")
            .time(now)
            .settings(settings)
            .build()
            .context("signing parameters")?
            .into();
        let uri = request.uri().to_string();
        let signable = SignableRequest::new(
            request.method().as_str(),
            uri,
            std::iter::empty(),
            SignableBody::UnsignedPayload,
        )
        .context("a request to sign")?;
        let (instructions, _) = sign(signable, &params).context("signing")?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    /// Sends a signed request without a body. Every status is a result.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn send(
        &self,
        client: &reqwest::Client,
        method: Method,
        key: &str,
    ) -> Result<reqwest::Response> {
        let request = self.request(method, key)?.map(|()| reqwest::Body::default());
        let request = reqwest::Request::try_from(request)?;
        client.execute(request).await.map_err(|error| error.without_url().into())
    }

    /// Whether the store has an object at `key`.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn exists(&self, client: &reqwest::Client, key: &str) -> Result<bool> {
        match self.send(client, Method::HEAD, key).await?.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => bail!("HEAD at {}: {status}", self.name),
        }
    }

    /// Writes a file to `key`.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn put_file(&self, client: &reqwest::Client, key: &str, file: &Path) -> Result<()> {
        let file = tokio::fs::File::open(file).await?;
        let length = file.metadata().await?.len();
        let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, PIECE));
        self.put(client, key, length, body).await
    }

    /// Writes bytes to `key`.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn put_bytes(&self, client: &reqwest::Client, key: &str, bytes: Vec<u8>) -> Result<()> {
        self.put(client, key, bytes.len() as u64, bytes.into()).await
    }

    async fn put(&self, client: &reqwest::Client, key: &str, length: u64, body: reqwest::Body) -> Result<()> {
        let mut request = self.request(Method::PUT, key)?.map(|()| body);
        let headers = request.headers_mut();
        headers.insert(http::header::CONTENT_LENGTH, length.into());
        headers
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/octet-stream"));
        let response = client
            .execute(reqwest::Request::try_from(request)?)
            .await
            .map_err(reqwest::Error::without_url)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => bail!("PUT at {}: {status}", self.name),
        }
    }
}

fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    // S3 signs the path as it is sent, unlike all other services.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings
}
