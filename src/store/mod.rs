//! What outlives the appliance: clusters, tokens, history and small facts, in one SQLite file.
//!
//! The connection lives on a thread of its own behind a bounded queue. Never on the path of a task. What a cluster's
//! record means is its owner's business: it is JSON here.

mod clusters;
mod error;
mod history;
mod look;
mod peers;
mod schema;
#[cfg(test)]
mod tests;
mod thread;
mod tokens;

pub use clusters::ClusterRecord;
pub use error::StoreError;
pub use history::{Computation, HISTORY_DAYS};
pub use look::look;
pub use peers::{JoinTokenRecord, PeerRecord, TokenUse};
pub use thread::StoreHandle;
pub use tokens::{NewToken, TokenRecord};

use rusqlite::OptionalExtension;

/// Small facts by name.
impl StoreHandle {
    /// A fact, if it was ever noted.
    pub async fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.call(move |db| db.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional())
            .await
    }

    /// Notes a fact, instead of what was noted before.
    pub async fn set_meta(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let row = (name.to_owned(), value.to_owned());
        self.call(move |db| db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", row)).await?;
        Ok(())
    }
}
