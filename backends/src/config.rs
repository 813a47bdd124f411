//! A store as Quay's `DISTRIBUTED_STORAGE_CONFIG` describes it: `[Driver, {parameters}]`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use url::Url;

use crate::azure::{self, AzureConfig, AzureStore};
use crate::fs::{self, FsConfig, FsStore};
use crate::nearest::nearest;
use crate::params::{Params, ParamsOf, Reason};
use crate::s3::{self, S3Config, S3Store};
use crate::swift::{self, SwiftConfig, SwiftStore};
use crate::{Error, Kind, Result, Secret, Store, Transport};

/// One checked entry of `DISTRIBUTED_STORAGE_CONFIG`: `[Driver, {parameters}]`.
///
/// An entry of this form always parses. If its driver or a parameter is not known, the entry is
/// [unusable](StoreConfig::unusable), so that it does not stop the other entries. Reasons and errors name parameters
/// but never contain their values. The caller must keep its YAML parser from quoting the text.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    driver: String,
    /// The parameters that are given, whatever their values.
    given: BTreeMap<String, Secret>,
    store: Protocol,
}

#[derive(Debug, Clone)]
enum Protocol {
    S3(Box<S3Config>, Option<s3::Role>),
    Fs(FsConfig),
    Azure(AzureConfig),
    Swift(Box<SwiftConfig>),
    Unusable(Reason),
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
        name: "AzureStorage",
        params: azure::PARAMS,
        read: |p| AzureConfig::read(p).map(Protocol::Azure),
    },
    Driver {
        name: "STSS3Storage",
        params: s3::STS_S3,
        read: |p| S3Config::sts(p).map(|(config, role)| Protocol::S3(Box::new(config), Some(role))),
    },
    Driver {
        name: "CloudFrontedS3Storage",
        params: s3::CLOUD_FRONT,
        read: |p| {
            let own =
                ["cloudfront_distribution_domain", "cloudfront_key_id", "cloudfront_privatekey_filename"];
            S3Config::behind_cdn(p, &own).map(Protocol::s3)
        },
    },
    Driver {
        name: "CloudFlareStorage",
        params: s3::CLOUD_FLARE,
        read: |p| {
            S3Config::behind_cdn(p, &["cloudflare_domain", "cloudflare_privatekey_filename"])
                .map(Protocol::s3)
        },
    },
    Driver {
        name: "AkamaiS3Storage",
        params: s3::AKAMAI,
        read: |p| S3Config::behind_cdn(p, &["akamai_domain", "akamai_shared_secret"]).map(Protocol::s3),
    },
    Driver {
        name: "MultiCDNStorage",
        params: s3::MULTI_CDN,
        read: |p| S3Config::multi_cdn(p).map(Protocol::s3),
    },
    Driver {
        name: "SwiftStorage",
        params: swift::PARAMS,
        read: |p| SwiftConfig::read(p).map(|config| Protocol::Swift(Box::new(config))),
    },
    Driver { name: "LocalStorage", params: fs::PARAMS, read: |p| FsConfig::read(p).map(Protocol::Fs) },
];

impl Protocol {
    fn s3(config: S3Config) -> Self {
        Self::S3(Box::new(config), None)
    }
}

