//! The front door: accepts for the appliance, looks at a connection's first bytes, hands it on.
//!
//! Nothing is read from a connection here, only peeked at; nothing is relayed; nobody is held for longer than that takes.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::base::Limits;
use crate::link::{Link, LinkError};
use crate::net::{NetError, Protocol, Refusals, StrangersPlaces, detect_protocol};

/// After a failed accept (too many open files): pause instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may wait for a scheduler that is being started again.
const RESTART_WAIT: Duration = Duration::from_secs(2);
/// Between tries meanwhile.
const RESTART_LOOK: Duration = Duration::from_millis(50);
/// Most connections that wait so; the others are closed, and their programs connect again.
const WAITING_MAX: usize = 64;

/// Longest that a refusal may take.
const REFUSAL: Duration = Duration::from_secs(2);
/// Before a cluster's name in the server name of TLS. Source: `dask_gateway/comm.py`.
const SNI_PREFIX: &str = "daskgateway-";
/// The cluster that Dask connections without TLS belong to.
const PLAIN_CLUSTER: &str = "local";

/// Serves one connection to its end. Nothing was read from it.
pub type ServeHttp = Arc<dyn Fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// May this peer talk in this protocol?
pub type Admit = Arc<dyn Fn(&TcpStream, &Protocol) -> Result<(), NetError> + Send + Sync>;

/// The scheduler of a cluster, by the cluster's name. Asked for every connection: clusters come and go.
pub type FindCluster = Arc<dyn Fn(&str) -> Option<Link> + Send + Sync>;

/// What the door knows. Shared by all its listeners.
pub struct Door {
    /// Bounds for peers.
    pub limits: Limits,
    /// Whom Dask connections belong to.
    pub find: FindCluster,
    pub http: ServeHttp,
    /// Who may come in from this machine.
    pub admit: Admit,
    /// Places for programs of other users of this machine.
    pub strangers: StrangersPlaces,
    /// For TLS that is for the appliance itself. None: there is no certificate.
    pub tls: Option<ServeHttp>,
    /// Are other machines welcome? They must speak TLS.
    pub lan: bool,
    waiting: Semaphore,
    refusals: Refusals,
}

impl Door {
    /// A door that is not open yet.
    pub fn new(limits: Limits, find: FindCluster, http: ServeHttp, admit: Admit) -> Self {
        let strangers = StrangersPlaces::among(limits.connections, Vec::new());
        let (waiting, refusals) = (Semaphore::new(WAITING_MAX), Refusals::default());
        Self { limits, find, http, admit, strangers, tls: None, lan: false, waiting, refusals }
    }

    /// Accepts on `listener` until dropped.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(self.limits.connections as usize));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let door = Arc::clone(&self);
                    tokio::spawn(async move {
                        door.welcome(stream, peer).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        // Before anything is awaited: whoever says nothing holds a place.
        let _place = match self.strangers.take(&stream) {
            Ok(place) => place,
            Err(error) => return self.refusals.note(peer, &error),
        };
        let deadline = Duration::from_millis(self.limits.handshake_ms);
        let protocol = match tokio::time::timeout(deadline, detect_protocol(&stream, true)).await {
            Ok(Ok(protocol)) => protocol,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "lost before its first bytes"),
            Err(_elapsed) => return tracing::debug!(%peer, "said too little in time; closed"),
        };
        let elsewhere = self.lan && !peer.ip().to_canonical().is_loopback();
        if !elsewhere && let Err(error) = (self.admit)(&stream, &protocol) {
            return self.refusals.note(peer, &error);
        }
        match protocol {
            Protocol::Dask | Protocol::WebSocket | Protocol::Http if elsewhere => {
                refuse_plain(stream, peer, &protocol).await
            }
            Protocol::Dask | Protocol::WebSocket => self.hand_on(PLAIN_CLUSTER, stream, peer).await,
            Protocol::Http => (self.http)(stream).await,
            Protocol::Tls(name) => self.welcome_tls(name.as_deref(), stream, peer).await,
            Protocol::Nothing => tracing::debug!(%peer, "closed without a word"),
            Protocol::Unknown => tracing::warn!(%peer, "neither Dask nor HTTP nor TLS; closed"),
        }
    }

    async fn welcome_tls(&self, name: Option<&str>, stream: TcpStream, peer: SocketAddr) {
        match (name.and_then(|name| name.strip_prefix(SNI_PREFIX)), &self.tls) {
            (Some(cluster), _) => self.hand_on(cluster, stream, peer).await,
            (None, Some(https)) => https(stream).await,
            (None, None) => tracing::warn!(%peer, name, "TLS that asks for no cluster; closed"),
        }
    }

