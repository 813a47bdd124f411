//! `GET /config/diff`: what a reload would change.

use http::{Response, StatusCode};
use operations::config_diff::ConfigDiff;

use super::{JSON, TEXT, respond};
use crate::Gateway;
use gateway_http::Body;

/// Reads the configuration as a reload would, and compares it with the one that runs.
pub(super) async fn config_diff(gateway: &Gateway) -> Response<Body> {
    let Some(file) = gateway.settings.files.first().cloned() else {
        return respond(StatusCode::NOT_FOUND, TEXT, "the gateway was not started from a file\n".into());
    };
    match tokio::task::spawn_blocking(move || config::load(&file)).await {
        Ok(Ok(newer)) => {
            let diff = ConfigDiff::between(&gateway.settings, &newer);
            respond(StatusCode::OK, JSON, serde_json::to_string_pretty(&diff).unwrap_or_default())
        }
        Ok(Err(error)) => respond(
            StatusCode::UNPROCESSABLE_ENTITY,
            TEXT,
            format!("the configuration is refused: {error}\n"),
        ),
        Err(error) => respond(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            format!("the configuration cannot be read: {error}\n"),
        ),
    }
}
