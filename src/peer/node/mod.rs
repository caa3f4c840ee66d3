//! The joined machine's side: how it joins, its link to the head, and the worker pools that it keeps for the head.

mod call;
mod link;
mod machine;
mod membership;
mod pinned;
mod worker_pool;

pub use call::{CallError, Caller, HeadUrl};
pub use link::{Ends, Order, Over, stay};
pub use machine::{Caps, Fixed, disk_free, free_memory, hostname};
pub use membership::{JoinError, Joined};
pub use pinned::{Own, TrustError, connector, pin_of, pin_of_pem};
pub use worker_pool::{FindEnv, GroupsConfig, GroupsHandle, start as start_groups};
