//! What can be wrong with the store, and the way out of it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::base::Blame;

/// Why the store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file is no database, or a damaged one.
    #[error("the database {path} is damaged: {why}")]
    Corrupt {
        path: PathBuf,
        /// SQLite's words.
        why: String,
    },
    /// No room left on the disk.
    #[error("no space left to write the database {path}")]
    Full { path: PathBuf },
    /// A newer rask wrote it.
    #[error("the database {path} was written by a newer rask (schema {found}; this one knows {known})")]
    Newer {
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// It cannot be opened, read or written: permissions, a broken disk.
    #[error("the database {path} cannot be used: {why}")]
    Io {
        path: PathBuf,
        /// SQLite's or the system's words.
        why: String,
    },
    /// Too much is waiting, or the thread is gone.
    #[error("the database did not answer in time")]
    Busy,
    /// A query was wrong.
    #[error("a query failed: {0}")]
    Query(String),
}

impl StoreError {
    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        let why = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, why },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked,
            ) => Self::Io { path, why },
            _ => Self::Query(why),
        }
    }

    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Corrupt { .. } | Self::Full { .. } | Self::Newer { .. } | Self::Io { .. } | Self::Busy => {
                Blame::World
            }
            Self::Query(_) => Blame::Ours,
        }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Corrupt { path, .. } => {
                let file = path.display();
                format!(
                    "stop rask, move {file}, {file}-wal and {file}-shm elsewhere and start it again: it makes a new \
                     one; tokens must then be made anew and the history is gone"
                )
            }
            Self::Full { path } => {
                format!("free some space on the disk of {}; nothing that was stored is lost", path.display())
            }
            Self::Newer { path, .. } => {
                format!("run the newer version again, or move {} elsewhere to start with an empty one", path.display())
            }
            Self::Io { path, .. } => {
                format!("check that this user may read and write {} and its folder", path.display())
            }
            Self::Busy => "try again in a moment; if it stays so, the disk is too slow or broken".to_owned(),
            Self::Query(_) => "this is a defect of rask; please report it with this text".to_owned(),
        }
    }
}
