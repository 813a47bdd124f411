//! Runs the program rclone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use real_servers::Program;

use crate::measure::median;

/// The timeout of one run.
const BOUND: Duration = Duration::from_secs(600);

/// How often its start without work is measured.
const STARTS: usize = 5;

/// Flags for every copy, which turn off unnecessary requests.
const FLAGS: [&str; 5] = ["--no-check-dest", "--no-traverse", "--retries=1", "--low-level-retries=1", "-q"];

/// Flags for S3, which turn off the HEAD requests for the bucket and for objects, and use the file times of
/// the listing.
pub const S3_FLAGS: &[&str] =
    &["--s3-no-check-bucket", "--s3-no-head", "--s3-upload-concurrency=4", "--use-server-modtime"];

/// An installed rclone.
#[derive(Debug)]
pub struct Rclone {
    program: PathBuf,
}

impl Rclone {
    /// Finds rclone: `program`, or the one of `benches/install`, or the one on the `PATH`.
    ///
    /// # Errors
    /// There is none.
    pub fn find(program: Option<&Path>) -> Result<Self> {
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

    /// The version, such as `v1.75.2`.
    ///
    /// # Errors
    /// rclone fails or does not print a version.
    pub async fn version(&self) -> Result<String> {
        let text = self.program()?.arg("version").run(BOUND).await?;
        let version = text.lines().next().and_then(|line| line.strip_prefix("rclone "));
        Ok(version.context("rclone does not say its version")?.to_owned())
    }

    /// The median time of a start and end without any work.
    ///
    /// # Errors
    /// rclone fails.
    pub async fn start(&self) -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let start = Instant::now();
            self.version().await?;
            times.push(start.elapsed());
        }
        Ok(median(&times))
    }

    /// Copies everything below one place to another, `at_once` files at a time. `remotes` are the settings of
    /// the remotes, as `RCLONE_CONFIG_…` environment variables.
    ///
    /// # Errors
    /// rclone reports a failure.
    pub async fn copy<I, S>(
        &self,
        remotes: impl IntoIterator<Item = (String, String)>,
        (from, to): (&str, &str),
        at_once: usize,
        flags: I,
    ) -> Result<()>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut program = self.program()?;
        for (name, value) in remotes {
            program = program.env(&format!("RCLONE_CONFIG_{name}"), &value);
        }
        program
            .args(["copy", from, to])
            .args([format!("--transfers={at_once}"), format!("--checkers={at_once}")])
            .args(FLAGS)
            .args(flags)
            .run(BOUND)
            .await
            .map(drop)
    }
}
