//! The unit, the user and the folders for a machine with systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use real_servers::Program;
use tempfile::TempDir;

use super::{BOUND, read, root};

const UNIT: &str = "quay-gateway.service";
/// The most exposure, in tenths: of what `systemd-analyze security` calls OK, the first part.
const EXPOSURE: &str = "--threshold=30";

/// A folder like the root of a machine, with systemd's own units and ours.
async fn machine() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let at = |path: &str| folder.path().join(path);
    for path in ["usr/bin", "usr/lib/systemd", "etc/systemd/system", "etc/tmpfiles.d"] {
        std::fs::create_dir_all(at(path))?;
    }
    for (link, path) in [("bin", "usr/bin"), ("lib", "usr/lib")] {
        symlink(path, at(link))?;
    }
    // systemd only asks whether they can be run.
    for program in ["kill", "quay-gateway"] {
        let file = at("usr/bin").join(program);
        std::fs::write(&file, "#!/bin/sh\n")?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o755))?;
    }
    let copy = Program::find("cp")?.args(["-r", "/usr/lib/systemd/system"]).arg(at("usr/lib/systemd"));
    copy.run(BOUND).await?;
    std::fs::copy(root().join("deploy/systemd").join(UNIT), at("etc/systemd/system").join(UNIT))?;
    Ok(folder)
}

/// The system calls that the unit allows. systemd adds `@default` to every list of allowed ones (systemd.exec(5)).
pub(super) async fn allowed_calls() -> Result<BTreeSet<String>> {
    let printed = Program::find("systemd-analyze")?.args(["syscall-filter", "--no-pager"]).run(BOUND).await?;
    let mut sets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in printed.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_prefix(' ') {
            Some(member) => sets.entry(current).or_default().push(member.trim()),
            None => current = line.trim(),
        }
    }
    let unit = read("deploy/systemd/quay-gateway.service")?;
    let mut allowed = BTreeSet::new();
    add(&sets, "@default", &mut allowed);
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let mut of_line = BTreeSet::new();
        line.trim_start_matches('~').split(' ').for_each(|name| add(&sets, name, &mut of_line));
        match line.starts_with('~') {
            true => allowed.retain(|call| !of_line.contains(call)),
            false => allowed.extend(of_line),
        }
    }
    ensure!(
        allowed.contains("accept4") && !allowed.contains("mount"),
        "the sets were not parsed: {allowed:?}"
    );
    Ok(allowed)
}

/// Adds a system call, or all of a set.
fn add(sets: &BTreeMap<&str, Vec<&str>>, name: &str, to: &mut BTreeSet<String>) {
    match sets.get(name) {
        Some(members) => members.iter().for_each(|member| add(sets, member, to)),
        None => drop(to.insert(name.to_owned())),
    }
}

async fn verify(machine: &Path) -> Result<String> {
    // It says most of what it finds on standard error only.
    let shell =
        Program::find("sh")?.args(["-c", "exec systemd-analyze \"$@\" 2>&1", "sh", "verify", "--man=no"]);
    shell.arg(format!("--root={}", machine.display())).arg(UNIT).run(BOUND).await
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_takes_the_unit() -> Result<()> {
    let machine = machine().await?;
    let found = verify(machine.path()).await?;
    ensure!(found.is_empty(), "{found}");

    let file = machine.path().join("etc/systemd/system").join(UNIT);
    let wrong = std::fs::read_to_string(&file)?.replace("ProtectClock=", "ProtectClocks=");
    std::fs::write(&file, wrong)?;
    let found = verify(machine.path()).await?;
    ensure!(found.contains("ProtectClocks"), "an unknown key is not found: {found}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unit_is_hardened() -> Result<()> {
    let machine = machine().await?;
    let security = |unit: &Path| -> Result<Program> {
        let program = Program::find("systemd-analyze")?.args(["security", "--offline=true", "--no-pager"]);
        Ok(program.arg(EXPOSURE).arg(unit))
    };
    let file = machine.path().join("etc/systemd/system").join(UNIT);
    security(&file)?.run(BOUND).await?;

    let plain = machine.path().join("plain.service");
    std::fs::write(&plain, "[Service]\nExecStart=/usr/bin/quay-gateway run\n")?;
    ensure!(security(&plain)?.run(BOUND).await.is_err(), "a unit without any hardening passes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_and_the_folders_are_made() -> Result<()> {
    let machine = machine().await?;
    let at = |path: &str| machine.path().join(path);
    let here = format!("--root={}", machine.path().display());
    let ours = |name: &str| root().join("deploy/systemd").join(name);
    Program::find("systemd-sysusers")?.arg(&here).arg(ours("quay-gateway.sysusers")).run(BOUND).await?;
    let users = std::fs::read_to_string(at("etc/passwd"))?;
    let user = users.lines().find(|line| line.starts_with("quay-gateway:")).context("the user")?;
    ensure!(user.ends_with(":/var/lib/quay-gateway:/usr/sbin/nologin"), "{user}");

    std::fs::copy(ours("quay-gateway.tmpfiles"), at("etc/tmpfiles.d/quay-gateway.conf"))?;
    let tmpfiles = Program::find("systemd-tmpfiles")?.args(["--create", &here]);
    tmpfiles.arg("quay-gateway.conf").run(BOUND).await?;
    let folders =
        [("etc/quay-gateway", 0o750), ("var/lib/quay-gateway", 0o700), ("var/cache/quay-gateway", 0o700)];
    for (path, expected) in folders {
        let mode = std::fs::metadata(at(path))?.permissions().mode() & 0o7777;
        ensure!(mode == expected, "{path} has mode {mode:o}");
    }
    Ok(())
}

#[test]
fn systemd_waits_longer_than_the_gateway_takes() -> Result<()> {
    let unit = read("deploy/systemd/quay-gateway.service")?;
    let value =
        |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).with_context(|| key.to_owned());
    let wait: u64 = value("TimeoutStopSec=")?.trim_end_matches('s').parse()?;
    let timeouts = config::Timeouts::default();
    let takes = timeouts.lame_duck.unwrap_or_default() + timeouts.drain;
    ensure!(wait >= takes.as_secs() + 10, "{wait} s are not longer than {takes:?}");
    ensure!(value("RestartPreventExitStatus=")? == "78");
    Ok(())
}
