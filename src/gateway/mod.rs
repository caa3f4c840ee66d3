//! dask-gateway's REST API and our own beside it: routes, bodies, users, options, limits. Speaks to handles only.
//!
//! Source: `dask_gateway_server/routes.py`; the unmodified `dask_gateway` client is the judge.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod auth;
mod choice;
mod dask;
mod error;
mod extract;
mod hosts;
mod limits;
mod options;
mod python;
mod rest;
mod settings;
mod state;
mod value;

pub use auth::{Auth, AuthSetupError, Caller, Minted, TokenRole, User, random_secret};
pub use choice::DeclarationError;
pub use error::ApiError;
pub use extract::Stay;
pub use hosts::Hosts;
pub use limits::ClusterLimits;
pub use options::{Defaults, HERE, Options};
pub use state::{Gateway, Setup};

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};

/// All routes below `/api`.
pub fn router(gateway: &Gateway) -> Router {
    let users = dask::for_users().merge(rest::for_users());
    let users = users.route_layer(from_fn_with_state(gateway.clone(), extract::authenticate));
    let nothing = || async { ApiError::not_found("there is nothing at this address") };
    let wrong_method =
        || async { ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take that method") };
    dask::open()
        .merge(users)
        .route("/api", axum::routing::any(nothing))
        .route("/api/{*rest}", axum::routing::any(nothing))
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway.clone())
}

/// Lets admins only through to routes of others.
pub fn for_admins(gateway: &Gateway, routes: Router) -> Router {
    let checked = routes.route_layer(from_fn(extract::admins_only));
    checked.route_layer(from_fn_with_state(gateway.clone(), extract::authenticate))
}

/// Lets those through to pages of others who may see them: programs of this user on this machine, and users.
pub fn viewers_only(gateway: &Gateway, pages: Router) -> Router {
    pages.layer(from_fn_with_state(gateway.clone(), extract::viewers))
}

/// Lays the check of `Host` and `Origin` over everything that a listener serves.
pub fn guarded(gateway: &Gateway, all: Router) -> Router {
    all.layer(from_fn_with_state(gateway.clone(), extract::guard))
}
