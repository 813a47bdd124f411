//! Errors and advice for the answers with which a store refuses a request. No I/O.

use aws_credentials::Refusal;
use http::{HeaderMap, StatusCode};

use super::call::{Call, ENCRYPTION};
use super::place::is_region;
use super::request::{self, ErrorDetails};
use crate::Error;
use crate::answer::{self, refused};

/// The advice for a bucket that refuses writes without a checksum.
const CHECKSUM_WANTED: &str =
    "the bucket requires Content-MD5 or a checksum with each object, for example because of Object Lock";

/// Whether the store refused temporary credentials. The answer to a HEAD has no body that could say so.
/// Amazon then answers 400. Others answer 403, which may also mean that nobody may see this object.
pub(super) fn refused_credentials(
    status: StatusCode,
    failure: &ErrorDetails,
    silent: bool,
) -> Option<Refusal> {
    match (failure.code.as_deref(), status) {
        (Some(code), _) => answer::is_expired(code).then_some(Refusal::Expired),
        (None, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) => silent.then_some(Refusal::Expired),
        (None, StatusCode::FORBIDDEN) => silent.then_some(Refusal::Silent),
        _ => None,
    }
}

/// The refusal of a write, with advice if the cause is known: the write asked for encryption, and the store
/// has none, for example RadosGW over plain HTTP.
pub(super) fn explained(what: &str, call: &Call, error: Error) -> Error {
    let refused = matches!(
        error.code(),
        Some("InvalidRequest" | "InvalidArgument" | "NotImplemented" | "InvalidEncryptionAlgorithmError")
    );
    let known = error.to_string().contains(CHECKSUM_WANTED);
    if known || !refused || !call.headers.contains_key(ENCRYPTION) {
        return error;
    }
    let advice = "S3Storage writes ask for encryption at rest (AES256), which this store may refuse, as RadosGW \
                  does over plain HTTP; use https, or Quay's RadosGWStorage, which does not ask for it";
    Error::new(error.kind(), format!("{what}: {advice}")).with_cause(error)
}

/// The error from the status, headers and body of an answer.
pub(super) fn failed(what: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let failure = request::failure(body).unwrap_or_default();
    // This is Amazon's answer to a request that was signed for another region or sent to it.
    let region = headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
    let elsewhere = matches!(
        status,
        StatusCode::MOVED_PERMANENTLY | StatusCode::TEMPORARY_REDIRECT | StatusCode::BAD_REQUEST
    );
    let region = region.or(failure.region.as_deref()).filter(|region| is_region(region));
    let what = match region.filter(|_| elsewhere) {
        Some(region) => format!("{what}: the bucket is in region {region}"),
        None if failure.wants_checksum() => {
            format!("{what}: {CHECKSUM_WANTED}")
        }
        None => what.to_owned(),
    };
    refused(&what, status, headers, failure.code.as_deref())
        .with_request_id(request_id(headers).or(failure.request_id))
}

pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    headers.get("x-amz-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned)
}
