//! The stand-in Quay answers like a running Quay: the recorded requests are sent again, and status, headers
//! and error bodies are compared.
//!
//! Contents, ids, tokens and signatures differ each time. A digest or id of the recording is replaced by ours
//! wherever it occurs. Signed or counted values are compared by their form.

#[path = "transcripts/replay.rs"]
mod replay;

use harness::quay::Delivery;

#[tokio::test]
async fn with_s3_storage() {
    replay::run(
        include_str!("transcripts/s3.http"),
        "localhost:38580",
        Delivery::Redirect,
        &["admin/one", "admin/other", "admin/third"],
    )
    .await;
}

#[tokio::test]
async fn with_local_storage() {
    replay::run(
        include_str!("transcripts/localstorage.http"),
        "localhost:38581",
        Delivery::Stream,
        &["admin/one", "admin/other"],
    )
    .await;
}
