//! Tokens: never the secret, only its hash.

use rusqlite::{Row, params};

use super::error::StoreError;
use super::thread::StoreHandle;

/// A token to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its public id.
    pub id: String,
    /// What it is for, in a person's words.
    pub label: String,
    /// Whom it stands for.
    pub user: String,
    /// What it may do: `admin`, `user`, ...
    pub role: String,
    /// SHA-256 of the secret, hexadecimal.
    pub hash: String,
    /// Unit: milliseconds since the epoch.
    pub created_ms: i64,
    /// None: never. Unit: milliseconds since the epoch.
    pub expires_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// All that was given.
    pub token: NewToken,
    /// When it was last used. Unit: milliseconds since the epoch.
    pub used_ms: Option<i64>,
}

const COLUMNS: &str = "id, label, user, role, hash, created_ms, expires_ms, used_ms";

fn read(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    Ok(TokenRecord {
        token: NewToken {
            id: row.get(0)?,
            label: row.get(1)?,
            user: row.get(2)?,
            role: row.get(3)?,
            hash: row.get(4)?,
            created_ms: row.get(5)?,
            expires_ms: row.get(6)?,
        },
        used_ms: row.get(7)?,
    })
}

impl StoreHandle {
    /// Keeps a token. Errors: one with this id or hash is kept already.
    pub async fn create_token(&self, token: NewToken) -> Result<(), StoreError> {
        self.call(move |db| {
            db.execute(
                "INSERT INTO tokens (id, label, user, role, hash, created_ms, expires_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![token.id, token.label, token.user, token.role, token.hash, token.created_ms, token.expires_ms],
            )
        })
        .await?;
        Ok(())
    }

    /// All, oldest first; those that expired too.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.call(|db| {
            let sql = format!("SELECT {COLUMNS} FROM tokens ORDER BY created_ms, id");
            db.prepare(&sql)?.query_map([], read)?.collect()
        })
        .await
    }

    /// Forgets a token. `false`: there was none.
    pub async fn revoke_token(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        Ok(self.call(move |db| db.execute("DELETE FROM tokens WHERE id = ?1", [id])).await? > 0)
    }

    /// Notes that a token was used.
    pub async fn use_token(&self, id: &str, now_ms: i64) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.call(move |db| db.execute("UPDATE tokens SET used_ms = ?2 WHERE id = ?1", params![id, now_ms])).await?;
        Ok(())
    }
}
