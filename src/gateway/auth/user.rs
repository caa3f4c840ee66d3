//! Who asks, and from where.

use std::net::SocketAddr;

/// The other end of an HTTP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where it is.
    pub address: SocketAddr,
    /// The kernel says it is a program of our user (or root, or one that may connect) on this machine.
    pub same_user: bool,
    /// The connection is encrypted.
    pub tls: bool,
}

/// Somebody who may use the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Clusters belong to names.
    pub name: String,
    /// Sees and stops everybody's clusters, makes tokens.
    pub admin: bool,
}

impl User {
    /// May this user see and change what belongs to `owner`?
    pub fn may(&self, owner: &str) -> bool {
        self.admin || self.name == owner
    }
}
