//! The gateway's binary in a process of its own.

mod admin;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certs::client_config;
use crate::client::Client;
use crate::port::Port;

const BINARY: &str = "quay-gateway";
/// The timeout until it answers.
const START: Duration = Duration::from_secs(20);
/// The timeout until it ends after SIGTERM.
const END: Duration = Duration::from_secs(30);
/// The timeout of another command of the binary.
const COMMAND: Duration = Duration::from_secs(60);
/// The timeout of one try to connect.
const HANDSHAKE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
/// The number of bytes of its log that errors show.
const TAIL: usize = 8 * 1024;

/// A gateway with its own ports and folders, which stay the same over restarts. Dropping it kills the process
/// and removes its state.
#[derive(Debug)]
pub struct Gateway {
    dir: TempDir,
    listen: Port,
    admin: Port,
    child: Option<Child>,
}

impl Gateway {
    /// Starts a gateway with `config` merged into a default configuration, and waits until it answers.
    /// `files` are written beside the configuration, which can refer to them by name.
    ///
    /// # Errors
    /// The gateway does not start. The error contains the end of its log.
    ///
    /// # Panics
    /// The binary is not built.
    pub async fn start(config: &Value, files: &[(&str, &str)]) -> Result<Self> {
        let mut gateway = Self::prepare(config, files)?;
        gateway.spawn().await?;
        Ok(gateway)
    }

