//! A zone whose store is a real server, behind a fault proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;

use anyhow::Result;

use super::bucket::Bucket;
use super::front::Front;
use super::radosgw::RadosGw;
use super::seaweed::SeaweedFs;
use crate::proxy::Proxy;
use crate::zone::Location;

/// Quay's `storage_path` of these zones.
const STORAGE_PATH: &str = "/datastorage/registry";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ceph's RADOS gateway; what is stopped or suspended is the gateway's process.
    RadosGw,
    /// SeaweedFS, a single process.
    SeaweedFs,
}

/// A real store that serves one zone. Dropping it takes its data along.
#[derive(Debug)]
pub struct RealZone {
    location: Location,
    line: Proxy,
    store: Store,
}

#[derive(Debug)]
enum Store {
    RadosGw(Box<RadosGw>),
    SeaweedFs(Box<SeaweedFs>),
}

impl RealZone {
    /// A zone called `name` with an empty bucket, reached through its line.
    ///
    /// # Errors
    /// The server is not installed or does not start.
    pub async fn start(name: &str, kind: Kind) -> Result<Self> {
        let store = match kind {
            Kind::RadosGw => Store::RadosGw(Box::new(RadosGw::start(name).await?)),
            Kind::SeaweedFs => Store::SeaweedFs(Box::new(SeaweedFs::start(name).await?)),
        };
        let bucket = store.bucket();
        let line = Proxy::start(store.address())?;
        let location = Location {
            name: name.to_owned(),
            address: line.address(),
            bucket: bucket.name.clone(),
            storage_path: STORAGE_PATH.to_owned(),
            access_key: bucket.access_key.clone(),
            secret_key: bucket.secret_key.clone(),
        };
        Ok(Self { location, line, store })
    }

    /// The same reached past its line, so that clients see what becomes of the server itself.
    #[must_use]
    pub fn reached_directly(mut self) -> Self {
        self.location.address = self.store.address();
        self
    }

    /// Its line, and the faults on it.
    #[must_use]
    pub fn line(&self) -> &Proxy {
        &self.line
    }

    /// The server's process, which can be killed and suspended.
    pub fn front(&mut self) -> &mut Front {
        match &mut self.store {
            Store::RadosGw(server) => &mut server.front,
            Store::SeaweedFs(server) => &mut server.front,
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
