//! Programs: servers that run until they are dropped, and clients that end within a timeout.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// How often a starting server is checked.
const POLL: Duration = Duration::from_millis(50);
/// The number of bytes of a log that errors show.
const TAIL_BYTES: usize = 16 << 10;
/// Environment variables that could change what a server or client does: proxies, and `AWS_CA_BUNDLE`, with
/// which docker-registry 2.8 panics.
const UNSET: [&str; 10] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "AWS_CA_BUNDLE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "REGISTRY_AUTH_FILE",
];

/// The user name and password of a client.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Login {
    /// A login from its two parts.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }

    /// `user:password`, the form for command lines.
    #[must_use]
    pub fn pair(&self) -> String {
        format!("{}:{}", self.user, self.password)
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

/// A program to run, without the variables of the environment that change how real programs behave (`UNSET`).
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Command,
}

impl Program {
    /// Finds `name` on the `PATH`, in Debian's `sbin`, or among the tools that `tests/install` puts into the
    /// target folder.
    ///
    /// # Errors
    /// The program is not installed.
    pub fn find(name: &str) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let ours = ["seaweedfs/bin", "openstack/bin", "kubernetes/bin", "envoy/bin"];
        let ours = ours.map(|folder| tools().join(folder));
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]).chain(ours);
        let found = places.map(|place| place.join(name)).find(|file| file.is_file());
        Self::at(&found.with_context(|| format!("{name} is not installed: run tests/run --install-only"))?)
    }

    /// The program in this file.
    ///
    /// # Errors
    /// The file does not exist.
    pub fn at(file: &Path) -> Result<Self> {
        ensure!(file.is_file(), "{} does not exist: run tests/run", file.display());
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new(file);
        UNSET.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.stdin(Stdio::null());
        Ok(Self { name, command })
    }

    /// The Python of a virtual environment of `tests/install`: `openstack`, `python` or `deploy`.
    ///
    /// # Errors
    /// The environment does not exist.
    pub fn python(environment: &str) -> Result<Self> {
        Self::at(&tools().join(environment).join("bin/python"))
    }

    /// Uses `name` for its log file and in errors, for example if two instances run in one folder.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the program in this folder.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs the program as this user and group.
    #[must_use]
    pub fn as_user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// Uses this file as standard input.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn stdin(mut self, file: &Path) -> Result<Self> {
        self.command.stdin(File::open(file)?);
        Ok(self)
    }

    /// Runs the program to its end and returns its standard output as text.
    ///
    /// # Errors
    /// The program fails, or does not end within `bound` and is killed. The error contains its output but not
    /// its arguments, because these may contain passwords.
    pub async fn run(self, bound: Duration) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.output(bound).await?).into_owned())
    }

    /// Runs the program to its end and returns its standard output as bytes.
    ///
    /// # Errors
    /// The errors of [`Program::run`].
    pub async fn output(self, bound: Duration) -> Result<Bytes> {
        let Self { name, command } = self;
        let mut command = tokio::process::Command::from(command);
        let output = tokio::time::timeout(bound, command.kill_on_drop(true).output())
            .await
            .with_context(|| format!("{name} did not end within {} s", bound.as_secs()))?
            .with_context(|| format!("cannot run {name}"))?;
        if !output.status.success() {
            let out = String::from_utf8_lossy(&output.stdout);
            bail!(
                "{name}: {}\n{}{}",
                output.status,
                tail(&out),
                tail(&String::from_utf8_lossy(&output.stderr))
            );
        }
        Ok(output.stdout.into())
    }

    /// Starts the program as a server that logs to `<folder>/<name>.log`.
    ///
    /// The server stays in the test's process group. If a runner kills the group of a hanging test, the
    /// servers end too.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn serve(mut self, folder: &Path) -> Result<ServerProcess> {
        let log = folder.join(format!("{}.log", self.name));
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        self.command.stdout(file.try_clone()?).stderr(file);
        let child = start(&self.name, &mut self.command)?;
        Ok(ServerProcess { name: self.name, command: self.command, child, log })
    }
}

fn start(name: &str, command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot start {name}"))
}

/// A running server. It is killed when it is dropped. If the test panics, its log is shown.
#[derive(Debug)]
pub struct ServerProcess {
    name: String,
    command: Command,
    child: Child,
    log: PathBuf,
}

impl ServerProcess {
    /// Kills the server like a crash. Its connections break.
    pub fn stop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal that ends the server, and waits for the end.
    pub(super) fn end(&mut self, signal: Signal) {
        // An error means that the process has ended already.
        let _ = self.signal(signal);
        let _ = self.child.wait();
    }

    /// Stops the server and starts it with the same arguments and log. The caller then waits with
    /// [`ServerProcess::ready`].
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.stop();
        self.child = start(&self.name, &mut self.command)?;
        Ok(())
    }

    /// Sets an environment variable for the next start.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        self.command.env(name, value);
    }

    /// Suspends the process. Its connections stay open, and the kernel accepts new ones.
    ///
    /// # Errors
    /// The process has ended.
    pub fn suspend(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Resumes the process.
    ///
    /// # Errors
    /// The process has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("{} took no signal", self.name))
    }

    /// Waits until `check` returns `true`.
    ///
    /// # Errors
    /// The server ends, or `bound` passes. The error contains the end of its log.
    pub async fn ready<F: Future<Output = bool>>(
        &mut self,
        bound: Duration,
        check: impl Fn() -> F,
    ) -> Result<()> {
        let end = Instant::now() + bound;
        while !check().await {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended during its start: {status}\n{}", self.name, self.log_tail());
            }
            if Instant::now() > end {
                bail!("{} was not ready within {} s\n{}", self.name, bound.as_secs(), self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The end of the log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log_text()).to_owned()
    }

    /// The whole log.
    #[must_use]
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log_tail());
        }
    }
}

/// Whether an HTTP server answers at this URL with one of these statuses.
pub(super) async fn answers(url: &str, statuses: &[u16]) -> bool {
    let client = plain_client();
    match client.get(url).send().await {
        Ok(answer) => statuses.contains(&answer.status().as_u16()),
        Err(_) => false,
    }
}

/// An HTTP client for servers on loopback, without TLS and proxies.
pub(super) fn plain_client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(2))
        .read_timeout(Duration::from_secs(30))
        .build()
        .expect("a client without TLS roots")
}

/// The folder into which `tests/install` puts programs that are not Debian packages.
#[must_use]
pub fn tools() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |dir| root.join(dir))
        .join("tools")
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(TAIL_BYTES);
    &text[text.ceil_char_boundary(from)..]
}
