//! Real servers and clients: object stores, a registry, and what pushes to it and pulls from it.
//!
//! Each starts on loopback in a temporary folder of its own and is gone when dropped. The programs
//! come from Debian, PyPI and npm; `tests/install` fetches them.

mod azurite;
mod bucket;
mod certificates;
mod container;
mod containerd;
mod front;
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
pub use front::Front;
pub use image_dir::{ImageDir, Packing, Part, Types};
pub use keystone::Keystone;
pub use podman::{Podman, PodmanImage};
pub use ports::free_port;
pub use postgres::{PASSWORD as POSTGRES_PASSWORD, Postgres};
pub use process::{Login, Program, Server};
pub use quay_tables::QuayTables;
pub use radosgw::RadosGw;
pub use redis::{PASSWORD as REDIS_PASSWORD, PythonLock, Redis};
pub use registry::{DockerRegistry, TlsFiles};
pub use seaweed::SeaweedFs;
pub use shapes::{Shape, shapes};
pub use skopeo::Skopeo;
pub use swift::{Swift, SwiftOptions};
pub use token_server::{Access, Account, TokenServer};
pub use transport::plain_transport;
pub use zone::{Kind, RealZone};
