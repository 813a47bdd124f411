//! The contents of the cache, and their verification.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use crate::admin_client::AdminClient;
use crate::audit::Progress;
use crate::reports::{CachedReport, VerifiedReport};
use crate::table::with_headers;

/// The result of hashing blobs.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Blobs whose bytes are right.
    pub right: usize,
    /// Blobs that were evicted meanwhile, or were never there.
    pub absent: usize,
    /// Blobs that are wrong and were removed, or that cannot be read.
    pub findings: Vec<VerifiedReport>,
}

/// Hashes these blobs, or all, one after the other.
///
/// # Errors
/// The gateway cannot be reached, or refuses.
pub async fn verify_all(
    admin: &AdminClient,
    digests: Vec<String>,
    progress: Progress,
) -> anyhow::Result<VerifyReport> {
    let digests = match digests.is_empty() {
        true => admin.cache_contents().await?.into_iter().map(|blob| blob.digest).collect(),
        false => digests,
    };
    let mut report = VerifyReport::default();
    let mut bar = progress.bar(digests.len() as u64, "{bar:30} {pos}/{len} blobs  {msg}");
    for (done, digest) in digests.iter().enumerate() {
        bar.at(done as u64, |_| format!("{done} blobs, {} wrong or unreadable", report.findings.len()));
        let verified = admin.verify(digest).await?;
        match verified.verdict.as_str() {
            "right" => report.right += 1,
            "absent" => report.absent += 1,
            _ => report.findings.push(verified),
        }
    }
    bar.clear();
    Ok(report)
}

/// The result for people.
#[must_use]
pub fn verify_table(report: &VerifyReport) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let said = match (finding.verdict.as_str(), &finding.error) {
            ("wrong", _) => "its bytes are wrong: it is removed".to_owned(),
            (verdict, Some(error)) => format!("{verdict}: {error}"),
            (verdict, None) => verdict.to_owned(),
        };
        text.push_str(&format!("{}: {said}\n", finding.digest));
    }
    let (right, absent, findings) = (report.right, report.absent, report.findings.len());
    format!(
        "{text}{right} blobs are right, {findings} are wrong or unreadable, {absent} were not there any more\n"
    )
}

/// The blobs of the cache as a table for people.
#[must_use]
pub fn contents_table(blobs: &[CachedReport]) -> String {
    let mut table = with_headers(["digest", "size", "uses", "last use", ""]);
    for blob in blobs {
        let mut marks = Vec::new();
        marks.extend(blob.pinned.then_some("pinned"));
        marks.extend((!blob.proven).then_some("not hashed since a reboot"));
        let ago = humantime::format_duration(Duration::from_secs(blob.unused_seconds / 60 * 60));
        table.add_row([
            blob.digest.clone(),
            ByteSize(blob.size).to_string(),
            blob.uses.to_string(),
            format!("{ago} ago"),
            marks.join(", "),
        ]);
    }
    let bytes = ByteSize(blobs.iter().map(|blob| blob.size).sum());
    format!("{table}\n{} blobs, {bytes}\n", blobs.len())
}
