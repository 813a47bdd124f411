//! Parameters of Quay's S3-like drivers (`storage/cloud.py`), interpreted as Quay does.

use aws_credentials::Role;
use url::Url;

use crate::params::{Params, Reason};
use crate::urls::is_plain;
use crate::{Secret, key};

/// The only endpoint Quay knows for Google Cloud Storage (`GoogleCloudStorage.ENDPOINT_URL`).
const GOOGLE: &str = "https://storage.googleapis.com";

/// The region that boto signs for if none is configured.
const DEFAULT_REGION: &str = "us-east-1";

/// Regions whose endpoints end in `.cn` (`S3Storage.REGIONS`).
const CHINA: [&str; 2] = ["cn-north-1", "cn-northwest-1"];

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    VirtualHost,
}

/// One S3-like store.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The URL of the store, without bucket and key.
    pub endpoint: Url,
    /// How requests name the bucket.
    pub style: Style,
    /// The bucket.
    pub bucket: String,
    /// The prefix of all keys: Quay's `storage_path` without one leading `/`.
    pub root: String,
    /// The region in signatures.
    pub region: String,
    /// The access key. It is not a secret, but it is not printed either. If it is empty, the credentials are
    /// looked up as in boto3.
    pub access_key: Secret,
    /// The secret key.
    pub secret_key: Secret,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
    /// Whether writes request encryption at rest with the store's own key (`AES256`).
    pub encrypt: bool,
}

/// A driver's own parameters, followed by those of `S3Storage`.
macro_rules! beside_s3_storage {
    ($($own:literal),*) => {
        &[
            $($own,)*
            "storage_path",
            "s3_bucket",
            "s3_access_key",
            "s3_secret_key",
            "s3_region",
            "host",
            "port",
            "endpoint_url",
            "maximum_chunk_size_gb",
            "minimum_chunk_size_mb",
            "aws_session_token",
            "signature_version",
        ]
    };
}

pub(crate) const S3_STORAGE: &[&str] = beside_s3_storage!();

pub(crate) const CLOUD_FRONT: &[&str] = beside_s3_storage!(
    "cloudfront_distribution_domain",
    "cloudfront_key_id",
    "cloudfront_privatekey_filename",
    "cloudfront_distribution_org_overrides"
);

pub(crate) const CLOUD_FLARE: &[&str] =
    beside_s3_storage!("cloudflare_domain", "cloudflare_privatekey_filename");

pub(crate) const AKAMAI: &[&str] = beside_s3_storage!("akamai_domain", "akamai_shared_secret");

pub(crate) const MULTI_CDN: &[&str] = &["storage_config", "providers", "default_provider", "rules"];

pub(crate) const STS_S3: &[&str] = &[
    "storage_path",
    "s3_bucket",
    "sts_role_arn",
    "sts_user_access_key",
    "sts_user_secret_key",
    "s3_region",
    "endpoint_url",
    "maximum_chunk_size_gb",
    "signature_version",
];

pub(crate) const RADOS_GW: &[&str] = &[
    "hostname",
    "is_secure",
    "storage_path",
    "access_key",
    "secret_key",
    "bucket_name",
    "region_name",
    "signature_version",
    "port",
    "minimum_chunk_size_mb",
    "maximum_chunk_size_mb",
    "server_side_assembly",
];

pub(crate) const IBM_CLOUD: &[&str] = &[
    "hostname",
    "is_secure",
    "storage_path",
    "access_key",
    "secret_key",
    "bucket_name",
    "port",
    "maximum_chunk_size_mb",
    "signature_version",
];

pub(crate) const GOOGLE_CLOUD: &[&str] = &[
    "storage_path",
    "access_key",
    "secret_key",
    "bucket_name",
    "boto_timeout",
    "minimum_chunk_size_mb",
    "signature_version",
];

impl S3Config {
    /// Reads the parameters of `S3Storage`. If there are no keys, they are looked up as in boto.
    pub(crate) fn s3_storage(params: &mut Params) -> Result<Self, Reason> {
        let region = params.optional_text("s3_region")?;
        Self::amazon(params, region, ["s3_access_key", "s3_secret_key"])
    }

    /// Reads the parameters of `STSS3Storage`. Its keys belong to the user who assumes the role.
    pub(crate) fn sts(params: &mut Params) -> Result<(Self, Role), Reason> {
        let role = Role {
            arn: params.text("sts_role_arn")?,
            session: Some("quay".to_owned()),
            external_id: None,
            seconds: None,
        };
        let region = params.optional_text("s3_region")?;
        Ok((Self::amazon(params, region, ["sts_user_access_key", "sts_user_secret_key"])?, role))
    }

