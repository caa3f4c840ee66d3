//! What finished clusters computed, and how long that is remembered.

use rusqlite::params;
use serde::Serialize;

use super::clusters::ClusterFilter;
use super::error::StoreError;
use super::thread::StoreHandle;

/// How long finished clusters and their computations are kept.
pub const HISTORY_DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;

/// One computation of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredComputation {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's start: its name may come again. Unit: milliseconds since the epoch.
    pub cluster_start_ms: i64,
    /// Its own id.
    pub id: String,
    /// Unit: milliseconds since the epoch.
    pub start_ms: i64,
    /// None: it was not over when it was noted. Unit: milliseconds since the epoch.
    pub stop_ms: Option<i64>,
    /// JSON: groups, states, code.
    pub body: String,
}

impl StoreHandle {
    /// Notes computations, instead of those with the same ids. All or none.
    pub async fn note_computations(&self, all: Vec<StoredComputation>) -> Result<(), StoreError> {
        self.call(move |db| {
            let together = db.transaction()?;
            for one in all {
                together.execute(
                    "INSERT OR REPLACE INTO computations (cluster, cluster_start_ms, id, start_ms, stop_ms, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![one.cluster, one.cluster_start_ms, one.id, one.start_ms, one.stop_ms, one.body],
                )?;
            }
            together.commit()
        })
        .await
    }

    /// The latest computations. One is its cluster's user's; a name may have been another user's before.
    pub async fn computations(&self, which: ClusterFilter) -> Result<Vec<StoredComputation>, StoreError> {
        self.call(move |db| {
            let sql = "SELECT cluster, cluster_start_ms, id, start_ms, stop_ms, body FROM computations AS one
                       WHERE (?1 IS NULL OR EXISTS (SELECT 1 FROM clusters
                               WHERE name = one.cluster AND start_ms = one.cluster_start_ms AND user = ?1))
                         AND (?2 IS NULL OR cluster = ?2) ORDER BY start_ms DESC, id LIMIT ?3";
            let rows = |row: &rusqlite::Row<'_>| {
                Ok(StoredComputation {
                    cluster: row.get(0)?,
                    cluster_start_ms: row.get(1)?,
                    id: row.get(2)?,
                    start_ms: row.get(3)?,
                    stop_ms: row.get(4)?,
                    body: row.get(5)?,
                })
            };
            db.prepare(sql)?.query_map(params![which.user, which.cluster, which.limit], rows)?.collect()
        })
        .await
    }

    /// Forgets what ended more than [`HISTORY_DAYS`] before `now_ms`.
    pub async fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        let before = now_ms.saturating_sub(HISTORY_DAYS.saturating_mul(DAY_MS));
        self.call(move |db| {
            db.execute("DELETE FROM clusters WHERE stop_ms < ?1", [before])?;
            db.execute("DELETE FROM computations WHERE coalesce(stop_ms, start_ms) < ?1", [before])
        })
        .await?;
        Ok(())
    }
}
