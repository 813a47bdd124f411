//! The tables, and how the file is opened and kept within its bounds.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};
use sqlite_file::{keep_newest, oldest};

/// The file in `state_dir`.
pub(super) const FILE: &str = "offline.sqlite";

/// The version of the tables. A file of another version is emptied.
const VERSION: i64 = 1;

/// The bytes of all manifests in the file.
const MANIFESTS_BYTES_MAX: i64 = 256 * 1024 * 1024;

/// The most rows of each table. A row takes about 200 bytes.
const ROWS_MAX: i64 = 500_000;

/// All times are milliseconds since 1970, of the request that the registry answered.
const TABLES: &str = "
    CREATE TABLE registry (name TEXT NOT NULL);
    CREATE TABLE manifests (
        digest TEXT PRIMARY KEY,
        content_type TEXT NOT NULL,
        body BLOB NOT NULL
    ) WITHOUT ROWID;
    -- The registry served this manifest in this repository.
    CREATE TABLE served (
        repository TEXT NOT NULL, digest TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID;
    -- The registry gave this manifest for a tag and a class of Accept.
    CREATE TABLE tags (
        repository TEXT NOT NULL, tag TEXT NOT NULL, accept INTEGER NOT NULL, digest TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (repository, tag, accept)
    ) WITHOUT ROWID;
    -- The registry confirmed that this blob is in this repository.
    CREATE TABLE links (
        repository TEXT NOT NULL, digest TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID;
    -- The registry served this repository to a client without credentials.
    CREATE TABLE anonymous (repository TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
    -- A credential: a keyed hash of the name, and a keyed Argon2id hash of name and password. An id is never used again.
    CREATE TABLE credentials (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, hash TEXT NOT NULL, at INTEGER NOT NULL);
    CREATE INDEX credentials_name ON credentials (name);
    -- The registry let this credential read this repository.
    CREATE TABLE grants (
        credential INTEGER NOT NULL, repository TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (credential, repository)
    ) WITHOUT ROWID;
";

/// The tables that have a time for a repository.
pub(super) const BY_REPOSITORY: [&str; 5] = ["served", "tags", "links", "anonymous", "grants"];

/// Opens the file, and empties it if it is of another version or of another registry.
pub(super) fn open(path: &Path, registry: &str) -> anyhow::Result<Connection> {
    let mut db = sqlite_file::open(path)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let begin = db.transaction()?;
    if version != VERSION {
        let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let tables: Vec<String> =
            begin.prepare(names)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for table in tables {
            begin.execute_batch(&format!("DROP TABLE \"{table}\""))?;
        }
        begin.execute_batch(TABLES)?;
        begin.pragma_update(None, "user_version", VERSION)?;
    }
    let of: i64 =
        begin.query_row("SELECT count(*) FROM registry WHERE name = ?1", [registry], |row| row.get(0))?;
    if of == 0 {
        forget_all(&begin)?;
        begin.execute("DELETE FROM registry", [])?;
        begin.execute("INSERT INTO registry VALUES (?1)", [registry])?;
    }
    begin.commit()?;
    Ok(db)
}

pub(super) fn forget_all(db: &Connection) -> rusqlite::Result<()> {
    for table in BY_REPOSITORY.iter().chain(&["manifests", "credentials"]) {
        db.execute(&format!("DELETE FROM {table}"), [])?;
    }
    Ok(())
}

/// Removes what is too old, then the oldest of what is too much, and then what nothing names any more.
pub(super) fn clean_up(db: &Connection, now: i64, max_age: Duration) -> rusqlite::Result<()> {
    let oldest = oldest(now, max_age);
    for table in BY_REPOSITORY.iter().chain(&["credentials"]) {
        keep_newest(db, (table, "at"), oldest, ROWS_MAX)?;
    }
    bound_manifests(db)?;
    db.execute("DELETE FROM grants WHERE credential NOT IN (SELECT id FROM credentials)", [])?;
    db.execute(
        "DELETE FROM tags WHERE NOT EXISTS (SELECT 1 FROM served WHERE served.repository = tags.repository AND served.digest = tags.digest)",
        [],
    )?;
    db.execute("DELETE FROM manifests WHERE digest NOT IN (SELECT digest FROM served)", [])?;
    Ok(())
}

/// Removes the manifests that were served longest ago, until the others fit.
fn bound_manifests(db: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT m.digest, length(m.body) FROM manifests m JOIN served s ON s.digest = m.digest
               GROUP BY m.digest ORDER BY max(s.at) DESC";
    let mut read = db.prepare(sql)?;
    let mut rows = read.query([])?;
    let (mut bytes, mut beyond) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        let (digest, length): (String, i64) = (row.get(0)?, row.get(1)?);
        bytes += length;
        if bytes > MANIFESTS_BYTES_MAX {
            beyond.push(digest);
        }
    }
    for digest in beyond {
        db.execute("DELETE FROM served WHERE digest = ?1", params![digest])?;
    }
    Ok(())
}
