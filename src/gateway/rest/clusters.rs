//! Clusters: seen, made, scaled, stopped.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use super::shape::{
    AdaptBody, ClusterHistory, ClusterInfo, Clusters, Credentials, ErrorBody, NewClusterBody, PastCluster,
    PastComputation, ScaleAnswer, ScaleBody, gateway_address, typed,
};
use crate::clock::unix_ms;
use crate::control::SchedulerQuestion;
use crate::fleet::{ClusterName, ClusterStatus};
use crate::gateway::auth::User;
use crate::gateway::dask::{adapt_wish, scale_count, wants_to_wait};
use crate::gateway::error::ApiError;
use crate::gateway::extract::{Json, NamedInPath};
use crate::gateway::state::{Gateway, ScaleGrant};
use crate::link::LinkError;
use crate::store::{ClusterFilter, HISTORY_DAYS};

/// Longest answer to `?wait`.
const WAIT: Duration = Duration::from_secs(20);
/// Of the history, if not asked otherwise.
const HISTORY_ROWS: u32 = 200;
const DAY_MS: i64 = 86_400_000;

type Parameters = Query<HashMap<String, String>>;

/// Clusters that start or run; `?status=all` for those that end or ended too.
#[utoipa::path(get, path = "/api/rask/v1/clusters", tag = "clusters",
    params(("status" = Option<String>, Query, description = "all, or names like RUNNING,FAILED")),
    responses((status = 200, body = Clusters), (status = 422, body = ErrorBody)))]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    user: User,
    headers: HeaderMap,
    Query(query): Parameters,
) -> Result<Answer<Clusters>, ApiError> {
    use ClusterStatus::{Failed, Pending, Running, Stopped, Stopping};
    let wanted = match query.get("status").map(String::as_str) {
        None => vec![Pending, Running, Stopping],
        Some("all") => vec![Pending, Running, Stopping, Stopped, Failed],
        Some(names) => names
            .split(',')
            .map(|name| {
                let known = ClusterStatus::parse(name);
                known.ok_or_else(|| ApiError::invalid(format!("status: {name:?} is not a status of a cluster")))
            })
            .collect::<Result<_, _>>()?,
    };
    let mut all = gateway.clusters(&user, &wanted);
    all.sort_by_key(|cluster| cluster.start_ms);
    let host = host_of(&headers);
    Ok(Answer(Clusters { clusters: all.iter().map(|cluster| ClusterInfo::of(cluster, host)).collect() }))
}

/// Makes a cluster. It is answered at once; `GET ...?wait` waits until it runs.
#[utoipa::path(post, path = "/api/rask/v1/clusters", tag = "clusters", request_body = NewClusterBody,
    responses((status = 201, body = ClusterInfo), (status = 409, body = ErrorBody, description = "the name is taken"),
        (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    user: User,
    headers: HeaderMap,
    Json(body): Json,
) -> Result<(StatusCode, Answer<ClusterInfo>), ApiError> {
    let body: NewClusterBody = typed(body)?;
    let name = match &body.name {
        None => ClusterName::random(),
        Some(name) => ClusterName::parse(name).ok_or_else(|| {
            ApiError::invalid(format!("name: {name:?} cannot be the name of a cluster"))
                .remedy("use a-z, 0-9, dots and dashes, at most 51 before the first dot")
        })?,
    };
    let workers = match body.workers.unwrap_or(Value::Null) {
        Value::Null => None,
        count => Some(scale_count(&serde_json::json!({ "count": count }))?),
    };
    gateway.create(&user, name.clone(), &body.options).await?;
    if let Some(count) = workers {
        gateway.scale_new(&user, name.as_str(), count).await?;
    }
    let made = gateway.cluster(&user, name.as_str(), "view")?;
    Ok((StatusCode::CREATED, Answer(ClusterInfo::of(&made, host_of(&headers)))))
}

/// One cluster. `?wait` answers when it no longer starts, after 20 s at the latest.
#[utoipa::path(get, path = "/api/rask/v1/clusters/{name}", tag = "clusters",
    params(("name" = String, Path), ("wait" = Option<String>, Query)),
    responses((status = 200, body = ClusterInfo), (status = 404, body = ErrorBody)))]
pub(super) async fn show(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
    headers: HeaderMap,
    Query(query): Parameters,
) -> Result<Answer<ClusterInfo>, ApiError> {
    let patience = if query.get("wait").is_some_and(|value| wants_to_wait(value)) { WAIT } else { Duration::ZERO };
    let cluster = match patience.is_zero() {
        true => gateway.cluster(&user, &name, "view")?,
        false => gateway.settled(&user, &name, patience).await?,
    };
    Ok(Answer(ClusterInfo::of(&cluster, host_of(&headers))))
}

/// Stops a cluster. One that is stopped already, or unknown, is fine.
#[utoipa::path(delete, path = "/api/rask/v1/clusters/{name}", tag = "clusters", params(("name" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorBody)))]
pub(super) async fn stop(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
) -> Result<StatusCode, ApiError> {
    gateway.stop(&user, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Wants a number of workers; may be granted fewer.
#[utoipa::path(post, path = "/api/rask/v1/clusters/{name}/scale", tag = "clusters", request_body = ScaleBody,
    params(("name" = String, Path)),
    responses((status = 200, body = ScaleAnswer), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "it does not run"), (status = 422, body = ErrorBody)))]
