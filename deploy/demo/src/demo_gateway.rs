//! The gateway in this process. It uses a configuration file like any other gateway.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use harness::port::Port;
use harness::site::Site;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The size of the cache: enough for the whole image.
const CACHE_SIZE: &str = "1GiB";
const CACHE_RESERVE: &str = "16MiB";

/// A gateway on ports that stay the same over restarts. Dropping it stops it.
pub(crate) struct DemoGateway {
    dir: PathBuf,
    listen: Port,
    admin: Port,
    /// The configuration without `cache`.
    config: Value,
    /// The number of cache folders so far.
    caches: usize,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl DemoGateway {
    /// Starts the gateway in front of `site`, with its files in `dir`.
    pub(crate) async fn start(dir: PathBuf, site: &Site) -> Result<Self> {
        std::fs::create_dir_all(dir.join("state"))?;
        std::fs::write(dir.join("quay.yaml"), serde_json::to_string_pretty(&site.quay.config())?)?;
        let (listen, admin) = (Port::free()?, Port::free()?);
        let config = site.gateway_config(&json!({
            "listen": listen.address().to_string(),
            "hostname": format!("localhost:{}", listen.address().port()),
            "state_dir": "state",
            "offline": { "max_age": "1h" },
            "admin": { "listen": admin.address().to_string() },
        }));
        let stop = CancellationToken::new();
        let task = run(&dir, &config, 0, stop.clone()).await?;
        Ok(Self { dir, listen, admin, config, caches: 1, stop, task })
    }

    /// Stops the gateway, removes its cache, and starts it again.
    pub(crate) async fn restart_empty(&mut self) -> Result<()> {
        self.stop.cancel();
        (&mut self.task).await.context("the gateway did not stop cleanly")?;
        std::fs::remove_dir_all(self.dir.join(cache(self.caches - 1)))?;
        self.stop = CancellationToken::new();
        self.task = run(&self.dir, &self.config, self.caches, self.stop.clone()).await?;
        self.caches += 1;
        Ok(())
    }

    /// The host name and port that clients use.
    pub(crate) fn hostname(&self) -> String {
        format!("localhost:{}", self.listen.address().port())
    }

    /// The URL of the admin API's status.
    pub(crate) fn admin(&self) -> String {
        format!("http://{}/status", self.admin.address())
    }

    /// The CA that the gateway created, as PEM.
    pub(crate) fn authority(&self) -> Result<String> {
        std::fs::read_to_string(self.dir.join("state/ca.pem")).context("cannot read the gateway's CA")
    }
}

impl Drop for DemoGateway {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

fn cache(number: usize) -> String {
    format!("cache-{number}")
}

/// Writes the configuration and starts a gateway with it.
async fn run(dir: &Path, config: &Value, number: usize, stop: CancellationToken) -> Result<JoinHandle<()>> {
    let mut config = config.clone();
    config["cache"] = json!({ "dir": cache(number), "size": CACHE_SIZE, "reserve": CACHE_RESERVE });
    let file = dir.join("gateway.yaml");
    // JSON is YAML.
    std::fs::write(&file, serde_json::to_string_pretty(&config)?)?;
    let settings = config::load_with(&file, std::iter::empty())?;
    let app = gateway::App::bind(settings).await.context("the gateway does not start")?;
    Ok(tokio::spawn(app.run(stop)))
}
