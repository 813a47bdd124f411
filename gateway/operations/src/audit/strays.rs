//! Lists the whole root of a zone for objects that belong to nobody.

use backends::{Error, Meta};
use futures_util::TryStreamExt as _;
use zone_router::Zone;

use super::checkpoint::AuditFolder;
use super::finding::Finding;
use super::layout::Layout;
use super::progress::AuditProgress;
use anyhow::Context as _;

/// Findings that are written together.
const BATCH: usize = 1000;

/// Lists the roots of the zones, one after the other. Zones that the checkpoint has are skipped, and so are
/// strays below the prefixes of blobs, which the steps have found already.
pub(super) async fn run(
    zones: &[Zone],
    layout: &Layout,
    folder: &mut AuditFolder,
    progress: &mut AuditProgress,
    on_finding: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    for zone in zones {
        if folder.checkpoint.roots.iter().any(|done| **done == *zone.name) {
            continue;
        }
        root(zone, layout, folder, progress, on_finding).await?;
        folder.checkpoint.roots.push(zone.name.to_string());
        folder.save()?;
    }
    Ok(())
}

async fn root(
    zone: &Zone,
    layout: &Layout,
    folder: &mut AuditFolder,
    progress: &mut AuditProgress,
    on_finding: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    let list_error = |error: Error| anyhow::anyhow!("zone {} cannot be listed: {error}", zone.name);
    let mut objects = 0_u64;
    let mut batch = Vec::new();
    let mut all = zone.store.list("");
    while let Some(meta) = all.try_next().await.map_err(list_error)? {
        objects += 1;
        progress.listing_root(&zone.name, objects);
        if is_new(layout, &meta) {
            batch.push(Finding::stray(&zone.name, meta.key.as_str(), meta.size));
        }
        if batch.len() >= BATCH {
            write(&mut batch, folder, on_finding)?;
        }
    }
    write(&mut batch, folder, on_finding).context("the strays cannot be written")
}

/// Whether the object is a stray that the steps have not found.
fn is_new(layout: &Layout, meta: &Meta) -> bool {
    !layout.is_known(&meta.key) && !layout.is_in_step(&meta.key)
}

fn write(
    batch: &mut Vec<Finding>,
    folder: &mut AuditFolder,
    on_finding: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    batch.iter().try_for_each(&mut *on_finding)?;
    folder.add(batch)?;
    batch.clear();
    Ok(())
}
