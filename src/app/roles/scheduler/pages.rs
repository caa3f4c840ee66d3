//! Serves a scheduler's pages on a thread of their own: whatever browsers ask for, the scheduler's loop goes on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::listen;
use crate::app::failure::Failure;
use crate::clock;
use crate::cluster::{Control, Reporter};
use crate::feed::Feed;
use crate::http::{self, Assets, Site};
use crate::link;

/// After a failed accept: descriptors may be short for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where and from whom.
pub(crate) struct Pages {
    /// The scheduler.
    pub control: mpsc::Sender<Control>,
    /// A port of its own.
    pub tcp: Option<TcpListener>,
    /// A Unix socket, behind the appliance.
    pub socket: Option<PathBuf>,
    /// The page's files, if not the embedded ones.
    pub web_dir: Option<PathBuf>,
}

/// Removes the socket at the end.
pub(crate) struct Served(Option<PathBuf>);

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _may_be_gone = std::fs::remove_file(path);
        }
    }
}

/// Takes the port; another one if it is in use, as Dask does.
pub(crate) fn listen(address: &str) -> Result<TcpListener, Failure> {
    let (host, port) = listen::dashboard(address)?;
    let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let failed = |why: io::Error| Failure::world(format!("cannot listen for the dashboard on {host}:{port}: {why}"));
    match TcpListener::bind((host, port)) {
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!("port {port} for the dashboard is in use; taking another");
            TcpListener::bind((host, 0)).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// Starts to serve.
pub(crate) fn serve(pages: Pages) -> Result<(Served, Reporter), Failure> {
    let unix = pages.socket.as_deref().map(listen_unix).transpose()?;
    for listener in pages.tcp.iter() {
        listener.set_nonblocking(true).map_err(|why| Failure::world(format!("the dashboard's port: {why}")))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::world(format!("cannot start an event loop: {why}")))?;
    let (socket, tcp) = (pages.socket.clone(), pages.tcp);
    let assets = Assets::new(pages.web_dir);
    let (feed, hub) = Feed::new(pages.control);
    let reporter = reporter(feed.clone(), assets.clone());
    let name = socket.as_deref().and_then(cluster_name);
    let tickets = http::Tickets::new(clock::random_bytes());
    let work = move || {
        runtime.block_on(async move {
            // Whoever reaches a loopback port or the private socket reaches the scheduler as well.
            let local = tcp.as_ref().is_none_or(|tcp| tcp.local_addr().is_ok_and(|at| at.ip().is_loopback()));
            let site = Site { feed, assets, name: name.map(Into::into), actions: local, tickets };
            let router = http::cluster_router(site);
            futures_util::future::join3(hub, accept_tcp(tcp, router.clone()), accept_unix(unix, router)).await;
        });
    };
    std::thread::Builder::new()
        .name("pages".to_owned())
        .spawn(work)
        .map_err(|why| Failure::world(format!("cannot start a thread: {why}")))?;
    Ok((Served(socket), reporter))
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
                    tracing::warn!(%why, "the performance report is a plain one");
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

fn listen_unix(path: &Path) -> Result<std::os::unix::net::UnixListener, Failure> {
    let failed = |why: io::Error| Failure::world(format!("cannot listen on {}: {why}", path.display()));
    // What a killed one left.
    let _may_not_exist = std::fs::remove_file(path);
    let listener = link::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

async fn accept_tcp(listener: Option<TcpListener>, router: axum::Router) {
    let Some(Ok(listener)) = listener.map(tokio::net::TcpListener::from_std) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _small_messages_wait_otherwise = stream.set_nodelay(true);
                tokio::spawn(http::serve_stream(router.clone(), stream));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_unix(listener: Option<std::os::unix::net::UnixListener>, router: axum::Router) {
    let Some(Ok(listener)) = listener.map(tokio::net::UnixListener::from_std) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(http::serve_stream(router.clone(), stream))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
