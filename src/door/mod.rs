//! The front door: accepts for the appliance, looks at a connection's first bytes, hands it on.
//!
//! Nothing is read from a connection here, only peeked at; nothing is relayed; nobody is held longer than the look.

mod look;

pub use look::{Kind, look};

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::base::Limits;
use crate::link::Link;

/// After a failed accept (too many open files): pause instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves one HTTP connection to its end.
pub type ServeHttp = Arc<dyn Fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// May this peer connect? Asked before a byte is looked at. The error is for the log.
pub type Admit = Arc<dyn Fn(&TcpStream) -> Result<(), String> + Send + Sync>;

/// What the door knows. Shared by all its listeners.
pub struct Door {
    /// Bounds for peers.
    pub limits: Limits,
    /// The scheduler that Dask connections belong to. None: there is none, and they are turned away.
    pub scheduler: Option<Link>,
    /// For everything that is not Dask.
    pub http: ServeHttp,
    /// Who may come in.
    pub admit: Admit,
}

impl Door {
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
                Err(why) => {
                    tracing::warn!(%why, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        if let Err(why) = (self.admit)(&stream) {
            return tracing::warn!(%peer, %why, "connection refused");
        }
        let deadline = Duration::from_millis(self.limits.handshake_ms);
        match tokio::time::timeout(deadline, look(&stream)).await {
            Ok(Ok(Kind::Dask)) => self.hand_on(stream, peer).await,
            Ok(Ok(Kind::Http)) => (self.http)(stream).await,
            Ok(Ok(Kind::Tls)) => tracing::warn!(%peer, "TLS on a port without a certificate; closed"),
            Ok(Ok(Kind::Nothing)) => tracing::debug!(%peer, "closed without a word"),
            Ok(Ok(Kind::Unknown)) => tracing::warn!(%peer, "neither Dask nor HTTP; closed"),
            Ok(Err(why)) => tracing::debug!(%peer, %why, "lost before its first bytes"),
            Err(_elapsed) => tracing::debug!(%peer, "said nothing in time; closed"),
        }
    }

    async fn hand_on(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(link) = &self.scheduler else {
            return tracing::warn!(%peer, "a Dask connection, and no cluster to take it; closed");
        };
        let handed = match to_std(stream) {
            Ok(stream) => link.hand(&stream).await.map_err(|why| why.to_string()),
            Err(why) => Err(why.to_string()),
        };
        if let Err(why) = handed {
            tracing::warn!(%peer, %why, "the scheduler could not take a connection; closed");
        }
    }
}

/// Takes the socket out of the event loop, still non-blocking.
fn to_std(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.into_std()
}
