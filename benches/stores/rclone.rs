//! The other side: rclone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::real::Program;

use crate::files::Set;
use crate::measure::median;

/// For one run of rclone.
const BOUND: Duration = Duration::from_secs(600);

/// How often its bare start is timed.
const STARTS: usize = 5;

/// What is good for it in both directions: nothing is asked for that is not needed.
const FLAGS: [&str; 5] = ["--no-check-dest", "--no-traverse", "--retries=1", "--low-level-retries=1", "-q"];

/// The remote of its configuration, which is all in the environment.
const REMOTE: &str = "bench";

/// An installed rclone.
#[derive(Debug)]
pub(crate) struct Rclone {
    program: PathBuf,
}

/// A server as rclone knows it.
#[derive(Debug)]
pub(crate) struct Remote {
    /// `RCLONE_CONFIG_BENCH_…`, without that.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Flags for this kind of server.
    pub(crate) flags: &'static [&'static str],
    /// Container and root, without a slash at the end.
    pub(crate) root: String,
}

impl Rclone {
    /// The one in `program`, or that of `benches/install`, or the one on the `PATH`.
    pub(crate) fn find(program: Option<&Path>) -> Result<Self> {
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/rclone/bin/rclone");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).map(|folder| folder.join("rclone"));
        let found = match program {
            Some(program) => Some(program.to_owned()).filter(|program| program.is_file()),
            None => std::iter::once(installed).chain(places).find(|program| program.is_file()),
        };
        Ok(Self { program: found.context("rclone is not installed: run benches/install")? })
    }

    fn program(&self) -> Result<Program> {
        Ok(Program::at(&self.program)?.env("RCLONE_CONFIG", "/dev/null"))
    }

    /// Its version, such as `v1.75.2`.
    pub(crate) async fn version(&self) -> Result<String> {
        let text = self.program()?.arg("version").run(BOUND).await?;
        let version = text.lines().next().and_then(|line| line.strip_prefix("rclone "));
        Ok(version.context("rclone does not say its version")?.to_owned())
    }

    /// How long it takes to start and end without any work: the median.
    pub(crate) async fn start(&self) -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let start = Instant::now();
            self.version().await?;
            times.push(start.elapsed());
        }
        Ok(median(&times))
    }

    /// Writes a set below `prefix`.
    pub(crate) async fn put(&self, remote: &Remote, prefix: &str, set: &Set, at_once: usize) -> Result<()> {
        let from = set.folder.display().to_string();
        self.copy(remote, &from, &remote.at(prefix), at_once).await
    }

    /// Reads what lies below `prefix` into files of `folder`.
    pub(crate) async fn get(
        &self,
        remote: &Remote,
        prefix: &str,
        set: &Set,
        folder: &Path,
        at_once: usize,
    ) -> Result<()> {
        self.copy(remote, &remote.at(prefix), &folder.display().to_string(), at_once).await?;
        for item in &set.items {
            let length = std::fs::metadata(folder.join(&item.name))?.len();
            ensure!(length == item.size, "rclone left {length} bytes of {}", item.size);
        }
        Ok(())
    }

    async fn copy(&self, remote: &Remote, from: &str, to: &str, at_once: usize) -> Result<()> {
        let mut program = self.program()?;
        for (name, value) in &remote.settings {
            program = program.env(&format!("RCLONE_CONFIG_BENCH_{name}"), value);
        }
        program
            .args(["copy", from, to])
            .args([format!("--transfers={at_once}"), format!("--checkers={at_once}")])
            .args(FLAGS)
            .args(remote.flags)
            .run(BOUND)
            .await
            .map(drop)
    }
}

impl Remote {
    fn at(&self, prefix: &str) -> String {
        format!("{REMOTE}:{}/{prefix}", self.root)
    }
}
