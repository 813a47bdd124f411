//! buildah and podman with their own storage, and the image of the gateway in it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::gateway::binary;
use real_servers::{Program, tools};
use serde_json::Value;
use tempfile::TempDir;

use super::root;

/// The image, as podman names it.
pub(super) const IMAGE: &str = "localhost/quay-gateway:latest";
/// A user id of a namespace of OpenShift.
pub(super) const USER: u32 = 1_000_660_000;
/// The base over which the image is built, instead of one from a registry.
const BASE: &str = "localhost/base:latest";
const BOUND: Duration = Duration::from_secs(300);
/// runc, without the limits that podman raises: not every root may raise them.
const RUNTIME: &str = r#"#!/bin/sh
for argument; do
  case $before in
    --bundle) file=$argument/config.json ;;
    --process) file=$argument ;;
    *) file= ;;
  esac
  [ -z "$file" ] || sed -i -E 's/"rlimits":\[[^]]*\]/"rlimits":[]/' "$file"
  before=$argument
done
exec runc "$@"
"#;

/// An engine whose images, containers and volumes are removed when it is dropped.
#[derive(Debug)]
pub(super) struct Engine {
    folder: TempDir,
}

impl Engine {
    /// An engine with the image, built by the Containerfile over a Debian, with the binary under test.
    pub(super) async fn with_image() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("engine-").tempdir()?;
        let engine = Self { folder };
        engine.configure()?;
        engine.build_base().await?;
        engine.build_image().await?;
        Ok(engine)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) -> Result<()> {
        let at = |name: &str| self.at(name).display().to_string();
        std::fs::write(at("runtime"), RUNTIME)?;
        std::fs::set_permissions(at("runtime"), std::fs::Permissions::from_mode(0o755))?;
        let containers = format!(
            "[engine]\nruntime = \"limits\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
             lock_type = \"file\"\ntmp_dir = \"{}\"\n[engine.runtimes]\nlimits = [\"{}\"]\n",
            at("tmp"),
            at("runtime")
        );
        std::fs::write(self.at("containers.conf"), containers)?;
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            at("root"),
            at("runroot")
        );
        Ok(std::fs::write(self.at("storage.conf"), storage)?)
    }

    async fn build_base(&self) -> Result<()> {
        let debian = tools().join("debian");
        ensure!(debian.is_dir(), "{} is missing: run tests/run --install-only", debian.display());
        let file = self.at("Basefile");
        std::fs::write(&file, "FROM scratch\nCOPY . /\n")?;
        self.build(&["--tag", BASE], &file, &debian).await
    }

    async fn build_image(&self) -> Result<()> {
        let context = self.at("context");
        let folder = context.join("rootfs/usr/bin");
        std::fs::create_dir_all(&folder)?;
        Program::find("strip")?.arg("-o").arg(folder.join("quay-gateway")).arg(binary()).run(BOUND).await?;
        let base = format!("RUNTIME_BASE={BASE}");
        let arguments = ["--build-arg", &base, "--build-arg", "BINARY=prebuilt", "--tag", IMAGE];
        self.build(&arguments, &root().join("deploy/Containerfile"), &context).await
    }

    async fn build(&self, arguments: &[&str], file: &Path, context: &Path) -> Result<()> {
        let program = self.program("buildah")?.args(["build", "--quiet", "--isolation", "chroot"]);
        let program = program.args(["--format", "docker", "--pull-never"]).args(arguments);
        program.arg("--file").arg(file).arg(context).run(BOUND).await.map(drop)
    }

    fn program(&self, name: &str) -> Result<Program> {
        let program = Program::find(name)?.env("TMPDIR", self.folder.path());
        let program = program.env("CONTAINERS_STORAGE_CONF", self.at("storage.conf"));
        Ok(program.env("CONTAINERS_CONF", self.at("containers.conf")))
    }

    /// Runs podman and returns what it prints.
    pub(super) async fn podman(&self, arguments: &[&str]) -> Result<String> {
        let printed = self.program("podman")?.args(arguments).run(BOUND).await;
        printed.with_context(|| arguments.join(" "))
    }

    /// What the container has printed, on both streams.
    pub(super) async fn log(&self, container: &str) -> Result<String> {
        let both = self.program("sh")?.args(["-c", "exec podman logs \"$1\" 2>&1", "sh", container]);
        both.run(BOUND).await
    }

    /// What podman knows of a container or an image.
    pub(super) async fn inspect(&self, kind: &str, name: &str) -> Result<Value> {
        let all: Value = serde_json::from_str(&self.podman(&[kind, "inspect", name]).await?)?;
        Ok(all[0].clone())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for arguments in
            [&["pod", "rm", "--all", "--force", "--time=0"][..], &["rm", "--all", "--force", "--time=0"]]
        {
            let mut command = std::process::Command::new("podman");
            command.env("CONTAINERS_STORAGE_CONF", self.at("storage.conf"));
            command.env("CONTAINERS_CONF", self.at("containers.conf")).args(arguments);
            // It complains that there is no systemd for timers of health checks.
            let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}
