//! `/api/rask/v1/peers`: machines join here, keep their link here, and are looked after here.

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::ends::ConnectionEnds;
use crate::peer::{
    BadToken, HeadError, HeadHandle, JoinAnswer, JoinAsk, LinkEnd, MESSAGE_MAX, PeerView, RenewAsk, ToHead, ToPeer,
};

/// Longest request of a machine that joins: a token and a request to sign. Unit: bytes.
const BODY_MAX: usize = 16 << 10;

/// An hour is enough to walk to the other machine. Unit: seconds.
const TTL_SECS: u64 = 3600;

/// What machines themselves use. They show a token, a secret or a certificate; no user is needed.
pub(super) fn open_routes(head: HeadHandle) -> Router {
    Router::new()
        .route("/api/rask/v1/peers/join", post(join))
        .route("/api/rask/v1/peers/renew", post(renew))
        .route("/api/rask/v1/peers/link", get(link))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(head)
}

/// What people use; whoever mounts it sees to it that only administrators get here.
pub(super) fn managed_routes(head: HeadHandle) -> Router {
    Router::new()
        .route("/api/rask/v1/peers", get(list))
        .route("/api/rask/v1/peers/{name}", get(one).delete(remove))
        .route("/api/rask/v1/peers/{name}/drain", post(drain))
        .route("/api/rask/v1/peers/{name}/resume", post(resume))
        .route("/api/rask/v1/peers/{name}/logs/{cluster}", get(logs))
        .route("/api/rask/v1/join-tokens", get(tokens).post(invite))
        .route("/api/rask/v1/join-tokens/{id}", delete(withdraw))
        .with_state(head)
}

/// The managed routes, for the document of all addresses.
pub fn document() -> utoipa::openapi::OpenApi {
    use utoipa::OpenApi;
    #[derive(OpenApi)]
    #[openapi(paths(list, one, drain, resume, remove, logs, tokens, invite, withdraw))]
    struct Document;
    Document::openapi()
}

/// An error in our JSON.
struct Refused(HeadError);

impl From<HeadError> for Refused {
    fn from(why: HeadError) -> Self {
        Self(why)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, remedy) = match &self.0 {
            HeadError::BadToken(_) => (StatusCode::FORBIDDEN, "make a new token on the head: rask token create --join"),
            HeadError::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "wait, then try with the right token"),
            HeadError::BadRequest(_) => (StatusCode::UNPROCESSABLE_ENTITY, "use the same version of rask on both"),
            HeadError::Unknown(_) => (StatusCode::NOT_FOUND, "see: rask peers"),
            HeadError::Full => {
                (StatusCode::SERVICE_UNAVAILABLE, "remove machines that are gone: rask peer remove NAME")
            }
            HeadError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "see the disk and the log of the head"),
            HeadError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment"),
        };
        let body = Json(json!({ "error": self.0.to_string(), "remedy": remedy }));
        match self.0 {
            HeadError::TooMany { retry_secs } => {
                (status, [(header::RETRY_AFTER, retry_secs.to_string())], body).into_response()
            }
            HeadError::BadToken(_)
            | HeadError::BadRequest(_)
            | HeadError::Unknown(_)
            | HeadError::Full
            | HeadError::Store(_)
            | HeadError::Busy => (status, body).into_response(),
        }
    }
}

/// `POST .../join`. Errors: 403 no valid token; 422 no valid request to sign; 429 too many wrong tries.
async fn join(
    State(head): State<HeadHandle>,
    Extension(ends): Extension<ConnectionEnds>,
    Json(ask): Json<JoinAsk>,
) -> Result<Json<JoinAnswer>, Refused> {
    Ok(Json(head.join(&ask, ends.from()).await?))
}

/// `POST .../renew`: with the secret that came with the join. Errors: as [`join`].
async fn renew(
    State(head): State<HeadHandle>,
    Extension(ends): Extension<ConnectionEnds>,
    Json(ask): Json<RenewAsk>,
) -> Result<Json<JoinAnswer>, Refused> {
    Ok(Json(head.renew(&ask, ends.from()).await?))
}

/// `GET .../link`: a WebSocket. Errors: 403 without a peer's certificate, or with a removed one's.
async fn link(
    State(head): State<HeadHandle>,
    Extension(ends): Extension<ConnectionEnds>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let removed = "this machine is not a member any more; join again with a new token: rask join URL --token ...";
    let linked = match &ends.joined {
        Some(id) => head.linked(id, ends.from(), ends.local.ip()).await,
        None => Err(HeadError::BadToken(BadToken::NoCertificate)),
    };
    match linked {
        Ok(end) => upgrade.max_message_size(MESSAGE_MAX).on_upgrade(move |socket| serve_link(socket, end)),
        Err(HeadError::Unknown(_)) => (StatusCode::FORBIDDEN, Json(json!({ "error": removed }))).into_response(),
        Err(why) => Refused(why).into_response(),
    }
}

/// Passes messages on, both ways, until either end is gone.
async fn serve_link(socket: WebSocket, mut end: LinkEnd) {
    let (mut sink, mut stream) = socket.split();
    loop {
        tokio::select! {
            message = end.messages.recv() => {
                // None: a newer link took over, or the machine is none of ours any more.
                let Some(message) = message else { break };
                let last = matches!(message, ToPeer::Goodbye { .. });
                let Ok(text) = serde_json::to_string(&message) else { continue };
                if sink.send(Message::Text(text.into())).await.is_err() || last {
                    break;
                }
            }
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => match serde_json::from_str::<ToHead>(&text) {
                    Ok(message) => end.said(message).await,
                    // A newer peer may say more than we know.
                    Err(why) => tracing::debug!(error = %why, "passed over a message of a peer"),
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                // Pings are answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
            }
        }
    }
    let _gone = sink.close().await;
}

