//! The packages for Debian and Red Hat: built, installed, removed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use harness::gateway::binary;
use real_servers::{Program, tools};
use tempfile::TempDir;

use super::{BOUND, root};

/// A machine with a small Debian.
#[derive(Debug)]
struct Machine {
    folder: TempDir,
}

impl Machine {
    async fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("machine-").tempdir()?;
        let debian = tools().join("debian");
        ensure!(debian.is_dir(), "{} is missing: run tests/run --install-only", debian.display());
        Program::find("cp")?.arg("--archive").arg(debian.join(".")).arg(folder.path()).run(BOUND).await?;
        Ok(Self { folder })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A program that sees the machine's `/proc`, in a mount namespace of its own.
    fn program(&self, name: &str) -> Result<Program> {
        let program = Program::find("unshare")?.args(["--fork", "--pid"]);
        let program = program.arg(format!("--mount-proc={}", self.at("proc").display())).arg(name);
        Ok(program.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive"))
    }

    /// Runs a program of the machine as root.
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let program = self.program("chroot")?.arg(self.folder.path()).args(arguments);
        program.run(BOUND).await.with_context(|| arguments.join(" "))
    }

    /// Checks what either package installs.
    async fn check(&self) -> Result<()> {
        let version = self.run(&["quay-gateway", "--version"]).await?;
        ensure!(version.trim() == concat!("quay-gateway ", env!("CARGO_PKG_VERSION")), "{version}");
        let users = std::fs::read_to_string(self.at("etc/passwd"))?;
        ensure!(users.lines().any(|line| line.starts_with("quay-gateway:")), "there is no user");
        for (path, expected) in [
            ("usr/lib/systemd/system/quay-gateway.service", 0o644),
            ("usr/share/quay-gateway/monitoring/alerts.yaml", 0o644),
            ("etc/logrotate.d/quay-gateway", 0o644),
            ("usr/share/bash-completion/completions/quay-gateway", 0o644),
            ("usr/share/fish/vendor_completions.d/quay-gateway.fish", 0o644),
            ("etc/quay-gateway", 0o750),
            ("var/lib/quay-gateway", 0o700),
            ("var/cache/quay-gateway", 0o700),
        ] {
            let mode =
                std::fs::metadata(self.at(path)).with_context(|| path.to_owned())?.permissions().mode();
            ensure!(mode & 0o7777 == expected, "{path} has mode {:o}", mode & 0o7777);
        }
        // Debian's pages are compressed.
        let pages =
            ["quay-gateway.1", "quay-gateway.1.gz"].map(|page| self.at("usr/share/man/man1").join(page));
        ensure!(pages.iter().any(|page| page.exists()), "there is no manual page");
        Ok(())
    }
}

/// A copy of the workspace's files that packages hold, whose build is the stripped binary under test.
async fn workspace() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("workspace-").tempdir()?;
    let files = Program::find("git")?.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = folder.path().join("files");
    std::fs::write(&list, files.in_folder(&root()).output(BOUND).await?)?;
    let copy = Program::find("rsync")?
        .args(["--archive", "--from0"])
        .arg(format!("--files-from={}", list.display()));
    copy.arg(root()).arg(folder.path()).run(BOUND).await?;
    std::fs::create_dir_all(folder.path().join("target/release"))?;
    let stripped = folder.path().join("target/release/quay-gateway");
    Program::find("strip")?.arg("-o").arg(&stripped).arg(binary()).run(BOUND).await?;
    let terminal = Program::at(&folder.path().join("deploy/packages/terminal-files"))?.arg(&stripped);
    terminal.arg(folder.path().join("target/terminal")).run(BOUND).await?;
    Ok(folder)
}

fn subcommand(name: &str, workspace: &Path) -> Result<Program> {
    let program = Program::at(&tools().join(name).join("bin").join(name))?.in_folder(workspace);
    Ok(program.env("CARGO_TARGET_DIR", workspace.join("target")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_debian_package_installs() -> Result<()> {
    let workspace = workspace().await?;
    let machine = Machine::new().await?;
    let package = subcommand("cargo-deb", workspace.path())?.args(["--package", "gateway", "--no-build"]);
    let package = package.args(["--no-strip", "--fast", "--offline", "--output"]);
    package.arg(machine.at("quay-gateway.deb")).run(BOUND).await?;
    machine.run(&["dpkg", "--install", "/quay-gateway.deb"]).await?;
    machine.check().await?;
    machine.run(&["dpkg", "--purge", "quay-gateway"]).await?;
    ensure!(!machine.at("usr/bin/quay-gateway").exists() && !machine.at("var/cache/quay-gateway").exists());
    ensure!(machine.at("var/lib/quay-gateway").exists(), "the journal and the CA are gone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rpm_installs() -> Result<()> {
    let workspace = workspace().await?;
    let machine = Machine::new().await?;
    let file = machine.at("quay-gateway.rpm");
    let package = subcommand("cargo-generate-rpm", workspace.path())?.args([
        "--package",
        "gateway",
        "--payload-compress",
        "none",
        "--output",
    ]);
    package.arg(&file).run(BOUND).await?;
    // The database of packages is the machine's own. It has no package of Red Hat, so nothing that ours requires.
    let rpm = || -> Result<Program> {
        let program = machine.program("rpm")?.arg("--root").arg(machine.folder.path());
        Ok(program.args(["--dbpath", "/var/lib/rpm", "--nodeps"]))
    };
    rpm()?.arg("--install").arg(&file).run(BOUND).await?;
    machine.check().await?;
    rpm()?.args(["--erase", "quay-gateway"]).run(BOUND).await?;
    ensure!(!machine.at("usr/bin/quay-gateway").exists());
    Ok(())
}
