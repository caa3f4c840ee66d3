//! What makes an appliance a head: its authority, its certificate, the members, and where other machines reach it.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
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

use super::Failure;
use super::state::{private_folder, write_private};
use crate::clock::unix_ms;
use crate::door::ServeHttp;
use crate::http::{self, peers};
use crate::peer::{HeadHandle, HeadSettings, hostname, pin_of_pem};
use crate::pki::{self, Authority};
use crate::store::StoreHandle;

/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The line that is printed is good for so long. Unit: seconds.
const INVITATION_SECS: u64 = 3600;

/// An appliance that other machines may join.
pub(super) struct Lan {
    pub(super) head: HeadHandle,
    authority: Arc<Authority>,
}

impl Lan {
    /// Reads or makes the authority; remembers who joined before.
    pub(super) async fn open(
        state: &Path,
        store: StoreHandle,
        port: u16,
        certificate_secs: u64,
    ) -> Result<Self, Failure> {
        let authority = Arc::new(authority(state)?);
        let pin = pin_of_pem(&authority.pair().cert_pem).ok_or_else(|| unreadable(state))?;
        let host = addresses().first().copied().ok_or_else(|| {
            Failure::world("--lan: this machine has no address that others could reach")
                .remedy("connect it to a network, or leave out --lan")
        })?;
        let url = format!("https://{}", SocketAddr::new(host, port));
        let settings = HeadSettings { url, certificate_secs };
        let head = HeadHandle::start(Arc::clone(&authority), pin, store, settings)
            .await
            .map_err(|why| Failure::blame(why.blame(), why.to_string()))?;
        Ok(Self { head, authority })
    }

    /// Serves TLS connections: members' own routes, and `more`.
    pub(super) fn serve(&self, more: Router) -> Result<ServeHttp, Failure> {
        let acceptor = self.acceptor()?;
        let router = peers::open_routes(self.head.clone()).merge(more);
        Ok(Arc::new(move |stream| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(serve_tls(acceptor.clone(), router.clone(), stream))
        }))
    }

    fn acceptor(&self) -> Result<TlsAcceptor, Failure> {
        let broken = |why: &dyn std::fmt::Display| Failure::world(format!("the authority cannot be used: {why}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let ca =
            CertificateDer::from_pem_slice(self.authority.pair().cert_pem.as_bytes()).map_err(|why| broken(&why))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(|why| broken(&why))?;
        // Who shows no certificate may still come with a token or a password.
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|why| broken(&why))?;
        let fresh = Fresh { authority: Arc::clone(&self.authority), ca, current: Mutex::default() };
        fresh.certified().map_err(|why| broken(&why))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| broken(&why))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(fresh));
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// The line to paste on another machine.
    pub(super) async fn invitation(&self) -> Result<String, Failure> {
        let (token, _) =
            self.head.invite(INVITATION_SECS, 1).await.map_err(|why| Failure::blame(why.blame(), why.to_string()))?;
        Ok(format!("rask join {} --token {token}", self.head.url()))
    }
}

/// Serves one TLS connection to its end.
async fn serve_tls(acceptor: TlsAcceptor, router: Router, stream: TcpStream) {
    let ends = stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?)));
    let Ok((peer, local)) = ends else { return };
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return tracing::warn!(%peer, %why, "no TLS connection"),
        Err(_) => return tracing::debug!(%peer, "the TLS handshake took too long"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let member = shown.and_then(|certificate| pki::member_of(certificate));
    http::serve_known(router, stream, peers::Ends { peer, local, member }).await;
}

/// Our server's certificate, issued anew when it is due or when this machine's addresses have changed.
struct Fresh {
    authority: Arc<Authority>,
    ca: CertificateDer<'static>,
    current: Mutex<Option<Issued>>,
}

#[derive(Clone)]
struct Issued {
    facts: pki::Facts,
    certified: Arc<CertifiedKey>,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fresh")
    }
}

impl Fresh {
    fn certified(&self) -> Result<Arc<CertifiedKey>, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(issued) if !issued.facts.is_due(unix_ms() / 1000) => Ok(Arc::clone(&issued.certified)),
            Some(_) | None => {
                let issued = self.issue()?;
                let certified = Arc::clone(&issued.certified);
                *current = Some(issued);
                Ok(certified)
            }
        }
    }

    fn issue(&self) -> Result<Issued, String> {
        let pair = self.authority.issue_server(&names()).map_err(|why| why.to_string())?;
        let leaf = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).map_err(|why| why.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(|why| why.to_string())?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|why| why.to_string())?;
        let facts = pki::facts(&pair.cert_pem).map_err(|why| why.to_string())?;
        // The authority goes with it: joining machines look for its key.
        Ok(Issued { facts, certified: Arc::new(CertifiedKey::new(vec![leaf, self.ca.clone()], key)) })
    }
}

impl ResolvesServerCert for Fresh {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified().inspect_err(|why| tracing::error!(why, "no server certificate")).ok()
    }
}

/// All that this machine is called.
fn names() -> Vec<String> {
    let mut names = vec![hostname(), "localhost".to_owned()];
    names.retain(|name| !name.is_empty() && name.is_ascii());
    names.extend(addresses().iter().map(IpAddr::to_string));
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    names.dedup();
    names
}

/// Addresses that other machines may know, the best one first: of the interface that leads out, then IPv4.
pub(super) fn addresses() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    // Connecting a datagram socket sends nothing; it makes the system choose.
    let out = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    found.extend(out.ok().map(|at| at.ip()));
    let networks = sysinfo::Networks::new_with_refreshed_list().ok();
    let mut all: Vec<IpAddr> =
        networks.iter().flatten().flat_map(|(_, network)| network.ip_networks()).map(|network| network.addr).collect();
    all.sort_by_key(|address| (address.is_ipv6(), *address));
    for address in all {
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if !address.is_loopback() && !link_local && !found.contains(&address) {
            found.push(address);
        }
    }
    found.retain(|address| !address.is_unspecified() && !address.is_loopback());
    found
}

fn unreadable(state: &Path) -> Failure {
    Failure::world(format!("the authority in {} cannot be read", state.join("ca").display()))
        .remedy("remove that folder: a new one is made, and other machines must join again")
}

/// The appliance's authority: read, or made once.
pub(super) fn authority(state: &Path) -> Result<Authority, Failure> {
    let folder = state.join("ca");
    private_folder(&folder)?;
    let (cert, key) = (folder.join("ca.crt"), folder.join("ca.key"));
    match (fs::read_to_string(&cert), fs::read_to_string(&key)) {
        (Ok(cert), Ok(key)) => Authority::from_pem(&cert, &key).map_err(|why| {
            Failure::world(format!("{}: {why}", folder.display()))
                .remedy("restore it, or remove it: then other machines must join again")
        }),
        (_, _) => {
            let authority = Authority::make().map_err(|why| Failure::world(why.to_string()))?;
            // The key first: a certificate without it would be taken for an authority that lost its key.
            write_private(&key, &authority.pair().key_pem)?;
            write_private(&cert, &authority.pair().cert_pem)?;
            Ok(authority)
        }
    }
}
