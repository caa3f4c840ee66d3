//! What can be wrong with a certificate or a key.

use crate::base::Blame;

/// Why a certificate could not be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// The text holds no certificate.
    #[error("no readable certificate: {0}")]
    NoCertificate(String),
    /// The key cannot be read, or is not the certificate's.
    #[error("no usable private key: {0}")]
    Key(String),
    /// A name that no certificate can bear.
    #[error("{name:?} cannot be the name of a certificate: {why}")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It could not be signed.
    #[error("a certificate could not be signed: {0}")]
    Signing(String),
}

impl PkiError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::NoCertificate(_) | Self::Key(_) => Blame::World,
            Self::Name { .. } => Blame::Caller,
            Self::Signing(_) => Blame::Ours,
        }
    }
}
