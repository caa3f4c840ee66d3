//! The appliance's way to the pages of its clusters: `/clusters/NAME/...` goes to that cluster's own HTTP, over its Unix
//! socket, with the prefix taken off. Everything goes through as it comes, WebSockets too. What has no end ends when a
//! token of the user who asked for it is revoked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::any;
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::fleet::{ClusterStatus, FleetHandle};
use crate::gateway::Stay;
use crate::http::answer::problem;
use crate::http::cluster::dask;
use crate::link;

/// A scheduler accepts at once, or is in trouble.
const CONNECT: Duration = Duration::from_secs(5);

/// The cluster that addresses without a name mean.
const LOCAL: &str = "local";

/// Where the HTTP of a cluster listens; `None`: there is no such cluster.
type Backends = Arc<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

/// Headers that are between two neighbours only. Source: RFC 9110, 7.6.1.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// What programs ask for without a name.
const DATA: [&str; 9] = [
    "/json/{*rest}",
    "/metrics",
    "/individual-plots.json",
    "/sitemap.json",
    "/eventstream",
    "/api/v1/get_workers",
    "/api/v1/adaptive_target",
    "/api/v1/check_idle",
    "/api/v1/retire_workers",
];

/// `/clusters/NAME/...`, and Dask's own paths for the cluster `local`.
pub(super) fn routes(fleet: FleetHandle) -> Router {
    let backends: Backends = Arc::new(move |name| {
        let lives = match fleet.get(name)?.status {
            ClusterStatus::Pending | ClusterStatus::Running | ClusterStatus::Stopping => true,
            ClusterStatus::Stopped | ClusterStatus::Failed => false,
        };
        lives.then(|| fleet.files(name).http())
    });
    let mut router = Router::new()
        .route("/clusters/{name}", any(home))
        .route("/clusters/{name}/", any(home))
        .route("/clusters/{name}/{*rest}", any(named));
    for path in DATA {
        router = router.route(path, any(local));
    }
    // Dask's pages without a name: they mean the cluster `local`, whose own address has its name in it.
    for name in dask::PAGES.into_iter().chain(["info", "info/{*rest}"]) {
        router = router.route(&format!("/{name}"), any(local_page));
    }
    for name in dask::PAGES {
        router = router.route(&format!("/{name}/"), any(local_page));
    }
    for (name, _) in dask::INDIVIDUAL {
        router = router.route(&format!("/individual-{name}"), any(local_page));
        router = router.route(&format!("/individual-{name}/"), any(local_page));
    }
    router.with_state(backends)
}

/// To the page below its cluster's name, by a relative address: a prefix before ours stays.
async fn local_page(request: Request) -> Response {
    Redirect::temporary(&below_local(request.uri())).into_response()
}

fn below_local(uri: &Uri) -> String {
    let depth = uri.path().trim_start_matches('/').matches('/').count();
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    format!("{}clusters/{LOCAL}{target}", "../".repeat(depth))
}

/// Inside the prefix, whatever it is: the address is relative.
async fn home(State(backends): State<Backends>, Path(name): Path<String>, request: Request) -> Response {
    if backends(&name).is_none() {
        return unknown(&name);
    }
    let inside = request.uri().path().ends_with('/');
    Redirect::temporary(&if inside { "status".to_owned() } else { format!("{name}/status") }).into_response()
}

async fn named(
    State(backends): State<Backends>,
    Path((name, _rest)): Path<(String, String)>,
    request: Request,
) -> Response {
    // The rest as it was sent: what is encoded in it stays so.
    let path = request.uri().path();
    let rest = path.splitn(4, '/').nth(3).unwrap_or_default();
    let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
    let target = format!("/{rest}{query}");
    forward(&backends, &name, &target, request).await
}

async fn local(State(backends): State<Backends>, request: Request) -> Response {
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
    forward(&backends, LOCAL, &target, request).await
}

fn unknown(name: &str) -> Response {
    let error = format!("there is no cluster {name}");
    problem(StatusCode::NOT_FOUND, error, "see api/rask/v1/clusters for those that there are")
}

fn unreachable(name: &str, why: &str) -> Response {
    let error = format!("the scheduler of cluster {name} does not answer: {why}");
    problem(StatusCode::BAD_GATEWAY, error, "see whether it is starting or failed, and its log")
}

async fn forward(backends: &Backends, name: &str, target: &str, request: Request) -> Response {
    // From here on, not from when the cluster answers: a token may be revoked meanwhile.
    let stay = request.extensions().get::<Stay>().map(Stay::end);
    let Some(socket) = backends(name) else { return unknown(name) };
    let stream = match timeout(CONNECT, link::connect(&socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(why)) => return unreachable(name, &why.to_string()),
        Err(_) => return unreachable(name, "it does not accept"),
    };
    let Ok(uri) = target.parse::<Uri>() else {
        return problem(StatusCode::BAD_REQUEST, "the address cannot be read", "check it");
    };
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(why) => return unreachable(name, &why.to_string()),
    };
    tokio::spawn(async move {
        if let Err(why) = connection.with_upgrades().await {
            tracing::debug!(error = %why, "a connection to a cluster's pages ended early");
        }
    });
    pass(&mut sender, uri, request, stay).await.unwrap_or_else(|why| unreachable(name, &why.to_string()))
}

/// One request and its answer; if both sides agree to speak another protocol, bytes go both ways until either ends.
/// `stay`: with its end, so does what has none of its own.
async fn pass(
    sender: &mut hyper::client::conn::http1::SendRequest<Body>,
    uri: Uri,
    mut request: Request,
    stay: Option<impl Future<Output = ()> + Send + 'static>,
) -> hyper::Result<Response> {
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let ours = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    parts.uri = uri;
    clean(&mut parts.headers, upgrade.as_ref());
    let sent = Request::from_parts(parts, body);
    let mut answer = sender.send_request(sent).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut answer);
        if let Some(ours) = ours {
            tokio::spawn(async move {
                let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) else { return };
                let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                // Either end may go at any time.
                tokio::select! {
                    _ended = tokio::io::copy_bidirectional(&mut ours, &mut theirs) => {}
                    () = until(stay) => {}
                }
            });
        }
        return Ok(answer.map(|_| Body::empty()));
    }
    let (mut parts, body) = answer.into_parts();
    clean(&mut parts.headers, None);
    let endless = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    let body = match stay.filter(|_| endless) {
        Some(end) => Body::from_stream(Body::new(body).into_data_stream().take_until(Box::pin(end))),
        None => Body::new(body),
    };
    Ok(Response::from_parts(parts, body))
}

/// Waits for the end; without one, for ever.
async fn until(end: Option<impl Future<Output = ()>>) {
    match end {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}

/// Takes off what is between neighbours only; an upgrade is asked for anew.
fn clean(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::UPGRADE);
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_without_a_name_lead_to_the_local_cluster() {
        let of = |path: &str| below_local(&path.parse().expect("an address"));
        assert_eq!(of("/status"), "clusters/local/status");
        assert_eq!(of("/info/main/workers.html?x=1"), "../../clusters/local/info/main/workers.html?x=1");
    }
}
