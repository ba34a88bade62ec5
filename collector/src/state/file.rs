//! The database as a file: made durable, and moved aside whole.

use rusqlite::Connection;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Writes what stands in the write-ahead log into the database and syncs both; whether all of it is there
/// now. It is not while somebody reads an older state, which the next attempt outlives.
pub fn settle(path: &Path) -> Result<bool, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(super::BUSY_WAIT)?;
    // With `off` nothing would be synced.
    connection.pragma_update(None, "synchronous", "full")?;
    let (busy, logged, moved): (i64, i64, i64) =
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    Ok(busy == 0 && logged == moved)
}

/// Renames a database that nobody has open, with all that belongs to it, to `PATH.SUFFIX`; what stood there
/// before goes. The new name, or none if there was no database.
pub fn set_aside(path: &Path, suffix: &str) -> io::Result<Option<PathBuf>> {
    // So that one file is all of it, if it can be read at all.
    if path.exists()
        && let Ok(connection) = Connection::open(path)
    {
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".");
    aside.push(suffix);
    let aside = PathBuf::from(aside);
    let mut moved = false;
    // The database last: a log that is left behind would be taken for the next database's own.
    for part in ["-wal", "-shm", ""] {
        let with = |path: &Path| {
            let mut path = path.as_os_str().to_owned();
            path.push(part);
            PathBuf::from(path)
        };
        match fs::rename(with(path), with(&aside)) {
            Ok(()) => moved = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(moved.then_some(aside))
}
