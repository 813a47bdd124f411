//! What belongs to nobody in the whole root of a zone.

use backends::{Error, Meta};
use futures_util::TryStreamExt as _;
use zone_router::Zone;

use super::checkpoint::Folder;
use super::finding::Finding;
use super::layout::Layout;
use super::progress::Course;
use anyhow::Context as _;

/// Findings that are written at once.
const BATCH: usize = 1000;

/// Looks into the roots of zones, one after the other; of one that is done, the checkpoint tells. Strays
/// among the blobs are known from the inventory.
pub(super) async fn walk(
    zones: &[Zone],
    layout: &Layout,
    folder: &mut Folder,
    course: &mut Course,
    found: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    for zone in zones {
        if folder.at.roots.iter().any(|done| **done == *zone.name) {
            continue;
        }
        root(zone, layout, folder, course, found).await?;
        folder.at.roots.push(zone.name.to_string());
        folder.save()?;
    }
    Ok(())
}

async fn root(
    zone: &Zone,
    layout: &Layout,
    folder: &mut Folder,
    course: &mut Course,
    found: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    let told = |error: Error| anyhow::anyhow!("zone {} cannot be listed: {error}", zone.name);
    let mut objects = 0_u64;
    let mut batch = Vec::new();
    let mut all = zone.store.list("");
    while let Some(meta) = all.try_next().await.map_err(told)? {
        objects += 1;
        course.looking(&zone.name, objects);
        if is_news(layout, &meta) {
            batch.push(Finding::stray(&zone.name, meta.key.as_str(), meta.size));
        }
        if batch.len() >= BATCH {
            write(&mut batch, folder, found)?;
        }
    }
    write(&mut batch, folder, found).context("what belongs to nobody")
}

/// Whether it is a stray that the inventory by prefixes did not see.
fn is_news(layout: &Layout, meta: &Meta) -> bool {
    !layout.belongs(&meta.key) && !layout.in_a_step(&meta.key)
}

fn write(
    batch: &mut Vec<Finding>,
    folder: &mut Folder,
    found: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    batch.iter().try_for_each(&mut *found)?;
    folder.add(batch)?;
    batch.clear();
    Ok(())
}
