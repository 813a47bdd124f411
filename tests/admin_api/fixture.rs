//! A gateway whose commands need a token.

use anyhow::{Context as _, Result};
use harness::gateway::Gateway;
use harness::site::Site;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct AdminApi {
    pub(crate) gateway: Gateway,
    client: reqwest::Client,
    _site: Site,
}

impl AdminApi {
    pub(crate) async fn start() -> Result<Self> {
        let site = Site::start()?;
        let admin = json!({"admin": {"token_file": "token"}});
        let gateway = site.gateway_with(&admin, &[("token", TOKEN)]).await?;
        Ok(Self { gateway, client: harness::http_client()?, _site: site })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.admin_address())
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// A command with its header and the token.
    pub(crate) fn command(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path).header("quay-gateway-command", "1").bearer_auth(TOKEN)
    }

    /// The JSON at a path.
    pub(crate) async fn json(&self, path: &str) -> Result<Value> {
        let answer = self.request(Method::GET, path).send().await?.error_for_status()?;
        json_of(answer).await.with_context(|| path.to_owned())
    }

    pub(crate) async fn document(&self) -> Result<Value> {
        self.json("/api/v1/openapi.json").await
    }
}

/// The body of an answer as JSON.
pub(crate) async fn json_of(answer: Response) -> Result<Value> {
    Ok(serde_json::from_str(&answer.text().await?)?)
}
