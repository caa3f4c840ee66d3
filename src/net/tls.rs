//! TLS as Dask does it: both sides show a certificate of the same authority, host names are not compared.
//!
//! Source: `distributed/security.py`, `_get_tls_context`.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::chain::{ByChain, issued_by};
use super::error::NetError;

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

impl Tls {
    /// Errors: PEM that holds no certificate or key, a key that does not fit.
    pub fn new(pem: &TlsPem) -> Result<Self, NetError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        let authorities = certificates(&pem.ca, "authority")?;
        for certificate in &authorities {
            roots.add(certificate.clone()).map_err(|error| bad("authority", error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&pem.cert, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(|error| bad("key", error))?;

        let trusted = Arc::new(Trusted(authorities));
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| bad("authority", error))?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("versions", error))?
            .with_client_cert_verifier(Arc::new(Clients { inner: clients, trusted: trusted.clone() }))
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| bad("certificate", error))?;
        // Whatever name it bears: clusters use one certificate on many machines.
        let judge = move |leaf: &CertificateDer<'_>,
                          others: &[CertificateDer<'_>],
                          now: UnixTime,
                          provider: &CryptoProvider| {
            trusted.forgive(leaf, issued_by(&roots, leaf, others, now, provider))
        };
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("versions", error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ByChain { judge, provider }))
            .with_client_auth_cert(chain, key)
            .map_err(|error| bad("certificate", error))?;
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

/// The authorities' certificates themselves.
///
/// Small clusters use one self-signed certificate for everything, as their authority and as their own. `openssl req
/// -x509` marks it as an authority's, which must not appear as anybody's own according to webpki; OpenSSL, and so
/// Dask, takes it.
#[derive(Debug)]
struct Trusted(Vec<CertificateDer<'static>>);

impl Trusted {
    /// `verified`, unless all that was wrong with this certificate is that it is an authority's, and it is one of
    /// ours. Its dates are checked before its kind, and what is wrong with them has another name.
    fn forgive(
        &self,
        certificate: &CertificateDer<'_>,
        verified: Result<(), rustls::Error>,
    ) -> Result<(), rustls::Error> {
        match verified {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if self.0.contains(certificate) => {
                Ok(())
            }
            verified => verified,
        }
    }
}

/// The usual check of clients' certificates, with [`Trusted`]'s exception.
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
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now);
        self.trusted.forgive(end_entity, verified.map(|_| ()))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
