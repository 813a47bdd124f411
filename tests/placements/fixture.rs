//! A site with Quay's database and Redis, and the authority over them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use backends::{Digest, Key, StoreConfig, Timeouts};
use harness::gateway::Gateway;
use harness::site::{PASSWORD, Site, USER};
use real_servers::{Postgres, QuayTables, Redis, plain_transport};
use replication::{Authority, Job, Journal, NewJob, Next};
use serde_json::{Value, json};
use zone_router::{Blob, Zone};

pub(crate) const LOCATIONS: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// All parts. Only Quay itself is a stand-in.
pub(crate) struct Fixture {
    pub(crate) site: Site,
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) tables: QuayTables,
}

impl Fixture {
    pub(crate) async fn start() -> Result<Self> {
        let postgres = Postgres::start(None).await?;
        let tables = QuayTables::make(&postgres, &LOCATIONS).await?;
        Ok(Self { site: Site::start()?, redis: Redis::start(None).await?, postgres, tables })
    }

    /// The gateway's configuration with `over` merged into it, and its files.
    pub(crate) fn config(&self, over: &Value) -> (Value, Vec<(&'static str, String)>) {
        let mut config = json!({
            "registry": { "account": { "username": USER, "password_file": "password" } },
            "replication": { "placements": true, "database": self.postgres.url() },
        });
        harness::gateway::overlay(&mut config, over);
        let mut quay = self.site.quay.config();
        quay["USER_EVENTS_REDIS"] = self.redis.quay_entry();
        let files = vec![("quay.yaml", quay.to_string()), ("password", PASSWORD.to_owned())];
        (self.site.gateway_config(&config), files)
    }

    /// A gateway that is not started, for its configuration.
    pub(crate) fn prepared(&self, over: &Value) -> Result<Gateway> {
        let (config, files) = self.config(over);
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        Gateway::prepare(&config, &files)
    }

    /// The connection from copies to Quay.
    pub(crate) async fn authority(&self, over: &Value) -> Result<(Arc<dyn Authority>, Gateway)> {
        let gateway = self.prepared(over)?;
        let settings = config::load(&gateway.config_file())?;
        Ok((gateway::authority(&settings).await?, gateway))
    }

    /// A zone in the form that copies use.
    pub(crate) fn zone(&self, name: &str) -> Result<Zone> {
        let config: StoreConfig = serde_json::from_value(self.site.zone(name).quay_entry())?;
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { connect: second, first_byte: 5 * second, stall: 10 * second };
        Ok(Zone::new(name, config.build(&plain_transport(timeouts))?))
    }
}

/// A blob at Quay's key.
pub(crate) fn blob(digest: Digest) -> Blob {
    let hex = digest.hex();
    Blob { digest, key: Key::new(format!("sha256/{}/{hex}", &hex[..2])) }
}

/// A job in the form that workers get.
pub(crate) async fn job(digest: Digest, target: &str, repositories: &[&str]) -> Result<Job> {
    let folder = tempfile::tempdir()?;
    let journal = Journal::open(&folder.path().join("journal"))?;
    let target: Arc<str> = target.into();
    for repository in repositories {
        journal.add(vec![NewJob::new(blob(digest), Arc::clone(&target), None, repository)]).await?;
    }
    if repositories.is_empty() {
        journal.add(vec![NewJob::new(blob(digest), Arc::clone(&target), None, "")]).await?;
    }
    match journal.claim(&target, 0, Vec::new(), Duration::from_secs(1)).await? {
        Next::Job(job) => Ok(job),
        Next::Wait(_) => None.context("a job"),
    }
}
