//! What a reload would change.

use http::StatusCode;
use operations::config_diff::ConfigDiff;
use tokio::sync::Semaphore;

use super::answer::{Answer, json};
use super::problem::Problem;
use crate::Gateway;

/// One configuration is read at a time, also for those who have left.
static READS: Semaphore = Semaphore::const_new(1);

/// Reads the configuration as a reload would, and compares it with the one that runs.
pub(super) async fn config_diff(gateway: &Gateway) -> Answer {
    let Some(file) = gateway.settings.files.first().cloned() else {
        let detail = "the gateway was not started from a file";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_file", detail));
    };
    let turn = READS.acquire().await;
    let read = move || {
        let _turn = turn;
        config::load(&file)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(newer)) => json(&ConfigDiff::between(&gateway.settings, &newer)),
        Ok(Err(error)) => {
            let detail = format!("the configuration is refused: {error}");
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused_configuration", detail))
        }
        Err(error) => {
            let detail = format!("the configuration cannot be read: {error}");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail))
        }
    }
}
