//! The configuration for Google Cloud Storage.
//!
//! `GoogleCloudStorage` has only Google's own endpoint, and no available program verifies signatures as
//! Google does. The test therefore uses the driver's settings for Google (region `auto`, path style, HMAC
//! keys, no encryption header, XML multipart uploads) with RadosGW, which verifies the signatures and accepts
//! any region. Other differences of Google are not tested.

use real_servers::RadosGw;

use crate::s3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google() {
    let server = RadosGw::start("conformance").await.expect("RadosGW starts");
    s3::conforms_in_parts(&server.bucket, "auto").await.expect("conforms");
}
