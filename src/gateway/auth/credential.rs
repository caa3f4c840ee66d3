//! The `Authorization` header, read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What somebody shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// A name and a password; a token may stand in the password's place.
    Basic { user: String, password: String },
    /// `Bearer`, `token` or `jupyterhub`.
    Token(String),
}

impl Credential {
    /// `None`: a malformed header.
    ///
    /// Source: RFC 7617; `dask_gateway/auth.py`, `BasicAuth`, which writes Latin-1.
    pub(super) fn read(header: &[u8]) -> Option<Self> {
        let header = std::str::from_utf8(header).ok()?.trim();
        let (scheme, rest) = header.split_once(' ')?;
        let rest = rest.trim();
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => {
                let bytes = STANDARD.decode(rest).ok()?;
                let text = String::from_utf8(bytes).unwrap_or_else(|bytes| latin1(bytes.as_bytes()));
                let (user, password) = text.split_once(':')?;
                Some(Self::Basic { user: user.to_owned(), password: password.to_owned() })
            }
            "bearer" | "token" | "jupyterhub" if !rest.is_empty() => Some(Self::Token(rest.to_owned())),
            _ => None,
        }
    }

    /// The part that must not be known to others.
    pub(super) fn secret(&self) -> &str {
        match self {
            Self::Basic { password, .. } => password,
            Self::Token(token) => token,
        }
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
