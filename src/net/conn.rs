//! One open connection, after its handshake.

use super::error::NetError;
use super::outbox::Outbox;
use crate::base::Text;
use crate::wire::Message;

/// A connection that is ready for messages.
#[derive(Debug)]
pub struct Connection {
    /// Where messages come from.
    pub reader: Reader,
    /// Where messages go.
    pub outbox: Outbox,
    /// Who is at the other end.
    pub peer: PeerInfo,
}

/// The two ends of a connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The other end, `tcp://1.2.3.4:5`: the socket's address, not one the peer listens on.
    pub address: Text,
    /// This end.
    pub local: Text,
    /// Encrypted, the peer's certificate checked.
    pub tls: bool,
}

/// The reading half. Not cloneable: one task reads.
#[derive(Debug)]
pub struct Reader {}

impl Reader {
    /// The next message; none when the peer closed cleanly. Cancel-safe: a dropped call loses nothing.
    /// Errors: broken connection, closed in mid-message, bytes that are not the protocol.
    pub async fn recv(&mut self) -> Result<Option<Message>, NetError> {
        Ok(None)
    }
}
