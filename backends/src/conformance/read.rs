//! Tests of reads.

use bytes::Bytes;
use futures_util::StreamExt;

use super::{CaseResult, Suite, ensure, fails, noise, same};
use crate::{Digest, Key, Kind};

pub(super) async fn absence(suite: &Suite) -> CaseResult {
    suite.store.probe().await.map_err(|error| error.to_string())?;
    let hex = Digest::of(suite.prefix.as_bytes()).hex();
    for key in [suite.key("nothing"), suite.key(&format!("sha256/{}/{hex}", &hex[..2]))] {
        suite.is_absent(&key).await?;
        let part = suite.read(&key, Some(3..9)).await.map_err(|error| error.to_string())?;
        ensure(part.is_none(), || format!("{key}: a part of nothing"))?;
        suite.remove(&key).await?;
    }
    same("the listing", &suite.found("").await?, &vec![])
}

pub(super) async fn whole_objects(suite: &Suite) -> CaseResult {
    for size in suite.sizes() {
        let (key, bytes) = (suite.key(&format!("whole/{size}")), noise(size as u64, size));
        suite.put(&key, &bytes).await.map_err(|what| format!("{size} bytes: {what}"))?;
        suite.holds(&key, &bytes).await.map_err(|what| format!("{size} bytes: {what}"))?;
        suite.remove(&key).await?;
    }
    Ok(())
}

pub(super) async fn ranges(suite: &Suite) -> CaseResult {
    let mut sizes = vec![0, 1, 2, 256 * 1024 + 1];
    sizes.extend(suite.two_sizes());
    for size in sizes {
        let (key, bytes) = (suite.key(&format!("ranges/{size}")), noise(size as u64, size));
        suite.put(&key, &bytes).await?;
        ranges_of(suite, &key, &bytes).await.map_err(|what| format!("{size} bytes: {what}"))?;
        suite.remove(&key).await?;
    }
    Ok(())
}

async fn ranges_of(suite: &Suite, key: &Key, bytes: &Bytes) -> CaseResult {
    let size = bytes.len() as u64;
    let edges = [0, 1, 64 * 1024 - 1, 64 * 1024, 256 * 1024, size / 2, size.saturating_sub(1), size];
    for start in edges {
        for end in edges.into_iter().chain([size + 1, size + 1000, u64::MAX]) {
            if end < start {
                continue;
            }
            let read = suite.read(key, Some(start..end)).await;
            if start > size || (start == size && size > 0) {
                fails(&format!("{start}..{end}"), read, &[Kind::Invalid])?;
                continue;
            }
            let read = read.map_err(|error| format!("{start}..{end}: {error}"))?;
            let expected = bytes.slice(start as usize..end.min(size) as usize);
            ensure(read == Some(expected), || format!("{start}..{end}: other bytes"))?;
        }
    }
    fails("a range beyond", suite.read(key, Some(size + 1..size + 2)).await, &[Kind::Invalid])
}

/// A reader that stops in the middle has no effect on the store.
pub(super) async fn abandoned_bodies(suite: &Suite) -> CaseResult {
    let (key, bytes) = (suite.key("abandoned"), noise(1, 1_000_000));
    suite.put(&key, &bytes).await?;
    for _ in 0..5 {
        let object = suite.store.get(&key, None).await.map_err(|error| error.to_string())?;
        let mut body = object.ok_or("it is gone")?.body;
        ensure(matches!(body.next().await, Some(Ok(_))), || "no first piece".to_owned())?;
    }
    suite.holds(&key, &bytes).await?;
    suite.remove(&key).await
}

/// Characters that are encoded in URLs and that a signature must encode in the same way.
const ODD_NAMES: [&str; 9] =
    ["a b", "a+b", "a=b&c", "a%20b", "~a", "a'(b)!*", "a:b@c,d;e", "é/日本", "a.b..c/.d"];

pub(super) async fn odd_names(suite: &Suite) -> CaseResult {
    for (index, name) in ODD_NAMES.into_iter().enumerate() {
        let (key, bytes) = (suite.key(&format!("odd/{name}")), noise(index as u64, 100 + index));
        suite.put(&key, &bytes).await.map_err(|what| format!("{name}: {what}"))?;
        suite.holds(&key, &bytes).await.map_err(|what| format!("{name}: {what}"))?;
        let listed = vec![(key.as_str().to_owned(), bytes.len() as u64)];
        same("the listing", &suite.found(&format!("odd/{name}")).await?, &listed)?;
        suite.remove(&key).await?;
    }
    for name in ["..", "../a", "a/../../b", "a/./b", "."] {
        let key = suite.key(name);
        fails(name, suite.store.head(&key).await, &[Kind::Invalid])?;
        fails(name, suite.store.get(&key, None).await, &[Kind::Invalid])?;
    }
    Ok(())
}

/// Odd names at the edges of pages, where they become the marker of the next page.
pub(super) async fn odd_listings(suite: &Suite) -> CaseResult {
    let mut expected = Vec::new();
    for (index, name) in ODD_NAMES.into_iter().enumerate() {
        for key in [suite.key(&format!("pages/{name}")), suite.key(&format!("pages/{name}-{name}"))] {
            suite.put(&key, &noise(0, index)).await?;
            expected.push((key.as_str().to_owned(), index as u64));
        }
    }
    expected.sort();
    same("the listing", &suite.found("pages/").await?, &expected)?;
    // A whole name is a valid prefix.
    for name in ["pages/a b", "pages/a%20", "pages/a+b", "pages/é"] {
        let part: Vec<_> = expected.iter().filter(|(key, _)| key.contains(name)).cloned().collect();
        same("the names of a prefix", &part.len(), &2)?;
        same(name, &suite.found(name).await?, &part)?;
    }
    for (name, _) in expected {
        suite.remove(&Key::new(name)).await?;
    }
    same("the listing", &suite.found("").await?, &vec![])
}

pub(super) async fn listings(suite: &Suite) -> CaseResult {
    let mut expected = Vec::new();
    for index in 0..suite.options.listed {
        let key = suite.key(&format!("list/{}/{index:04}", index % 3));
        suite.put(&key, &noise(0, index)).await?;
        expected.push((key.as_str().to_owned(), index as u64));
    }
    expected.sort();
    same("the listing", &suite.found("list/").await?, &expected)?;
    let folder = format!("{}/list/1/", suite.prefix);
    let mut part = expected.clone();
    part.retain(|(name, _)| name.starts_with(&folder));
    same("the listing of a folder", &suite.found("list/1/").await?, &part)?;
    same("the listing of half a name", &suite.found("list/1/00").await?, &part)?;
    let (name, size) = &part[0];
    let own = name.strip_prefix(&format!("{}/", suite.prefix)).unwrap_or_default();
    same("the listing of a whole name", &suite.found(own).await?, &vec![(name.clone(), *size)])?;
    same("the listing of another folder", &suite.found("list/11").await?, &vec![])?;
    for (name, _) in expected {
        suite.remove(&Key::new(name)).await?;
    }
    same("the listing", &suite.found("").await?, &vec![])
}
