//! Changes of what is remembered.

use std::sync::mpsc::SyncSender;
use std::time::SystemTime;

use backends::Digest;
use bytes::Bytes;
use registry::bearer::with_namespace;
use rusqlite::{Connection, params};
use sqlite_file::milliseconds;

use super::schema::{BY_REPOSITORY, forget_all};
use super::{MANIFEST_BYTES_MAX, Store};
use crate::AcceptClass;

/// The bytes that a digest or a name takes in the queue.
const ENTRY_BYTES: usize = 128;

/// The most passwords of one user that are remembered: a robot's token that was renewed, and application tokens.
const CREDENTIALS_OF_ONE_NAME_MAX: i64 = 8;

/// One change. Repositories have their namespace.
#[derive(Debug)]
pub(crate) enum Change {
    Manifest {
        repository: String,
        digest: Digest,
        content_type: String,
        body: Bytes,
        at: i64,
    },
    Tag {
        repository: String,
        tag: String,
        accept: AcceptClass,
        digest: Digest,
        at: i64,
    },
    Links {
        repository: String,
        digests: Vec<Digest>,
        at: i64,
    },
    Anonymous {
        repository: String,
        at: i64,
    },
    /// The registry let a credential read these repositories, of all those that it was asked for.
    Grants {
        name: String,
        hash: String,
        repositories: Vec<String>,
        at: i64,
    },
    NotAnonymous {
        repository: String,
    },
    ForgetTag {
        repository: String,
        tag: String,
    },
    ForgetManifest {
        repository: String,
        digest: Digest,
    },
    ForgetLink {
        repository: String,
        digest: Digest,
    },
    /// A repository, or a namespace with a slash at its end.
    Forget(String),
    /// The credential with this hash.
    ForgetCredential {
        hash: String,
    },
    /// A credential may not read a repository any more.
    ForgetGrant {
        hash: String,
        repository: String,
    },
    ForgetAll,
    Flush(SyncSender<()>),
    Close,
}

impl Store {
    /// Remembers that the registry served this manifest in this repository at `at`. The caller has verified the digest. A
    /// manifest of more than [`MANIFEST_BYTES_MAX`] is not kept.
    pub fn served(&self, repository: &str, digest: Digest, content_type: &str, body: Bytes, at: SystemTime) {
        if body.len() <= MANIFEST_BYTES_MAX {
            let (repository, at) = (named(repository), milliseconds(at));
            self.add(Change::Manifest {
                repository,
                digest,
                content_type: content_type.to_owned(),
                body,
                at,
            });
        }
    }

    /// Remembers that the registry gave this manifest for a tag.
    pub fn resolved(&self, repository: &str, tag: &str, accept: AcceptClass, digest: Digest, at: SystemTime) {
        let (repository, tag, at) = (named(repository), tag.to_owned(), milliseconds(at));
        self.add(Change::Tag { repository, tag, accept, digest, at });
    }

    /// Remembers that the registry confirmed that these blobs are in this repository.
    pub fn linked(&self, repository: &str, digests: Vec<Digest>, at: SystemTime) {
        if !digests.is_empty() {
            self.add(Change::Links { repository: named(repository), digests, at: milliseconds(at) });
        }
    }

    /// Remembers that the registry served this repository to a client without credentials.
    pub fn served_anonymously(&self, repository: &str, at: SystemTime) {
        self.add(Change::Anonymous { repository: named(repository), at: milliseconds(at) });
    }

    /// The registry refused a client without credentials.
    pub fn refused_anonymously(&self, repository: &str) {
        self.remove(Change::NotAnonymous { repository: named(repository) });
    }

    /// The registry does not know this tag.
    pub fn forget_tag(&self, repository: &str, tag: &str) {
        self.remove(Change::ForgetTag { repository: named(repository), tag: tag.to_owned() });
    }

    /// The registry does not know this manifest in this repository.
    pub fn forget_manifest(&self, repository: &str, digest: Digest) {
        self.remove(Change::ForgetManifest { repository: named(repository), digest });
    }

    /// The registry does not know this blob in this repository.
    pub fn forget_link(&self, repository: &str, digest: Digest) {
        self.remove(Change::ForgetLink { repository: named(repository), digest });
    }

    /// A repository has changed, or all of a namespace, whose name then ends with a slash.
    pub fn forget(&self, name: &str) {
        self.remove(Change::Forget(named(name)));
    }
}

fn named(repository: &str) -> String {
    with_namespace(repository).into_owned()
}

