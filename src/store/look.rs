//! Reads the file from outside, while its owner may be at work: nothing is made, locked for long, or brought up to date.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use super::schema;

/// Is the file sound, and one that we can use? `None`: there is none yet. Else its schema. Blocks.
///
/// Errors: damaged, newer than us, not to be read.
pub fn look(path: &Path) -> Result<Option<u32>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = |why: rusqlite::Error| StoreError::from_sqlite(path, &why);
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let said: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if said != "ok" {
        return Err(StoreError::Corrupt { path: path.to_path_buf(), why: said });
    }
    let found: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    if found > schema::known() {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known: schema::known() });
    }
    Ok(Some(found))
}
