//! Reads blobs and hashes them, to find out which zone has wrong bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backends::{Digest, Error, Hasher, Key};
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::timeout;
use zone_router::Zone;

use super::compare::Compared;
use super::finding::{Finding, FindingKind};
use super::listing::wait;

/// Objects that one step reads at the same time.
const READS: usize = 4;

/// How often an object is tried.
const TRIES: u32 = 3;

/// The timeout of a read is this, plus the object's size divided by [`READ_RATE_MIN`].
const READ_TIMEOUT_BASE: Duration = Duration::from_secs(60);

/// The slowest accepted read, in bytes a second.
const READ_RATE_MIN: u64 = 64 * 1024;

/// The result of reading one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has this many bytes, and their digest matches.
    Right(u64),
    /// It has this many bytes, and their digest does not match.
    Wrong(u64),
    /// It was listed, but two requests did not find it.
    Gone,
    /// It could not be read, for this reason.
    Unreadable(String),
}

/// The results by digest and zone.
pub(super) type Verdicts = BTreeMap<Digest, BTreeMap<String, Verdict>>;

/// An object to read.
pub(super) struct ReadTask<'a> {
    pub(super) zone: &'a Zone,
    pub(super) digest: Digest,
    pub(super) key: Key,
    pub(super) size: u64,
}

