//! The control socket between rask processes: small typed requests, and connections passed as descriptors.
//!
//! A Unix socket in a private folder. Each message is a length (u32, little endian) and JSON; a connection travels
//! with its message's first bytes (`SCM_RIGHTS`). Knows neither tasks nor clusters: what a request means is the
//! business of whoever is at the other end of the channel.

#![cfg_attr(
    not(test),
    deny(
        clippy::panic,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod client;
mod kept;
mod server;
mod socket;
#[cfg(test)]
mod tests;

pub use client::{Link, LinkError};
pub use kept::{KeptListener, bind};
pub use server::{Incoming, Served, connect, serve};

use serde::{Deserialize, Serialize};

use crate::control::Question;

/// Longest message. An identity with a thousand workers is a few MiB.
pub(crate) const MESSAGE_MAX: usize = 256 << 20;

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LinkMessage {
    /// A question; answered by [`LinkMessage::Answer`] or [`LinkMessage::Refused`].
    Ask(Question),
    /// A connection comes along. Not answered.
    Connection,
    /// The answer's body.
    Answer(String),
    /// No answer, and why.
    Refused(String),
    /// What a newer rask may say and this one does not know.
    #[serde(skip)]
    Unknown,
}
