//! A store as Quay's `DISTRIBUTED_STORAGE_CONFIG` describes it: `[Driver, {parameters}]`.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};

use crate::fs::{self, FsConfig, FsStore};
use crate::nearest::nearest;
use crate::params::{Params, ParamsOf, Reason};
use crate::s3::{self, S3Config, S3Store};
use crate::swift::{self, SwiftConfig, SwiftStore};
use crate::{Result, Store, Transport};

/// One entry of `DISTRIBUTED_STORAGE_CONFIG`, checked: `[Driver, {parameters}]`.
///
/// Unknown parameters are refused, as Quay's own Python constructors refuse them. Errors name
/// parameters and never their values; whoever reads YAML keeps its parser from quoting the text.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    driver: &'static str,
    store: Protocol,
}

#[derive(Debug, Clone)]
enum Protocol {
    S3(Box<S3Config>),
    Fs(FsConfig),
    Swift(Box<SwiftConfig>),
}

struct Driver {
    name: &'static str,
    params: &'static [&'static str],
    read: fn(&mut Params) -> Result<Protocol, Reason>,
}

const DRIVERS: &[Driver] = &[
    Driver { name: "S3Storage", params: s3::S3_STORAGE, read: |p| S3Config::s3_storage(p).map(Protocol::s3) },
    Driver {
        name: "RadosGWStorage",
        params: s3::RADOS_GW,
        read: |p| S3Config::with_hostname(p).map(Protocol::s3),
    },
    Driver {
        name: "RHOCSStorage",
        params: s3::RADOS_GW,
        read: |p| S3Config::with_hostname(p).map(Protocol::s3),
    },
    Driver {
        name: "IBMCloudStorage",
        params: s3::IBM_CLOUD,
        read: |p| S3Config::with_hostname(p).map(Protocol::s3),
    },
    Driver {
        name: "GoogleCloudStorage",
        params: s3::GOOGLE_CLOUD,
        read: |p| S3Config::google(p).map(Protocol::s3),
    },
    Driver {
        name: "SwiftStorage",
        params: swift::PARAMS,
        read: |p| SwiftConfig::read(p).map(|config| Protocol::Swift(Box::new(config))),
    },
    Driver { name: "LocalStorage", params: fs::PARAMS, read: |p| FsConfig::read(p).map(Protocol::Fs) },
];

/// Quay's other drivers (`storage/__init__.py:STORAGE_DRIVER_CLASSES`).
const NOT_YET: &[&str] = &[
    "AzureStorage",
    "STSS3Storage",
    "CloudFrontedS3Storage",
    "CloudFlareStorage",
    "AkamaiS3Storage",
    "MultiCDNStorage",
];

impl Protocol {
    fn s3(config: S3Config) -> Self {
        Self::S3(Box::new(config))
    }
}

impl StoreConfig {
    /// The driver's name as Quay spells it, such as `RadosGWStorage`.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// What was understood, for an operator: endpoint, bucket, root; never a secret.
    #[must_use]
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        match &self.store {
            Protocol::S3(config) => config.summary(),
            Protocol::Fs(config) => config.summary(),
            Protocol::Swift(config) => config.summary(),
        }
    }

    /// The store itself. Opens no connection.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) where parameters contradict each other.
    pub fn build(&self, transport: &Transport) -> Result<Arc<dyn Store>> {
        Ok(match &self.store {
            Protocol::S3(config) => Arc::new(S3Store::new(config, transport)?),
            Protocol::Fs(config) => Arc::new(FsStore::new(config, transport.timeouts)),
            Protocol::Swift(config) => Arc::new(SwiftStore::new(config, transport)?),
        })
    }
}

impl<'de> Deserialize<'de> for StoreConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Pair)
    }
}

struct Pair;

impl<'de> Visitor<'de> for Pair {
    type Value = StoreConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store in Quay's form, [Driver, {parameters}]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StoreConfig, A::Error> {
        let name: String = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let driver = DRIVERS
            .iter()
            .find(|driver| driver.name == name)
            .ok_or_else(|| A::Error::custom(unknown_driver(&name)))?;
        let mut params = seq
            .next_element_seed(ParamsOf { driver: driver.name, known: driver.params })?
            .ok_or_else(|| A::Error::invalid_length(1, &self))?;
        let store = (driver.read)(&mut params).map_err(A::Error::custom)?;
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(3, &self));
        }
        Ok(StoreConfig { driver: driver.name, store })
    }
}

fn unknown_driver(name: &str) -> Reason {
    let supported: Vec<_> = DRIVERS.iter().map(|driver| driver.name).collect();
    let listed = supported.join(", ");
    if NOT_YET.contains(&name) {
        return format!("{name} is not supported yet; supported are {listed}");
    }
    match nearest(name, supported.iter().chain(NOT_YET).copied()) {
        Some(near) => format!("Quay has no storage driver `{name}`; did you mean `{near}`?"),
        None => format!("Quay has no storage driver `{name}`; supported are {listed}"),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
