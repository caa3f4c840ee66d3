//! What can go wrong with a connection.

use std::io;

use tokio_tungstenite::tungstenite::Error as WsError;

use crate::base::Blame;
use crate::wire::WireError;

/// Why a connection could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer's bytes are not the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer's WebSocket is broken.
    #[error("websocket: {0}")]
    WebSocket(#[source] Box<WsError>),
    /// The peer asks for a page where none are served.
    #[error("plain HTTP, which is not served here")]
    PlainHttp,
    /// The TLS handshake failed.
    #[error("tls: {0}")]
    Tls(#[source] io::Error),
    /// Certificates or keys could not be read.
    #[error("certificates: {0}")]
    BadPem(String),
    /// The peer closed the connection in the middle of something.
    #[error("the connection was closed")]
    Closed,
    /// Nothing came in time. Unit: milliseconds.
    #[error("nothing came for {waited_ms} ms")]
    Timeout { waited_ms: u64 },
    /// Not an address, or a scheme that rask does not speak.
    #[error("{0:?} is no address")]
    BadAddress(String),
    /// The address needs TLS and none was configured.
    #[error("the address needs TLS and none is configured")]
    NoTls,
    /// Only TLS is allowed for this peer.
    #[error("this peer may only use TLS")]
    PlainForbidden,
    /// The peer runs as another user and plain TCP over loopback is for its own user only.
    #[error("{}", other_user(*uid))]
    OtherUser { uid: Option<u32> },
    /// Programs of other users hold all connections that they may hold.
    #[error("other users of this machine have too many connections open")]
    TooManyStrangers,
    /// As many as [`crate::base::Limits::connections`] are open.
    #[error("{limit} connections are open, more than are allowed (limits.connections)")]
    TooMany { limit: u32 },
}

impl From<WsError> for NetError {
    fn from(error: WsError) -> Self {
        Self::WebSocket(Box::new(error))
    }
}

impl NetError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Wire(_)
            | Self::WebSocket(_)
            | Self::PlainHttp
            | Self::Tls(_)
            | Self::PlainForbidden
            | Self::OtherUser { .. }
            | Self::TooManyStrangers
            | Self::TooMany { .. } => Blame::Peer,
            Self::BadAddress(_) | Self::NoTls | Self::BadPem(_) => Blame::Caller,
            Self::Io(_) | Self::Closed | Self::Timeout { .. } => Blame::World,
        }
    }
}

fn other_user(uid: Option<u32>) -> String {
    match uid {
        Some(uid) => format!("it belongs to another user (id {uid}), who is not in security.allow_users"),
        None => "the peer's user could not be told".to_owned(),
    }
}