/// `GET /peers`
#[utoipa::path(get, path = "/api/rask/v1/peers", tag = "peers",
    responses((status = 200, body = Vec<Object>, description = "machines that joined: name, state, address, facts, groups")))]
async fn list(State(head): State<HeadHandle>) -> Json<Vec<PeerView>> {
    Json(head.peers().to_vec())
}

/// `GET /peers/{name}`. Errors: 404.
#[utoipa::path(get, path = "/api/rask/v1/peers/{name}", tag = "peers",
    params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Object)))]
async fn one(State(head): State<HeadHandle>, Path(name): Path<String>) -> Result<Json<PeerView>, Refused> {
    head.peer(&name).map(Json).ok_or(Refused(HeadError::Unknown(name)))
}

/// `POST /peers/{name}/drain`. Errors: 404.
#[utoipa::path(post, path = "/api/rask/v1/peers/{name}/drain", tag = "peers",
    params(("name" = String, Path)),
    responses((status = 202), (status = 404, body = Object)))]
async fn drain(State(head): State<HeadHandle>, Path(name): Path<String>) -> Result<StatusCode, Refused> {
    head.drain(&name).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /peers/{name}/resume`. Errors: 404.
#[utoipa::path(post, path = "/api/rask/v1/peers/{name}/resume", tag = "peers",
    params(("name" = String, Path)),
    responses((status = 202), (status = 404, body = Object)))]
async fn resume(State(head): State<HeadHandle>, Path(name): Path<String>) -> Result<StatusCode, Refused> {
    head.resume(&name).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /peers/{name}`. Errors: 404.
#[utoipa::path(delete, path = "/api/rask/v1/peers/{name}", tag = "peers",
    params(("name" = String, Path)),
    responses((status = 204), (status = 404, body = Object)))]
async fn remove(State(head): State<HeadHandle>, Path(name): Path<String>) -> Result<StatusCode, Refused> {
    head.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Tail {
    #[serde(default = "Tail::lines")]
    tail: usize,
}

impl Tail {
    const fn lines() -> usize {
        200
    }
}

/// `GET /peers/{name}/logs/{cluster}?tail=`: of its worker pool, as text.
#[utoipa::path(get, path = "/api/rask/v1/peers/{name}/logs/{cluster}", tag = "peers",
    params(("name" = String, Path), ("cluster" = String, Path), ("tail" = Option<u32>, Query, description = "lines; 200 if not given")),
    responses((status = 200, content_type = "text/plain", body = String)))]
async fn logs(
    State(head): State<HeadHandle>,
    Path((name, cluster)): Path<(String, String)>,
    Query(wish): Query<Tail>,
) -> String {
    let mut text = head.logs(&name, &cluster, wish.tail).await.join("\n");
    text.push('\n');
    text
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Invitation {
    ttl_secs: u64,
    uses: u32,
}

impl Default for Invitation {
    fn default() -> Self {
        Self { ttl_secs: TTL_SECS, uses: 1 }
    }
}

/// An invitation without its secret; with its text only when it was just made.
#[derive(Serialize)]
struct Invited {
    id: String,
    created_ms: i64,
    expires_ms: i64,
    uses_left: u32,
    used_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// `https://head:8787`, as other machines reach us.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

/// `POST /join-tokens {ttl_secs?, uses?}`: the only time that its text is shown.
#[utoipa::path(post, path = "/api/rask/v1/join-tokens", tag = "peers",
    request_body(content = Object, description = "ttl_secs, uses"),
    responses((status = 201, body = Object, description = "with the token, which is shown this once")))]
async fn invite(State(head): State<HeadHandle>, Json(wish): Json<Invitation>) -> Result<Response, Refused> {
    let (text, record) = head.invite(wish.ttl_secs, wish.uses).await?;
    Ok((StatusCode::CREATED, Json(Invited { address: Some(head.url().to_owned()), ..shown(record, Some(text)) }))
        .into_response())
}

fn shown(record: crate::peer::JoinTokenRecord, token: Option<String>) -> Invited {
    Invited {
        id: record.id,
        created_ms: record.created_ms,
        expires_ms: record.expires_ms,
        uses_left: record.uses_left,
        used_ms: record.used_ms,
        token,
        address: None,
    }
}

/// `GET /join-tokens`
#[utoipa::path(get, path = "/api/rask/v1/join-tokens", tag = "peers",
    responses((status = 200, body = Vec<Object>)))]
async fn tokens(State(head): State<HeadHandle>) -> Result<Json<Vec<Invited>>, Refused> {
    Ok(Json(head.invitations().await?.into_iter().map(|record| shown(record, None)).collect()))
}

/// `DELETE /join-tokens/{id}`. Errors: 404.
#[utoipa::path(delete, path = "/api/rask/v1/join-tokens/{id}", tag = "peers",
    params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Object)))]
async fn withdraw(State(head): State<HeadHandle>, Path(id): Path<String>) -> Response {
    match head.withdraw(&id).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => {
            let body =
                Json(json!({ "error": format!("there is no join token {id}"), "remedy": "see: rask token list" }));
            (StatusCode::NOT_FOUND, body).into_response()
        }
        Err(why) => Refused(why).into_response(),
    }
}