impl StoreConfig {
    /// The driver's name as Quay spells it, such as `RadosGWStorage`.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Every driver with the parameters that it understands.
    pub fn drivers() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
        DRIVERS.iter().map(|driver| (driver.name, driver.params))
    }

    /// Why the entry cannot be used, or `None` if it can. The text is for the author of the configuration and
    /// suggests the nearest known name.
    #[must_use]
    pub fn unusable(&self) -> Option<&str> {
        match &self.store {
            Protocol::Unusable(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether a parameter is given: it is present and not `null`.
    #[must_use]
    pub fn has(&self, parameter: &str) -> bool {
        self.given.contains_key(parameter)
    }

    /// The parameters as they are given, by name. Any of the values may be a secret, so they serve comparisons only.
    #[must_use]
    pub fn parameters(&self) -> &BTreeMap<String, Secret> {
        &self.given
    }

    /// The URLs that are dialled, in order. Empty for a folder and for an unusable entry.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Url> {
        match &self.store {
            Protocol::S3(config, _) => config.endpoints(),
            Protocol::Azure(config) => vec![config.endpoint.clone()],
            Protocol::Swift(config) => config.endpoints(),
            Protocol::Fs(_) | Protocol::Unusable(_) => Vec::new(),
        }
    }

    /// Where the objects lie: endpoint, bucket and root, or a folder. Two entries with the same location are
    /// the same place. `None` for an unusable entry.
    #[must_use]
    pub fn location(&self) -> Option<String> {
        match &self.store {
            Protocol::S3(config, _) => Some(config.location()),
            Protocol::Azure(config) => Some(config.location()),
            Protocol::Swift(config) => Some(config.location()),
            Protocol::Fs(config) => Some(config.location()),
            Protocol::Unusable(_) => None,
        }
    }

    /// A summary for operators: endpoint, bucket, root. It never contains a secret.
    #[must_use]
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        match &self.store {
            Protocol::S3(config, role) => config.summary(role.as_ref()),
            Protocol::Fs(config) => config.summary(),
            Protocol::Azure(config) => config.summary(),
            Protocol::Swift(config) => config.summary(),
            Protocol::Unusable(reason) => vec![("unusable", reason.clone())],
        }
    }

    /// The transport for this store. If the store has its own root certificates, the transport trusts only
    /// those.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the file of the root certificates cannot be used.
    pub fn trusting(&self, transport: &Transport) -> Result<Transport> {
        match &self.store {
            Protocol::Swift(config) => match &config.ca_file {
                Some(file) => transport.trusting_only(file),
                None => Ok(transport.clone()),
            },
            _ => Ok(transport.clone()),
        }
    }

    /// Builds the store. Opens no connection.
    ///
    /// # Errors
    /// [`Kind::Invalid`] if the entry is unusable, or if its parameters contradict each other.
    pub fn build(&self, transport: &Transport) -> Result<Arc<dyn Store>> {
        Ok(match &self.store {
            Protocol::S3(config, role) => {
                let environment = s3::Environment::of_process();
                Arc::new(S3Store::with_environment(config, role.as_ref(), &environment, transport)?)
            }
            Protocol::Fs(config) => Arc::new(FsStore::new(config, transport.timeouts)),
            Protocol::Azure(config) => Arc::new(AzureStore::new(config, transport)?),
            Protocol::Swift(config) => Arc::new(SwiftStore::new(config, transport)?),
            Protocol::Unusable(reason) => return Err(Error::new(Kind::Invalid, reason)),
        })
    }
}

/// Two entries are equal if the same store is built from them.
impl PartialEq for StoreConfig {
    fn eq(&self, other: &Self) -> bool {
        self.driver == other.driver && self.given == other.given
    }
}

impl Eq for StoreConfig {}

impl<'de> Deserialize<'de> for StoreConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Of anything but a list, the error then says what is expected.
        deserializer.deserialize_any(Pair)
    }
}

struct Pair;

impl<'de> Visitor<'de> for Pair {
    type Value = StoreConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of two, as in Quay: the name of a driver, and a map of its parameters")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StoreConfig, A::Error> {
        let name: String = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let driver = DRIVERS.iter().find(|driver| driver.name == name);
        let params = seq
            .next_element_seed(ParamsOf { driver: driver.map_or("the driver", |driver| driver.name) })?
            .ok_or_else(|| A::Error::invalid_length(1, &self))?;
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(3, &self));
        }
        Ok(parse_entry(name, driver, params))
    }
}

fn parse_entry(name: String, driver: Option<&Driver>, mut params: Params) -> StoreConfig {
    let given = params.given();
    let store = match driver {
        None => Err(unknown_driver(&name)),
        Some(driver) => params.only(driver.params).and_then(|()| (driver.read)(&mut params)),
    };
    let near = || nearest(&name, DRIVERS.iter().map(|driver| driver.name)).is_some();
    let name = if driver.is_some() || near() { name } else { "an unknown driver".to_owned() };
    StoreConfig { driver: name, given, store: store.unwrap_or_else(Protocol::Unusable) }
}

fn unknown_driver(name: &str) -> Reason {
    let supported: Vec<_> = DRIVERS.iter().map(|driver| driver.name).collect();
    let listed = supported.join(", ");
    // The text in the driver's place may be a secret. It is shown only if it is similar to a known driver.
    match nearest(name, supported.iter().copied()) {
        Some(near) => format!("Quay has no storage driver `{name}`; did you mean `{near}`?"),
        None => format!("Quay has no storage driver of this name; supported are {listed}"),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
