//! The live feed over a WebSocket; where proxies break that, as server-sent events or by polling.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, interval_at, timeout};

use super::site::Site;
use crate::feed::{Silence, Subscription, View};
use crate::http::answer::{json, problem, silence};

/// Proxies close what is silent.
const PING: Duration = Duration::from_secs(20);

/// A viewer that takes nothing for so long is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// Longest wait of a poll for news, and shortest pause after which it is answered anyway.
const POLL_WAIT: Duration = Duration::from_secs(1);

/// Longest message of a page. Unit: bytes.
const MESSAGE_MAX: usize = 64 << 10;

/// Kind of a message that is a block of the task stream.
const BLOCK: u8 = 2;

pub(super) fn routes() -> Router<Site> {
    Router::new().route("/feed", get(socket)).route("/feed/events", get(events)).route("/feed/poll", get(poll))
}

#[derive(Deserialize)]
struct Asked {
    q: String,
}

impl Asked {
    fn subscription(&self) -> Result<Subscription, Box<Response>> {
        let remedy = "send {\"want\": [..]}";
        Subscription::parse(&self.q).map_err(|why| Box::new(problem(StatusCode::BAD_REQUEST, why.to_string(), remedy)))
    }
}

/// Pages of other origins may not look: a browser lets any page open a WebSocket, so it is checked here.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN.as_str()) else { return true };
    let Some((_, host)) = origin.split_once("://") else { return false };
    let named = [text(header::HOST.as_str()), text("x-forwarded-host")];
    named.into_iter().flatten().flat_map(|hosts| hosts.split(',')).any(|name| same_host(name.trim(), host))
}

/// A proxy may add or leave out the port; two different ones are two origins.
fn same_host(left: &str, right: &str) -> bool {
    let split = |host: &str| match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (name.to_ascii_lowercase(), Some(port.to_owned()))
        }
        _ => (host.to_ascii_lowercase(), None),
    };
    let ((left, left_port), (right, right_port)) = (split(left), split(right));
    left == right && (left_port.is_none() || right_port.is_none() || left_port == right_port)
}

async fn socket(State(site): State<Site>, uri: Uri, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if !is_same_origin(&headers) && !site.is_pane(&Method::GET, &uri, &headers) {
        let error = "this page's origin may not watch the cluster by WebSocket";
        return problem(StatusCode::FORBIDDEN, error, "open the dashboard itself");
    }
    upgrade.max_message_size(MESSAGE_MAX).on_upgrade(|socket| watch(site, socket)).into_response()
}

/// Talks to one page until either end is gone.
async fn watch(site: Site, mut socket: WebSocket) {
    let Some(mut view) = site.feed.view(Subscription::default()).await else { return };
    let mut ping = interval_at(Instant::now() + PING, PING);
    loop {
        let message = tokio::select! {
            news = view.next() => match news {
                Some(bytes) => Message::Binary(bytes),
                None => break,
            },
            told = socket.recv() => match told {
                Some(Ok(Message::Text(text))) => match Subscription::parse(&text) {
                    Ok(subscription) => {
                        if view.change(subscription).await {
                            continue;
                        }
                        break;
                    }
                    Err(why) => {
                        let reason = why.to_string().chars().take(100).collect::<String>().into();
                        let close = CloseFrame { code: close_code::INVALID, reason };
                        drop(socket.send(Message::Close(Some(close))).await);
                        return;
                    }
                },
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if !matches!(timeout(WRITE_PATIENCE, socket.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    let end = Message::Binary(Bytes::from_static(b"\x01{\"topics\":{},\"closing\":\"the scheduler is stopping\"}"));
    drop(socket.send(end).await);
}

async fn events(State(site): State<Site>, Query(asked): Query<Asked>) -> Response {
    let subscription = match asked.subscription() {
        Ok(subscription) => subscription,
        Err(refused) => return *refused,
    };
    let Some(view) = site.feed.view(subscription).await else { return silence(&Silence::Gone) };
    let stream = futures_util::stream::unfold(view, |mut view: View| async move {
        let bytes = view.next().await?;
        Some((Ok::<Event, Infallible>(event_of(&bytes)), view))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(PING)).into_response()
}

fn event_of(bytes: &Bytes) -> Event {
    match bytes.split_first() {
        Some((&BLOCK, rest)) => Event::default().event("stream").data(BASE64_STANDARD.encode(rest)),
        Some((_, rest)) => Event::default().event("json").data(String::from_utf8_lossy(rest)),
        None => Event::default().comment("nothing"),
    }
}

async fn poll(State(site): State<Site>, Query(asked): Query<Asked>) -> Response {
    let subscription = match asked.subscription() {
        Ok(subscription) => subscription,
        Err(refused) => return *refused,
    };
    let Some(mut view) = site.feed.view(subscription).await else { return silence(&Silence::Gone) };
    let mut messages: Vec<Bytes> = timeout(POLL_WAIT, view.next()).await.ok().flatten().into_iter().collect();
    while let Some(more) = view.waiting() {
        messages.push(more);
    }
    let mut text = "{\"messages\":[".to_owned();
    for bytes in &messages {
        if !text.ends_with('[') {
            text.push(',');
        }
        match bytes.split_first() {
            Some((&BLOCK, rest)) => {
                text.push_str("{\"stream\":\"");
                text.push_str(&BASE64_STANDARD.encode(rest));
                text.push_str("\"}");
            }
            Some((_, rest)) => {
                text.push_str("{\"json\":");
                text.push_str(&String::from_utf8_lossy(rest));
                text.push('}');
            }
            None => text.push_str("null"),
        }
    }
    text.push_str("]}");
    json(Ok(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_may_not_watch() {
        let of = |origin: &str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("origin", origin.parse().expect("a header"));
            headers.insert("host", host.parse().expect("a header"));
            is_same_origin(&headers)
        };
        assert!(of("http://127.0.0.1:8787", "127.0.0.1:8787") && of("https://lab.example", "lab.example:443"));
        assert!(
            !of("http://127.0.0.1:80", "127.0.0.1:8787")
                && !of("http://evil.example", "127.0.0.1:8787")
                && !of("null", "127.0.0.1:8787")
        );
        assert!(is_same_origin(&HeaderMap::new()));
    }
}
