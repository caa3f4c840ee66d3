//! What a joined machine keeps: who its head is, its own certificate and key. Files in a private folder.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::{CallError, HeadClient, HeadUrl};
use super::pinned::{OwnCertificate, TrustError, connector, pin_of_pem};
use crate::base::Blame;
use crate::files;
use crate::peer::token::{JoinToken, Pin};
use crate::peer::wire::{JoinAnswer, JoinAsk, RenewAsk};
use crate::pki::{self, PkiError};

/// Its name in the folder.
const FILE: &str = "peer.json";
const JOIN: &str = "/api/rask/v1/peers/join";
const RENEW: &str = "/api/rask/v1/peers/renew";

/// A clock that is off by more than this is worth a word. Unit: milliseconds.
const SKEW_MS: i64 = 30_000;

/// This machine's membership.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// `https://head:8787`
    pub url: String,
    /// The pin of its authority, hexadecimal.
    pub pin: String,
    /// Our id there.
    pub id: String,
    /// Our name there.
    pub name: String,
    /// Renews the certificate, and nothing else.
    pub secret: String,
    /// PEM.
    pub cert: String,
    /// PEM.
    pub key: String,
}

/// Keys stay out of logs.
impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership({} at {})", self.name, self.url)
    }
}

/// Why this machine could not join, or does not know that it did.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The head could not be asked, or said no.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No key could be made, or the certificate that came is malformed.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The head's answer contradicts the token.
    #[error("the head's answer contradicts the token: {0}")]
    Contradiction(String),
    /// A machine leaves through its head, which moves its data first.
    #[error("leaving needs the head, to move data first, and the head cannot be reached")]
    LeavingAlone,
    /// A machine that is here for a while has work only as long as there is a head.
    #[error("no link to the head for {} s", patience.as_secs())]
    HeadGone {
        /// That is how long it waited.
        patience: Duration,
    },
    /// The membership could not be kept or read.
    #[error("the membership cannot be kept in {path}: {error}")]
    File {
        path: PathBuf,
        /// The system's words.
        #[source]
        error: io::Error,
    },
}

impl JoinError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Call(why) => why.blame(),
            Self::Pki(why) => why.blame(),
            Self::Contradiction(_) => Blame::Peer,
            Self::LeavingAlone | Self::HeadGone { .. } | Self::File { .. } => Blame::World,
        }
    }
}

impl From<TrustError> for JoinError {
    fn from(why: TrustError) -> Self {
        Self::Call(CallError::Trust(why))
    }
}

impl Membership {
    /// Joins. Nothing of the token is sent before the head has shown the authority that it names.
    ///
    /// Returns what is to be kept, and words about what is odd.
    pub async fn join(
        url: &HeadUrl,
        token: &JoinToken,
        name: &str,
        (passing, job): (bool, Option<String>),
    ) -> Result<(Self, Option<String>), JoinError> {
        let client = HeadClient { url: url.clone(), pin: token.pin, connector: connector(token.pin, None)? };
        let (key, csr) = pki::peer_request()?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let ask = JoinAsk { token: token.text(), name: name.to_owned(), csr, version, passing, job };
        let answer: JoinAnswer = client.post(JOIN, &ask).await?;
        if pin_of_pem(&answer.ca) != Some(token.pin) {
            return Err(JoinError::Contradiction("it sent another authority".to_owned()));
        }
        let secret = answer.secret.ok_or_else(|| JoinError::Contradiction("it sent no secret".to_owned()))?;
        let joined = Self {
            url: url.to_string(),
            pin: token.pin.hex(),
            id: answer.id,
            name: answer.name,
            secret,
            cert: answer.cert,
            key,
        };
        Ok((joined, clock_warning(answer.now_ms)))
    }

    /// The membership that was kept. `None`: this machine has not joined.
    pub fn load(folder: &Path) -> Result<Option<Self>, JoinError> {
        let path = folder.join(FILE);
        let failed = |error| JoinError::File { path: path.clone(), error };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(failed(why)),
        };
        serde_json::from_str(&text).map(Some).map_err(|why| failed(why.into()))
    }

    /// Keeps the membership: whole or not at all, and for our eyes only.
    pub fn save(&self, folder: &Path) -> Result<(), JoinError> {
        let path = folder.join(FILE);
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            files::write_atomic(&path, &serde_json::to_vec_pretty(self)?, files::PRIVATE)
        };
        write().map_err(|error| JoinError::File { path: path.clone(), error })
    }

    /// Forgets the membership.
    pub fn forget(folder: &Path) {
        let _may_be_gone = fs::remove_file(folder.join(FILE));
    }

    /// How to reach the head with our certificate.
    pub fn client(&self) -> Result<HeadClient, JoinError> {
        let broken = |what: &str| JoinError::Contradiction(format!("the kept {what} is malformed"));
        let pin = Pin::parse(&self.pin).ok_or_else(|| broken("pin"))?;
        let url = HeadUrl::parse(&self.url).ok_or_else(|| broken("address"))?;
        let own = OwnCertificate { cert: &self.cert, key: &self.key };
        Ok(HeadClient { url, pin, connector: connector(pin, Some(own))? })
    }

    /// When two thirds of the certificate's life are over, and when all of it is. Unit: seconds since the epoch.
    pub fn due(&self) -> Result<(i64, i64), JoinError> {
        let facts = pki::facts(&self.cert)?;
        let life = facts.not_after.saturating_sub(facts.not_before);
        Ok((facts.not_after.saturating_sub(life / 3), facts.not_after))
    }

    /// A new certificate without the old one, which has expired meanwhile.
    pub async fn renew(&mut self) -> Result<(), JoinError> {
        let bare = HeadClient { connector: connector(self.client()?.pin, None)?, ..self.client()? };
        let (key, csr) = pki::peer_request()?;
        let ask = RenewAsk { id: self.id.clone(), secret: self.secret.clone(), csr };
        let answer: JoinAnswer = bare.post(RENEW, &ask).await?;
        (self.cert, self.key, self.name) = (answer.cert, key, answer.name);
        Ok(())
    }
}

/// Words about a clock that differs from the head's. `now_ms`: the head's.
pub fn clock_warning(now_ms: i64) -> Option<String> {
    let skew = crate::clock::unix_ms().saturating_sub(now_ms);
    (skew.saturating_abs() > SKEW_MS).then(|| {
        let (secs, side) = (skew.saturating_abs() / 1000, if skew > 0 { "ahead of" } else { "behind" });
        format!(
            "this machine's clock is {secs} s {side} the head's: certificates may be refused and times shown wrong; set it (timedatectl set-ntp true)"
        )
    })
}
