//! The process of a store that clients talk to, whatever stands behind it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::process::{Program, Server, answers};

const START_BOUND: Duration = Duration::from_secs(60);

/// A server that can be stopped, started again on the same data and port, and suspended.
#[derive(Debug)]
pub struct Front {
    server: Server,
    url: String,
    statuses: &'static [u16],
}

impl Front {
    /// Starts it and waits until `url` answers with one of `statuses`.
    ///
    /// # Errors
    /// It does not start within 60 s.
    pub(super) async fn start(
        program: Program,
        folder: &Path,
        url: String,
        statuses: &'static [u16],
    ) -> Result<Self> {
        let mut front = Self { server: program.serve(folder)?, url, statuses };
        front.ready().await?;
        Ok(front)
    }

    async fn ready(&mut self) -> Result<()> {
        self.server.ready(START_BOUND, || answers(&self.url, self.statuses)).await
    }

    /// Kills it, as a crash does.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Stops it and starts it again, until it answers.
    ///
    /// # Errors
    /// It does not start within 60 s.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.start_again()?;
        self.ready().await
    }

    /// Restarts it with variables set.
    ///
    /// # Errors
    /// As [`Front::restart`].
    pub(super) async fn restart_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        variables.iter().for_each(|(name, value)| self.server.set_env(name, value));
        self.restart().await
    }

    /// Holds it in the middle of whatever it does.
    ///
    /// # Errors
    /// It has ended.
    pub fn suspend(&self) -> Result<()> {
        self.server.suspend()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }
}
