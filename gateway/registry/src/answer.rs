//! Reads the registry's answers that are not blobs.

use http_body_util::{BodyExt as _, Limited};

use crate::upstream::Answer;

/// The bytes that are read of an answer that is not a success.
const REFUSAL_MAX: usize = 16 * 1024;

/// The characters that are kept of a server's text.
const SAID_MAX: usize = 200;

/// Why an answer's body was not read.
#[derive(Debug, thiserror::Error)]
#[error("the body (at most {max} bytes) was not read completely: {cause}")]
pub struct BodyNotRead {
    max: usize,
    cause: Box<dyn std::error::Error + Send + Sync>,
}

/// The body of an answer.
///
/// # Errors
/// The body is larger than `max` bytes, or breaks off.
pub async fn read_body(answer: Answer, max: usize) -> Result<Vec<u8>, BodyNotRead> {
    match Limited::new(answer.into_body(), max).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(cause) => Err(BodyNotRead { max, cause }),
    }
}

/// Describes an answer that is not a success: its status, and its first error if the body has the OCI form.
pub async fn describe(answer: Answer) -> String {
    let status = answer.status();
    let body = read_body(answer, REFUSAL_MAX).await.unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let first = &json["errors"][0];
    match (first["code"].as_str(), first["message"].as_str()) {
        (Some(code), Some(message)) => printable(&format!("{status}, {code}: {message}")),
        _ => status.to_string(),
    }
}

/// A server's text on one line, shortened, and without control characters that would affect a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_MAX).collect()
}
