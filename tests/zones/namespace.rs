//! A network namespace of a test, in which packets can be dropped without effect on others.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Set in the process that runs in the namespace.
const INSIDE: &str = "QUAY_GATEWAY_TESTS_NAMESPACE";

/// Runs the test `name` in a network namespace: this process starts itself again there and calls `run`.
///
/// # Errors
/// The error of the test, or no namespace can be created, which needs root.
pub(crate) fn alone<F: Future<Output = Result<()>>>(name: &str, run: impl FnOnce() -> F) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
    } else {
        let status = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
            .arg(std::env::current_exe()?)
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .status()
            .context("cannot run unshare")?;
        ensure!(status.success(), "in a network namespace (run as root): {status}");
        Ok(())
    }
}

/// Drops all packets to and from this port of the namespace from now on, without an answer.
///
/// # Errors
/// iptables is not installed or refuses.
pub(crate) fn black_hole(port: u16) -> Result<()> {
    for end in ["--dport", "--sport"] {
        let status = Command::new("iptables")
            .args(["-w", "-A", "INPUT", "-p", "tcp", end, &port.to_string(), "-j", "DROP"])
            .status()
            .context("cannot run iptables")?;
        ensure!(status.success(), "iptables: {status}");
    }
    Ok(())
}