/// Reads all objects, [`READS`] at a time.
pub(super) async fn read_all(reads: Vec<ReadTask<'_>>) -> Verdicts {
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

async fn read_one(read: &ReadTask<'_>) -> Verdict {
    let bound = READ_TIMEOUT_BASE + Duration::from_secs(read.size / READ_RATE_MIN);
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

async fn hash(read: &ReadTask<'_>) -> Result<Verdict, Error> {
    let store = &read.zone.store;
    let Some(object) = store.get(&read.key, None).await? else {
        return match store.head(&read.key).await? {
            None => Ok(Verdict::Gone),
            Some(_) => Err(Error::new(backends::Kind::Unavailable, "the object exists, but cannot be read")),
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

/// Updates the findings of a comparison with the results of reading. Pure.
pub(super) fn refine(compared: &mut Compared, verdicts: &Verdicts) {
    let right = |digest: &Digest| {
        verdicts.get(digest).and_then(|zones| {
            zones.values().find_map(|verdict| match verdict {
                Verdict::Right(size) => Some(*size),
                _ => None,
            })
        })
    };
    // For an object that was read, the result of reading replaces what the sizes suggested.
    let read: BTreeSet<(&Digest, &String)> =
        verdicts.iter().flat_map(|(digest, zones)| zones.keys().map(move |zone| (digest, zone))).collect();
    compared.findings.retain(|finding| match &finding.digest {
        Some(digest)
            if matches!(
                finding.kind,
                FindingKind::SizesDiffer | FindingKind::Empty | FindingKind::WrongBytes
            ) =>
        {
            !read.contains(&(digest, &finding.zone))
        }
        _ => true,
    });
    for finding in &mut compared.findings {
        finding.expected = finding.expected.or_else(|| finding.digest.as_ref().and_then(right));
    }
    for (digest, zones) in verdicts {
        for (zone, verdict) in zones {
            let (kind, size, detail) = match verdict {
                Verdict::Right(_) => continue,
                // It is missing only if another zone has it; otherwise no copy can restore it.
                Verdict::Gone => {
                    let kind =
                        if right(digest).is_some() { FindingKind::Missing } else { FindingKind::Unreadable };
                    (kind, None, Some("it was listed, but is not there".to_owned()))
                }
                Verdict::Wrong(0) => (FindingKind::Empty, Some(0), None),
                Verdict::Wrong(size) => (FindingKind::WrongBytes, Some(*size), None),
                Verdict::Unreadable(error) => (FindingKind::Unreadable, None, Some(error.clone())),
            };
            let mut finding = Finding::of(kind, zone, *digest, size);
            finding.expected = right(digest);
            finding.has =
                zones.iter().filter(|(_, v)| **v != Verdict::Gone).map(|(zone, _)| zone.clone()).collect();
            finding.detail = detail;
            compared.findings.push(finding);
        }
    }
    note_sourceless(compared, verdicts);
}

/// Where all objects of a blob were read and none is right, each of its findings says that, and what to do.
fn note_sourceless(compared: &mut Compared, verdicts: &Verdicts) {
    for finding in &mut compared.findings {
        let Some(zones) = finding.digest.as_ref().and_then(|digest| verdicts.get(digest)) else { continue };
        if zones.values().any(|verdict| matches!(verdict, Verdict::Right(_))) {
            continue;
        }
        let objects: Vec<_> =
            zones.iter().map(|(zone, verdict)| format!("{zone}: {}", told(verdict))).collect();
        finding.sourceless = true;
        finding.detail = Some(format!(
            "no zone gives this blob ({}): restore its object there, or push the image again",
            objects.join("; ")
        ));
    }
}

fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Right(_) => "right".to_owned(),
        Verdict::Wrong(_) => "wrong-bytes".to_owned(),
        Verdict::Gone => "it was listed, but is not there".to_owned(),
        Verdict::Unreadable(error) => format!("unreadable: {error}"),
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
    async fn reading_shows_which_zone_is_wrong() {
        let (digest, key) = (Digest::of(b"right"), Key::new("k"));
        let zones = [
            zone("a", &key, Some(b"right")),
            zone("b", &key, Some(b"wrong!")),
            zone("c", &key, None),
            zone("d", &key, Some(b"wrong")),
            Zone::unusable("e", "no such driver"),
        ];
        let reads = zones.iter().map(|zone| ReadTask { zone, digest, key: key.clone(), size: 5 });
        let verdicts = read_all(reads.collect()).await;
        let of = |name: &str| verdicts[&digest][name].clone();
        assert_eq!(
            [of("a"), of("b"), of("c"), of("d")],
            [Verdict::Right(5), Verdict::Wrong(6), Verdict::Gone, Verdict::Wrong(5)]
        );
        assert!(matches!(of("e"), Verdict::Unreadable(why) if why.contains("no such driver")));

        let mut compared = Compared::default();
        for (name, size) in [("a", 5), ("b", 6)] {
            compared.findings.push(Finding::of(FindingKind::SizesDiffer, name, digest, Some(size)));
        }
        compared.findings.push(Finding::of(FindingKind::Missing, "f", digest, None));
        refine(&mut compared, &verdicts);
        let found: Vec<_> =
            compared.findings.iter().map(|f| (f.kind, f.zone.as_str(), f.size, f.expected)).collect();
        assert_eq!(
            found,
            [
                (FindingKind::Missing, "f", None, Some(5)),
                (FindingKind::WrongBytes, "b", Some(6), Some(5)),
                (FindingKind::Missing, "c", None, Some(5)),
                (FindingKind::WrongBytes, "d", Some(5), Some(5)),
                (FindingKind::Unreadable, "e", None, Some(5)),
            ]
        );
    }

    #[test]
    fn if_no_object_is_right_all_findings_of_the_blob_say_so() {
        let [digest, other] = [Digest::of(b"x"), Digest::of(b"y")];
        let mut compared = Compared::default();
        for digest in [digest, other] {
            compared.findings.push(Finding::of(FindingKind::Missing, "a", digest, None));
        }
        let zones = [("b", Verdict::Unreadable("denied".into())), ("c", Verdict::Wrong(3))];
        let zones: BTreeMap<_, _> = zones.map(|(zone, verdict)| (zone.to_owned(), verdict)).into();
        refine(&mut compared, &[(digest, zones)].into());
        let of_other =
            compared.findings.iter().position(|found| found.digest == Some(other)).expect("it stays");
        let left = compared.findings.remove(of_other);
        assert!(!left.sourceless && left.detail.is_none());
        let kinds: Vec<_> = compared.findings.iter().map(|found| (found.kind, found.zone.as_str())).collect();
        let expected =
            [(FindingKind::Missing, "a"), (FindingKind::Unreadable, "b"), (FindingKind::WrongBytes, "c")];
        assert_eq!(kinds, expected);
        for found in &compared.findings {
            assert!(found.sourceless, "{found:?}");
            let detail = found.detail.as_deref().expect("it says why");
            assert!(detail.contains("b: unreadable: denied; c: wrong-bytes"), "{detail}");
            assert!(detail.contains("restore its object there, or push the image again"), "{detail}");
        }
    }
}
