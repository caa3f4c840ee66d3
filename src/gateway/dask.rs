//! dask-gateway's routes, to the letter. A key too many in a cluster or an option's spec breaks the client.
//!
//! Source: `dask_gateway_server/routes.py`; `dask_gateway/client.py`, `ClusterReport._from_json`.

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Map, Value, json};

use super::auth::User;
use super::error::ApiError;
use super::extract::{Json, NamedInPath};
use super::state::{Gateway, ScaleGrant, failure_text};
use super::value::{python, python_text};
use crate::fleet::{Adapt, ClusterName, ClusterStatus, ClusterView};

/// The version of dask-gateway whose API this is.
const SPEAKS: &str = "2026.3.0";
/// Longest answer to `?wait`. The client asks again at once, and gives up on one answer after 300 s.
const WAIT: Duration = Duration::from_secs(20);

/// What anybody may ask.
pub(super) fn open() -> Router<Gateway> {
    Router::new().route("/api/health", get(health)).route("/api/version", get(version))
}

/// What users may ask.
pub(super) fn for_users() -> Router<Gateway> {
    let routes: [(&str, MethodRouter<Gateway>); 5] = [
        ("/api/v1/options", get(options)),
        ("/api/v1/clusters", get(list).post(create)),
        ("/api/v1/clusters/{name}", get(show).delete(stop)),
        ("/api/v1/clusters/{name}/scale", post(scale)),
        ("/api/v1/clusters/{name}/adapt", post(adapt)),
    ];
    // Some clients write a slash at the end, some do not.
    routes.into_iter().fold(Router::new(), |router, (path, methods)| {
        router.route(path, methods.clone()).route(&format!("{path}/"), methods)
    })
}

async fn health() -> axum::Json<Value> {
    axum::Json(json!({ "status": "pass" }))
}

async fn version() -> axum::Json<Value> {
    axum::Json(json!({ "version": SPEAKS, "rask": env!("CARGO_PKG_VERSION") }))
}

async fn options(State(gateway): State<Gateway>, _: User) -> axum::Json<Value> {
    axum::Json(json!({ "cluster_options": gateway.options.describe() }))
}

async fn list(
    State(gateway): State<Gateway>,
    user: User,
    Query(query): Query<HashMap<String, String>>,
) -> Result<axum::Json<Value>, ApiError> {
    let wanted = match query.get("status") {
        None => vec![ClusterStatus::Pending, ClusterStatus::Running],
        Some(names) => names.split(',').map(status).collect::<Result<_, _>>()?,
    };
    let clusters = gateway.clusters(&user, &wanted);
    let models: Map<String, Value> =
        clusters.iter().map(|cluster| (cluster.name.as_str().to_owned(), model(cluster))).collect();
    Ok(axum::Json(Value::Object(models)))
}

async fn create(State(gateway): State<Gateway>, user: User, Json(body): Json) -> Result<Response, ApiError> {
    let name = ClusterName::random();
    gateway.create(&user, name.clone(), body.get("cluster_options").unwrap_or(&Value::Null)).await?;
    Ok((StatusCode::CREATED, axum::Json(json!({ "name": name.as_str() }))).into_response())
}

async fn show(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
    Query(query): Query<HashMap<String, String>>,
) -> Result<axum::Json<Value>, ApiError> {
    if !query.get("wait").is_some_and(|value| wants_to_wait(value)) {
        return Ok(axum::Json(model(&*gateway.cluster(&user, &name, "view")?)));
    }
    let cluster = gateway.settled(&user, &name, WAIT).await?;
    match cluster.status {
        // The client's own words for FAILED point to logs that its user may not see: 409 lets us say why.
        ClusterStatus::Failed => Err(ApiError::conflict(failure_text(&cluster))),
        ClusterStatus::Pending | ClusterStatus::Running | ClusterStatus::Stopping | ClusterStatus::Stopped => {
            Ok(axum::Json(model(&cluster)))
        }
    }
}

