//! The joining side's trust: whoever shows a chain of the pinned authority is the head. Nobody else is told a word.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::base::Blame;
use crate::net::{ByChain, issued_by};
use crate::peer::token::Pin;

/// The pin of a certificate's public key; `None`: these bytes are no certificate.
pub fn pin_of(der: &[u8]) -> Option<Pin> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| Pin::of_spki(certificate.public_key().raw))
}

/// The pin of the first certificate in PEM text.
pub fn pin_of_pem(pem: &str) -> Option<Pin> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().and_then(|der| pin_of(&der))
}

/// Our own certificate, once there is one.
pub struct OwnCertificate<'a> {
    /// PEM.
    pub cert: &'a str,
    /// PEM.
    pub key: &'a str,
}

/// Why the head is not believed, or does not believe us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Its chain has no certificate with the pinned key.
    #[error(
        "whoever answers is not the head that made the token: its authority's key is {}, the token's is {}; nothing was sent",
        shown.map_or_else(|| "none that can be read".to_owned(), |pin| pin.fingerprint()),
        pinned.fingerprint()
    )]
    OtherAuthority {
        /// The last certificate's that it showed.
        shown: Option<Pin>,
        /// What the token says.
        pinned: Pin,
    },
    /// Its certificate is not valid at this machine's time.
    #[error(
        "the head's certificate {} at this machine's clock",
        if *expired { "has expired" } else { "is not valid yet" }
    )]
    Clock {
        /// Not valid any more; else not yet.
        expired: bool,
    },
    /// It does not take our certificate: it expired, or we were removed.
    #[error("the head does not take this machine's certificate: {0}")]
    Refused(String),
    /// Its certificate is broken, or not one for servers.
    #[error("the head's certificate cannot be used: {0}")]
    Certificate(String),
    /// Our own files hold no certificate or key.
    #[error("this machine's certificate or key cannot be read: {0}")]
    OwnCertificate(String),
    /// No TLS is spoken there.
    #[error("no TLS is spoken there: {0}")]
    NotTls(String),
}

impl TrustError {
    /// Who must act.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::OtherAuthority { .. } | Self::Certificate(_) | Self::NotTls(_) => Blame::Peer,
            Self::Clock { .. } | Self::Refused(_) => Blame::World,
            Self::OwnCertificate(_) => Blame::Ours,
        }
    }
}

/// Opens connections to the head whose authority has the pinned key.
pub fn connector(pin: Pin, own: Option<OwnCertificate<'_>>) -> Result<TlsConnector, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let broken = |why: &dyn fmt::Display| TrustError::OwnCertificate(why.to_string());
    let judge = move |leaf: &CertificateDer<'_>,
                      others: &[CertificateDer<'_>],
                      now: UnixTime,
                      provider: &CryptoProvider| { judge(pin, leaf, others, now, provider) };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| broken(&why))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByChain { judge, provider }));
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(own.cert.as_bytes()).collect();
            let chain = chain.map_err(|why| broken(&why))?;
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|why| broken(&why))?;
            builder.with_client_auth_cert(chain, key).map_err(|why| broken(&why))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What a failed handshake means. `None`: it failed for another reason, such as a broken connection.
pub fn explain(why: &io::Error, pin: Pin) -> Option<TrustError> {
    let inner = why.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match inner {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => TrustError::Clock { expired: false },
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            TrustError::Clock { expired: true }
        }
        rustls::Error::General(text) if text.starts_with(ANOTHER) => {
            TrustError::OtherAuthority { shown: text.strip_prefix(ANOTHER).and_then(Pin::parse), pinned: pin }
        }
        rustls::Error::InvalidCertificate(why) => TrustError::Certificate(why.to_string()),
        rustls::Error::AlertReceived(_) => TrustError::Refused(inner.to_string()),
        rustls::Error::InvalidMessage(_) => TrustError::NotTls(inner.to_string()),
        other => TrustError::Certificate(other.to_string()),
    })
}

/// Carries the pin that was seen through [`rustls::Error`], which has no room for errors of ours.
const ANOTHER: &str = "rask: another authority: ";

/// Believes a chain that leads to the pinned key, whatever name it bears: the token names a key, not a host.
fn judge(
    pin: Pin,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), rustls::Error> {
    let Some(authority) = others.iter().find(|shown| pin_of(shown) == Some(pin)) else {
        let shown = others.last().unwrap_or(leaf);
        let shown = pin_of(shown).map(|pin| pin.hex()).unwrap_or_default();
        return Err(rustls::Error::General(format!("{ANOTHER}{shown}")));
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    // Servers' certificates only: a joined machine's must not pass for the head's.
    issued_by(&roots, leaf, others, now, provider)
}
