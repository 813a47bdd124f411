//! docker-registry (distribution 2.8) with its blobs in a bucket or in a folder of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use backends::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bucket::Bucket;
use super::ports::free_port;
use super::process::{Program, ServerProcess};
use super::token_server::TokenServer;

/// `owner`, password `owner`, hashed by bcrypt.
const OWNER: &str = "owner:$2b$05$abcdefghijklmnopqrstuuTTh.8eDlXE6g0KHn43h9reORnALjK4i\n";

const START_BOUND: Duration = Duration::from_secs(20);

/// A certificate chain and its key, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A docker-registry. With a bucket, it redirects reads of blobs there.
#[derive(Debug)]
pub struct DockerRegistry {
    /// `host:port` for clients.
    pub endpoint: String,
    server: ServerProcess,
    _folder: TempDir,
}

impl DockerRegistry {
    /// The prefix of its keys in the bucket: the `storage_path` of the gateway's zone.
    pub const ROOT: &'static str = "/registry";

    /// Starts the registry on 127.0.0.1. Without `tls` it uses plain HTTP.
    ///
    /// # Errors
    /// docker-registry is not installed or does not start.
    pub async fn start(bucket: &Bucket, tokens: &TokenServer, tls: Option<&TlsFiles>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("docker-registry-").tempdir()?;
        let port = free_port();
        Self::serve(folder, port, &configuration(port, bucket, tokens, tls)).await
    }

    async fn serve(folder: TempDir, port: u16, configuration: &Value) -> Result<Self> {
        let file = folder.path().join("config.yml");
        // JSON is YAML.
        std::fs::write(&file, configuration.to_string())?;
        let mut server = Program::find("docker-registry")?.arg("serve").arg(&file).serve(folder.path())?;
        let listening = || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
        server.ready(START_BOUND, listening).await?;
        Ok(Self { endpoint: format!("127.0.0.1:{port}"), server, _folder: folder })
    }

    /// Starts a registry that keeps its blobs in a folder, and serves them itself. Without `tokens`, it asks for the only
    /// login `owner`, password `owner` (htpasswd).
    ///
    /// # Errors
    /// docker-registry is not installed or does not start.
    pub async fn in_folder(tokens: Option<&TokenServer>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("docker-registry-").tempdir()?;
        let port = free_port();
        let auth = match tokens {
            Some(tokens) => token_auth(tokens),
            None => {
                let users = folder.path().join("htpasswd");
                std::fs::write(&users, OWNER)?;
                json!({"htpasswd": {"realm": "registry", "path": users}})
            }
        };
        let configuration = json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": {
                "filesystem": { "rootdirectory": folder.path().join("data") },
                "delete": { "enabled": true },
            },
            "http": { "addr": format!("127.0.0.1:{port}"), "secret": "shared-by-replicas" },
            "auth": auth,
        });
        Self::serve(folder, port, &configuration).await
    }

    /// Stops it. Its blobs stay.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// The log, including the access log.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log_text()
    }

    /// Writes the empty blob into a repository directly, as in a registry that was moved from another
    /// storage. A push of it fails: the S3 driver of 2.8 completes a multipart upload without parts, which S3
    /// refuses (`registry/storage/driver/s3-aws/s3.go:writer.Commit`).
    ///
    /// # Errors
    /// The bucket refuses.
    pub async fn seed_empty_blob(bucket: &Bucket, repository: &str) -> Result<()> {
        let hex = Digest::EMPTY.hex();
        bucket.write(&Self::blob_key(&hex), "").await?;
        let root = Self::ROOT.trim_start_matches('/');
        let link = format!("{root}/docker/registry/v2/repositories/{repository}/_layers/sha256/{hex}/link");
        bucket.write(&link, format!("sha256:{hex}")).await
    }

    /// The key of a blob in the bucket.
    #[must_use]
    pub fn blob_key(hex: &str) -> String {
        let root = Self::ROOT.trim_start_matches('/');
        format!("{root}/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])
    }
}

fn configuration(port: u16, bucket: &Bucket, tokens: &TokenServer, tls: Option<&TlsFiles>) -> Value {
    let mut http = json!({ "addr": format!("127.0.0.1:{port}"), "secret": "shared-by-replicas" });
    if let Some(tls) = tls {
        http["tls"] = json!({ "certificate": tls.certificate, "key": tls.key });
    }
    json!({
        "version": "0.1",
        "log": { "level": "warn" },
        "storage": {
            "s3": {
                "accesskey": bucket.access_key, "secretkey": bucket.secret_key, "bucket": bucket.name,
                "region": Bucket::REGION, "regionendpoint": format!("http://127.0.0.1:{}", bucket.port),
                "secure": false, "v4auth": true, "rootdirectory": DockerRegistry::ROOT,
            },
            "delete": { "enabled": true },
        },
        "http": http,
        "auth": token_auth(tokens),
    })
}

fn token_auth(tokens: &TokenServer) -> Value {
    json!({ "token": {
        "realm": tokens.realm(), "service": tokens.service(), "issuer": tokens.issuer(),
        "rootcertbundle": tokens.certificate(),
    }})
}
