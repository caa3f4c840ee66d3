//! HTTP and HTTPS of the appliance: its authority, its certificate that is renewed while running, and who is at the other
//! end of a connection.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::lan;
use crate::app::failure::Failure;
use crate::app::local::authority::folder;
use crate::app::local::state_dir::write_private;
use crate::clock::unix_ms;
use crate::door::ServeHttp;
use crate::gateway::Peer;
use crate::http::{self, peers::Ends};
use crate::net::PlainRule;
use crate::pki::{self, Authority};

/// Between two looks at the names of this machine, which may change: laptops move. Unit: seconds.
const NAMES_SECS: i64 = 60;
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves plain connections.
pub(crate) fn plain(router: Router, same_user: PlainRule) -> ServeHttp {
    Arc::new(move |stream: TcpStream| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match ends_of(&stream, &same_user, false) {
            Ok((peer, ends)) => Box::pin(http::serve_known(router.clone(), stream, peer, ends)),
            // It is gone already.
            Err(_) => Box::pin(async {}),
        }
    })
}

/// Serves TLS connections. Who shows a certificate of our authority is known as that member.
///
/// Errors: the authority's certificate cannot be used.
pub(crate) fn encrypted(
    router: Router,
    same_user: PlainRule,
    authority: &Arc<Authority>,
    state: &Path,
) -> Result<ServeHttp, Failure> {
    let acceptor = acceptor(authority, state)?;
    Ok(Arc::new(move |stream: TcpStream| -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(serve_tls(acceptor.clone(), router.clone(), same_user.clone(), stream))
    }))
}

/// Who is at the other end of a connection, as far as the kernel knows.
fn ends_of(stream: &TcpStream, same_user: &PlainRule, tls: bool) -> io::Result<(Peer, Ends)> {
    let (address, local) = (stream.peer_addr()?, stream.local_addr()?);
    let same_user = address.ip().to_canonical().is_loopback() && same_user.admit(address, local).is_ok();
    Ok((Peer { address, same_user, tls }, Ends { peer: address, local, member: None }))
}

async fn serve_tls(acceptor: TlsAcceptor, router: Router, same_user: PlainRule, stream: TcpStream) {
    let Ok((peer, ends)) = ends_of(&stream, &same_user, true) else { return };
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return tracing::warn!(peer = %peer.address, %why, "no TLS connection"),
        Err(_) => return tracing::debug!(peer = %peer.address, "the TLS handshake took too long"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let member = shown.and_then(|certificate| pki::member_of(certificate));
    http::serve_known(router, stream, peer, Ends { member, ..ends }).await;
}

fn acceptor(authority: &Arc<Authority>, state: &Path) -> Result<TlsAcceptor, Failure> {
    let broken = |why: &dyn std::fmt::Display| Failure::world(format!("the authority cannot be used: {why}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let ca = CertificateDer::from_pem_slice(authority.pair().cert_pem.as_bytes()).map_err(|why| broken(&why))?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|why| broken(&why))?;
    // Who shows no certificate may still come with a token or a password.
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|why| broken(&why))?;
    let copy = folder(state).join("server.crt");
    let fresh = Fresh { authority: Arc::clone(authority), ca, copy, current: Mutex::default() };
    fresh.certified().map_err(|why| broken(&why))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| broken(&why))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(fresh));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Our server's certificate, issued anew when it is due or when this machine's addresses have changed.
struct Fresh {
    authority: Arc<Authority>,
    ca: CertificateDer<'static>,
    /// A copy for people: `rask certs` shows it.
    copy: PathBuf,
    current: Mutex<Option<Issued>>,
}

#[derive(Clone)]
struct Issued {
    facts: pki::Facts,
    certified: Arc<CertifiedKey>,
    /// When the names in it were last those of this machine. Unit: seconds since the epoch.
    named_secs: i64,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fresh")
    }
}

impl Fresh {
    fn certified(&self) -> Result<Arc<CertifiedKey>, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now_secs = unix_ms() / 1000;
        if let Some(issued) = current.as_mut().filter(|issued| !issued.facts.is_due(now_secs)) {
            if now_secs < issued.named_secs.saturating_add(NAMES_SECS) {
                return Ok(Arc::clone(&issued.certified));
            }
            if issued.facts.covers(&lan::names()) {
                issued.named_secs = now_secs;
                return Ok(Arc::clone(&issued.certified));
            }
        }
        let issued = self.issue()?;
        let certified = Arc::clone(&issued.certified);
        *current = Some(issued);
        Ok(certified)
    }

    fn issue(&self) -> Result<Issued, String> {
        let pair = self.authority.issue_server(&lan::names()).map_err(|why| why.to_string())?;
        let leaf = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).map_err(|why| why.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(|why| why.to_string())?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|why| why.to_string())?;
        let facts = pki::facts(&pair.cert_pem).map_err(|why| why.to_string())?;
        write_private(&self.copy, &pair.cert_pem).map_err(|why| why.to_string())?;
        // The authority goes with it: joining machines look for its key.
        let certified = Arc::new(CertifiedKey::new(vec![leaf, self.ca.clone()], key));
        Ok(Issued { facts, certified, named_secs: unix_ms() / 1000 })
    }
}

impl ResolvesServerCert for Fresh {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified().inspect_err(|why| tracing::error!(why, "no server certificate")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_authority_is_made_once_and_kept_private() {
        let state = std::env::temp_dir().join(format!("rask-https-{}", std::process::id()));
        let made = Arc::new(authority(&state).expect("made"));
        let read = authority(&state).expect("read");
        assert_eq!(made.pair(), read.pair());
        let rule = PlainRule::LoopbackUsers(Vec::new());
        drop(encrypted(Router::new(), rule, &made, &state).expect("serves"));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder(&state)), 0o700);
        for file in ["ca.crt", "ca.key", "server.crt"] {
            assert_eq!(mode(&folder(&state).join(file)), 0o600, "{file}");
        }
        fs::write(folder(&state).join("ca.key"), "nonsense").expect("written");
        assert!(authority(&state).is_err());
        // A lost key is said, not made up for: other machines would have to join again.
        fs::remove_file(folder(&state).join("ca.key")).expect("removed");
        assert!(authority(&state).is_err());
        assert_eq!(fs::read_to_string(folder(&state).join("ca.crt")).expect("kept"), made.pair().cert_pem);
        fs::remove_dir_all(state).expect("removed");
    }
}
