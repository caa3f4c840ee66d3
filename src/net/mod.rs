//! Connections: listening, TLS, WebSockets, outboxes, outgoing calls.
//!
//! Knows messages and addresses, knows no tasks. Everything here must be called on a tokio runtime; it works on the
//! single-threaded one.

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

mod accept;
mod address;
mod chain;
mod conn;
mod error;
mod memory;
mod outbox;
mod owner;
mod pace;
mod pool;
mod prefixed;
mod protocol_detect;
mod refusals;
mod socket;
mod strangers;
mod tls;
mod version1;
mod writer;

pub use accept::{Acceptor, CommHandler, HttpHandler, Listener, PlainRule};
pub use address::{Address, Scheme};
pub use chain::{ByChain, issued_by};
pub use conn::{Connection, MessageReader, PeerInfo};
pub use error::NetError;
pub use outbox::{FileFrame, Outbox};
pub use pace::WritePace;
pub use pool::Pool;
pub use protocol_detect::{Protocol, detect_protocol};
pub use refusals::Refusals;
pub use strangers::StrangersPlaces;
pub use tls::{Tls, TlsPem, TlsVersions};

#[cfg(test)]
mod tests;
