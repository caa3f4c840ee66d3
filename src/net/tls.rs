//! TLS as Dask does it: both sides show a certificate of the same authority, host names are not compared.
//!
//! Source: `distributed/security.py`, `_get_tls_context`.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};

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
        for certificate in certificates(&pem.ca, "authority")? {
            roots.add(certificate).map_err(|error| bad("authority", error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&pem.cert, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(|error| bad("key", error))?;

        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| bad("authority", error))?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("versions", error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| bad("certificate", error))?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("versions", error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName { roots, provider }))
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

/// Checks that the server's certificate comes from our authority, whatever name it bears: clusters use one
/// certificate on many machines.
#[derive(Debug)]
struct AnyName {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
