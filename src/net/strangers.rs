//! Places for programs of other users of this machine: few, so that they cannot take all and leave none for ours.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::NetError;
use super::owner;

/// One place in this number is for them.
const ONE_IN: u32 = 8;

/// The places of one port, or of several that share them.
#[derive(Debug)]
pub struct StrangersPlaces {
    /// User ids that count as ours.
    allow_users: Vec<u32>,
    free: Arc<Semaphore>,
}

impl StrangersPlaces {
    /// Among this number of connections. `allow_users`: they count as ours.
    pub fn among(connections: u32, allow_users: Vec<u32>) -> Self {
        let places = (connections / ONE_IN).max(1);
        Self { allow_users, free: Arc::new(Semaphore::new(places as usize)) }
    }

    /// The place of a connection, for as long as it lives; None: it needs none. Nothing has to be read from it.
    ///
    /// Errors: it is a stranger's, and all their places are taken.
    pub fn take(&self, connection: &TcpStream) -> Result<Option<OwnedSemaphorePermit>, NetError> {
        let (peer, local) = (connection.peer_addr()?, connection.local_addr()?);
        let is_ours = |uid| owner::is_ours(uid, &self.allow_users);
        // Who sits at another machine is asked for a certificate or a password. A program of this machine may come by any
        // of its addresses, not by loopback alone.
        if !owner::is_of_this_machine(peer.ip()) || owner::uid_of_peer(peer, local)?.is_some_and(is_ours) {
            return Ok(None);
        }
        self.free.clone().try_acquire_owned().map(Some).map_err(|_none| NetError::TooManyStrangers)
    }
}
