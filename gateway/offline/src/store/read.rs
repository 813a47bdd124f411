//! Reads what is remembered, and still counts.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backends::Digest;
use bytes::Bytes;
use registry::bearer::with_namespace;
use rusqlite::{Params, Row, params};
use sqlite_file::{milliseconds, oldest};

use super::Store;
use crate::AcceptClass;

/// How far in the future a time may lie, because the clock was set back since.
const CLOCK_STEP_MAX: Duration = Duration::from_secs(60);

/// A manifest that the registry served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its digest. The bytes were verified when they were kept.
    pub digest: Digest,
    /// Its media type.
    pub content_type: String,
    /// Its bytes.
    pub body: Bytes,
    /// When the registry served it, or gave it for the tag.
    pub at: SystemTime,
}

/// A credential of a name, as it is remembered.
#[derive(Debug)]
pub(crate) struct StoredCredential {
    pub(crate) id: i64,
    pub(crate) hash: String,
}

impl Store {
    /// The manifest with this digest, if the registry served it in this repository lately. All functions that read may
    /// block on the disk. If the file cannot be read, they find nothing.
    #[must_use]
    pub fn manifest(&self, repository: &str, digest: &Digest, now: SystemTime) -> Option<Kept> {
        let sql = "SELECT m.digest, m.content_type, m.body, s.at FROM served s JOIN manifests m ON m.digest = s.digest
                   WHERE s.repository = ?3 AND s.digest = ?4 AND s.at BETWEEN ?1 AND ?2";
        let name = with_namespace(repository);
        let (from, to) = self.counting(now);
        self.one(sql, params![from, to, name, digest.to_string()], kept)
    }

    /// The manifest that the registry gave last for this tag, if that was lately. If no request of this class was answered,
    /// one that names all types may have been: if this class names the type of that answer, it gets the same.
    #[must_use]
    pub fn tag(&self, repository: &str, tag: &str, accept: AcceptClass, now: SystemTime) -> Option<Kept> {
        let stored = || {
            let kept = self.tag_of_class(repository, tag, AcceptClass::ALL, now)?;
            accept.names(&kept.content_type).then_some(kept)
        };
        self.tag_of_class(repository, tag, accept, now).or_else(stored)
    }

    fn tag_of_class(
        &self,
        repository: &str,
        tag: &str,
        accept: AcceptClass,
        now: SystemTime,
    ) -> Option<Kept> {
        let sql = "SELECT m.digest, m.content_type, m.body, t.at FROM tags t
                   JOIN served s ON s.repository = t.repository AND s.digest = t.digest
                   JOIN manifests m ON m.digest = t.digest
                   WHERE t.repository = ?3 AND t.tag = ?4 AND t.accept = ?5 AND t.at BETWEEN ?1 AND ?2";
        let name = with_namespace(repository);
        let (from, to) = self.counting(now);
        self.one(sql, params![from, to, name, tag, accept.number()], kept)
    }

    /// Whether the registry confirmed lately that this blob is in this repository.
    #[must_use]
    pub fn is_linked(&self, repository: &str, digest: &Digest, now: SystemTime) -> bool {
        let sql = "SELECT 1 FROM links WHERE repository = ?3 AND digest = ?4 AND at BETWEEN ?1 AND ?2";
        let name = with_namespace(repository);
        let (from, to) = self.counting(now);
        self.one(sql, params![from, to, name, digest.to_string()], exists).is_some()
    }

    /// Whether the registry served this repository lately to a client without credentials.
    #[must_use]
    pub fn is_anonymous(&self, repository: &str, now: SystemTime) -> bool {
        let sql = "SELECT 1 FROM anonymous WHERE repository = ?3 AND at BETWEEN ?1 AND ?2";
        let name = with_namespace(repository);
        let (from, to) = self.counting(now);
        self.one(sql, params![from, to, name], exists).is_some()
    }

    /// The credentials of a name that the registry accepted lately.
    pub(crate) fn credentials(&self, name: &str, now: SystemTime) -> Vec<StoredCredential> {
        let sql = "SELECT id, hash FROM credentials WHERE name = ?3 AND at BETWEEN ?1 AND ?2";
        let credential = |row: &Row<'_>| Ok(StoredCredential { id: row.get(0)?, hash: row.get(1)? });
        let (from, to) = self.counting(now);
        self.all(sql, params![from, to, name], credential)
    }

    /// Until when the registry's permission for this credential to read this repository counts, if it does.
    pub(crate) fn grant(&self, credential: i64, repository: &str, now: SystemTime) -> Option<SystemTime> {
        let sql = "SELECT at FROM grants WHERE credential = ?3 AND repository = ?4 AND at BETWEEN ?1 AND ?2";
        let name = with_namespace(repository);
        let at = |row: &Row<'_>| row.get(0).map(time);
        let (from, to) = self.counting(now);
        self.one(sql, params![from, to, credential, name], at).map(|at| at + self.max_age)
    }

    /// The times that count now.
    fn counting(&self, now: SystemTime) -> (i64, i64) {
        (oldest(milliseconds(now), self.max_age), milliseconds(now + CLOCK_STEP_MAX))
    }

    fn one<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Option<T> {
        self.all(sql, values, read).into_iter().next()
    }

    fn all<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Vec<T> {
        // Until a removal that was not queued or written has taken effect, nothing counts.
        if self.lost.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let reader = self.reader.lock();
        let rows = reader.prepare_cached(sql).and_then(|mut query| query.query_map(values, read)?.collect());
        rows.inspect_err(|error| tracing::warn!(%error, "what is remembered for offline use cannot be read"))
            .unwrap_or_default()
    }
}

fn exists(_: &Row<'_>) -> rusqlite::Result<()> {
    Ok(())
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let digest: String = row.get(0)?;
    let digest = digest.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
    let body: Vec<u8> = row.get(2)?;
    Ok(Kept { digest, content_type: row.get(1)?, body: body.into(), at: time(row.get(3)?) })
}

fn time(milliseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}
