//! The stand-in Quay answers as a running Quay did: the recorded requests are sent again, and
//! status, headers and error bodies compared.
//!
//! Content, ids, tokens and signatures are others each time: a digest or id of the recording is
//! replaced by ours wherever it comes up again, and what is signed or counted is compared by shape.

#[path = "transcripts/replay.rs"]
mod replay;

use tests::quay::Delivery;

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
