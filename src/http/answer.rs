//! Answers that every page and API gives alike: JSON, and errors with what to do about them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::feed::Silence;

/// An error as JSON: what and why, and what to do.
pub(super) fn problem(code: StatusCode, error: impl Into<String>, remedy: &str) -> Response {
    let body = serde_json::json!({"error": error.into(), "remedy": remedy}).to_string();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The scheduler did not answer.
pub(super) fn silence(why: &Silence) -> Response {
    match why {
        Silence::Failed(text) => problem(StatusCode::BAD_GATEWAY, text.clone(), "see the logs of the workers"),
        Silence::Gone | Silence::Late => {
            problem(StatusCode::SERVICE_UNAVAILABLE, why.to_string(), "try again in a moment")
        }
    }
}

/// JSON that may be asked for again at any time.
pub(super) fn json(body: Result<String, Silence>) -> Response {
    typed(body, "application/json")
}

/// A body with its type.
pub(super) fn typed(body: Result<String, Silence>, content_type: &'static str) -> Response {
    match body {
        Ok(body) => ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], body).into_response(),
        Err(why) => silence(&why),
    }
}
