//! TLS as Dask does it: both sides show a certificate of the same authority, host names are not compared.
//!
//! Source: `distributed/security.py`, `_get_tls_context`.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::chain::{ByChain, issued_by, signed_tls12, signed_tls13};
use super::error::NetError;
use super::version1;

/// Certificates and key as PEM text.
#[derive(Clone)]
pub struct TlsPem {
    /// Authorities to trust.
    pub ca: String,
    /// Our certificate chain.
    pub cert: String,
    /// Our private key.
    pub key: String,
}

/// What is needed to accept and to open TLS connections, 1.2 or newer. Cloning shares it.
#[derive(Clone)]
pub struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) connector: TlsConnector,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    #[default]
    Both,
    Only12,
    Only13,
}

impl TlsVersions {
    /// By the bounds of Dask's settings. `None`: these are none, or nothing lies between them.
    ///
    /// Source: `distributed/security.py`, `_parse_version`.
    pub fn between(min: Option<&str>, max: Option<&str>) -> Option<Self> {
        match (min.unwrap_or("1.2"), max.unwrap_or("1.3")) {
            ("1.2", "1.3") => Some(Self::Both),
            ("1.2", "1.2") => Some(Self::Only12),
            ("1.3", "1.3") => Some(Self::Only13),
            _ => None,
        }
    }

    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Both => vec![&TLS13, &TLS12],
            Self::Only12 => vec![&TLS12],
            Self::Only13 => vec![&TLS13],
        }
    }
}

impl Tls {
    /// Errors: PEM that holds no certificate or key, a key that does not fit.
    pub fn new(pem: &TlsPem) -> Result<Self, NetError> {
        Self::speaking(pem, TlsVersions::Both)
    }

    /// As [`Tls::new`], with these versions only.
    pub fn speaking(pem: &TlsPem, versions: TlsVersions) -> Result<Self, NetError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        let authorities = certificates(&pem.ca, "authority")?;
        for certificate in &authorities {
            roots.add(certificate.clone()).map_err(|error| bad("authority", error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&pem.cert, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(|error| bad("key", error))?;

        let algorithms = provider.signature_verification_algorithms;
        let own = version1::certified(chain, key, &provider).map_err(|error| bad("certificate", error))?;
        let own = Arc::new(SingleCertAndKey::from(own));
        let trusted = Arc::new(Trusted { authorities, algorithms });
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| bad("authority", error))?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions.list())
            .map_err(|error| bad("versions", error))?
            .with_client_cert_verifier(Arc::new(Clients { inner: clients, trusted: trusted.clone() }))
            .with_cert_resolver(own.clone());
        // Whatever name it bears: clusters use one certificate on many machines.
        let judge = move |leaf: &CertificateDer<'_>,
                          others: &[CertificateDer<'_>],
                          now: UnixTime,
                          provider: &CryptoProvider| {
            trusted.judge(leaf, others, now, || issued_by(&roots, leaf, others, now, provider))
        };
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions.list())
            .map_err(|error| bad("versions", error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ByChain { judge, provider }))
            .with_client_cert_resolver(own);
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), connector: TlsConnector::from(Arc::new(client)) })
    }
}

fn bad(what: &str, error: impl fmt::Display) -> NetError {
    NetError::BadPem(format!("{what}: {error}"))
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let list = list.map_err(|error| bad(what, error))?;
    if list.is_empty() { Err(bad(what, "no certificate in it")) } else { Ok(list) }
}

/// The authorities' certificates themselves, and what webpki would refuse and Dask takes.
#[derive(Debug)]
struct Trusted {
    authorities: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trusted {
    /// What `webpki` says, with two exceptions.
    ///
    /// Small clusters use one self-signed certificate for everything, as their authority and as their own. `openssl req
    /// -x509` marks it as an authority's, which must not appear as anybody's own according to webpki; OpenSSL, and so
    /// Dask, takes it. Its dates are checked before its kind, and what is wrong with them has another name.
    ///
    /// Certificates of version 1 are unknown to webpki.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        webpki: impl FnOnce() -> Result<(), rustls::Error>,
    ) -> Result<(), rustls::Error> {
        if version1::is_version_1(leaf) {
            return version1::verify_issued(leaf, others, &self.authorities, now, &self.algorithms);
        }
        match webpki() {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if self.authorities.contains(leaf) => {
                Ok(())
            }
            verified => verified,
        }
    }
}

/// The usual check of clients' certificates, with [`Trusted`]'s exceptions.
#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    trusted: Arc<Trusted>,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let webpki = || self.inner.verify_client_cert(end_entity, intermediates, now).map(|_| ());
        self.trusted.judge(end_entity, intermediates, now, webpki)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_tls12(message, cert, dss, &self.trusted.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_tls13(message, cert, dss, &self.trusted.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_bounded_as_dask_bounds_them() {
        assert_eq!(TlsVersions::between(None, None), Some(TlsVersions::Both));
        assert_eq!(TlsVersions::between(Some("1.3"), None), Some(TlsVersions::Only13));
        assert_eq!(TlsVersions::between(Some("1.2"), Some("1.2")), Some(TlsVersions::Only12));
        assert_eq!(TlsVersions::between(Some("1.3"), Some("1.2")), None);
        assert_eq!(TlsVersions::between(Some("1.1"), None), None);
    }
}
