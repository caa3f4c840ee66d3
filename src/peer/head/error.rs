//! Why the head refuses what a machine or a person asks.

use crate::base::Blame;
use crate::peer::token::TokenError;
use crate::pki::PkiError;
use crate::store::StoreError;

/// Most peers: far above a LAN's machines, far below what would hurt.
pub const PEERS_MAX: usize = 2_000;

/// Why a machine may not join, or a request about one cannot be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The machine does not show that it was invited.
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// Too many wrong tries from its address. Unit: seconds.
    #[error("too many wrong tries from this address; the next may be made in {retry_secs} s")]
    TooMany {
        /// Until the next may be made.
        retry_secs: u64,
    },
    /// Its request for a certificate cannot be signed.
    #[error("the request for a certificate is malformed: {0}")]
    BadRequest(#[source] PkiError),
    /// There is no such machine.
    #[error("no machine called {0} has joined")]
    Unknown(String),
    /// There is no room for another machine.
    #[error("{} machines have joined already", PEERS_MAX)]
    Full,
    /// The store does not keep it.
    #[error("the store does not keep it: {0}")]
    Store(#[from] StoreError),
    /// The owner is ending, or does not answer.
    #[error("the head is stopping or overloaded")]
    Busy,
}

/// Why the head does not believe that a machine was invited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// The text is no join token.
    #[error(transparent)]
    Malformed(#[from] TokenError),
    /// No such token was made here, or it was revoked.
    #[error("this join token is not known here: it was revoked, or made by another head")]
    Unknown,
    /// Its time is over.
    #[error("the join token {0} has expired")]
    Expired(String),
    /// As many machines as it was for have joined with it.
    #[error("the join token {0} was used already; one made with --uses N lets N machines join")]
    UsedUp(String),
    /// The machine joined once, and was removed since.
    #[error("this machine was removed from the head, or never joined it")]
    Removed,
    /// A link is opened with the certificate of a peer only.
    #[error("a link needs the certificate of a joined machine")]
    NoCertificate,
}

impl HeadError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::BadToken(_) | Self::TooMany { .. } | Self::BadRequest(_) | Self::Unknown(_) => Blame::Caller,
            Self::Full | Self::Store(_) | Self::Busy => Blame::World,
        }
    }
}
