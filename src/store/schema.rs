//! The tables, as numbered steps. A step that was released is never changed; new ones are added at the end.

use std::path::Path;

use rusqlite::Connection;

use super::error::StoreError;

/// Step n leads to schema n (from 1).
const STEPS: &[&str] = &[
    "
    CREATE TABLE clusters (
        name TEXT NOT NULL, start_ms INTEGER NOT NULL, user TEXT NOT NULL, status TEXT NOT NULL,
        stop_ms INTEGER, reason TEXT, body TEXT NOT NULL,
        PRIMARY KEY (name, start_ms)) STRICT;
    CREATE INDEX clusters_stop ON clusters (stop_ms);
    CREATE TABLE computations (
        cluster TEXT NOT NULL, cluster_start_ms INTEGER NOT NULL, id TEXT NOT NULL,
        start_ms INTEGER NOT NULL, stop_ms INTEGER, body TEXT NOT NULL,
        PRIMARY KEY (cluster, cluster_start_ms, id)) STRICT;
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY, label TEXT NOT NULL, user TEXT NOT NULL, role TEXT NOT NULL,
        hash TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL, expires_ms INTEGER, used_ms INTEGER) STRICT;
",
    "
    CREATE TABLE join_tokens (
        id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL, uses_left INTEGER NOT NULL, used_ms INTEGER) STRICT;
    CREATE TABLE peers (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, secret_hash TEXT NOT NULL,
        joined_ms INTEGER NOT NULL, drained INTEGER NOT NULL) STRICT;
",
    "ALTER TABLE peers ADD COLUMN passing INTEGER NOT NULL DEFAULT 0;",
    "
    ALTER TABLE join_tokens ADD COLUMN reserved TEXT;
    ALTER TABLE peers ADD COLUMN reserved TEXT;
    ALTER TABLE peers ADD COLUMN job TEXT;
",
];

/// The schema that all steps lead to.
pub(super) fn known() -> u32 {
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// Brings the file to our schema. Errors: a newer one; anything of SQLite's.
pub(super) fn migrate(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |why: rusqlite::Error| StoreError::from_sqlite(path, &why);
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let known = known();
    if found > known {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known });
    }
    for (number, step) in (1u32..).zip(STEPS).skip(found as usize) {
        // A step is done whole or not at all, its number with it.
        let all = db.transaction().map_err(failed)?;
        all.execute_batch(step).map_err(failed)?;
        all.pragma_update(None, "user_version", number).map_err(failed)?;
        all.commit().map_err(failed)?;
    }
    Ok(())
}
