//! Tokens: made, listed, revoked. Admins all; users their own.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;

use super::shape::{ErrorBody, MintedToken, NewTokenBody, TokenInfo, Tokens, seconds, typed};
use crate::gateway::auth::{Minted, SessionsHandle, TokenRole, User};
use crate::gateway::error::ApiError;
use crate::gateway::extract::{Json, NamedInPath};
use crate::gateway::state::Gateway;
use crate::store::TokenRecord;

/// Longest name or label: they are shown in tables.
const TEXT_MAX: usize = 100;

fn shown(record: &TokenRecord) -> TokenInfo {
    let token = &record.token;
    TokenInfo {
        id: token.id.clone(),
        label: token.label.clone(),
        user: token.user.clone(),
        role: token.role.clone(),
        created_time: token.created_ms,
        expires_time: token.expires_ms,
        used_time: record.used_ms,
        expired: SessionsHandle::expired(record),
    }
}

/// Tokens without their secrets.
#[utoipa::path(get, path = "/api/rask/v1/tokens", tag = "tokens", responses((status = 200, body = Tokens)))]
pub(super) async fn list(State(gateway): State<Gateway>, user: User) -> Result<Answer<Tokens>, ApiError> {
    let mut all = gateway.auth.sessions.tokens().await?;
    all.retain(|record| user.may(&record.token.user));
    Ok(Answer(Tokens { tokens: all.iter().map(shown).collect() }))
}

/// Makes a token. Its secret is in the answer and nowhere else.
#[utoipa::path(post, path = "/api/rask/v1/tokens", tag = "tokens", request_body = NewTokenBody,
    responses((status = 201, body = MintedToken), (status = 403, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    user: User,
    Json(body): Json,
) -> Result<(StatusCode, Answer<MintedToken>), ApiError> {
    let body: NewTokenBody = typed(body)?;
    let whose = body.user.unwrap_or_else(|| user.name.clone());
    let asked = body.role.as_deref().unwrap_or("user");
    let role = TokenRole::read(asked)
        .ok_or_else(|| ApiError::invalid(format!("role: {asked:?} is neither \"admin\" nor \"user\"")))?;
    for (name, text) in [("user", &whose), ("label", &body.label)] {
        if text.len() > TEXT_MAX || text.chars().any(char::is_control) {
            return Err(ApiError::invalid(format!("{name} must be at most {TEXT_MAX} bytes of plain text")));
        }
    }
    if whose.is_empty() || whose.contains(':') {
        return Err(ApiError::invalid("user must not be empty or contain a colon"));
    }
    if !user.admin && (whose != user.name || role == TokenRole::Admin) {
        return Err(ApiError::forbidden(format!(
            "User {} may make tokens for {} with the role user only",
            user.name, user.name
        )));
    }
    let life_ms = match &body.expires_in {
        None => None,
        Some(given) => Some((seconds("expires_in", given)? * 1000.0) as i64),
    };
    let minted = Minted::new(&body.label, &whose, role, life_ms);
    gateway.auth.sessions.keep(minted.token.clone()).await?;
    tracing::info!(id = %minted.token.id, user = %whose, role = role.name(), by = %user.name, "token made");
    let token = shown(&TokenRecord { token: minted.token, used_ms: None });
    Ok((StatusCode::CREATED, Answer(MintedToken { secret: minted.secret, token })))
}

/// Revokes a token at once, the sessions that it began included.
#[utoipa::path(delete, path = "/api/rask/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody)))]
pub(super) async fn revoke(
    State(gateway): State<Gateway>,
    user: User,
    NamedInPath(id): NamedInPath,
) -> Result<StatusCode, ApiError> {
    let all = gateway.auth.sessions.tokens().await?;
    let known = all.iter().any(|record| record.token.id == id && user.may(&record.token.user));
    if known && gateway.auth.sessions.revoke(&id).await? {
        tracing::info!(%id, by = %user.name, "token revoked");
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::not_found(format!("there is no token {id}")).remedy("see `rask token ls` for those that exist"))
}
