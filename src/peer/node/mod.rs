//! The joined machine's side: how it joins, its link to the head, and the worker pools that it keeps for the head.

mod call;
mod link;
mod machine;
mod membership;
mod pinned;
mod worker_pool;

pub use call::{CallError, HeadClient, HeadUrl};
pub use link::{LinkEnds, LinkOver, PoolOrder, keep_linked};
pub use machine::{Caps, FixedFacts, disk_free, free_memory, hostname};
pub use membership::{JoinError, Membership};
pub use pinned::{OwnCertificate, TrustError, connector, pin_of, pin_of_pem};
pub use worker_pool::{FindEnv, PoolsConfig, PoolsHandle, start as start_pools};
