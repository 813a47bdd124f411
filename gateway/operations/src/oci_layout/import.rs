//! Imports an OCI layout into the cache of a running gateway.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context as _;
use backends::Digest;
use bytesize::ByteSize;
use serde::Serialize;

use super::read::{self, ReadLayout};
use crate::admin_client::AdminClient;
use crate::audit::Progress;

/// What was imported.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Whether the cache has every blob of the layout's manifests.
    pub complete: bool,
    /// Blobs that the cache has now, and had not before.
    pub imported: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that the cache had before.
    pub there_before: usize,
    /// Manifests that the gateway was told of.
    pub manifests: usize,
    /// Images of the layout whose names say no repository. Their blobs are imported all the same.
    pub unnamed: usize,
    /// Digests that the layout lacks.
    pub missing: Vec<String>,
    /// Digests whose files have other bytes, or that the gateway did not take, with the reason.
    pub failed: Vec<String>,
}

/// Reads the layout in `dir`, and puts what is right into the cache. `registries` are the names that an image's name may
/// begin with. Manifests are told last, when their blobs are there.
///
/// # Errors
/// The folder is no OCI layout, a file cannot be read, or the gateway does not answer. A wrong or missing blob is no
/// error: the report names it, and the others are imported.
pub async fn import(
    admin: &AdminClient,
    dir: &Path,
    registries: &[&str],
    progress: Progress,
) -> anyhow::Result<ImportReport> {
    let ReadLayout { manifests, blobs, missing, wrong, unnamed } = {
        let (dir, names) = (dir.to_owned(), registries.iter().map(ToString::to_string).collect::<Vec<_>>());
        let read = move || {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            read::read(&dir, &names)
        };
        tokio::task::spawn_blocking(read).await??
    };
    let held = admin.cache_contents().await?;
    let held: HashSet<_> = held.into_iter().filter(|blob| blob.proven).map(|blob| blob.digest).collect();
    let mut report = ImportReport {
        unnamed,
        missing: missing.iter().map(Digest::to_string).collect(),
        failed: wrong.iter().map(|digest| format!("{digest}: the manifest has other bytes")).collect(),
        ..ImportReport::default()
    };
    let mut bar = progress.bar(blobs.len() as u64, "{bar:30} {pos}/{len} blobs  {msg}");
    for (done, (digest, file)) in blobs.iter().enumerate() {
        bar.at(done as u64, |_| format!("{done} blobs, {} imported", ByteSize(report.bytes)));
        if *digest == Digest::EMPTY || held.contains(&digest.to_string()) {
            report.there_before += 1;
            continue;
        }
        match admin.import_blob(digest, file).await {
            Ok(imported) if imported.new => {
                report.imported += 1;
                report.bytes += imported.size;
            }
            Ok(_) => report.there_before += 1,
            Err(error) => report.failed.push(format!("{error:#}")),
        }
    }
    bar.clear();
    for manifest in manifests {
        let read::LayoutManifest { repository, reference, media_type, bytes } = manifest;
        let told = admin.import_manifest(&repository, &reference, &media_type, bytes).await;
        told.with_context(|| format!("the manifest {reference} of {repository}"))?;
        report.manifests += 1;
    }
    report.complete = report.missing.is_empty() && report.failed.is_empty();
    Ok(report)
}

/// The report for people.
#[must_use]
pub fn import_table(report: &ImportReport) -> String {
    let ImportReport { imported, bytes, there_before, manifests, unnamed, .. } = report;
    let bytes = ByteSize(*bytes);
    let mut text = format!(
        "{imported} blobs with {bytes} are imported, {there_before} were there before; {manifests} manifests\n"
    );
    if *unnamed > 0 {
        text.push_str(&format!(
            "{unnamed} images have names without a repository: their blobs are imported, their manifests are not told\n"
        ));
    }
    for digest in &report.missing {
        text.push_str(&format!("{digest}: the layout does not have it\n"));
    }
    for failure in &report.failed {
        text.push_str(&format!("{failure}\n"));
    }
    text
}
