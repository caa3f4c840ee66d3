//! Tokens: how they are made, and the hash that is all that is kept of one.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use crate::clock::{random_bytes, unix_ms};
use crate::store::NewToken;

/// Begins every secret, so that a leaked one is recognised for what it is.
const PREFIX: &str = "rask_";

/// SHA-256 of a secret. Secrets have 192 random bits, so a plain hash is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SecretHash(pub(super) [u8; 32]);

impl SecretHash {
    /// Of a secret's text.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Reads [`SecretHash::hex`]. `None`: it is something else.
    pub fn read(hex: &str) -> Option<Self> {
        HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// The bytes, for comparison in constant time.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As it is kept.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// What a token lets do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRole {
    /// Everything.
    Admin,
    /// One's own clusters.
    User,
}

impl TokenRole {
    /// As it is kept and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }

    /// Reads a name. `None`: neither.
    pub fn read(name: &str) -> Option<Self> {
        [Self::Admin, Self::User].into_iter().find(|role| role.name() == name)
    }
}

/// A token just made: the only time its secret is there.
pub struct Minted {
    /// To be shown once.
    pub secret: String,
    /// To be kept.
    pub token: NewToken,
}

impl Minted {
    /// Makes one. `life_ms`: None for one that does not expire.
    pub fn new(label: &str, user: &str, role: TokenRole, life_ms: Option<i64>) -> Self {
        let secret = random_secret();
        let now = unix_ms();
        let token = NewToken {
            id: HEXLOWER.encode(&random_bytes::<6>()),
            label: label.to_owned(),
            user: user.to_owned(),
            role: role.name().to_owned(),
            hash: SecretHash::of(&secret).hex(),
            created_ms: now,
            expires_ms: life_ms.map(|life| now.saturating_add(life)),
        };
        Self { secret, token }
    }
}

/// 192 random bits as text that survives URLs, shells and YAML.
pub fn random_secret() -> String {
    format!("{PREFIX}{}", HEXLOWER.encode(&random_bytes::<24>()))
}
