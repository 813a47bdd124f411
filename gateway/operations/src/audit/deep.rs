//! Reading blobs and hashing them: who of several is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backends::{Digest, Error, Hasher, Key};
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::timeout;
use zone_router::Zone;

use super::compare::Compared;
use super::finding::{Finding, Kind};
use super::listing::wait;

/// Objects that are read at once in one step.
const READS: usize = 4;

/// How often an object that cannot be read is begun again.
const TRIES: u32 = 3;

/// What a read may take: this, and a second for so many bytes.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 64 * 1024;

/// What reading one object came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// So many bytes, and they are the blob.
    Right(u64),
    /// So many bytes, and they are not.
    Wrong(u64),
    /// It was listed and is not there, asked twice.
    Gone,
    /// Why it could not be read.
    Unreadable(String),
}

/// What was read: digest by digest, zone by zone.
pub(super) type Verdicts = BTreeMap<Digest, BTreeMap<String, Verdict>>;

/// An object that is to be read.
pub(super) struct Read<'a> {
    pub(super) zone: &'a Zone,
    pub(super) digest: Digest,
    pub(super) key: Key,
    pub(super) size: u64,
}

/// Reads them all, some at once.
pub(super) async fn read_all(reads: Vec<Read<'_>>) -> Verdicts {
    let read = stream::iter(reads).map(|read| async move {
        let verdict = read_one(&read).await;
        (read.digest, read.zone.name.to_string(), verdict)
    });
    let mut verdicts = Verdicts::new();
    let mut read = std::pin::pin!(read.buffer_unordered(READS));
    while let Some((digest, zone, verdict)) = read.next().await {
        verdicts.entry(digest).or_default().insert(zone, verdict);
    }
    verdicts
}

async fn read_one(read: &Read<'_>) -> Verdict {
    let bound = PATIENCE + Duration::from_secs(read.size / SLOWEST);
    let mut tried = 0;
    loop {
        let error = match timeout(bound, hash(read)).await {
            Ok(Ok(verdict)) => return verdict,
            Ok(Err(error)) => error,
            Err(_) => return Verdict::Unreadable(format!("not read within {} s", bound.as_secs())),
        };
        tried += 1;
        if !error.is_transient() || tried >= TRIES {
            return Verdict::Unreadable(error.to_string());
        }
        tokio::time::sleep(wait(&error, tried - 1)).await;
    }
}

async fn hash(read: &Read<'_>) -> Result<Verdict, Error> {
    let store = &read.zone.store;
    let Some(object) = store.get(&read.key, None).await? else {
        return match store.head(&read.key).await? {
            None => Ok(Verdict::Gone),
            Some(_) => Err(Error::new(backends::Kind::Unavailable, "it is there, and cannot be read")),
        };
    };
    let mut body = object.body;
    let mut hasher = Hasher::new();
    while let Some(chunk) = body.try_next().await? {
        hasher.update(&chunk);
    }
    let bytes = hasher.bytes();
    Ok(if hasher.finish() == read.digest { Verdict::Right(bytes) } else { Verdict::Wrong(bytes) })
}

/// What a comparison found, after some of it was read. Pure.
pub(super) fn refine(compared: &mut Compared, verdicts: &Verdicts) {
    let right = |digest: &Digest| {
        verdicts.get(digest).and_then(|zones| {
            zones.values().find_map(|verdict| match verdict {
                Verdict::Right(size) => Some(*size),
                _ => None,
            })
        })
    };
    // What was read is judged by that alone.
    let read: BTreeSet<(&Digest, &String)> =
        verdicts.iter().flat_map(|(digest, zones)| zones.keys().map(move |zone| (digest, zone))).collect();
    compared.findings.retain(|finding| match &finding.digest {
        Some(digest) if matches!(finding.kind, Kind::SizesDiffer | Kind::Empty | Kind::WrongBytes) => {
            !read.contains(&(digest, &finding.zone))
        }
        _ => true,
    });
    for finding in &mut compared.findings {
        finding.expected = finding.expected.or_else(|| finding.digest.as_ref().and_then(right));
    }
    for (digest, zones) in verdicts {
        for (zone, verdict) in zones {
            let (kind, size, told) = match verdict {
                Verdict::Right(_) => continue,
                // Where nobody else has it, no copy brings it back.
                Verdict::Gone => {
                    let kind = if right(digest).is_some() { Kind::Missing } else { Kind::Unreadable };
                    (kind, None, Some("it was listed, and is not there".to_owned()))
                }
                Verdict::Wrong(0) => (Kind::Empty, Some(0), None),
                Verdict::Wrong(size) => (Kind::WrongBytes, Some(*size), None),
                Verdict::Unreadable(error) => (Kind::Unreadable, None, Some(error.clone())),
            };
            let mut finding = Finding::of(kind, zone, *digest, size);
            finding.expected = right(digest);
            finding.has =
                zones.iter().filter(|(_, v)| **v != Verdict::Gone).map(|(zone, _)| zone.clone()).collect();
            finding.told = told;
            compared.findings.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backends::memory::MemoryStore;

    use super::*;

    fn zone(name: &str, key: &Key, bytes: Option<&'static [u8]>) -> Zone {
        let store = MemoryStore::new();
        if let Some(bytes) = bytes {
            store.insert(key.clone(), bytes);
        }
        Zone::new(name, Arc::new(store))
    }

    #[tokio::test]
    async fn the_bytes_tell_who_is_wrong() {
        let (digest, key) = (Digest::of(b"right"), Key::new("k"));
        let zones = [
            zone("a", &key, Some(b"right")),
            zone("b", &key, Some(b"wrong!")),
            zone("c", &key, None),
            zone("d", &key, Some(b"wrong")),
            Zone::unusable("e", "no such driver"),
        ];
        let reads = zones.iter().map(|zone| Read { zone, digest, key: key.clone(), size: 5 });
        let verdicts = read_all(reads.collect()).await;
        let of = |name: &str| verdicts[&digest][name].clone();
        assert_eq!(
            [of("a"), of("b"), of("c"), of("d")],
            [Verdict::Right(5), Verdict::Wrong(6), Verdict::Gone, Verdict::Wrong(5)]
        );
        assert!(matches!(of("e"), Verdict::Unreadable(why) if why.contains("no such driver")));

        let mut compared = Compared::default();
        for (name, size) in [("a", 5), ("b", 6)] {
            compared.findings.push(Finding::of(Kind::SizesDiffer, name, digest, Some(size)));
        }
        compared.findings.push(Finding::of(Kind::Missing, "f", digest, None));
        refine(&mut compared, &verdicts);
        let found: Vec<_> =
            compared.findings.iter().map(|f| (f.kind, f.zone.as_str(), f.size, f.expected)).collect();
        assert_eq!(
            found,
            [
                (Kind::Missing, "f", None, Some(5)),
                (Kind::WrongBytes, "b", Some(6), Some(5)),
                (Kind::Missing, "c", None, Some(5)),
                (Kind::WrongBytes, "d", Some(5), Some(5)),
                (Kind::Unreadable, "e", None, Some(5)),
            ]
        );
    }
}
