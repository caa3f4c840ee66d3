//! News of clusters as a stream (server-sent events).

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, StreamExt, unfold};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::fleet::FleetEvent;
use crate::gateway::auth::User;
use crate::gateway::state::Gateway;

/// News as they happen: `created`, `status`, `target`, `workers`, `worker-died`, each with its cluster. `missed` says
/// that a slow reader lost some, and should look at the list of clusters again.
#[utoipa::path(get, path = "/api/rask/v1/events", tag = "clusters",
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn events(
    State(gateway): State<Gateway>,
    user: User,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let revoked = gateway.auth.sessions.revoked(&user);
    let news = gateway.fleet.events();
    let stream = unfold((news, gateway, user), |(mut news, gateway, user)| async move {
        loop {
            let event = match news.recv().await {
                Ok(event) if concerns(&gateway, &user, &event) => told(&event),
                Ok(_) => continue,
                Err(RecvError::Lagged(count)) => {
                    Event::default().event("missed").data(json!({ "missed": count }).to_string())
                }
                Err(RecvError::Closed) => return None,
            };
            return Some((Ok(event), (news, gateway, user)));
        }
    });
    Sse::new(stream.take_until(Box::pin(revoked))).keep_alive(KeepAlive::default())
}

fn told(event: &FleetEvent) -> Event {
    let value = serde_json::to_value(event).unwrap_or_default();
    let name = value.get("event").and_then(serde_json::Value::as_str).unwrap_or("news").to_owned();
    Event::default().event(name).data(value.to_string())
}

fn concerns(gateway: &Gateway, user: &User, event: &FleetEvent) -> bool {
    match event {
        FleetEvent::Created { user: owner, .. } | FleetEvent::Status { user: owner, .. } => user.may(owner),
        FleetEvent::Target { cluster, .. }
        | FleetEvent::Workers { cluster, .. }
        | FleetEvent::WorkerDied { cluster, .. } => {
            gateway.fleet.get(cluster).is_some_and(|cluster| user.may(&cluster.user))
        }
    }
}
