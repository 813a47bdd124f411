//! The arguments of `top`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::AdminArguments;

/// The bounds of `--interval`. A gateway reads its journal for each sample.
const INTERVAL_MIN: Duration = Duration::from_millis(200);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    /// The configuration file of the gateway, for its admin.listen, admin.tls and admin.token_file.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) gateway: AdminArguments,
    /// The time between two samples, 200ms to 1h. Rates are those of this time.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print one frame and end. That is also done if standard output is not a terminal.
    #[arg(long)]
    pub(crate) once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        true => Ok(interval),
        false => Err("it is 200ms to 1h".to_owned()),
    }
}
