//! Serves a scheduler's pages on a thread of their own: whatever browsers ask for, the scheduler's loop goes on.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::routes::router;
use super::site::Site;
use super::ticket::Tickets;
use crate::clock;
use crate::cluster::{Control, Reporter};
use crate::feed::Feed;
use crate::http::assets::Assets;
use crate::http::serve::serve_stream;
use crate::link::{self, KeptListener};
use crate::net::{NetError, PlainRule, Refusals};

/// Pause after a failed accept: descriptors may be short for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a scheduler's pages are served from and on.
pub struct Pages {
    /// The scheduler.
    pub control: mpsc::Sender<Control>,
    /// A port of its own.
    pub tcp: Option<TcpListener>,
    /// Who is answered there.
    pub callers: PlainRule,
    /// A Unix socket, behind the appliance.
    pub socket: Option<PathBuf>,
    /// A folder with the page's files; `None`: the embedded ones.
    pub web_dir: Option<PathBuf>,
}

/// The pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// Another program's socket is there, or the folder is missing or not ours.
    #[error("cannot listen on {}: {source}", path.display())]
    Socket {
        /// The Unix socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The port cannot be used without blocking.
    #[error("cannot use the dashboard's port: {0}")]
    Port(#[source] io::Error),
    /// No event loop or no thread.
    #[error("cannot start the thread of the dashboard: {0}")]
    Thread(#[source] io::Error),
}

/// The Unix socket of the pages. Dropping it removes the socket's file.
pub struct PagesSocket(Option<PathBuf>);

impl Drop for PagesSocket {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _may_be_gone = std::fs::remove_file(path);
        }
    }
}

/// Starts to serve, on a thread that ends with the scheduler.
pub fn serve_pages(pages: Pages) -> Result<(PagesSocket, Reporter), PagesError> {
    let unix = pages.socket.as_deref().map(listen_unix).transpose()?;
    let unix = pages.socket.clone().zip(unix);
    for listener in pages.tcp.iter() {
        listener.set_nonblocking(true).map_err(PagesError::Port)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(PagesError::Thread)?;
    let (socket, tcp) = (pages.socket.clone(), pages.tcp);
    let assets = Assets::new(pages.web_dir);
    let (feed, hub) = Feed::new(pages.control);
    let reporter = reporter(feed.clone(), assets.clone());
    let name = socket.as_deref().and_then(cluster_name);
    let tickets = Tickets::new(clock::random_bytes());
    let work = move || {
        runtime.block_on(async move {
            // Whoever reaches a loopback port or the private socket reaches the scheduler as well.
            let local = tcp.as_ref().is_none_or(|tcp| tcp.local_addr().is_ok_and(|at| at.ip().is_loopback()));
            let site = Site { feed, assets, name: name.map(Into::into), actions: local, tickets };
            let router = router(site);
            futures_util::future::join3(hub, accept_tcp(tcp, pages.callers, router.clone()), accept_unix(unix, router))
                .await;
        });
    };
    std::thread::Builder::new().name("pages".to_owned()).spawn(work).map_err(PagesError::Thread)?;
    Ok((PagesSocket(socket), reporter))
}

/// Fills the page's template with the data of a stretch of time.
fn reporter(feed: Feed, assets: Assets) -> Reporter {
    Reporter(Arc::new(move |start_secs, code| {
        let (feed, assets) = (feed.clone(), assets.clone());
        Box::pin(async move {
            let template = assets.text("report.html")?;
            match feed.report(&template, start_secs, &code).await {
                Ok(page) => page,
                Err(why) => {
                    tracing::warn!(error = %why, "the performance report is a plain one");
                    None
                }
            }
        })
    }))
}

/// The folder of the socket has the cluster's name.
fn cluster_name(socket: &Path) -> Option<String> {
    Some(socket.parent()?.file_name()?.to_str()?.to_owned())
}

fn listen_unix(path: &Path) -> Result<std::os::unix::net::UnixListener, PagesError> {
    let failed = |source| PagesError::Socket { path: path.to_path_buf(), source };
    // What a killed one left.
    let _may_not_exist = std::fs::remove_file(path);
    link::bind(path).map_err(failed)
}

async fn accept_tcp(listener: Option<TcpListener>, callers: PlainRule, router: axum::Router) {
    let Some(Ok(listener)) = listener.map(tokio::net::TcpListener::from_std) else { return };
    let refusals = Refusals::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let admitted = stream.local_addr().map_err(NetError::from).and_then(|local| callers.admit(peer, local));
                if let Err(error) = admitted {
                    refusals.note(peer, &error);
                    continue;
                }
                let _small_messages_wait_otherwise = stream.set_nodelay(true);
                tokio::spawn(serve_stream(router.clone(), stream));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_unix(socket: Option<(PathBuf, std::os::unix::net::UnixListener)>, router: axum::Router) {
    let Some(Ok(mut listener)) = socket.map(|(path, bound)| KeptListener::new(&path, bound)) else { return };
    loop {
        match listener.accept().await {
            Ok(stream) => drop(tokio::spawn(serve_stream(router.clone(), stream))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
