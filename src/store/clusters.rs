//! Records of clusters: what the next appliance needs to adopt one, or to close it honestly.

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::thread::StoreHandle;

/// The record of a cluster. A name may come again later; the start tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    pub name: String,
    /// Unit: milliseconds since the epoch.
    pub start_ms: i64,
    /// Who made it.
    pub user: String,
    /// `PENDING` ... `FAILED`
    pub status: String,
    /// When it ended. Unit: milliseconds since the epoch.
    pub stop_ms: Option<i64>,
    /// Why it ended.
    pub reason: Option<String>,
    /// JSON, its owner's: options, settings, scale, bounds.
    pub body: String,
}

/// What of the past is asked for, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFilter {
    /// Only this user's.
    pub user: Option<String>,
    /// Only of clusters with this name.
    pub cluster: Option<String>,
    /// At most this number.
    pub limit: u32,
}

impl ClusterFilter {
    /// Everybody's.
    pub fn latest(limit: u32) -> Self {
        Self { limit, ..Self::default() }
    }
}

const COLUMNS: &str = "name, start_ms, user, status, stop_ms, reason, body";

fn read(row: &Row<'_>) -> rusqlite::Result<ClusterRecord> {
    Ok(ClusterRecord {
        name: row.get(0)?,
        start_ms: row.get(1)?,
        user: row.get(2)?,
        status: row.get(3)?,
        stop_ms: row.get(4)?,
        reason: row.get(5)?,
        body: row.get(6)?,
    })
}

impl StoreHandle {
    /// Writes a record, instead of the one with the same name and start.
    pub async fn upsert_cluster(&self, record: ClusterRecord) -> Result<(), StoreError> {
        self.call(move |db| {
            db.execute(
                "INSERT OR REPLACE INTO clusters (name, start_ms, user, status, stop_ms, reason, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    record.name,
                    record.start_ms,
                    record.user,
                    record.status,
                    record.stop_ms,
                    record.reason,
                    record.body
                ],
            )
        })
        .await?;
        Ok(())
    }

    /// Those that have not ended, oldest first.
    pub async fn load_clusters(&self) -> Result<Vec<ClusterRecord>, StoreError> {
        self.call(|db| {
            let sql = format!("SELECT {COLUMNS} FROM clusters WHERE stop_ms IS NULL ORDER BY start_ms");
            db.prepare(&sql)?.query_map([], read)?.collect()
        })
        .await
    }

    /// Those that ended at `since_ms` or later, the latest first.
    pub async fn finished_clusters(
        &self,
        since_ms: i64,
        which: ClusterFilter,
    ) -> Result<Vec<ClusterRecord>, StoreError> {
        self.call(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM clusters
                 WHERE stop_ms >= ?1 AND (?2 IS NULL OR user = ?2) AND (?3 IS NULL OR name = ?3)
                 ORDER BY stop_ms DESC, name LIMIT ?4"
            );
            db.prepare(&sql)?.query_map(params![since_ms, which.user, which.cluster, which.limit], read)?.collect()
        })
        .await
    }

    /// Had somebody else a cluster of this name, as far as is remembered?
    pub async fn was_anothers(&self, name: &str, user: &str) -> Result<bool, StoreError> {
        let (name, user) = (name.to_owned(), user.to_owned());
        let sql = "SELECT EXISTS (SELECT 1 FROM clusters WHERE name = ?1 AND user <> ?2)";
        self.call(move |db| db.query_row(sql, params![name, user], |row| row.get(0))).await
    }
}