async fn stop(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
) -> Result<StatusCode, ApiError> {
    gateway.stop(&user, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn scale(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
    Json(body): Json,
) -> Result<axum::Json<Value>, ApiError> {
    let count = scale_count(&body)?;
    Ok(answer(gateway.scale(&user, &name, count).await?))
}

async fn adapt(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
    Json(body): Json,
) -> Result<axum::Json<Value>, ApiError> {
    let wish = adapt_wish(&body)?;
    Ok(answer(gateway.adapt(&user, &name, wish).await?))
}

fn answer(granted: ScaleGrant) -> axum::Json<Value> {
    axum::Json(json!({ "ok": granted.told.is_none(), "msg": granted.told }))
}

/// Exactly the keys that the client takes.
pub(super) fn model(cluster: &ClusterView) -> Value {
    let name = cluster.name.as_str();
    let running = cluster.status == ClusterStatus::Running;
    let tls = cluster.tls.as_ref().filter(|_| running);
    json!({
        "name": name,
        "status": cluster.status,
        "dashboard_route": running.then(|| format!("/clusters/{name}/status")),
        "start_time": cluster.start_ms,
        "stop_time": cluster.stop_ms,
        "options": cluster.options,
        "tls_cert": tls.map(|pair| &pair.cert_pem),
        "tls_key": tls.map(|pair| &pair.key_pem),
    })
}

fn status(name: &str) -> Result<ClusterStatus, ApiError> {
    let known = ClusterStatus::parse(name);
    known.ok_or_else(|| ApiError::invalid(format!("{} is not a valid ClusterStatus", python_text(name))))
}

/// `?wait`, `?wait=` and whole numbers but zero.
pub(super) fn wants_to_wait(value: &str) -> bool {
    value.is_empty() || value.parse::<i64>().is_ok_and(|number| number != 0)
}

pub(super) fn scale_count(body: &Value) -> Result<u32, ApiError> {
    let given = body.get("count").unwrap_or(&Value::Null);
    let count = given.as_u64().and_then(|count| u32::try_from(count).ok());
    count.ok_or_else(|| ApiError::invalid(format!("Scale expects a non-negative integer, got {}", python(given))))
}

pub(super) fn adapt_wish(body: &Value) -> Result<Adapt, ApiError> {
    let bound = |name: &str| match body.get(name).unwrap_or(&Value::Null) {
        Value::Null => Ok(None),
        given => given.as_u64().and_then(|count| u32::try_from(count).ok()).map(Some).ok_or_else(|| {
            ApiError::invalid(format!("Adapt expects {name} to be a non-negative integer, got {}", python(given)))
        }),
    };
    let (minimum, maximum) = (bound("minimum")?, bound("maximum")?);
    if let (Some(least), Some(most)) = (minimum, maximum)
        && least > most
    {
        return Err(ApiError::invalid(format!(
            "Adapt expects minimum <= maximum, got minimum={least}, maximum={most}"
        )));
    }
    let active = match body.get("active").unwrap_or(&Value::Bool(true)) {
        Value::Bool(active) => *active,
        other => return Err(ApiError::invalid(format!("Adapt expects active to be a bool, got {}", python(other)))),
    };
    Ok(Adapt { minimum, maximum, active })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_counts_and_bounds_are_refused() {
        for (body, count) in [(json!({ "count": 2 }), Some(2)), (json!({ "count": 0 }), Some(0))] {
            assert_eq!(scale_count(&body).ok(), count);
        }
        for body in [
            json!({}),
            json!({ "count": -1 }),
            json!({ "count": true }),
            json!({ "count": 1.0 }),
            json!({ "count": "1" }),
        ] {
            assert_eq!(scale_count(&body).map_err(|why| why.status()), Err(StatusCode::UNPROCESSABLE_ENTITY), "{body}");
        }
        let all = Adapt { minimum: None, maximum: None, active: true };
        assert_eq!(adapt_wish(&json!({})).ok(), Some(all));
        let some = Adapt { minimum: Some(1), maximum: Some(2), active: false };
        assert_eq!(adapt_wish(&json!({ "minimum": 1, "maximum": 2, "active": false })).ok(), Some(some));
        for body in [
            json!({ "minimum": 3, "maximum": 2 }),
            json!({ "minimum": -1 }),
            json!({ "maximum": 1.5 }),
            json!({ "maximum": "2" }),
            json!({ "minimum": true }),
            json!({ "active": 1 }),
        ] {
            assert!(adapt_wish(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn waiting_is_asked_for_by_anything_but_zero() {
        let said = |text: &str| wants_to_wait(text);
        assert!(said("") && said("1") && said("-1"));
        assert!(!said("0") && !said("yes"));
    }
}
