//! A complete site: zones, the stand-in for Quay over them, and gateways in front of it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use serde_json::json;
//! use harness::image::Spec;
//! use harness::site::{LOGIN, Site};
//!
//! let site = Site::start()?;
//! let mut gateway = site.gateway(&json!({ "cache": { "size": "1MiB" } })).await?;
//! let client = gateway.client(LOGIN)?;
//! let image = Spec::layers(1, &[300_000, 40]).build()?;
//! client.push("admin/app", "v1", &image).await?;
//! site.zone("zone-a").proxy().down().await;
//! for blob in client.pull("admin/app", "v1").await? {
//!     println!("{} {:?} {:?}", blob.digest, blob.cache_status, blob.total);
//! }
//! gateway.kill();
//! gateway.spawn().await?;
//! # Ok(())
//! # }
//! ```

use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::gateway::{Gateway, overlay};
use crate::quay::{Options, Quay};
use crate::zone::{Location, Zone};

/// The user that owns `admin/*`.
pub const USER: &str = "admin";
/// The user's password.
pub const PASSWORD: &str = "password";
/// The user's login.
pub const LOGIN: Option<(&str, &str)> = Some((USER, PASSWORD));

/// Three zones with the response times of the same rack, a neighbouring city and another continent.
pub const ZONES: [(&str, Duration); 3] = [
    ("zone-a", Duration::from_millis(5)),
    ("zone-b", Duration::from_millis(40)),
    ("zone-c", Duration::from_millis(120)),
];

/// Zones, and the stand-in over them. The first zone is the preferred one. The zones are embedded or real
/// servers.
#[derive(Debug)]
pub struct Site<Z = Zone> {
    /// The stores.
    pub zones: Vec<Z>,
    /// The registry.
    pub quay: Quay,
}

impl Site {
    /// Three zones without latency.
    ///
    /// # Errors
    /// A port or a folder cannot be created.
    pub fn start() -> Result<Self> {
        Self::with(&ZONES.map(|(name, _)| (name, Duration::ZERO)), Options::default())
    }

    /// These zones, and a stand-in with these options.
    ///
    /// # Errors
    /// A port or a folder cannot be created.
    pub fn with(zones: &[(&str, Duration)], options: Options) -> Result<Self> {
        let zones =
            zones.iter().map(|(name, latency)| Zone::start(name, *latency)).collect::<Result<Vec<_>>>()?;
        Self::over(zones, options)
    }
}

impl<Z: Deref<Target = Location>> Site<Z> {
    /// A stand-in with these options, over zones that run already.
    ///
    /// # Errors
    /// A port or a folder cannot be created.
    pub fn over(zones: Vec<Z>, options: Options) -> Result<Self> {
        let locations = zones.iter().map(|zone| Location::clone(zone)).collect();
        let quay = Quay::start(locations, options)?;
        quay.add_user(USER, PASSWORD);
        Ok(Self { zones, quay })
    }

    /// The zone with this name.
    ///
    /// # Panics
    /// There is no such zone.
    #[must_use]
    pub fn zone(&self, name: &str) -> &Z {
        self.zones.iter().find(|zone| zone.name == name).unwrap_or_else(|| panic!("no zone {name}"))
    }

    /// Starts another instance of the same registry, over the same database. It prefers the store of `zone`;
    /// the order of the other zones does not change.
    ///
    /// # Errors
    /// A port or a folder cannot be created.
    ///
    /// # Panics
    /// There is no such zone.
    pub fn instance(&self, zone: &str) -> Result<Quay> {
        let preferred: &Location = self.zone(zone);
        let others = self.zones.iter().map(|zone| &**zone).filter(|other| other.name != zone);
        let zones = [preferred].into_iter().chain(others).cloned().collect();
        let hostname = Some(self.quay.hostname().to_owned());
        let database = Some(self.quay.database());
        Quay::start(zones, Options { hostname, database, ..Options::default() })
    }

    /// The gateway's configuration for this site, with `over` merged into it. It refers to `quay.yaml`, which
    /// contains Quay's [`config`](Quay::config).
    #[must_use]
    pub fn gateway_config(&self, over: &Value) -> Value {
        let mut config =
            json!({ "registry": { "kind": "quay", "url": self.quay.url(), "config": "quay.yaml" } });
        overlay(&mut config, over);
        config
    }

    /// Starts a gateway in front of this site.
    ///
    /// # Errors
    /// The errors of [`Gateway::start`].
    pub async fn gateway(&self, over: &Value) -> Result<Gateway> {
        self.gateway_with(over, &[]).await
    }

    /// Like [`gateway`](Self::gateway), with additional files, such as `ca.pem`, beside the configuration.
    ///
    /// # Errors
    /// The errors of [`Gateway::start`].
    pub async fn gateway_with(&self, over: &Value, files: &[(&str, &str)]) -> Result<Gateway> {
        let quay = serde_json::to_string_pretty(&self.quay.config()).context("Quay's configuration")?;
        let mut all = vec![("quay.yaml", quay.as_str())];
        all.extend_from_slice(files);
        Gateway::start(&self.gateway_config(over), &all).await
    }
}
