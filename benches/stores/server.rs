//! The servers, with the settings of both sides.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use backends::{Store, StoreConfig, Timeouts};
use benches::rclone::S3_FLAGS;
use real_servers::{Bucket, Keystone, RadosGw, SeaweedFs, Swift, SwiftOptions, plain_transport};
use serde_json::Value;

use crate::arguments::Server;
use crate::rclone::Remote;

/// The root of all keys.
const ROOT: &str = "bench";

/// A running server.
#[derive(Debug)]
pub(crate) struct Running {
    /// The name in the table.
    pub(crate) name: &'static str,
    /// The settings for rclone.
    pub(crate) remote: Remote,
    /// Whether the ETag of an object that was written in parts is not its MD5, as in S3.
    pub(crate) hides_md5_of_parts: bool,
    zone: Value,
    process: Process,
}

#[derive(Debug)]
enum Process {
    RadosGw(Box<RadosGw>),
    SeaweedFs(#[expect(dead_code, reason = "runs until it is dropped")] Box<SeaweedFs>),
    Swift(#[expect(dead_code, reason = "runs until it is dropped")] Box<Swift>),
}

impl Running {
    /// Starts the server.
    pub(crate) async fn start(server: Server) -> Result<Self> {
        Ok(match server {
            Server::Radosgw => {
                let server = RadosGw::start("bench").await?;
                let bucket = server.bucket.clone();
                Self::s3("RadosGW", "Ceph", &bucket, Process::RadosGw(Box::new(server)))
            }
            Server::Seaweedfs => {
                let server = SeaweedFs::start("bench").await?;
                let bucket = server.bucket.clone();
                Self::s3("SeaweedFS", "SeaweedFS", &bucket, Process::SeaweedFs(Box::new(server)))
            }
            Server::Swift => Self::swift(Swift::with_keystone("bench", SwiftOptions::default()).await?)?,
        })
    }

    fn swift(server: Swift) -> Result<Self> {
        let keystone = server.keystone.as_ref().context("Swift without Keystone")?;
        let settings = vec![
            ("TYPE", "swift".to_owned()),
            ("AUTH_VERSION", "3".to_owned()),
            ("AUTH", format!("{}/v3", keystone.url())),
            ("USER", Keystone::USER.to_owned()),
            ("KEY", Keystone::PASSWORD.to_owned()),
            ("DOMAIN", "Default".to_owned()),
            ("TENANT", Keystone::PROJECT.to_owned()),
            ("TENANT_DOMAIN", "Default".to_owned()),
            ("REGION", Keystone::REGION.to_owned()),
        ];
        Ok(Self {
            name: "Swift",
            remote: Remote { settings, flags: &[], root: format!("{}/{ROOT}", server.container.name) },
            hides_md5_of_parts: false,
            zone: server.container.as_zone(&format!("/{ROOT}")),
            process: Process::Swift(Box::new(server)),
        })
    }

    fn s3(name: &'static str, provider: &str, bucket: &Bucket, process: Process) -> Self {
        let settings = vec![
            ("TYPE", "s3".to_owned()),
            ("PROVIDER", provider.to_owned()),
            ("ENDPOINT", format!("http://127.0.0.1:{}", bucket.port)),
            ("REGION", Bucket::REGION.to_owned()),
            ("ACCESS_KEY_ID", bucket.access_key.clone()),
            ("SECRET_ACCESS_KEY", bucket.secret_key.clone()),
        ];
        let remote = Remote { settings, flags: S3_FLAGS, root: format!("{}/{ROOT}", bucket.name) };
        Self {
            name,
            remote,
            hides_md5_of_parts: true,
            zone: bucket.as_zone(bucket.port, &format!("/{ROOT}")),
            process,
        }
    }

    /// A new driver without connections and login, like that of a gateway that has just started.
    pub(crate) fn store(&self) -> Result<Arc<dyn Store>> {
        let config: StoreConfig = serde_json::from_value(self.zone.clone())?;
        Ok(config.build(&plain_transport(Timeouts::default()))?)
    }

    /// Makes the server free the space of removed objects.
    pub(crate) async fn collect_garbage(&self) -> Result<()> {
        match &self.process {
            Process::RadosGw(server) => server.collect_garbage().await,
            Process::SeaweedFs(_) | Process::Swift(_) => Ok(()),
        }
    }
}
