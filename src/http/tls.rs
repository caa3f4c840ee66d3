//! TLS of the appliance's HTTP: a certificate that is renewed while the appliance runs, and accepting connections with it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ends::{ConnectionEnds, both_ends};
use crate::clock::unix_ms;
use crate::gateway::Caller;
use crate::net::PlainRule;
use crate::pki::{self, Authority, PkiError};

/// How often the names of this machine are looked up again; they may change: laptops move. Unit: seconds.
const NAMES_SECS: i64 = 60;
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where the server's certificate comes from, and where a copy of it goes.
pub struct ServerCertificate {
    /// Signs it. Whoever shows a certificate of the same authority is known by name.
    pub authority: Arc<Authority>,
    /// All that this machine is called, now.
    pub names: fn() -> Vec<String>,
    /// Keeps a copy of each new certificate for people: `rask certs` shows it.
    pub keep: KeepCopy,
}

/// Is given each new certificate, as PEM text.
pub type KeepCopy = Box<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

/// The server has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The authority cannot sign one.
    #[error("the authority cannot be used: {0}")]
    Authority(#[from] PkiError),
    /// What the authority signed cannot be read.
    #[error("a certificate cannot be read: {0}")]
    Pem(#[from] pem::Error),
    /// TLS does not take the certificate or its key.
    #[error("a certificate cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The authority cannot check certificates of clients.
    #[error("the authority cannot check certificates: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// The copy could not be written.
    #[error("a copy of the certificate cannot be written: {0}")]
    Copy(#[from] io::Error),
}

/// Accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct HttpsAcceptor(TlsAcceptor);

impl HttpsAcceptor {
    pub(super) fn new(certificate: ServerCertificate) -> Result<Self, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let ca = CertificateDer::from_pem_slice(certificate.authority.pair().cert_pem.as_bytes())?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        // Who shows no certificate may still come with a token or a password.
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let renewed = RenewedCertificate { certificate, ca, current: Mutex::default() };
        renewed.certified()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(renewed));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// A connection after its handshake, and who is at its other end. `None`: there is no TLS connection; the log says why.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        same_user: &PlainRule,
    ) -> Option<(TlsStream<TcpStream>, Caller, ConnectionEnds)> {
        let (peer, ends) = both_ends(&stream, same_user, true).ok()?;
        let stream = match timeout(HANDSHAKE, self.0.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::warn!(peer = %peer.address, %error, "no TLS connection");
                return None;
            }
            Err(_) => {
                tracing::debug!(peer = %peer.address, "the TLS handshake took too long");
                return None;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let joined = shown.and_then(|certificate| pki::peer_of(certificate));
        Some((stream, peer, ConnectionEnds { joined, ..ends }))
    }
}

/// Our server's certificate, issued anew when it is due or when this machine's addresses have changed.
struct RenewedCertificate {
    certificate: ServerCertificate,
    /// The authority's own certificate.
    ca: CertificateDer<'static>,
    current: Mutex<Option<IssuedCertificate>>,
}

#[derive(Clone)]
struct IssuedCertificate {
    facts: pki::CertificateFacts,
    certified: Arc<CertifiedKey>,
    /// When the names in it were last those of this machine. Unit: seconds since the epoch.
    named_secs: i64,
}

impl std::fmt::Debug for RenewedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RenewedCertificate")
    }
}

impl RenewedCertificate {
    fn certified(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now_secs = unix_ms() / 1000;
        if let Some(issued) = current.as_mut().filter(|issued| !issued.facts.is_due(now_secs)) {
            if now_secs < issued.named_secs.saturating_add(NAMES_SECS) {
                return Ok(Arc::clone(&issued.certified));
            }
            if issued.facts.covers(&(self.certificate.names)()) {
                issued.named_secs = now_secs;
                return Ok(Arc::clone(&issued.certified));
            }
        }
        let issued = self.issue()?;
        let certified = Arc::clone(&issued.certified);
        *current = Some(issued);
        Ok(certified)
    }

    fn issue(&self) -> Result<IssuedCertificate, CertificateError> {
        let pair = self.certificate.authority.issue_server(&(self.certificate.names)())?;
        let leaf = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
        let facts = pki::facts(&pair.cert_pem)?;
        (self.certificate.keep)(&pair.cert_pem)?;
        // The authority goes with it: joining machines look for its key.
        let certified = Arc::new(CertifiedKey::new(vec![leaf, self.ca.clone()], key));
        Ok(IssuedCertificate { facts, certified, named_secs: unix_ms() / 1000 })
    }
}

impl ResolvesServerCert for RenewedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified().inspect_err(|error| tracing::error!(%error, "no server certificate")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a server starts with a certificate of its authority, whose copy is the one that is served.
    #[test]
    fn the_server_certificate_is_signed_at_once_and_a_copy_is_kept() {
        let authority = Arc::new(Authority::make().expect("made"));
        let (sender, kept) = std::sync::mpsc::channel();
        let keep = Box::new(move |text: &str| sender.send(text.to_owned()).map_err(io::Error::other));
        let names = || vec!["localhost".to_owned()];
        HttpsAcceptor::new(ServerCertificate { authority: Arc::clone(&authority), names, keep }).expect("an acceptor");
        let facts = pki::facts(&kept.try_recv().expect("a copy")).expect("a certificate");
        assert!(facts.covers(&names()));
        assert_eq!(facts.issuer, pki::facts(&authority.pair().cert_pem).expect("a certificate").subject);
        let full = || Box::new(|_: &str| Err(io::Error::from(io::ErrorKind::StorageFull)));
        let failed = HttpsAcceptor::new(ServerCertificate { authority, names, keep: full() });
        assert!(matches!(failed.err(), Some(CertificateError::Copy(_))));
    }
}