impl Change {
    /// The bytes that it takes in the queue.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Manifest { body, .. } => ENTRY_BYTES + body.len(),
            Self::Links { digests, .. } => ENTRY_BYTES * (1 + digests.len()),
            Self::Grants { repositories, .. } => ENTRY_BYTES * (1 + repositories.len()),
            Self::Tag { .. } | Self::Anonymous { .. } => ENTRY_BYTES,
            _ => 0,
        }
    }

    /// Whether the thread must write what it has now.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Close | Self::Flush(_))
    }

    pub(super) fn removes(&self) -> bool {
        !matches!(
            self,
            Self::Manifest { .. }
                | Self::Tag { .. }
                | Self::Links { .. }
                | Self::Anonymous { .. }
                | Self::Grants { .. }
        )
    }

    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Manifest { repository, digest, content_type, body, at } => {
                let digest = digest.to_string();
                db.prepare_cached("INSERT OR IGNORE INTO manifests VALUES (?1, ?2, ?3)")?
                    .execute(params![digest, content_type, &**body])?;
                upsert(db, "served", repository, &digest, *at)
            }
            Self::Tag { repository, tag, accept, digest, at } => {
                let sql = "INSERT INTO tags VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE
                           SET digest = excluded.digest, at = excluded.at WHERE excluded.at >= at";
                let digest = digest.to_string();
                db.prepare_cached(sql)?.execute(params![repository, tag, accept.number(), digest, at])?;
                Ok(())
            }
            Self::Links { repository, digests, at } => digests
                .iter()
                .try_for_each(|digest| upsert(db, "links", repository, &digest.to_string(), *at)),
            Self::Anonymous { repository, at } => {
                let sql = "INSERT INTO anonymous VALUES (?1, ?2)
                           ON CONFLICT DO UPDATE SET at = max(at, excluded.at)";
                db.prepare_cached(sql)?.execute(params![repository, at]).map(drop)
            }
            Self::Grants { name, hash, repositories, at } => grant(db, (name, hash), repositories, *at),
            Self::NotAnonymous { repository } => {
                db.execute("DELETE FROM anonymous WHERE repository = ?1", [repository]).map(drop)
            }
            Self::ForgetTag { repository, tag } => {
                db.execute("DELETE FROM tags WHERE repository = ?1 AND tag = ?2", [repository, tag]).map(drop)
            }
            Self::ForgetManifest { repository, digest } => {
                let digest = digest.to_string();
                for table in ["served", "tags"] {
                    let sql = format!("DELETE FROM {table} WHERE repository = ?1 AND digest = ?2");
                    db.execute(&sql, [repository, &digest])?;
                }
                Ok(())
            }
            Self::ForgetLink { repository, digest } => db
                .execute(
                    "DELETE FROM links WHERE repository = ?1 AND digest = ?2",
                    [repository, &digest.to_string()],
                )
                .map(drop),
            Self::Forget(name) => {
                BY_REPOSITORY.iter().try_for_each(|table| sqlite_file::forget(db, table, name))
            }
            Self::ForgetCredential { hash } => {
                let sql =
                    "DELETE FROM grants WHERE credential IN (SELECT id FROM credentials WHERE hash = ?1)";
                db.execute(sql, [hash])?;
                db.execute("DELETE FROM credentials WHERE hash = ?1", [hash]).map(drop)
            }
            Self::ForgetGrant { hash, repository } => {
                let sql = "DELETE FROM grants WHERE repository = ?2
                           AND credential IN (SELECT id FROM credentials WHERE hash = ?1)";
                db.execute(sql, [hash, repository]).map(drop)
            }
            Self::ForgetAll => forget_all(db),
            Self::Flush(_) | Self::Close => Ok(()),
        }
    }
}

fn upsert(db: &Connection, table: &str, repository: &str, digest: &str, at: i64) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO {table} VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)"
    );
    db.prepare_cached(&sql)?.execute(params![repository, digest, at]).map(drop)
}

/// Remembers a credential and what it may read. Of one name, the credentials that were used last stay.
fn grant(
    db: &Connection,
    (name, hash): (&str, &str),
    repositories: &[String],
    at: i64,
) -> rusqlite::Result<()> {
    let known = "UPDATE credentials SET at = max(at, ?2) WHERE hash = ?1";
    if db.prepare_cached(known)?.execute(params![hash, at])? == 0 {
        db.execute("INSERT INTO credentials (name, hash, at) VALUES (?1, ?2, ?3)", params![name, hash, at])?;
        let beyond = "DELETE FROM credentials WHERE name = ?1 AND id NOT IN
                      (SELECT id FROM credentials WHERE name = ?1 ORDER BY at DESC, id DESC LIMIT ?2)";
        db.execute(beyond, params![name, CREDENTIALS_OF_ONE_NAME_MAX])?;
    }
    let sql = "INSERT INTO grants SELECT id, ?2, ?3 FROM credentials WHERE hash = ?1
               ON CONFLICT DO UPDATE SET at = max(at, excluded.at)";
    let mut insert = db.prepare_cached(sql)?;
    repositories.iter().try_for_each(|repository| insert.execute(params![hash, repository, at]).map(drop))
}
