//! A container of a Swift server. Its client shares no code with the drivers under test.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bucket::CREATE_BOUND;
use super::keystone::{self, Keystone};
use super::process::plain_client;

/// A container, and the login for it.
#[derive(Debug, Clone)]
pub struct Container {
    /// The container's name.
    pub name: String,
    /// The login.
    pub login: SwiftLogin,
}

/// The login at a Swift server.
#[derive(Clone)]
pub enum SwiftLogin {
    /// With Swift's first protocol, at `url`.
    V1 {
        /// The URL, such as `http://127.0.0.1:8080/auth/v1.0`.
        url: String,
        /// The user, `account:user`.
        user: String,
        /// The password.
        key: String,
    },
    /// With Keystone, as [`Keystone::USER`].
    V3 {
        /// Keystone's URL, without a version.
        url: String,
        /// The account's URL in the catalogue.
        storage_url: String,
    },
}

impl std::fmt::Debug for SwiftLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::V1 { url, user, .. } => write!(f, "{user} at {url}"),
            Self::V3 { url, .. } => write!(f, "{} at {url}", Keystone::USER),
        }
    }
}

impl SwiftLogin {
    /// The account's URL and a new token. Some tests let tokens expire, so each call logs in.
    async fn log_in(&self) -> Result<(String, String)> {
        match self {
            Self::V1 { url, user, key } => {
                let request = plain_client().get(url).header("x-auth-user", user).header("x-auth-key", key);
                let answer = request.send().await?;
                let header =
                    |name| Ok::<_, anyhow::Error>(answer.headers().get(name).context("no login")?.to_str()?);
                Ok((header("x-storage-url")?.to_owned(), header("x-auth-token")?.to_owned()))
            }
            Self::V3 { url, storage_url } => {
                let token =
                    keystone::token(url, Keystone::USER, Keystone::PASSWORD, Keystone::PROJECT).await?;
                Ok((storage_url.clone(), token))
            }
        }
    }
}

impl Container {
    /// Creates the container. A Swift that has just started may answer 503 for a while.
    ///
    /// # Errors
    /// The server refuses, or has an error for longer than [`CREATE_BOUND`].
    pub(super) async fn create(login: SwiftLogin, name: &str) -> Result<Self> {
        let container = Self { name: name.to_owned(), login };
        let end = Instant::now() + CREATE_BOUND;
        loop {
            let status = container.send(Method::PUT, "", Bytes::new()).await?.status();
            if status.is_success() {
                return Ok(container);
            }
            let again = status.is_server_error() && Instant::now() < end;
            ensure!(again, "{container:?} was not created: {status}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
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

    /// The prefix of an object's segments in its manifest. `None` if it has no manifest.
    ///
    /// # Errors
    /// The server does not answer 200.
    pub async fn manifest(&self, key: &str) -> Result<Option<String>> {
        let answer = self.send(Method::HEAD, &format!("/{key}"), Bytes::new()).await?;
        ensure!(answer.status() == StatusCode::OK, "{self:?}: HEAD {key}: {}", answer.status());
        let prefix = answer.headers().get("x-object-manifest");
        Ok(prefix.map(|prefix| prefix.to_str().map(str::to_owned)).transpose()?)
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

    /// The names that start with `prefix`, up to the server's page size (10,000).
    ///
    /// # Errors
    /// The server refuses.
    pub async fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let answer = self.send(Method::GET, &format!("?prefix={prefix}"), Bytes::new()).await?;
        ensure!(answer.status().is_success(), "{self:?}: listing: {}", answer.status());
        Ok(answer.text().await?.lines().map(str::to_owned).collect())
    }

    /// Sets the account's key for temporary URLs, and returns the account's URL.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn set_temp_url_key(&self, key: &str) -> Result<String> {
        let (account, token) = self.login.log_in().await?;
        let request = plain_client()
            .post(&account)
            .header("x-auth-token", token)
            .header("x-account-meta-temp-url-key", key)
            .header(CONTENT_LENGTH, 0);
        let status = request.send().await?.status();
        ensure!(status.is_success(), "{self:?}: the key for temporary URLs was not set: {status}");
        Ok(account)
    }

    /// The entry of the container in Quay's `DISTRIBUTED_STORAGE_CONFIG`.
    #[must_use]
    pub fn as_zone(&self, storage_path: &str) -> Value {
        let mut parameters = match &self.login {
            SwiftLogin::V1 { url, user, key } => {
                json!({ "auth_url": url, "auth_version": 1, "swift_user": user, "swift_password": key })
            }
            SwiftLogin::V3 { url, .. } => json!({
                "auth_url": format!("{url}/v3"),
                "auth_version": 3,
                "swift_user": Keystone::USER,
                "swift_password": Keystone::PASSWORD,
                "os_options": {
                    "project_name": Keystone::PROJECT,
                    "project_domain_name": "Default",
                    "user_domain_name": "Default",
                    "region_name": Keystone::REGION,
                },
            }),
        };
        parameters["swift_container"] = json!(self.name);
        parameters["storage_path"] = json!(storage_path);
        json!(["SwiftStorage", parameters])
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<reqwest::Response> {
        let (account, token) = self.login.log_in().await?;
        let request = plain_client()
            .request(method, format!("{account}/{}{path}", self.name))
            .header("x-auth-token", token)
            .header(CONTENT_LENGTH, body.len())
            .body(body);
        Ok(request.send().await?)
    }
}
