//! Believing a server by its certificate chain alone: Dask compares no host names, and a join token names a key.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::version1;

/// `judge` says whether to believe a leaf and what came with it; signatures are checked as always.
pub struct ByChain<F> {
    /// The rule.
    pub judge: F,
    /// What checks signatures.
    pub provider: Arc<CryptoProvider>,
}

/// Is `leaf` a server's certificate that one of `roots` issued and that is valid `now`?
pub fn issued_by(
    roots: &RootCertStore,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), rustls::Error> {
    let certificate = ParsedCertificate::try_from(leaf)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, roots, others, now, algorithms)
}

impl<F> fmt::Debug for ByChain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByChain")
    }
}

impl<F> ServerCertVerifier for ByChain<F>
where
    F: Fn(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime, &CryptoProvider) -> Result<(), rustls::Error>
        + Send
        + Sync,
{
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        (self.judge)(end_entity, intermediates, now, &self.provider)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_tls12(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_tls13(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Did the holder of this certificate's key sign the handshake of TLS 1.2?
pub fn signed_tls12(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    match version1::is_version_1(cert) {
        true => version1::verify_tls12_signature(message, cert, dss, algorithms),
        false => verify_tls12_signature(message, cert, dss, algorithms),
    }
}

/// The same of TLS 1.3.
pub fn signed_tls13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    match version1::is_version_1(cert) {
        true => version1::verify_tls13_signature(message, cert, dss, algorithms),
        false => verify_tls13_signature(message, cert, dss, algorithms),
    }
}
