//! `GET /api/rask/v1/doctor`: what `rask doctor` finds, seen from the appliance.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::base::BoxError;

/// Looks at everything and tells it as JSON. Errors: why nothing could be looked at.
pub type Examine = Arc<dyn Fn() -> BoxFuture<'static, Result<Value, BoxError>> + Send + Sync>;

/// The route. Findings name paths, processes and variables of the machine: for admins only.
pub(super) fn routes(examine: Examine) -> Router {
    Router::new().route("/api/rask/v1/doctor", get(doctor)).with_state(examine)
}

/// Errors: 500 with the reason.
async fn doctor(State(examine): State<Examine>) -> Response {
    match examine().await {
        Ok(diagnosis) => Json(diagnosis).into_response(),
        Err(why) => {
            let body = json!({ "error": why.to_string(), "remedy": "run `rask doctor` on that machine" });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
    }
}
