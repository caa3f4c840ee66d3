//! What can be wrong with a certificate or a key.

use std::fmt;

use crate::base::Blame;

/// Why a certificate could not be read or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PkiError {
    /// The text holds no certificate.
    NoCertificate(String),
    /// The key cannot be read, or is not the certificate's.
    Key(String),
    /// A name that no certificate can bear.
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It could not be signed.
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

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate(why) => write!(f, "no readable certificate: {why}"),
            Self::Key(why) => write!(f, "no usable private key: {why}"),
            Self::Name { name, why } => write!(f, "{name:?} cannot be the name of a certificate: {why}"),
            Self::Signing(why) => write!(f, "a certificate could not be signed: {why}"),
        }
    }
}

impl std::error::Error for PkiError {}
