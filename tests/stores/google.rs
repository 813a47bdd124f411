//! Google Cloud Storage's dialect.
//!
//! `GoogleCloudStorage` has one endpoint, Google's own, and no program that can be had verifies
//! signatures as Google does. So what stands here is what the driver does for it (region `auto`, path
//! style, HMAC keys, no encryption header, XML multipart uploads) at RadosGW, which verifies the signatures and
//! takes any region. What Google does otherwise is not tested.

use tests::real::RadosGw;

use crate::s3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google() {
    let server = RadosGw::start("conformance").await.expect("RadosGW starts");
    s3::conforms_in_parts(&server.bucket, "auto").await.expect("conforms");
}
