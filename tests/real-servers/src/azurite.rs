//! Azurite (npm `azurite`), Microsoft's own emulator of Azure Blob Storage. It verifies Shared Key and shared
//! access signatures. Microsoft's SDK for Python, which Quay uses, runs beside it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use backends::Secret;
use backends::azure::{AccountKey, Signer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::ports::free_port;
use super::process::{Program, plain_client, tools};
use super::store_process::StoreProcess;

const SDK_BOUND: Duration = Duration::from_secs(120);
/// The timeout until Azurite saves its indexes, which it does every 5 s.
const SAVED_BOUND: Duration = Duration::from_secs(30);
/// How often the indexes are checked.
const LOOK: Duration = Duration::from_millis(100);
const ACCOUNT: &str = "registryblobs";
const SECRET: &[u8] = b"an account key that no other emulator has, 0123456789abcdef";

/// An Azurite with one account and one container.
#[derive(Debug)]
pub struct Azurite {
    /// The port on 127.0.0.1, plain HTTP.
    pub port: u16,
    /// The account's name.
    pub account: String,
    /// The account's key, in base64.
    pub key: String,
    /// The container's name.
    pub container: String,
    /// The server's process, which can be stopped and suspended.
    pub process: StoreProcess,
    // Dropped after the server, because the server writes to it.
    folder: TempDir,
}

impl Azurite {
    /// Starts the server and creates the container.
    ///
    /// # Errors
    /// Azurite is not installed or does not start.
    pub async fn start(container: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("azurite-").tempdir()?;
        let (port, key) = (free_port(), STANDARD.encode(SECRET));
        let program = Program::find("node")?
            .arg(tools().join("azurite/node_modules/azurite/dist/src/blob/main.js"))
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--location"])
            .arg(folder.path())
            // The SDK uses newer versions than any Azurite supports. Our version is supported.
            .args(["--skipApiVersionCheck", "--disableTelemetry"])
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{key}"));
        let process =
            StoreProcess::start(program, folder.path(), format!("http://127.0.0.1:{port}/"), &[400]).await?;
        let azurite =
            Self { port, account: ACCOUNT.to_owned(), key, container: container.to_owned(), process, folder };
        azurite.create_container().await?;
        Ok(azurite)
    }

    /// The URL of the account.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{}", self.port, self.account)
    }

    /// The entry of the container in Quay's `DISTRIBUTED_STORAGE_CONFIG`.
    #[must_use]
    pub fn as_zone(&self, storage_path: &str) -> Value {
        json!(["AzureStorage", {
            "endpoint_url": self.endpoint(), "azure_account_name": self.account,
            "azure_account_key": self.key, "azure_container": self.container,
            "storage_path": storage_path,
        }])
    }

    async fn create_container(&self) -> Result<()> {
        let url = format!("{}/{}?restype=container", self.endpoint(), self.container);
        let mut request = reqwest::Request::new(Method::PUT, url.parse()?);
        request.headers_mut().insert("x-ms-version", HeaderValue::from_static("2021-12-02"));
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        let key = AccountKey::parse(&Secret::new(self.key.as_str())).context("the key is base64")?;
        Signer::new(&self.account, key).sign(&mut request, SystemTime::now())?;
        let status = plain_client().execute(request).await?.status();
        ensure!(status.is_success(), "Azurite did not create the container: {status}");
        Ok(())
    }

    /// Waits until a blob would survive a crash. Its bytes are on the disk at once, but the indexes that name
    /// them are saved at intervals.
    ///
    /// # Errors
    /// Azurite does not save the index in time.
    pub async fn saved(&self, blob: &str) -> Result<()> {
        let end = Instant::now() + SAVED_BOUND;
        while !self.has_saved(blob).unwrap_or_default() {
            ensure!(Instant::now() < end, "Azurite did not save {blob} within {SAVED_BOUND:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether the index of blobs contains the blob, and the index of extents the extent of its bytes.
    fn has_saved(&self, blob: &str) -> Result<bool> {
        let index = |name: &str| Ok::<_, anyhow::Error>(std::fs::read(self.folder.path().join(name))?);
        let blobs: Value = serde_json::from_slice(&index("__azurite_db_blob__.json")?)?;
        let mut documents = blobs["collections"].as_array().into_iter().flatten();
        let documents = documents.find(|collection| collection["name"] == "$BLOBS_COLLECTION$");
        let mut documents = documents.and_then(|found| found["data"].as_array()).into_iter().flatten();
        let found = documents.find(|document| document["name"] == blob && document["isCommitted"] == true);
        let Some(extent) = found.and_then(|found| found["persistency"]["id"].as_str()) else {
            return Ok(false);
        };
        let extents = String::from_utf8(index("__azurite_db_blob_extent__.json")?)?;
        Ok(extents.contains(extent))
    }

    /// Runs `interop/azure_sdk.py`, which uses Microsoft's SDK, with `arguments` and `input`. Returns its
    /// output.
    ///
    /// # Errors
    /// The SDK is not installed, or the script fails.
    pub async fn sdk(&self, arguments: &[&str], input: &[u8]) -> Result<Bytes> {
        let file = self.folder.path().join(format!("input-{:016x}", fastrand::u64(..)));
        std::fs::write(&file, input)?;
        let output = self.sdk_program(arguments)?.stdin(&file)?.output(SDK_BOUND).await;
        std::fs::remove_file(&file)?;
        output
    }

    fn sdk_program(&self, arguments: &[&str]) -> Result<Program> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/azure_sdk.py");
        let python: PathBuf = tools().join("python/bin/python");
        Ok(Program::at(&python)?
            .arg(script)
            .args(arguments)
            .env("AZURE_URL", self.endpoint())
            .env("AZURE_CONTAINER", &self.container)
            .env("AZURE_ACCOUNT", &self.account)
            .env("AZURE_KEY", &self.key))
    }
}
