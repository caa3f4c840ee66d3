//! What a request is answered when it is not done: what and why for everybody, what to do for people.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde_json::json;

use crate::base::Blame;
use crate::store::StoreError;

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    error: String,
    remedy: Option<String>,
    challenge: Option<&'static str>,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// dask-gateway's client shows its user the text of 404, 409, 422 and 500, and of nothing else.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), remedy: None, challenge: None, retry_after_s: None }
    }

    /// Answers 404.
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    /// Answers 403.
    pub fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// Answers 409.
    pub fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    /// Answers 422.
    pub fn invalid(error: impl fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }

    /// What a person can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// `WWW-Authenticate`.
    #[must_use]
    pub(super) fn challenge(mut self, scheme: &'static str) -> Self {
        self.challenge = Some(scheme);
        self
    }

    #[must_use]
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The status that HTTP answers with.
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<StoreError> for ApiError {
    fn from(why: StoreError) -> Self {
        let status = match why.blame() {
            Blame::World | Blame::Peer => StatusCode::SERVICE_UNAVAILABLE,
            Blame::Caller | Blame::Ours => StatusCode::INTERNAL_SERVER_ERROR,
        };
        tracing::warn!(error = %why, "the store failed a request");
        Self::new(status, why.to_string()).remedy(why.remedy())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = match &self.remedy {
            Some(remedy) => json!({ "error": self.error, "remedy": remedy }),
            None => json!({ "error": self.error }),
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(scheme) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // Clients that do not read the body show this instead.
        let line: String =
            self.error.chars().take(200).map(|c| if c.is_ascii() && !c.is_control() { c } else { '?' }).collect();
        if let Ok(reason) = ReasonPhrase::try_from(line.into_bytes()) {
            response.extensions_mut().insert(reason);
        }
        response
    }
}
