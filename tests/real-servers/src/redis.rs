//! Redis, in which Quay keeps its locks, and Quay's own lock in Python.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ports::free_port;
use super::process::{Program, ServerProcess, tools};
use harness::certs::Authority;

/// The password. It must never appear in a log.
pub const PASSWORD: &str = "horse-battery";

const START: Duration = Duration::from_secs(30);

/// A Redis on loopback that requires a password.
#[derive(Debug)]
pub struct Redis {
    server: ServerProcess,
    port: u16,
    tls: bool,
    _folder: TempDir,
}

impl Redis {
    /// Starts Redis. With `authority` it accepts only TLS, with a certificate of that authority.
    ///
    /// # Errors
    /// Redis is not installed, or does not start.
    pub async fn start(authority: Option<&Authority>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("redis-").tempdir()?;
        let at = folder.path();
        let port = free_port();
        let mut program = Program::find("redis-server")?
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--requirepass", PASSWORD])
            .arg("--dir")
            .arg(at);
        program = match authority {
            None => program.args(["--port".to_owned(), port.to_string()]),
            Some(authority) => {
                let (certificate, key) = (at.join("tls.crt"), at.join("tls.key"));
                authority.certificate(&["localhost"])?.write(&certificate, &key)?;
                std::fs::write(at.join("ca.pem"), authority.pem())?;
                program
                    .args(["--port", "0", "--tls-auth-clients", "no", "--tls-port"])
                    .arg(port.to_string())
                    .arg("--tls-cert-file")
                    .arg(certificate)
                    .arg("--tls-key-file")
                    .arg(key)
                    .arg("--tls-ca-cert-file")
                    .arg(at.join("ca.pem"))
            }
        };
        let server = program.serve(at)?;
        let mut redis = Self { server, port, tls: authority.is_some(), _folder: folder };
        redis.ready().await?;
        Ok(redis)
    }

    async fn ready(&mut self) -> Result<()> {
        let port = self.port;
        self.server
            .ready(START, || async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() })
            .await
    }

    /// The entry for Quay's `USER_EVENTS_REDIS`.
    #[must_use]
    pub fn quay_entry(&self) -> Value {
        json!({ "host": "localhost", "port": self.port, "password": PASSWORD, "ssl": self.tls })
    }

    /// Ends the server like a crash.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Starts the server again after [`Redis::stop`]. All locks are lost.
    ///
    /// # Errors
    /// Redis does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.start_again()?;
        self.ready().await
    }

    /// Sends one command over a connection without TLS, and returns the first line of its reply.
    ///
    /// # Errors
    /// Redis cannot be reached, or does not accept the password.
    pub async fn command(&self, command: &str) -> Result<String> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let mut stream = tokio::io::BufReader::new(stream);
        stream.write_all(format!("AUTH {PASSWORD}\r\n{command}\r\n").as_bytes()).await?;
        let (mut login, mut reply) = (String::new(), String::new());
        stream.read_line(&mut login).await?;
        ensure!(login.starts_with("+OK"), "{login}");
        stream.read_line(&mut reply).await?;
        Ok(reply.trim_end().to_owned())
    }

    /// A lock with this name, handled by python-redis-lock as in Quay. It waits without a timeout.
    ///
    /// # Errors
    /// python-redis-lock is not installed.
    pub fn python_lock(&self, name: &str, expire: u32) -> Result<PythonLock> {
        PythonLock::start(self.port, name, expire)
    }
}

/// Takes the lock, reports it, and releases it on command, like Quay's workers.
const SCRIPT: &str = "
import sys, redis, redis_lock
port, password, name, expire = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
lock = redis_lock.Lock(redis.Redis(port=port, password=password), name, expire=expire)
for line in sys.stdin:
    done = True
    if line.strip() == 'acquire':
        lock.acquire()
    elif line.strip() == 'try':
        done = lock.acquire(blocking=False)
    else:
        lock.release()
    print('done' if done else 'held', flush=True)
";

/// A process that uses a lock like one of Quay's workers.
#[derive(Debug)]
pub struct PythonLock {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl PythonLock {
    fn start(port: u16, name: &str, expire: u32) -> Result<Self> {
        let python = tools().join("python/bin/python");
        ensure!(python.is_file(), "{} does not exist: run tests/run --install-only", python.display());
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, &port.to_string(), PASSWORD, name, &expire.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, input, output })
    }

    /// Waits for the lock and takes it. Blocks the thread.
    ///
    /// # Errors
    /// The process fails.
    pub fn acquire(&mut self) -> Result<()> {
        self.done("acquire")
    }

    /// Takes the lock if it is free, and returns whether it did. Blocks the thread.
    ///
    /// # Errors
    /// The process fails.
    pub fn try_acquire(&mut self) -> Result<bool> {
        Ok(self.tell("try")? == "done")
    }

    /// Releases the lock. Blocks the thread.
    ///
    /// # Errors
    /// The process no longer had the lock, or fails.
    pub fn release(&mut self) -> Result<()> {
        self.done("release")
    }

    fn done(&mut self, what: &str) -> Result<()> {
        let said = self.tell(what)?;
        ensure!(said == "done", "the worker failed to {what} its lock");
        Ok(())
    }

    fn tell(&mut self, what: &str) -> Result<String> {
        writeln!(self.input, "{what}")?;
        let mut said = String::new();
        self.output.read_line(&mut said)?;
        Ok(said.trim().to_owned())
    }
}

impl Drop for PythonLock {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
