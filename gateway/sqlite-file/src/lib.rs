#![doc = include_str!("../README.md")]

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, params};

/// How long changes are gathered for one commit.
const GATHER: Duration = Duration::from_millis(500);

/// Changes in one commit.
pub const BATCH_MAX: usize = 1000;

/// Opens the file at `path`, or makes it.
///
/// # Errors
/// The file cannot be read or written, or is no SQLite file.
pub fn open(path: &Path) -> anyhow::Result<Connection> {
    // SQLite gives its log the same mode.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // A removal must not be undone by a loss of power.
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}

/// The next changes, at most [`BATCH_MAX`], which are gathered for half a second or until one that `ends` the batch. `None` if nobody
/// is left to send any.
pub fn gathered<T>(changes: &Receiver<T>, ends: impl Fn(&T) -> bool) -> Option<Vec<T>> {
    let mut batch = vec![changes.recv().ok()?];
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH_MAX && !batch.last().is_some_and(&ends) {
        match changes.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(change) => batch.push(change),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(batch)
}

/// A time as the tables have it: milliseconds since 1970.
#[must_use]
pub fn milliseconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// The earliest time that is not older than `age`.
#[must_use]
pub fn oldest(now: i64, age: Duration) -> i64 {
    now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// Removes the rows of a repository from a table, or of a namespace, whose name then ends with a slash. `table` is a name
/// from the code.
///
/// # Errors
/// The file cannot be written.
pub fn forget(db: &Connection, table: &str, name: &str) -> rusqlite::Result<()> {
    match name.strip_suffix('/') {
        Some(namespace) => {
            // '0' follows '/'.
            let sql = format!("DELETE FROM {table} WHERE repository >= ?1 AND repository < ?2");
            db.prepare_cached(&sql)?.execute([name, &format!("{namespace}0")])?
        }
        None => db.prepare_cached(&format!("DELETE FROM {table} WHERE repository = ?1"))?.execute([name])?,
    };
    Ok(())
}

/// Removes the rows of a table that are older than `oldest`, and of the others all but about the newest `rows`. `time` is the
/// column of their times.
///
/// # Errors
/// The file cannot be written.
pub fn keep_newest(
    db: &Connection,
    (table, time): (&str, &str),
    oldest: i64,
    rows: i64,
) -> rusqlite::Result<()> {
    db.execute(&format!("DELETE FROM {table} WHERE {time} < ?1"), [oldest])?;
    let count: i64 = db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    if count > rows {
        let last = format!("SELECT {time} FROM {table} ORDER BY {time} LIMIT 1 OFFSET ?1");
        db.execute(&format!("DELETE FROM {table} WHERE {time} <= ({last})"), params![count - rows])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn names(db: &Connection) -> Vec<String> {
        let mut read = db.prepare("SELECT repository FROM t ORDER BY at").expect("a query");
        let rows = read.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("names")
    }

    fn table(rows: &[(&str, i64)]) -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().expect("a folder");
        let db = open(&folder.path().join("a")).expect("opened");
        db.execute_batch("CREATE TABLE t (repository TEXT, at INTEGER)").expect("a table");
        for (name, at) in rows {
            db.execute("INSERT INTO t VALUES (?1, ?2)", params![name, at]).expect("a row");
        }
        (folder, db)
    }

    #[test]
    fn only_the_owner_reads_the_file() {
        let (folder, _db) = table(&[]);
        let mode = std::fs::metadata(folder.path().join("a")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_repository_or_a_namespace_is_forgotten() {
        let rows = [("o/a", 1), ("o/b", 2), ("o0", 3), ("o-x/a", 4), ("p/a", 5)];
        for (name, left) in [
            ("o/a", &["o/b", "o0", "o-x/a", "p/a"][..]),
            ("o/", &["o0", "o-x/a", "p/a"]),
            ("o", &["o/a", "o/b", "o0", "o-x/a", "p/a"]),
        ] {
            let (_folder, db) = table(&rows);
            forget(&db, "t", name).expect("written");
            assert_eq!(names(&db), left, "{name}");
        }
    }

    #[test]
    fn the_newest_rows_stay() {
        let (_folder, db) = table(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]);
        keep_newest(&db, ("t", "at"), 2, 10).expect("written");
        assert_eq!(names(&db), ["b", "c", "d", "e"]);
        keep_newest(&db, ("t", "at"), 2, 3).expect("written");
        assert_eq!(names(&db), ["d", "e"], "the bound is never passed");
    }

    #[test]
    fn a_batch_ends_with_what_ends_it() {
        let (send, changes) = sync_channel(8);
        (0..5).for_each(|change| send.send(change).expect("sent"));
        assert_eq!(gathered(&changes, |change| *change == 2), Some(vec![0, 1, 2]));
        drop(send);
        assert_eq!(gathered(&changes, |_| false), Some(vec![3, 4]));
        assert_eq!(gathered(&changes, |_| false), None);
    }
}
