//! The process of a store that clients connect to.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::process::{Program, ServerProcess, answers};

const START_BOUND: Duration = Duration::from_secs(60);

/// A server process that can be stopped, started again with the same data and port, and suspended.
#[derive(Debug)]
pub struct StoreProcess {
    server: ServerProcess,
    url: String,
    statuses: &'static [u16],
}

impl StoreProcess {
    /// Starts the process and waits until `url` answers with one of `statuses`.
    ///
    /// # Errors
    /// The process does not start within 60 s.
    pub(super) async fn start(
        program: Program,
        folder: &Path,
        url: String,
        statuses: &'static [u16],
    ) -> Result<Self> {
        let mut process = Self { server: program.serve(folder)?, url, statuses };
        process.ready().await?;
        Ok(process)
    }

    async fn ready(&mut self) -> Result<()> {
        self.server.ready(START_BOUND, || answers(&self.url, self.statuses)).await
    }

    /// Kills the process, like a crash.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Stops the process, starts it again, and waits until it answers.
    ///
    /// # Errors
    /// The process does not start within 60 s.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.start_again()?;
        self.ready().await
    }

    /// Restarts the process with these environment variables.
    ///
    /// # Errors
    /// The errors of [`StoreProcess::restart`].
    pub(super) async fn restart_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        variables.iter().for_each(|(name, value)| self.server.set_env(name, value));
        self.restart().await
    }

    /// Suspends the process.
    ///
    /// # Errors
    /// The process has ended.
    pub fn suspend(&self) -> Result<()> {
        self.server.suspend()
    }

    /// Resumes the process.
    ///
    /// # Errors
    /// The process has ended.
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }
}
