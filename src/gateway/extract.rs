//! What handlers take out of requests, and the middleware in front of them. Whatever is wrong is answered as JSON.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde_json::Value;

use super::auth::{Caller, SessionsHandle, User};
use super::error::ApiError;
use super::state::Gateway;

/// Longest a body may take: a slow sender must not hold a request open.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Read of a body that is not wanted, so that the connection can go on. Unit: bytes.
const UNWANTED_BYTES: usize = 64 << 10;

/// The name in the path. What cannot be a name is the name of nothing.
pub(super) struct NamedInPath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for NamedInPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name))
            .map_err(|_| ApiError::not_found("Cluster not found: the name in the address is malformed"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let known = parts.extensions.get::<Self>().cloned();
        known.ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "Authentication required"))
    }
}

/// The body: JSON, whatever its type is said to be. Nothing at all is `null`.
pub(super) struct Json(pub Value);

impl FromRequest<Gateway> for Json {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        let limit = gateway.request_bytes;
        let too_long = || {
            ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is longer than {limit} bytes (limits.request in rask.toml)"),
            )
        };
        // One that says so beforehand is not waited for.
        if request.body().size_hint().lower() > limit {
            return Err(too_long());
        }
        let limited = Limited::new(request.into_body(), usize::try_from(limit).unwrap_or(usize::MAX));
        let read = tokio::time::timeout(BODY_PATIENCE, limited.collect()).await;
        let read = read.map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
        let bytes = read.map_err(|why| match why.downcast_ref::<LengthLimitError>() {
            Some(_) => too_long(),
            None => ApiError::new(StatusCode::BAD_REQUEST, format!("the body broke off: {why}")),
        })?;
        let bytes = bytes.to_bytes();
        if bytes.is_empty() {
            return Err(ApiError::invalid("the body is empty; it must be a JSON object"));
        }
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|why| ApiError::invalid(format!("the body is not JSON: {why}")))?;
        match value {
            Value::Object(_) => Ok(Self(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(
                ApiError::invalid(format!("the body must be a JSON object, got {}", super::value::type_name(&value))),
            ),
        }
    }
}

/// Refuses names that are not ours, and pages of other sites. Before everything else.
pub(super) async fn guard(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    match gateway.hosts.admit(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => refuse(request.into_body(), why).await,
    }
}

/// Finds out who asks, and lets nobody else through.
pub(super) async fn authenticate(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let peer = peer_of(&request);
    match gateway.auth.identify(request.headers(), peer).await {
        Ok(admitted) => {
            let stay = Stay { sessions: gateway.auth.sessions.clone(), user: admitted.user.clone() };
            request.extensions_mut().insert(stay);
            request.extensions_mut().insert(admitted.user);
            let mut response = next.run(request).await;
            if let Some(cookie) = admitted.cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(why) => refuse(request.into_body(), why).await,
    }
}

/// With a request that a user may make: how long they may see what has no end.
#[derive(Clone)]
pub struct Stay {
    sessions: SessionsHandle,
    user: User,
}

impl Stay {
    /// Waits until a token of this user is revoked.
    pub fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        self.sessions.revoked(&self.user)
    }
}

/// Lets programs of this user on this machine see pages, and users.
pub(super) async fn viewers(gateway: State<Gateway>, request: Request, next: Next) -> Response {
    match peer_of(&request).same_user {
        true => next.run(request).await,
        false => authenticate(gateway, request, next).await,
    }
}

/// A connection whose other end nobody looked at is a stranger's.
fn peer_of(request: &Request) -> Caller {
    let stranger = Caller { address: ([255, 255, 255, 255], 0).into(), same_user: false, tls: false };
    request.extensions().get::<Caller>().copied().unwrap_or(stranger)
}

/// After [`authenticate`]: lets admins through.
pub(super) async fn admins_only(user: User, request: Request, next: Next) -> Response {
    match user.admin {
        true => next.run(request).await,
        false => {
            let why = ApiError::forbidden(format!("User {} is no admin", user.name))
                .remedy("use a token with the role admin: rask token create --role admin");
            refuse(request.into_body(), why).await
        }
    }
}

/// The client sends the same request again on this connection: its first body must be out of the way.
async fn refuse(body: Body, why: ApiError) -> Response {
    let read = tokio::time::timeout(BODY_PATIENCE, Limited::new(body, UNWANTED_BYTES).collect()).await;
    let mut response = why.into_response();
    if !matches!(read, Ok(Ok(_))) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
