//! Access for benches to the private functions that read and write XML.

use super::S3Config;
use super::request::{self, Address};
use crate::{Meta, Result};

/// Parses one page of ListObjectsV2 from the bucket of `config`. Returns the objects below the root.
///
/// # Errors
/// The errors of a listing by [`S3Store`](super::S3Store).
pub fn page(config: &S3Config, body: &[u8]) -> Result<Vec<Meta>> {
    Ok(request::page(&Address::new(config)?, body)?.found)
}

/// The code of the `<Error>` in a body, if the body has one.
#[must_use]
pub fn failure(body: &[u8]) -> Option<String> {
    request::failure(body)?.code
}

/// The body of CompleteMultipartUpload.
#[must_use]
pub fn completion(etags: &[String]) -> String {
    let part = |etag: &String| request::Done { etag: etag.clone(), checksum: None };
    request::completion(&etags.iter().map(part).collect::<Vec<_>>())
}
