//! Certificates: our authority, what it issues, the temporary pair of a cluster, and facts about any of them.
//!
//! Bytes and text in and out. Where they are kept, and with which permissions, is the caller's business.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod authority;
mod error;
mod facts;
#[cfg(test)]
mod tests;

use std::fmt;

pub use authority::{Authority, cluster_pair, peer_of, peer_request};
pub use error::PkiError;
pub use facts::{CertificateFacts, facts, fingerprint};

use serde::{Deserialize, Serialize};

/// A certificate and its private key, as PEM. The key is PKCS#8.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The certificate (or chain, leaf first).
    pub cert_pem: String,
    /// The private key.
    pub key_pem: String,
}

/// The key is not for logs.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}
