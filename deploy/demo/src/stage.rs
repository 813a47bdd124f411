//! All that stands: zones, the stand-in Quay, the gateway, and the clients' ways to them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tests::client::Client;
use tests::quay::Options;
use tests::site::{LOGIN, Site, ZONES};
use tests::zone::Zone;

use crate::running::Running;

/// Whom a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The gateway.
    Gateway,
    /// Quay itself, and the store it points to.
    Alone,
}

/// Everything that runs. Dropping it ends it.
pub(crate) struct Stage {
    pub(crate) gateway: Running,
    pub(crate) site: Site,
    folder: PathBuf,
}

impl Stage {
    /// Starts it all, with files in `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let site = Site::with(&ZONES, Options::default())?;
        let gateway = Running::start(folder.join("gateway"), &site).await?;
        let stage = Self { gateway, site, folder: folder.to_owned() };
        stage.write_trust()?;
        Ok(stage)
    }

    /// A new client, as a new machine is one: no token, no connection.
    pub(crate) fn client(&self, side: Side) -> Result<Client> {
        match side {
            Side::Gateway => {
                let base = format!("https://{}", self.gateway.hostname());
                Client::new(&base, &[&self.gateway.authority()?], LOGIN)
            }
            Side::Alone => Client::new(&self.site.quay.url(), &[], LOGIN),
        }
    }

    /// The zone that Quay writes to and the gateway reads first.
    pub(crate) fn home(&self) -> &Zone {
        &self.site.zones[0]
    }

    /// The zones that copies go to.
    pub(crate) fn others(&self) -> &[Zone] {
        &self.site.zones[1..]
    }

    /// The name of the zone at an address.
    pub(crate) fn zone_at(&self, address: &str) -> Option<&str> {
        let found = self.site.zones.iter().find(|zone| zone.location().address.to_string() == address);
        found.map(|zone| zone.location().name.as_str())
    }

    /// The home zone's host is gone: connections refused, those open cut in mid-byte.
    pub(crate) async fn kill_home(&self) {
        self.home().proxy().down().await;
    }

    /// It is back, with all it held.
    pub(crate) async fn revive_home(&self) {
        self.home().proxy().heal().await;
    }

    /// The folder for `--cert-dir` of podman and skopeo, as it would lie in `/etc/containers`.
    pub(crate) fn trust(&self) -> PathBuf {
        self.folder.join("certs.d").join(self.gateway.hostname())
    }

    fn write_trust(&self) -> Result<()> {
        let folder = self.trust();
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("ca.crt"), self.gateway.authority()?).context("the CA for clients")
    }
}
