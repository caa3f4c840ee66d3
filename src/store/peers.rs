//! Machines that joined, and the invitations that let them in. Secrets are kept as hashes only.
//!
//! Invitations have a table of their own: no client's token can be one of them, nor the other way round.

use rusqlite::{OptionalExtension, Row, params};

use super::error::StoreError;
use super::thread::StoreHandle;

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinTokenRecord {
    /// Its public id.
    pub id: String,
    /// SHA-256 of its text, hexadecimal.
    pub hash: String,
    /// Unit: milliseconds since the epoch.
    pub created_ms: i64,
    /// Unit: milliseconds since the epoch.
    pub expires_ms: i64,
    /// Machines that may still join with it.
    pub uses_left: u32,
    /// When it was last used. Unit: milliseconds since the epoch.
    pub used_ms: Option<i64>,
    /// Machines that join with it are for this cluster only.
    pub reserved: Option<String>,
}

/// What came of using an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// One use is taken.
    Taken {
        /// Of the token.
        id: String,
        /// For this cluster only.
        reserved: Option<String>,
    },
    /// There is none with this hash, or none any more.
    Unknown,
    /// Its time is over.
    Expired(String),
    /// As many machines joined with it as may.
    UsedUp(String),
}

/// A machine that joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// Made by us, in its certificates.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the secret that renews its certificate, hexadecimal.
    pub secret_hash: String,
    /// Unit: milliseconds since the epoch.
    pub joined_ms: i64,
    /// Somebody wants it empty.
    pub drained: bool,
    /// It is here for a while only.
    pub passing: bool,
    /// It is for this cluster only.
    pub reserved: Option<String>,
    /// The batch system's name of the job that it is.
    pub job: Option<String>,
}

fn token(row: &Row<'_>) -> rusqlite::Result<JoinTokenRecord> {
    Ok(JoinTokenRecord {
        id: row.get(0)?,
        hash: row.get(1)?,
        created_ms: row.get(2)?,
        expires_ms: row.get(3)?,
        uses_left: row.get(4)?,
        used_ms: row.get(5)?,
        reserved: row.get(6)?,
    })
}

const TOKEN_COLUMNS: &str = "id, hash, created_ms, expires_ms, uses_left, used_ms, reserved";

impl StoreHandle {
    /// Keeps an invitation.
    pub async fn create_join_token(&self, token: JoinTokenRecord) -> Result<(), StoreError> {
        self.call(move |db| {
            db.execute(
                "INSERT INTO join_tokens (id, hash, created_ms, expires_ms, uses_left, reserved) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![token.id, token.hash, token.created_ms, token.expires_ms, token.uses_left, token.reserved],
            )
        })
        .await?;
        Ok(())
    }

    /// All invitations, oldest first; used up and expired ones too.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenRecord>, StoreError> {
        self.call(|db| {
            let sql = format!("SELECT {TOKEN_COLUMNS} FROM join_tokens ORDER BY created_ms, id");
            db.prepare(&sql)?.query_map([], token)?.collect()
        })
        .await
    }

    /// Takes one use of the invitation with this hash, if it has one left: of two that come at once, one gets it.
    pub async fn use_join_token(&self, hash: &str, now_ms: i64) -> Result<TokenUse, StoreError> {
        let hash = hash.to_owned();
        self.call(move |db| {
            let all = db.transaction()?;
            let sql = format!("SELECT {TOKEN_COLUMNS} FROM join_tokens WHERE hash = ?1");
            let found = all.query_row(&sql, [&hash], token).optional()?;
            let used = match found {
                None => TokenUse::Unknown,
                Some(token) if token.expires_ms <= now_ms => TokenUse::Expired(token.id),
                Some(token) if token.uses_left == 0 => TokenUse::UsedUp(token.id),
                Some(token) => {
                    let sql = "UPDATE join_tokens SET uses_left = uses_left - 1, used_ms = ?2 WHERE id = ?1";
                    all.execute(sql, params![token.id, now_ms])?;
                    TokenUse::Taken { id: token.id, reserved: token.reserved }
                }
            };
            all.commit()?;
            Ok(used)
        })
        .await
    }

    /// Forgets an invitation. `false`: there was none.
    pub async fn revoke_join_token(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        Ok(self.call(move |db| db.execute("DELETE FROM join_tokens WHERE id = ?1", [id])).await? > 0)
    }

    /// Forgets the invitations of machines that were to be for a cluster.
    pub async fn revoke_join_tokens_of(&self, cluster: &str) -> Result<(), StoreError> {
        let cluster = cluster.to_owned();
        self.call(move |db| db.execute("DELETE FROM join_tokens WHERE reserved = ?1", [cluster])).await?;
        Ok(())
    }

    /// Keeps a machine, or what changed about it.
    pub async fn upsert_peer(&self, peer: PeerRecord) -> Result<(), StoreError> {
        self.call(move |db| {
            db.execute(
                "INSERT OR REPLACE INTO peers (id, name, secret_hash, joined_ms, drained, passing, reserved, job) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    peer.id,
                    peer.name,
                    peer.secret_hash,
                    peer.joined_ms,
                    peer.drained,
                    peer.passing,
                    peer.reserved,
                    peer.job
                ],
            )
        })
        .await?;
        Ok(())
    }

    /// All machines, oldest first.
    pub async fn peers(&self) -> Result<Vec<PeerRecord>, StoreError> {
        self.call(|db| {
            let sql = "SELECT id, name, secret_hash, joined_ms, drained, passing, reserved, job FROM peers ORDER BY joined_ms, id";
            let read = |row: &Row<'_>| {
                Ok(PeerRecord {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    secret_hash: row.get(2)?,
                    joined_ms: row.get(3)?,
                    drained: row.get(4)?,
                    passing: row.get(5)?,
                    reserved: row.get(6)?,
                    job: row.get(7)?,
                })
            };
            db.prepare(sql)?.query_map([], read)?.collect()
        })
        .await
    }

    /// Forgets a machine. `false`: there was none.
    pub async fn remove_peer(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        Ok(self.call(move |db| db.execute("DELETE FROM peers WHERE id = ?1", [id])).await? > 0)
    }
}
