//! The gateway in this process, from a configuration file as any other.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::port::Port;
use tests::site::Site;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Room for the whole image and more.
const CACHE_SIZE: &str = "1GiB";
const CACHE_RESERVE: &str = "16MiB";

/// A gateway on ports that stay the same over restarts. Dropping it stops it.
pub(crate) struct Running {
    dir: PathBuf,
    listen: Port,
    admin: Port,
    /// The configuration without its cache.
    config: Value,
    /// Caches so far.
    caches: usize,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts it before `site`, with its files in `dir`.
    pub(crate) async fn start(dir: PathBuf, site: &Site) -> Result<Self> {
        std::fs::create_dir_all(dir.join("state"))?;
        std::fs::write(dir.join("quay.yaml"), serde_json::to_string_pretty(&site.quay.config())?)?;
        let (listen, admin) = (Port::free()?, Port::free()?);
        let config = site.gateway_config(&json!({
            "listen": listen.address().to_string(),
            "hostname": format!("localhost:{}", listen.address().port()),
            "state_dir": "state",
            "admin": { "listen": admin.address().to_string() },
        }));
        let stop = CancellationToken::new();
        let task = run(&dir, &config, 0, stop.clone()).await?;
        Ok(Self { dir, listen, admin, config, caches: 1, stop, task })
    }

    /// Stops it, takes its cache away, and starts it again.
    pub(crate) async fn restart_empty(&mut self) -> Result<()> {
        self.stop.cancel();
        (&mut self.task).await.context("the gateway's end")?;
        std::fs::remove_dir_all(self.dir.join(cache(self.caches - 1)))?;
        self.stop = CancellationToken::new();
        self.task = run(&self.dir, &self.config, self.caches, self.stop.clone()).await?;
        self.caches += 1;
        Ok(())
    }

    /// What clients dial.
    pub(crate) fn hostname(&self) -> String {
        format!("localhost:{}", self.listen.address().port())
    }

    /// Where operators look.
    pub(crate) fn admin(&self) -> String {
        format!("http://{}/status", self.admin.address())
    }

    /// The authority that it made, PEM.
    pub(crate) fn authority(&self) -> Result<String> {
        std::fs::read_to_string(self.dir.join("state/ca.pem")).context("the gateway's CA")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

fn cache(number: usize) -> String {
    format!("cache-{number}")
}

/// Writes the configuration and runs a gateway by it.
async fn run(dir: &Path, config: &Value, number: usize, stop: CancellationToken) -> Result<JoinHandle<()>> {
    let mut config = config.clone();
    config["cache"] = json!({ "dir": cache(number), "size": CACHE_SIZE, "reserve": CACHE_RESERVE });
    let file = dir.join("gateway.yaml");
    // JSON is YAML.
    std::fs::write(&file, serde_json::to_string_pretty(&config)?)?;
    let settings = config::load_with(&file, std::iter::empty())?;
    let app = gateway::App::bind(settings).await.context("the gateway's start")?;
    Ok(tokio::spawn(app.run(stop)))
}
