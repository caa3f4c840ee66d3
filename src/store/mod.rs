//! What outlives the appliance: clusters, tokens, peers and history, in one SQLite file.
//!
//! The connection lives on a thread of its own behind a bounded queue. Never on the path of a task. What a cluster's
//! record means is its owner's business: it is JSON here.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

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

pub use clusters::{ClusterFilter, ClusterRecord};
pub use error::StoreError;
pub use history::{HISTORY_DAYS, StoredComputation};
pub use look::look;
pub use peers::{JoinTokenRecord, PeerRecord, TokenUse};
pub use thread::StoreHandle;
pub use tokens::{NewToken, TokenRecord};
