//! Other machines: how they join, the link between head and peer, what runs on them.
//!
//! A peer proves who it is with a certificate of the head's authority; the head proves itself with the key that the
//! join token names. Between them goes one WebSocket over mutual TLS. Tasks do not pass here: workers on peers talk to
//! their scheduler, and to each other, as workers anywhere do.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod attempts;
mod call;
mod discover;
mod envlock;
mod facts;
mod groups;
mod head;
mod joined;
mod link;
pub mod member;
mod message;
mod owner;
mod pinned;
mod token;

pub use call::{CallError, Caller, HeadUrl};
pub use discover::{Announced, FoundHead, announce, find as find_heads};
pub use envlock::{EnvLock, LockError, in_words};
pub use facts::{Caps, Fixed, disk_free, free_memory, hostname};
pub use groups::{FindEnv, GroupsConfig, GroupsHandle, start as start_groups};
pub use head::{CERTIFICATE_SECS, HeadError, HeadHandle, HeadSettings, LinkEnd, PeerEvent, PeerView, Placed};
pub use joined::{JoinError, Joined};
pub use link::{Ends, Order, Over, stay};
pub use message::{
    Facts, GroupState, GroupWant, JoinAnswer, JoinAsk, LOG_LINES_MAX, MESSAGE_MAX, Phase, RenewAsk, ToHead, ToPeer,
};
pub use pinned::{Own, TrustError, connector, pin_of, pin_of_pem};
pub use token::{JoinToken, Pin, TokenError};

pub use crate::store::JoinTokenRecord;