    /// Like [`start`](Self::start), but does not start the process.
    ///
    /// # Errors
    /// A file cannot be written, or there is no free port.
    pub fn prepare(config: &Value, files: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        for folder in ["state", "cache"] {
            std::fs::create_dir(dir.path().join(folder))?;
        }
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text)?;
        }
        let gateway = Self { dir, listen: Port::free()?, admin: Port::free()?, child: None };
        gateway.configure(config)?;
        Ok(gateway)
    }

    /// Writes another configuration, for the next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn configure(&self, config: &Value) -> Result<()> {
        let mut whole = json!({
            "listen": self.address().to_string(),
            "hostname": self.hostname(),
            "state_dir": "state",
            "cache": { "dir": "cache", "size": "1GiB", "reserve": "1MiB" },
            "admin": { "listen": self.admin_address().to_string() },
        });
        overlay(&mut whole, config);
        // JSON is YAML.
        Ok(std::fs::write(self.config_file(), serde_json::to_string_pretty(&whole)?)?)
    }

    /// Starts the gateway again after [`terminate`](Self::terminate) or [`kill`](Self::kill), with the same
    /// state and ports.
    ///
    /// # Errors
    /// The errors of [`start`](Self::start).
    ///
    /// # Panics
    /// The binary is not built.
    pub async fn spawn(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(self.config_file());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("QUAY_")) {
            command.env_remove(name);
        }
        self.child = Some(command.spawn().context("starting quay-gateway")?);
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().transpose()) {
                self.child = None;
                bail!("quay-gateway ended at its start with {}; its log:\n{}", status?, self.log_tail());
            }
            if tokio::time::timeout(HANDSHAKE, self.answers()).await.is_ok_and(|answers| answers) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("quay-gateway does not answer after {START:?}; its log:\n{}", self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether the gateway speaks TLS. It may listen long before that. The certificate is not verified here.
    async fn answers(&self) -> bool {
        let authority = std::fs::read_to_string(self.authority_file()).unwrap_or_default();
        let Ok(tls) = client_config(&[&authority]) else { return false };
        let Ok(stream) = TcpStream::connect(self.address()).await else { return false };
        let Ok(name) = ServerName::try_from("localhost") else { return false };
        match TlsConnector::from(Arc::new(tls)).connect(name, stream).await {
            Ok(_) => true,
            Err(error) => error.get_ref().is_some_and(|inner| {
                inner
                    .downcast_ref()
                    .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
            }),
        }
    }

    /// Runs another command of the binary, such as `check`, with the gateway's configuration.
    ///
    /// # Errors
    /// The command cannot be run, or does not end within 60 s and is killed.
    ///
    /// # Panics
    /// The binary is not built.
    pub async fn command(&self, arguments: &[&str]) -> Result<Output> {
        let output = tokio::time::timeout(COMMAND, self.prepared(arguments).output()).await;
        output.context("quay-gateway did not end in time")?.context("running quay-gateway")
    }

    /// Starts another command of the binary. The process is killed when it is dropped.
    ///
    /// # Errors
    /// The command cannot be run.
    ///
    /// # Panics
    /// The binary is not built.
    pub fn start_command(&self, arguments: &[&str], output: Stdio) -> Result<tokio::process::Child> {
        let mut command = self.prepared(arguments);
        command.stdout(output).stderr(Stdio::null()).spawn().context("starting quay-gateway")
    }

    fn prepared(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(binary());
        command.args(arguments).arg("--config").arg(self.config_file());
        command.stdin(Stdio::null()).kill_on_drop(true);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("QUAY_")) {
            command.env_remove(name);
        }
        command
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// The gateway does not end within 30 s and is killed.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.child.take() else { bail!("quay-gateway is not running") };
        let deadline = Instant::now() + END;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("quay-gateway did not end within {END:?} after SIGTERM; its log:\n{}", self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal and does not wait.
    ///
    /// # Errors
    /// The gateway is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("quay-gateway is not running")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The process may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listen.address()
    }

    /// The address of the admin API.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The name and port that clients dial, `localhost:<port>`.
    #[must_use]
    pub fn hostname(&self) -> String {
        format!("localhost:{}", self.address().port())
    }

    /// `https://localhost:<port>`
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.hostname())
    }

    /// The gateway's folder: `gateway.yaml`, `state`, `cache`, `gateway.log`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of the cache.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The certificate of the gateway's own authority, which it creates if `tls` is not configured.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.dir.path().join("state/ca.pem")
    }

    /// A client that trusts the gateway's own authority.
    ///
    /// # Errors
    /// The gateway has no authority of its own.
    pub fn client(&self, login: Option<(&str, &str)>) -> Result<Client> {
        let authority = std::fs::read_to_string(self.authority_file()).context("the gateway's CA")?;
        Client::new(&self.url(), &[&authority], login)
    }

    /// The process id, while the gateway runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The log of all starts.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until this text is in the log: lines are written behind the answers, in order.
    ///
    /// # Errors
    /// The text is not there in time.
    pub async fn logged(&self, text: &str) -> Result<()> {
        let deadline = Instant::now() + START;
        while !self.log().contains(text) {
            if Instant::now() > deadline {
                bail!("the log lacks {text:?}: {}", self.log());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let from = log.len().saturating_sub(TAIL);
        let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
        log[from..].to_owned()
    }

    /// The configuration file, for tests that run the gateway in a process of their own.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("gateway.yaml")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("gateway.log")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log_tail());
        }
    }
}

/// The binary beside the running test or program.
pub fn binary() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    // A test is in `deps`, below the folder of the binaries.
    let found =
        here.ancestors().skip(1).take(2).map(|folder| folder.join(BINARY)).find(|path| path.is_file());
    let profile = if cfg!(debug_assertions) { "" } else { " --release" };
    found.unwrap_or_else(|| {
        panic!("there is no {BINARY} near {}; build it: cargo build{profile} -p gateway", here.display())
    })
}

/// Merges `over` into `under`, object by object. `null` removes a key.
pub fn overlay(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    under.remove(key);
                } else {
                    overlay(under.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_merged_into_the_default() {
        let mut whole = json!({"listen": "a", "cache": {"dir": "d", "size": "1"}, "admin": 1});
        overlay(&mut whole, &json!({"cache": {"size": "2"}, "admin": null, "home": "z"}));
        assert_eq!(whole, json!({"listen": "a", "cache": {"dir": "d", "size": "2"}, "home": "z"}));
    }
}
