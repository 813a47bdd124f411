//! A Ceph cluster with one node: a monitor, one OSD in memory, and a RADOS gateway.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::bucket::Bucket;
use super::container::{Container, SwiftLogin};
use super::ports::free_port;
use super::process::{Program, ServerProcess};
use super::store_process::StoreProcess;

const START_BOUND: Duration = Duration::from_secs(60);
const COMMAND_BOUND: Duration = Duration::from_secs(60);
const ACCESS_KEY: &str = "radosgwaccess0000001";
const SECRET_KEY: &str = "radosgwsecret00000000000000000000000001";
const SUBUSER: &str = "registry:swift";
const SWIFT_KEY: &str = "radosgwswift";
const FSID: &str = "5b2f0a4e-6c57-4d0e-9a55-0f6c5e3d9b11";
const OSD_UUID: &str = "0c4fb0de-9f1b-4a6e-8a0a-4f4c1f6e7a22";

/// A RADOS gateway with one user, one bucket, and one container of its Swift interface.
#[derive(Debug)]
pub struct RadosGw {
    /// The bucket.
    pub bucket: Bucket,
    /// The RADOS gateway's process, which can be stopped and suspended.
    pub process: StoreProcess,
    port: u16,
    // The processes that the RADOS gateway needs. They are dropped after it.
    _osd: ServerProcess,
    _monitor: ServerProcess,
    folder: TempDir,
}

impl RadosGw {
    /// Starts the cluster and creates the user and the bucket.
    ///
    /// # Errors
    /// Ceph is not installed or does not start.
    pub async fn start(bucket: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ceph-").tempdir()?;
        let ceph = Ceph {
            folder: folder.path(),
            monitors: format!("[v2:127.0.0.1:{},v1:127.0.0.1:{}]", free_port(), free_port()),
        };
        let port = free_port();
        std::fs::create_dir(folder.path().join("mon"))?;
        std::fs::create_dir(folder.path().join("osd"))?;
        std::fs::write(folder.path().join("ceph.conf"), ceph.configuration(port)?)?;
        let monitor = ceph.monitor().await?;
        let mut osd = ceph.osd().await?;
        osd.ready(START_BOUND, || async {
            ceph.admin(&["osd", "stat"]).await.is_ok_and(|stat| stat.contains("1 up"))
        })
        .await?;
        let program = ceph.program("radosgw")?.args(["-n", "client.rgw.a", "-f"]);
        let url = format!("http://127.0.0.1:{port}/");
        let (process, users) =
            tokio::join!(StoreProcess::start(program, folder.path(), url, &[200]), ceph.create_users());
        users?;
        let process = process?;
        let bucket = Bucket::create(port, bucket, ACCESS_KEY, SECRET_KEY).await?;
        Ok(Self { bucket, process, port, _osd: osd, _monitor: monitor, folder })
    }

    /// Creates a container of the Swift interface (protocol v1). Containers and buckets are the same for
    /// RadosGW.
    ///
    /// # Errors
    /// RadosGW refuses.
    pub async fn container(&self, name: &str) -> Result<Container> {
        let login = SwiftLogin::V1 {
            url: format!("http://127.0.0.1:{}/auth/v1.0", self.port),
            user: SUBUSER.to_owned(),
            key: SWIFT_KEY.to_owned(),
        };
        Container::create(login, name).await
    }

