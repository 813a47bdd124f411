//! Everything that runs in the demo: the zones, the stand-in for Quay, the gateway, and the clients.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use harness::client::Client;
use harness::quay::Options;
use harness::site::{LOGIN, Site, ZONES};
use harness::zone::Zone;

use crate::demo_gateway::DemoGateway;

/// The server that a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The gateway.
    Gateway,
    /// Quay itself, and the store to which it redirects.
    QuayOnly,
}

/// Everything that runs. Dropping it stops everything.
pub(crate) struct Fixture {
    pub(crate) gateway: DemoGateway,
    pub(crate) site: Site,
    folder: PathBuf,
}

impl Fixture {
    /// Starts everything, with files in `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let site = Site::with(&ZONES, Options::default())?;
        let gateway = DemoGateway::start(folder.join("gateway"), &site).await?;
        let fixture = Self { gateway, site, folder: folder.to_owned() };
        fixture.write_trust()?;
        Ok(fixture)
    }

    /// A new client without a token and without a connection.
    pub(crate) fn client(&self, side: Side) -> Result<Client> {
        match side {
            Side::Gateway => {
                let base = format!("https://{}", self.gateway.hostname());
                Client::new(&base, &[&self.gateway.authority()?], LOGIN)
            }
            Side::QuayOnly => Client::new(&self.site.quay.url(), &[], LOGIN),
        }
    }

    /// The zone to which Quay writes, and which is nearest to the gateway.
    pub(crate) fn home(&self) -> &Zone {
        &self.site.zones[0]
    }

    /// The target zones of copies.
    pub(crate) fn others(&self) -> &[Zone] {
        &self.site.zones[1..]
    }

    /// The name of the zone at an address.
    pub(crate) fn zone_at(&self, address: &str) -> Option<&str> {
        let found = self.site.zones.iter().find(|zone| zone.location().address.to_string() == address);
        found.map(|zone| zone.location().name.as_str())
    }

    /// Stops the home zone: new connections are refused, and open ones are cut.
    pub(crate) async fn kill_home(&self) {
        self.home().proxy().down().await;
    }

    /// Starts the home zone again, with its objects.
    pub(crate) async fn revive_home(&self) {
        self.home().proxy().heal().await;
    }

    /// The folder for `--cert-dir` of podman and skopeo, with the layout of `/etc/containers/certs.d`.
    pub(crate) fn trust(&self) -> PathBuf {
        self.folder.join("certs.d").join(self.gateway.hostname())
    }

    fn write_trust(&self) -> Result<()> {
        let folder = self.trust();
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("ca.crt"), self.gateway.authority()?)
            .context("cannot write the CA for clients")
    }
}
