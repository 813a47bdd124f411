//! Conformance tests for every [`Store`], which can run against any server.
//!
//! The suite writes below its own prefix and removes what it wrote.

mod broken;
mod huge;
mod read;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderName, HeaderValue};

use crate::{Key, Kind, RequestId, Result, Source, Store};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// One mebibyte, 2^20 bytes.
const MIB: usize = 1024 * 1024;

/// Which parts of the suite run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether to test objects of 5 to 11 MiB, around the smallest part of S3. The store's threshold and part
    /// size must be 5 MiB ([`S3Store::with_multipart`](crate::s3::S3Store::with_multipart)).
    pub large: bool,
    /// Whether to test an object of 100 MiB and one byte, which is generated while it is sent and compared
    /// while it is read.
    pub huge: bool,
    /// How many objects to list. The store's page size must be smaller.
    pub listed: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { large: false, huge: false, listed: 7 }
    }
}

/// The case that failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("{case}: {what}")]
pub struct Failure {
    case: &'static str,
    what: String,
}

/// Runs all cases and stops at the first failure.
///
/// # Errors
/// The failed case, and what the store did.
pub async fn run(store: Arc<dyn Store>, options: Options) -> Result<(), Failure> {
    // The suite runs in the scope of a client's request, because stores must not refuse the headers that name it.
    let traceparent = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let request = RequestId::of_request(&mut [(TRACEPARENT, traceparent)].into_iter().collect());
    request.scope(run_all(store, options)).await
}

async fn run_all(store: Arc<dyn Store>, options: Options) -> Result<(), Failure> {
    let prefix = format!("conformance-{:016x}", fastrand::u64(..));
    let suite = Suite { store, options, prefix };
    macro_rules! cases {
        ($($case:path),* $(,)?) => {
            $(
                let case = stringify!($case);
                tracing::info!(case, "conformance");
                $case(&suite).await.map_err(|what| Failure { case, what })?;
            )*
        };
    }
    cases![
        read::absence,
        read::whole_objects,
        read::ranges,
        read::abandoned_bodies,
        read::odd_names,
        read::odd_listings,
        read::listings,
        huge::huge_object,
        write::overwriting,
        write::overwriting_while_read,
        write::concurrent_puts,
        write::wrong_bytes,
        write::broken_sources,
        write::copies_over,
        write::failed_puts_over_another,
        write::cancelled_puts,
        write::deletion,
    ];
    let clean = suite.found("").await.map_err(|what| Failure { case: "cleaning up", what })?;
    if clean.is_empty() {
        return Ok(());
    }
    Err(Failure { case: "cleaning up", what: format!("left behind: {clean:?}") })
}

struct Suite {
    store: Arc<dyn Store>,
    options: Options,
    prefix: String,
}

/// The result of a case. The error says what went wrong.
type CaseResult<T = ()> = std::result::Result<T, String>;

impl Suite {
    fn key(&self, name: &str) -> Key {
        Key::new(format!("{}/{name}", self.prefix))
    }

    /// Sizes around the limits at which drivers cut.
    fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0, 1, 2];
        for edge in [64 * 1024, 256 * 1024] {
            sizes.extend([edge - 1, edge, edge + 1]);
        }
        if self.options.large {
            for edge in [5 * MIB, 10 * MIB] {
                sizes.extend([edge - 1, edge, edge + 1]);
            }
        }
        sizes
    }

    /// A small size, and the largest that the options allow.
    fn two_sizes(&self) -> Vec<usize> {
        if self.options.large { vec![100_000, 11 * MIB + 3] } else { vec![100_000] }
    }

    async fn put(&self, key: &Key, bytes: &Bytes) -> CaseResult {
        self.store.put(key, &Source::bytes(bytes.clone())).await.map_err(|error| error.to_string())
    }

    async fn remove(&self, key: &Key) -> CaseResult {
        self.store.delete(key).await.map_err(|error| error.to_string())
    }

    /// Reads an object and checks its metadata. `None` if there is no object.
    async fn read(&self, key: &Key, range: Option<std::ops::Range<u64>>) -> Result<Option<Bytes>> {
        let Some(object) = self.store.get(key, range).await? else { return Ok(None) };
        let promised = object.range.end - object.range.start;
        let pieces: Vec<Bytes> = object.body.try_collect().await?;
        let bytes = Bytes::from(pieces.concat());
        if bytes.len() as u64 != promised || object.size.is_some_and(|size| object.range.end > size) {
            let what = format!("{} bytes of {:?} of {:?}", bytes.len(), object.range, object.size);
            return Err(crate::Error::new(Kind::Corrupt, what));
        }
        Ok(Some(bytes))
    }

    async fn holds(&self, key: &Key, bytes: &Bytes) -> CaseResult {
        let size = self.store.head(key).await.map_err(|error| error.to_string())?.map(|meta| meta.size);
        same("the size", &size, &Some(bytes.len() as u64))?;
        let read = self.read(key, None).await.map_err(|error| error.to_string())?;
        ensure(read.as_ref() == Some(bytes), || format!("{key}: other bytes than were written"))
    }

    async fn is_absent(&self, key: &Key) -> CaseResult {
        let head = self.store.head(key).await.map_err(|error| error.to_string())?;
        ensure(head.is_none(), || format!("{key}: HEAD sees {head:?}"))?;
        let read = self.read(key, None).await.map_err(|error| error.to_string())?;
        ensure(read.is_none(), || format!("{key}: GET sees it"))
    }

    /// The names below the suite's prefix and `prefix`, sorted, with their sizes.
    async fn found(&self, prefix: &str) -> CaseResult<Vec<(String, u64)>> {
        let prefix = format!("{}/{prefix}", self.prefix);
        let found: Vec<_> =
            self.store.list(&prefix).try_collect().await.map_err(|error| error.to_string())?;
        let mut names: Vec<_> =
            found.into_iter().map(|meta| (meta.key.as_str().to_owned(), meta.size)).collect();
        names.sort();
        Ok(names)
    }
}

/// Bytes without repetition.
fn noise(seed: u64, size: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    Bytes::from(bytes)
}

fn ensure(right: bool, what: impl FnOnce() -> String) -> CaseResult {
    if right { Ok(()) } else { Err(what()) }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> CaseResult {
    ensure(seen == expected, || format!("{what} is {seen:?} instead of {expected:?}"))
}

fn fails<T: std::fmt::Debug>(what: &str, result: Result<T>, kinds: &[Kind]) -> CaseResult {
    match result {
        Err(error) if kinds.contains(&error.kind()) => Ok(()),
        Err(error) => Err(format!("{what}: expected one of {kinds:?}, but {error}")),
        Ok(answer) => Err(format!("{what}: expected one of {kinds:?}, but {answer:?}")),
    }
}
