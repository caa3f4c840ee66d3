//! Other machines: how they join, the link between head and peer, what runs on them.
//!
//! A peer proves who it is with a certificate of the head's authority; the head proves itself with the key that the
//! join token names. Between them goes one WebSocket over mutual TLS. Tasks do not pass here: workers on peers talk to
//! their scheduler, and to each other, as workers anywhere do.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod discover;
mod env_lock;
mod head;
mod node;
mod token;
mod wire;

pub use discover::{Announced, DiscoverError, FoundHead, announce, find as find_heads};
pub use env_lock::{EnvLock, LockError, in_one_line};
pub use head::{BadToken, CERTIFICATE_SECS, HeadError, HeadHandle, HeadSettings, LinkEnd, PeerEvent, PeerView, Placed};
pub use node::{
    CallError, Caps, FindEnv, FixedFacts, HeadClient, HeadUrl, JoinError, LinkEnds, LinkOver, Membership,
    OwnCertificate, PoolOrder, PoolsConfig, PoolsHandle, TrustError, connector, disk_free, free_memory, hostname,
    keep_linked, pin_of, pin_of_pem, start_pools,
};
pub use token::{JoinToken, Pin, TokenError};
pub use wire::{
    HEARTBEAT_US, JoinAnswer, JoinAsk, LOG_LINES_MAX, MESSAGE_MAX, MachineFacts, Phase, PoolState, PoolWant, RenewAsk,
    ToHead, ToPeer,
};

pub use crate::store::JoinTokenRecord;
