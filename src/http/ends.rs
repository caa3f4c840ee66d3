//! Who is at the two ends of a connection that carries HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use crate::gateway::Caller;
use crate::net::PlainRule;

/// Both ends of the connection that a request came on, and who its TLS certificate says is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionEnds {
    /// The other end.
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// The joined peer whose certificate was shown, checked against our authority.
    pub joined: Option<String>,
}

impl ConnectionEnds {
    pub(super) fn from(&self) -> IpAddr {
        self.peer.ip()
    }
}

/// Who is at the other end of a connection, as far as the kernel knows.
///
/// Errors: the connection is gone.
pub(super) fn both_ends(stream: &TcpStream, same_user: &PlainRule, tls: bool) -> io::Result<(Caller, ConnectionEnds)> {
    let (address, local) = (stream.peer_addr()?, stream.local_addr()?);
    let same_user = address.ip().to_canonical().is_loopback() && same_user.admit(address, local).is_ok();
    Ok((Caller { address, same_user, tls }, ConnectionEnds { peer: address, local, joined: None }))
}