    async fn hand_on(&self, cluster: &str, stream: TcpStream, peer: SocketAddr) {
        let Some(link) = (self.find)(cluster) else {
            return tracing::warn!(%peer, cluster, "a connection for a cluster that is not there; closed");
        };
        let link = &link;
        let handed = match to_std(stream) {
            Ok(stream) => self.hand_patiently(link, &stream).await.map_err(|why| why.to_string()),
            Err(why) => Err(why.to_string()),
        };
        if let Err(error) = handed {
            tracing::warn!(%peer, cluster, %error, "the scheduler could not take a connection; closed");
        }
    }

    /// A scheduler that just died is started again: wait for that, if not too many do.
    async fn hand_patiently(&self, link: &Link, stream: &std::net::TcpStream) -> Result<(), LinkError> {
        let first = link.hand(stream).await;
        let (Err(LinkError::Gone(_)), Ok(_place)) = (&first, self.waiting.try_acquire()) else { return first };
        let again = async {
            loop {
                tokio::time::sleep(RESTART_LOOK).await;
                match link.hand(stream).await {
                    Err(LinkError::Gone(_)) => {}
                    other => return other,
                }
            }
        };
        tokio::time::timeout(RESTART_WAIT, again).await.unwrap_or(first)
    }
}

/// What a browser or `curl` of another machine reads when it does not encrypt.
const USE_TLS: &str = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.2\r\nConnection: Upgrade, close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 74\r\n\r\n\
    This port speaks TLS only to other machines: use https:// instead of http\n";

/// Says what is wrong to those who can read it, and closes.
async fn refuse_plain(mut stream: TcpStream, peer: SocketAddr, protocol: &Protocol) {
    tracing::warn!(%peer, "another machine without TLS; refused");
    if *protocol == Protocol::Http {
        // Whoever does not read it has lost nothing else.
        let _told = tokio::time::timeout(REFUSAL, async {
            stream.write_all(USE_TLS.as_bytes()).await?;
            stream.shutdown().await?;
            // Closing with its request unread would reset the connection before the answer is read.
            let mut unread = [0u8; 1024];
            while stream.read(&mut unread).await? > 0 {}
            Ok::<_, io::Error>(())
        })
        .await;
    }
}

/// Takes the socket out of the event loop, still non-blocking.
fn to_std(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ProcessInfo;
    use crate::link::{Incoming, serve};

    /// A door before one cluster, `local`.
    fn door(link: Link) -> Door {
        let http: ServeHttp = Arc::new(|_| Box::pin(async {}));
        let find: FindCluster = Arc::new(move |name| (name == "local").then(|| link.clone()));
        Door::new(Limits::default(), find, http, Arc::new(|_, _| Ok(())))
    }

    /// Goal: garbage, half a hello before a closed side, and TLS for nobody are closed at once.
    #[test]
    fn what_leads_nowhere_is_closed_and_not_held() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let at = listener.local_addr().expect("bound");
            let accepting = tokio::spawn(Arc::new(door(Link::new("/nonexistent/s".into()))).accept(listener));
            for bytes in [&[0xff; 64][..], &[0x16, 3, 1, 0, 5][..], b"\x16\x03\x01\x00\x04xxxx", b"GET"] {
                let mut client = TcpStream::connect(at).await.expect("accepted");
                client.write_all(bytes).await.expect("sent");
                client.shutdown().await.expect("half closed");
                let mut rest = Vec::new();
                let closed = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest)).await;
                // A reset is a closed connection too.
                assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{bytes:?}: {closed:?}");
            }
            accepting.abort();
        });
    }

    /// Goal: a client that comes while the scheduler restarts is not turned away. Method: it listens late.
    #[test]
    fn a_connection_waits_for_a_scheduler_that_is_coming_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let folder = std::env::temp_dir().join(format!("rask-door-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder");
            let socket = folder.join("control.sock");
            let link = Link::new(socket.clone());
            let door = Arc::new(door(link));
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let at = listener.local_addr().expect("bound");
            let accepting = tokio::spawn(door.accept(listener));
            let mut client = TcpStream::connect(at).await.expect("accepted");
            client.write_all(&[0x3a, 0, 0, 0, 0, 0, 0, 0]).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(300)).await;
            let (sender, mut inbox) = tokio::sync::mpsc::channel(1);
            let _served = serve(&socket, &ProcessInfo::default(), sender).expect("listens");
            let handed = tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await;
            assert!(matches!(handed, Ok(Some(Incoming::Connection(_)))), "{handed:?}");
            accepting.abort();
            std::fs::remove_dir_all(folder).expect("removed");
        });
    }
}
