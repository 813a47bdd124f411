//! Copies by rclone.

use anyhow::Result;
use benches::rclone::{Rclone, S3_FLAGS};
use futures_util::future::try_join_all;
use harness::zone::Zone;

use crate::fixture::Fixture;

/// Copies everything into every target, with one process per target, all at once.
pub(crate) async fn copy(fixture: &Fixture, rclone: &Rclone, at_once: usize) -> Result<()> {
    let source = &fixture.site.zones[0];
    let copies = fixture.targets().iter().map(|target| {
        let remotes = remote("FROM", source).chain(remote("TO", target));
        let (from, to) = (place("from", source), place("to", target));
        let flags = [blobs(source)].into_iter().chain(S3_FLAGS.iter().map(ToString::to_string));
        async move { rclone.copy(remotes, (&from, &to), at_once, flags).await }
    });
    try_join_all(copies).await.map(drop)
}

/// The settings of a remote.
fn remote(name: &'static str, zone: &Zone) -> impl Iterator<Item = (String, String)> {
    let settings = [
        ("TYPE", "s3".to_owned()),
        ("PROVIDER", "Other".to_owned()),
        ("ENDPOINT", format!("http://{}", zone.address)),
        ("REGION", "us-east-1".to_owned()),
        ("FORCE_PATH_STYLE", "true".to_owned()),
        ("ACCESS_KEY_ID", zone.access_key.clone()),
        ("SECRET_ACCESS_KEY", zone.secret_key.clone()),
    ];
    settings.into_iter().map(move |(setting, value)| (format!("{name}_{setting}"), value))
}

/// The whole bucket. For a folder in a bucket, rclone would first ask whether it is a file.
fn place(remote: &str, zone: &Zone) -> String {
    format!("{remote}:{}", zone.bucket)
}

/// The blobs. Besides them, the bucket contains only leftovers of uploads.
fn blobs(zone: &Zone) -> String {
    format!("--include={}/sha256/**", zone.storage_path)
}