pub(super) async fn scale(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
    Json(body): Json,
) -> Result<Answer<ScaleAnswer>, ApiError> {
    let count = scale_count(&body)?;
    Ok(answer(gateway.scale(&user, &name, count).await?))
}

/// Lets the number of workers follow the load, or stops that.
#[utoipa::path(post, path = "/api/rask/v1/clusters/{name}/adapt", tag = "clusters", request_body = AdaptBody,
    params(("name" = String, Path)),
    responses((status = 200, body = ScaleAnswer), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "it does not run"), (status = 422, body = ErrorBody)))]
pub(super) async fn adapt(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
    Json(body): Json,
) -> Result<Answer<ScaleAnswer>, ApiError> {
    let wish = adapt_wish(&body)?;
    Ok(answer(gateway.adapt(&user, &name, wish).await?))
}

fn answer(granted: ScaleGrant) -> Answer<ScaleAnswer> {
    Answer(ScaleAnswer { ok: granted.told.is_none(), msg: granted.told })
}

/// The workers of a cluster as its scheduler knows them.
#[utoipa::path(get, path = "/api/rask/v1/clusters/{name}/workers", tag = "clusters", params(("name" = String, Path)),
    responses((status = 200, body = Object, description = "by address: name, nthreads, memory_limit, status, metrics"),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody, description = "it does not run")))]
pub(super) async fn workers(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
) -> Result<Answer<Value>, ApiError> {
    let cluster = gateway.cluster(&user, &name, "view")?;
    let not_running = || ApiError::conflict(format!("cluster {name} is not running"));
    let link = gateway.fleet.link(&name).filter(|_| cluster.status == ClusterStatus::Running);
    let said = link.ok_or_else(not_running)?.ask(SchedulerQuestion::Identity).await.map_err(|why| match why {
        LinkError::Gone(_) => not_running(),
        LinkError::Refused(_) | LinkError::Malformed(_) | LinkError::AskedBack | LinkError::Slow => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the scheduler of cluster {name} does not answer: {why}"),
        ),
    })?;
    let identity: Value = serde_json::from_str(&said).unwrap_or_default();
    let workers = identity.get("workers").cloned().unwrap_or_else(|| serde_json::json!({}));
    Ok(Answer(serde_json::json!({ "workers": workers })))
}

/// What a client needs to connect from anywhere that reaches this port.
#[utoipa::path(get, path = "/api/rask/v1/clusters/{name}/credentials", tag = "clusters", params(("name" = String, Path)),
    responses((status = 200, body = Credentials), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "it does not run")))]
pub(super) async fn credentials(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(name): NamedInPath,
    headers: HeaderMap,
) -> Result<Answer<Credentials>, ApiError> {
    let cluster = gateway.cluster(&user, &name, "view")?;
    let pair = cluster.tls.as_ref().filter(|_| cluster.status == ClusterStatus::Running);
    let pair = pair.ok_or_else(|| ApiError::conflict(format!("cluster {name} is not running")))?;
    Ok(Answer(Credentials {
        gateway_address: gateway_address(host_of(&headers), &name),
        tls_cert: pair.cert_pem.clone(),
        tls_key: pair.key_pem.clone(),
    }))
}

/// Clusters that ended within 30 days and what was computed.
#[utoipa::path(get, path = "/api/rask/v1/history", tag = "clusters",
    params(("cluster" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = ClusterHistory), (status = 503, body = ErrorBody)))]
pub(super) async fn history(
    State(gateway): State<Gateway>,
    user: User,
    Query(query): Parameters,
) -> Result<Answer<ClusterHistory>, ApiError> {
    let limit = match query.get("limit") {
        None => HISTORY_ROWS,
        Some(text) => text.parse().map_err(|_| ApiError::invalid(format!("limit: {text:?} is not a number")))?,
    };
    let owner = (!user.admin).then_some(user.name);
    let which = ClusterFilter { user: owner, cluster: query.get("cluster").cloned(), limit };
    let since = unix_ms().saturating_sub(HISTORY_DAYS.saturating_mul(DAY_MS));
    let ended = gateway.store.finished_clusters(since, which.clone()).await?;
    let computed = gateway.store.computations(which).await?;
    let clusters = ended.into_iter().map(|one| PastCluster {
        name: one.name,
        user: one.user,
        status: one.status,
        reason: one.reason,
        start_time: one.start_ms,
        stop_time: one.stop_ms,
    });
    let computations = computed.into_iter().map(|one| PastComputation {
        body: serde_json::from_str(&one.body).unwrap_or_default(),
        cluster: one.cluster,
        id: one.id,
        start_time: one.start_ms,
        stop_time: one.stop_ms,
    });
    Ok(Answer(ClusterHistory { clusters: clusters.collect(), computations: computations.collect() }))
}

/// Where the asker reached us.
fn host_of(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
}