    /// Restarts the RADOS gateway with a clock that is `ahead` seconds ahead.
    ///
    /// # Errors
    /// libfaketime is not installed, or the RADOS gateway does not start.
    pub async fn set_clock(&mut self, ahead: i32) -> Result<()> {
        ensure!(Path::new(FAKETIME).is_file(), "{FAKETIME} is not installed: run tests/run --install-only");
        // Waits use the monotonic clock, which does not change.
        let ahead = format!("{ahead:+}");
        let variables =
            [("LD_PRELOAD", FAKETIME), ("FAKETIME", &ahead), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        self.process.restart_with(&variables).await
    }

    /// Removes the remains of deleted objects now. Otherwise they stay in memory for two hours.
    ///
    /// # Errors
    /// The removal does not end within 60 s.
    pub async fn collect_garbage(&self) -> Result<()> {
        let program = Program::find("radosgw-admin")?.arg("-c").arg(self.folder.path().join("ceph.conf"));
        program
            .args(["-n", "client.admin", "gc", "process", "--include-all"])
            .run(COMMAND_BOUND)
            .await
            .map(drop)
    }
}

/// Debian's `libfaketime` for programs with threads.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The cluster's folder and addresses.
struct Ceph<'a> {
    folder: &'a Path,
    monitors: String,
}

impl Ceph<'_> {
    fn program(&self, name: &str) -> Result<Program> {
        Ok(Program::find(name)?.arg("-c").arg(self.folder.join("ceph.conf")))
    }

    async fn admin(&self, command: &[&str]) -> Result<String> {
        self.program("ceph")?.args(["--connect-timeout", "20"]).args(command).run(COMMAND_BOUND).await
    }

    /// Creates the S3 user, and its Swift subuser.
    async fn create_users(&self) -> Result<()> {
        let admin = || self.program("radosgw-admin").map(|program| program.args(["-n", "client.admin"]));
        admin()?
            .args(["user", "create", "--uid=registry", "--display-name=registry"])
            .args([format!("--access-key={ACCESS_KEY}"), format!("--secret-key={SECRET_KEY}")])
            .run(COMMAND_BOUND)
            .await?;
        admin()?
            .args(["subuser", "create", "--uid=registry", "--access=full", "--key-type=swift"])
            .args([format!("--subuser={SUBUSER}"), format!("--secret-key={SWIFT_KEY}")])
            .run(COMMAND_BOUND)
            .await
            .map(drop)
    }

    async fn monitor(&self) -> Result<ServerProcess> {
        let map = self.folder.join("monmap");
        Program::find("monmaptool")?
            .args(["--create", "--clobber", "--fsid", FSID, "--addv", "a", &self.monitors])
            .arg(&map)
            .run(COMMAND_BOUND)
            .await?;
        self.program("ceph-mon")?
            .args(["-i", "a", "--mkfs", "--monmap"])
            .arg(&map)
            .run(COMMAND_BOUND)
            .await?;
        self.program("ceph-mon")?.args(["-i", "a", "-f"]).serve(self.folder)
    }

    async fn osd(&self) -> Result<ServerProcess> {
        self.admin(&["osd", "new", OSD_UUID]).await?;
        self.program("ceph-osd")?
            .args(["-i", "0", "--mkfs", "--osd-uuid", OSD_UUID])
            .run(COMMAND_BOUND)
            .await?;
        self.program("ceph-osd")?.args(["-i", "0", "-f"]).serve(self.folder)
    }

    /// There is no authentication between the daemons and one copy of everything, in memory. Without
    /// `tcp_nodelay`, each answer on a reused connection waits 40 ms for the client's delayed ACK.
    fn configuration(&self, port: u16) -> Result<String> {
        let folder = self.folder.display();
        let mut text = String::new();
        write!(
            text,
            "[global]
fsid = {FSID}
mon initial members = a
mon host = {monitors}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = {folder}
log file = {folder}/$name.ceph.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
mon data = {folder}/mon
osd data = {folder}/osd
{FIXED}
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw dns name = localhost
rgw thread pool size = 64
rgw enable usage log = false
",
            monitors = self.monitors
        )?;
        Ok(text)
    }
}

/// `ms … mode = crc`: with the default mode `secure` and without keys, radosgw hangs for 300 s. `paxos …`
/// shortens the start from 13 s to less than 2 s.
const FIXED: &str = "auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms mon service mode = crc
ms mon cluster mode = crc
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 1
paxos propose interval = 0.05
paxos min wait = 0.01
osd op num shards = 2
osd max object name len = 256
osd max object namespace len = 64
debug rgw = 1";
