//! OpenStack Swift (PyPI `swift`): one proxy, one copy of everything, and its memcached.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::bucket::Bucket;
use super::container::{Container, SwiftLogin};
use super::keystone::Keystone;
use super::ports::free_port;
use super::process::{Program, ServerProcess};
use super::store_process::StoreProcess;
use super::swift_conf::{self, Users};

const COMMAND_BOUND: Duration = Duration::from_secs(60);
/// The timeout until a server behind the proxy listens.
const START_BOUND: Duration = Duration::from_secs(60);
const ACCOUNT: &str = "registry";
const USER: &str = "quay";
const KEY: &str = "quay-key";
/// Swift reads its limits when it is imported, from `/etc/swift` and not from `swift_dir`. They are therefore
/// read again before another module copies them.
const SERVE: &str = "import importlib, os, sys
from swift.common import constraints, utils
utils.set_swift_dir(os.path.dirname(sys.argv[1]))
constraints.reload_constraints()
module = sys.argv.pop()
sys.exit(importlib.import_module('swift.%s.server' % module).main())";

/// The options of a Swift besides its addresses.
#[derive(Debug, Clone, Copy)]
pub struct SwiftOptions {
    /// The largest object that one request can write, in bytes. `/info` reports it.
    pub max_file_size: u64,
    /// The region in the signatures for the S3 interface.
    pub region: &'static str,
}

impl Default for SwiftOptions {
    /// Swift's own limit, 5 GiB and 2 bytes, and S3's first region.
    fn default() -> Self {
        Self { max_file_size: 5_368_709_122, region: "us-east-1" }
    }
}

/// A Swift with one container.
#[derive(Debug)]
pub struct Swift {
    /// The container.
    pub container: Container,
    /// The proxy's process, which can be stopped and suspended.
    pub process: StoreProcess,
    port: u16,
    region: &'static str,
    /// Keystone, if it has the users.
    pub keystone: Option<Keystone>,
    _servers: [ServerProcess; 4],
    _folder: TempDir,
}

impl Swift {
    /// Starts a Swift with its own users (`tempauth`, protocol v1) and the S3 interface (`s3api`).
    ///
    /// # Errors
    /// Swift is not installed or does not start.
    pub async fn with_own_users(container: &str, options: SwiftOptions) -> Result<Self> {
        let port = free_port();
        let (process, servers, folder) =
            start(port, &Users::Own { account: ACCOUNT, user: USER, key: KEY }, options).await?;
        let login = SwiftLogin::V1 {
            url: format!("http://127.0.0.1:{port}/auth/v1.0"),
            user: format!("{ACCOUNT}:{USER}"),
            key: KEY.to_owned(),
        };
        let container = Container::create(login, container).await?;
        Ok(Self {
            container,
            process,
            port,
            region: options.region,
            keystone: None,
            _servers: servers,
            _folder: folder,
        })
    }

    /// Starts a Swift and a Keystone that has its users.
    ///
    /// # Errors
    /// Swift or Keystone is not installed or does not start.
    pub async fn with_keystone(container: &str, options: SwiftOptions) -> Result<Self> {
        let port = free_port();
        let keystone = Keystone::start(port).await?;
        let users = Users::Keystone { url: format!("{}/v3", keystone.url()) };
        let (process, servers, folder) = start(port, &users, options).await?;
        let storage_url = format!("http://127.0.0.1:{port}/v1/AUTH_{}", keystone.project_id);
        let container =
            Container::create(SwiftLogin::V3 { url: keystone.url(), storage_url }, container).await?;
        Ok(Self {
            container,
            process,
            port,
            region: options.region,
            keystone: Some(keystone),
            _servers: servers,
            _folder: folder,
        })
    }

    /// Creates a bucket of the S3 interface. Only a Swift with its own users has that interface.
    ///
    /// # Errors
    /// Swift refuses.
    pub async fn bucket(&self, name: &str) -> Result<Bucket> {
        let (name, access_key, secret_key) = (name.to_owned(), format!("{ACCOUNT}:{USER}"), KEY.to_owned());
        Bucket { port: self.port, name, access_key, secret_key, region: self.region }.made().await
    }
}

async fn start(
    port: u16,
    users: &Users<'_>,
    options: SwiftOptions,
) -> Result<(StoreProcess, [ServerProcess; 4], TempDir)> {
    let temporary = tempfile::Builder::new().prefix("swift-").tempdir()?;
    let folder = temporary.path();
    std::fs::create_dir_all(folder.join("devices/d"))?;
    std::fs::write(folder.join("swift.conf"), swift_conf::common(options.max_file_size))?;
    let memory = free_port();
    let memcached = Program::find("memcached")?
        .args(["-u", "nobody", "-l", "127.0.0.1", "-m", "64", "-p", &memory.to_string()])
        .serve(folder)?;
    let (object, container, account) = tokio::try_join!(
        storage(folder, "object"),
        storage(folder, "container"),
        storage(folder, "account")
    )?;
    let file = folder.join("proxy-server.conf");
    std::fs::write(&file, swift_conf::proxy(folder, port, memory, users, options.region))?;
    let program = server("proxy", "proxy", &file)?;
    let url = format!("http://127.0.0.1:{port}/healthcheck");
    let process = StoreProcess::start(program, folder, url, &[200]).await?;
    Ok((process, [memcached, object, container, account], temporary))
}

/// Starts one of the servers behind the proxy, and writes the ring that names it.
async fn storage(folder: &Path, role: &str) -> Result<ServerProcess> {
    let port = free_port();
    let builder = folder.join(format!("{role}.builder"));
    let device = format!("r1z1-127.0.0.1:{port}/d");
    for command in [&["create", "4", "1", "1"][..], &["add", &device, "1"], &["rebalance"]] {
        Program::find("swift-ring-builder")?.arg(&builder).args(command).run(COMMAND_BOUND).await?;
    }
    let file = folder.join(format!("{role}-server.conf"));
    std::fs::write(&file, swift_conf::storage(folder, role, port))?;
    let module = if role == "object" { "obj" } else { role };
    let mut server = server(role, module, &file)?.serve(folder)?;
    // The proxy answers before these servers listen, and would refuse requests.
    let listens = || async { TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() };
    server.ready(START_BOUND, listens).await?;
    Ok(server)
}

/// A server of Swift: `swift.<module>.server` with its configuration.
fn server(role: &str, module: &str, file: &Path) -> Result<Program> {
    let program = Program::python("openstack")?.named(&format!("swift-{role}-server"));
    Ok(program.args(["-c", SERVE]).arg(file).arg(module))
}