    /// Reads the S3 parameters of `CloudFrontedS3Storage`, `CloudFlareStorage` and `AkamaiS3Storage`. The
    /// driver's own parameters in `required` must be given. They only control where Quay redirects its
    /// clients.
    pub(crate) fn behind_cdn(params: &mut Params, required: &[&'static str]) -> Result<Self, Reason> {
        for name in required {
            params.text(name)?;
        }
        params.map("cloudfront_distribution_org_overrides")?;
        let region = params.text("s3_region")?;
        Self::amazon(params, Some(region), ["s3_access_key", "s3_secret_key"])
    }

    /// Reads the S3 parameters of `MultiCDNStorage`. Its other parameters only control where Quay redirects
    /// its clients.
    pub(crate) fn multi_cdn(params: &mut Params) -> Result<Self, Reason> {
        let providers = params.map("providers")?;
        let default = params.text("default_provider")?;
        if !providers.has(&default) {
            return Err(params.wrong("default_provider", "one of `providers`"));
        }
        params.accept("rules");
        let mut storage = params.map("storage_config")?;
        storage.only(S3_STORAGE)?;
        Self::s3_storage(&mut storage)
    }

    fn amazon(params: &mut Params, region: Option<String>, keys: [&'static str; 2]) -> Result<Self, Reason> {
        unused(params)?;
        let host = params.optional_text("host")?;
        let port = params.optional_port("port")?;
        let url = params.optional_text("endpoint_url")?;
        let bucket = params.text("s3_bucket")?;
        let (endpoint, style) = match (&region, url, host) {
            (Some(region), _, _) => (amazon(region), Style::Path),
            (None, Some(url), _) => (url, Style::Path),
            (None, None, Some(host)) => (endpoint_url(&host, port, true), Style::Path),
            (None, None, None) => ("https://s3.amazonaws.com".to_owned(), virtual_host_if_possible(&bucket)),
        };
        let endpoint = parse(params, "endpoint_url", &endpoint)?;
        let region = region.or_else(|| region_of(&endpoint)).unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let (access_key, secret_key) =
            match (params.optional_secret(keys[0])?, params.optional_secret(keys[1])?) {
                (Some(access_key), Some(secret_key)) => (access_key, secret_key),
                (None, None) => (Secret::new(""), Secret::new("")),
                (Some(_), None) => return Err(params.wrong(keys[1], &format!("there, as `{}` is", keys[0]))),
                (None, Some(_)) => return Err(params.wrong(keys[0], &format!("there, as `{}` is", keys[1]))),
            };
        Ok(Self {
            style,
            bucket,
            root: root(params)?,
            region,
            access_key,
            secret_key,
            session_token: params.optional_secret("aws_session_token")?,
            encrypt: true,
            endpoint,
        })
    }

    /// Reads the parameters of `RadosGWStorage` and `RHOCSStorage`. `IBMCloudStorage` has the same ones,
    /// without a region.
    pub(crate) fn with_hostname(params: &mut Params) -> Result<Self, Reason> {
        params.optional_flag("server_side_assembly")?;
        let is_secure = params.flag("is_secure")?;
        let hostname = params.text("hostname")?;
        let port = params.optional_port("port")?;
        let endpoint = parse(params, "hostname", &endpoint_url(&hostname, port, is_secure))?;
        let region = params.optional_text("region_name")?;
        Self::with_keys(params, endpoint, region.unwrap_or_else(|| DEFAULT_REGION.to_owned()))
    }

    /// Reads the parameters of `GoogleCloudStorage`. Google accepts any word as region ("V4 signing
    /// process").
    pub(crate) fn google(params: &mut Params) -> Result<Self, Reason> {
        params.optional_number("boto_timeout")?;
        let endpoint = parse(params, "endpoint", GOOGLE)?;
        Self::with_keys(params, endpoint, "auto".to_owned())
    }

    fn with_keys(params: &mut Params, endpoint: Url, region: String) -> Result<Self, Reason> {
        unused(params)?;
        Ok(Self {
            endpoint,
            style: Style::Path,
            bucket: params.text("bucket_name")?,
            root: root(params)?,
            region,
            access_key: params.secret("access_key")?,
            secret_key: params.secret("secret_key")?,
            session_token: None,
            encrypt: false,
        })
    }

    /// The URLs that are dialled: the endpoint, or the bucket's own host below it.
    pub(crate) fn endpoints(&self) -> Vec<Url> {
        let mut url = self.endpoint.clone();
        if self.style == Style::VirtualHost {
            let host = format!("{}.{}", self.bucket, url.host_str().unwrap_or_default());
            // A bucket that cannot be part of a host name always uses the path style.
            let _ = url.set_host(Some(&host));
        }
        vec![url]
    }

    /// The location: endpoint, bucket and root. The number of slashes in the root does not matter.
    pub(crate) fn location(&self) -> String {
        let endpoint = self.endpoint.as_str().trim_end_matches('/');
        format!("{endpoint}/{}/{}", self.bucket, self.root.trim_matches('/'))
    }

    /// A summary for operators.
    pub(crate) fn summary(&self, role: Option<&Role>) -> Vec<(&'static str, String)> {
        let keys = if self.access_key.reveal().is_empty() {
            "looked for in the environment, profile, container and instance"
        } else {
            "in the configuration"
        };
        let credentials = match role {
            Some(role) => format!("role {}, assumed with keys {keys}", role.arn),
            None => format!("keys {keys}"),
        };
        let style = match self.style {
            Style::Path => "path",
            Style::VirtualHost => "virtual-host",
        };
        vec![
            ("endpoint", self.endpoint.as_str().trim_end_matches('/').to_owned()),
            ("bucket", self.bucket.clone()),
            ("root", self.root.clone()),
            ("region", self.region.clone()),
            ("style", style.to_owned()),
            ("credentials", credentials),
        ]
    }
}

/// Accepts the parameters that only control Quay's own writes, and `signature_version`. Requests are always
/// signed with version 4, like boto's.
fn unused(params: &mut Params) -> Result<(), Reason> {
    for size in ["minimum_chunk_size_mb", "maximum_chunk_size_mb", "maximum_chunk_size_gb"] {
        params.optional_number(size)?;
    }
    params.optional_text("signature_version")?;
    Ok(())
}

/// Quay's `_CloudStorage._init_path` strips exactly one leading `/` of the joined path. An empty path is the bucket itself.
fn root(params: &mut Params) -> Result<String, Reason> {
    let path = params.text_or_empty("storage_path")?;
    let root = path.strip_prefix('/').unwrap_or(&path);
    if key::has_dot_segment(root) {
        return Err(params.wrong("storage_path", "a path without `.` and `..`"));
    }
    Ok(root.to_owned())
}

fn parse(params: &Params, name: &str, text: &str) -> Result<Url, Reason> {
    let url = Url::parse(text).map_err(|error| params.wrong(name, &format!("a host or URL ({error})")))?;
    if !is_plain(&url) {
        return Err(params.wrong(name, "a host, or an http or https URL with only a host and a path"));
    }
    Ok(url)
}

/// Quay's `_build_endpoint_url`: adds a scheme and a port if they are missing.
fn endpoint_url(hostname: &str, port: Option<u16>, is_secure: bool) -> String {
    let mut url = if hostname.starts_with("http://") || hostname.starts_with("https://") {
        hostname.to_owned()
    } else {
        format!("{}://{hostname}", if is_secure { "https" } else { "http" })
    };
    let last = url.rsplit(':').next().unwrap_or_default().trim_matches([' ', '/']);
    let has_port = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(port) = port.filter(|_| !has_port) {
        url = format!("{}:{port}", url.trim_end_matches('/'));
    }
    url
}

fn amazon(region: &str) -> String {
    let china = if CHINA.contains(&region) { ".cn" } else { "" };
    format!("https://s3.{region}.amazonaws.com{china}")
}

/// The region in the name of an Amazon endpoint. Boto learns it from the error that a wrong region causes.
fn region_of(endpoint: &Url) -> Option<String> {
    let host = endpoint.host_str()?;
    let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let region = name.strip_prefix("s3.").or_else(|| name.strip_prefix("s3-"))?;
    let region = region.strip_prefix("dualstack.").unwrap_or(region);
    (!region.is_empty() && !region.contains('.')).then(|| region.to_owned())
}

/// Boto's `check_dns_name`: a bucket that fails this test is not valid in a host name, or does not match the
/// certificate's wildcard.
fn virtual_host_if_possible(bucket: &str) -> Style {
    let letters = bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if letters && (3..=63).contains(&bucket.len()) && !bucket.starts_with('-') && !bucket.ends_with('-') {
        Style::VirtualHost
    } else {
        Style::Path
    }
}
