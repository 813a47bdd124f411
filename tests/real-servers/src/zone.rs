//! A zone whose store is a real server, behind a fault proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;

use anyhow::Result;

use super::bucket::Bucket;
use super::radosgw::RadosGw;
use super::seaweed::SeaweedFs;
use super::store_process::StoreProcess;
use harness::proxy::Proxy;
use harness::zone::Location;

/// Quay's `storage_path` of these zones.
const STORAGE_PATH: &str = "/datastorage/registry";

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ceph's RADOS gateway. Only the gateway's process is stopped or suspended.
    RadosGw,
    /// SeaweedFS, which is a single process.
    SeaweedFs,
}

/// A real store that serves one zone. Dropping it removes its data.
#[derive(Debug)]
pub struct RealZone {
    location: Location,
    proxy: Proxy,
    store: Store,
}

#[derive(Debug)]
enum Store {
    RadosGw(Box<RadosGw>),
    SeaweedFs(Box<SeaweedFs>),
}

impl RealZone {
    /// Starts a zone named `name` with an empty bucket, behind its fault proxy.
    ///
    /// # Errors
    /// The server is not installed or does not start.
    pub async fn start(name: &str, kind: Kind) -> Result<Self> {
        let store = match kind {
            Kind::RadosGw => Store::RadosGw(Box::new(RadosGw::start(name).await?)),
            Kind::SeaweedFs => Store::SeaweedFs(Box::new(SeaweedFs::start(name).await?)),
        };
        let bucket = store.bucket();
        let proxy = Proxy::start(store.address())?;
        let location = Location {
            name: name.to_owned(),
            address: proxy.address(),
            bucket: bucket.name.clone(),
            storage_path: STORAGE_PATH.to_owned(),
            access_key: bucket.access_key.clone(),
            secret_key: bucket.secret_key.clone(),
        };
        Ok(Self { location, proxy, store })
    }

    /// The same zone without the proxy, so that clients see the server's own failures.
    #[must_use]
    pub fn reached_directly(mut self) -> Self {
        self.location.address = self.store.address();
        self
    }

    /// The fault proxy in front of the store.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The server's process, which can be killed and suspended.
    pub fn process(&mut self) -> &mut StoreProcess {
        match &mut self.store {
            Store::RadosGw(server) => &mut server.process,
            Store::SeaweedFs(server) => &mut server.process,
        }
    }
}

impl Deref for RealZone {
    type Target = Location;

    fn deref(&self) -> &Location {
        &self.location
    }
}

impl Store {
    fn bucket(&self) -> &Bucket {
        match self {
            Self::RadosGw(server) => &server.bucket,
            Self::SeaweedFs(server) => &server.bucket,
        }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.bucket().port))
    }
}
