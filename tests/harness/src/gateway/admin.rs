//! What the admin API says.

use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{Gateway, POLL, START};

impl Gateway {
    /// The admin API's status of zones, cache and copies.
    ///
    /// # Errors
    /// The admin API does not answer.
    pub async fn status(&self) -> Result<Value> {
        self.shown("/status").await
    }

    /// The admin API's report on the zones.
    ///
    /// # Errors
    /// The admin API does not answer.
    pub async fn zones(&self) -> Result<Value> {
        self.shown("/zones").await
    }

    /// The metrics as text.
    ///
    /// # Errors
    /// The admin API does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("http://{}/metrics", self.admin_address());
        Ok(crate::http_client()?.get(url).send().await?.text().await?)
    }

    /// Waits until the gateway has the keys of the registry, so that it verifies tokens.
    ///
    /// # Errors
    /// It has none in time.
    pub async fn verifies_tokens(&self) -> Result<()> {
        let deadline = Instant::now() + START;
        while self.metric("quay_gateway_token_keys").await? < 1.0 {
            if Instant::now() > deadline {
                bail!("the gateway has no token keys: {}", self.log());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The value of a metric. `name` includes its labels as they are written. 0 if there is none.
    ///
    /// # Errors
    /// The admin API does not answer.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        Ok(value.unwrap_or_default())
    }

    async fn shown(&self, path: &str) -> Result<Value> {
        let url = format!("http://{}{path}", self.admin_address());
        let answer = crate::http_client()?.get(url).send().await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }
}
