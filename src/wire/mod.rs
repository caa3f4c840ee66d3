//! Bytes to messages and back: Dask's framing, its msgpack conventions, its handshake, its stream operations.
//!
//! Owns no socket, no clock and no scheduler type. Whatever comes from a peer is bounded by [`crate::base::Limits`]
//! before anything is allocated for it, and payloads stay closed: frames are forwarded, never opened.

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

mod as_value;
mod batch;
mod encoder;
mod error;
pub mod frame;
pub mod hello;
mod message;
pub mod msgpack;
pub mod op;
mod resolve;
pub mod ws;

pub use batch::MessageBatch;
pub use encoder::Encoder;
pub use error::WireError;
pub use message::Message;
pub use resolve::is_error;
