//! Join tokens: what a person pastes on another machine. Text in, text out; what is kept is the store's business.
//!
//! `rj1<SHA-256 of the authority's public key>::<id>:<secret>`, all in hexadecimal. The first part lets the joining
//! machine know the head before it says anything; the last lets the head know that somebody invited that machine.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use crate::base::Blame;
use crate::clock::random_bytes;

/// Says what the text is, and in which version of this shape.
const MARK: &str = "rj1";

/// A SHA-256. Unit: bytes.
const PIN_BYTES: usize = 32;

/// Names a token in lists. Unit: bytes.
const ID_BYTES: usize = 5;

/// 160 bits: 128 would do. Unit: bytes.
const SECRET_BYTES: usize = 20;

/// The SHA-256 of an authority's public key (its `SubjectPublicKeyInfo`, DER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(pub [u8; PIN_BYTES]);

impl Pin {
    /// The pin of a public key.
    pub fn of_spki(spki_der: &[u8]) -> Self {
        Self(Sha256::digest(spki_der).into())
    }

    /// For people: `ab:cd:...`.
    pub fn fingerprint(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(":")
    }

    /// As it stands in a token.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Reads [`Pin::hex`]; `None`: it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text)?.try_into().ok().map(Self)
    }
}

/// An invitation.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The authority that the head must show.
    pub pin: Pin,
    /// Its name in lists; no secret.
    pub id: String,
    secret: String,
}

/// The secret stays out of logs.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

/// Why a text is no join token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not start as one.
    #[error("this is no join token: one starts with {}", MARK)]
    Other,
    /// Something is missing at its end, or in the middle.
    #[error("the join token is not whole: it has {length} characters, and {whole} make one")]
    Cut {
        /// Characters that are there.
        length: usize,
        /// Characters of a whole one.
        whole: usize,
    },
    /// The right length, but letters that cannot be there.
    #[error("the join token is garbled: its parts must be hexadecimal")]
    Garbled,
}

impl TokenError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        Blame::Caller
    }
}

impl JoinToken {
    /// A new one. `pin`: of our authority.
    pub fn make(pin: Pin) -> Self {
        Self {
            pin,
            id: HEXLOWER.encode(&random_bytes::<ID_BYTES>()),
            secret: HEXLOWER.encode(&random_bytes::<SECRET_BYTES>()),
        }
    }

    /// The text to paste.
    pub fn text(&self) -> String {
        format!("{MARK}{}::{}:{}", self.pin.hex(), self.id, self.secret)
    }

    /// Reads what was pasted; spaces around it do not matter.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(MARK).ok_or(TokenError::Other)?;
        if text.len() != WHOLE {
            return Err(TokenError::Cut { length: text.chars().count(), whole: WHOLE });
        }
        let parts = rest.split_once("::").and_then(|(pin, rest)| Some((pin, rest.split_once(':')?)));
        let (pin, (id, secret)) = parts.ok_or(TokenError::Garbled)?;
        let pin = Pin::parse(pin).ok_or(TokenError::Garbled)?;
        let right = |text: &str, bytes: usize| unhex(text).is_some_and(|read| read.len() == bytes);
        if !right(id, ID_BYTES) || !right(secret, SECRET_BYTES) {
            return Err(TokenError::Garbled);
        }
        Ok(Self { pin, id: id.to_owned(), secret: secret.to_owned() })
    }

    /// All that the head keeps: without the secret nobody can make the text from it.
    pub fn hash(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.text()))
    }
}

/// Characters of a token.
const WHOLE: usize = MARK.len() + 2 * PIN_BYTES + 2 + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES;

fn unhex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_pasted_and_no_cut_of_it_does() {
        let token = JoinToken::make(Pin::of_spki(b"key"));
        let text = token.text();
        assert_eq!(JoinToken::parse(&format!("  {text}\n")), Ok(token.clone()));
        assert_eq!(text.len(), WHOLE);
        for end in 0..text.len() {
            assert!(JoinToken::parse(text.get(..end).expect("ASCII")).is_err(), "{end}");
        }
        assert_ne!(JoinToken::make(token.pin).hash(), token.hash());
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        let text = JoinToken::make(Pin::of_spki(b"key")).text();
        assert_eq!(JoinToken::parse("secret"), Err(TokenError::Other));
        assert!(matches!(JoinToken::parse(&text[..50]), Err(TokenError::Cut { length: 50, .. })));
        let odd = text.replacen("::", ":x", 1);
        assert_eq!(JoinToken::parse(&odd), Err(TokenError::Garbled));
        let letters = format!("{}z", &text[..text.len() - 1]);
        assert_eq!(JoinToken::parse(&letters), Err(TokenError::Garbled));
    }
}
