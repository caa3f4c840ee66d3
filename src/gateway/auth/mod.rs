//! Who asks: the same user on this machine, a token, a password, a JupyterHub's word, or a session begun with one.
//!
//! Source: `dask_gateway/auth.py`: the client sends nothing at first, and credentials after a 401.

mod credential;
mod desk;
mod hub;
#[cfg(test)]
mod tests;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};

use credential::Credential;
pub use desk::DeskHandle;
pub use hub::Hub;
use subtle::ConstantTimeEq;
pub use token::{Minted, Role, SecretHash, random_secret};

use super::error::ApiError;
use crate::clock::unix_ms;
use crate::config::{AuthType, GatewayAuth};
use crate::store::StoreHandle;

/// Name of the cookie that stands for credentials given before.
const COOKIE: &str = "rask-session";

/// The other end of an HTTP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// The kernel says it is a program of our user (or root, or one that may connect) on this machine.
    pub same_user: bool,
    /// The connection is encrypted.
    pub tls: bool,
}

/// Somebody who may use the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Clusters belong to names.
    pub name: String,
    /// Sees and stops everybody's clusters, makes tokens.
    pub admin: bool,
}

impl User {
    /// May this user see and change what belongs to `owner`?
    pub fn may(&self, owner: &str) -> bool {
        self.admin || self.name == owner
    }
}

/// Answers "who is this" for every request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    config: Arc<GatewayAuth>,
    /// Who the same user on this machine is.
    local_name: Arc<str>,
    hub: Option<Hub>,
    pub(super) desk: DeskHandle,
}

/// Somebody, and the cookie that spares the next request the credentials.
pub(super) struct Admitted {
    pub user: User,
    pub cookie: Option<String>,
}

impl Auth {
    /// Reads the tokens. Errors: the store's; a configuration that cannot work.
    pub async fn new(config: GatewayAuth, local_name: &str, store: StoreHandle) -> Result<Self, AuthSetup> {
        let hub = match config.kind {
            AuthType::Jupyterhub => Some(Hub::new(&config.hub_api_url, &config.service_name)?),
            AuthType::Local | AuthType::Basic | AuthType::Token => None,
        };
        let desk = DeskHandle::start(store).await.map_err(|why| AuthSetup(why.to_string()))?;
        Ok(Self { config: Arc::new(config), local_name: local_name.into(), hub, desk })
    }

    /// Lets the holder of `secret` do everything in this user's name, as long as this process lives.
    pub async fn set_own(&self, secret: &str) {
        self.desk.set_own(secret).await;
    }

    /// May programs of other users of this machine come in, to show a password?
    pub(super) fn admits_strangers(&self) -> bool {
        self.config.kind != AuthType::Local
    }

    /// Who sends a request with these headers?
    ///
    /// Errors: 401 without or with wrong credentials, 429 after too many wrong ones, 5xx if the hub is in trouble.
    pub(super) async fn identify(&self, headers: &HeaderMap, peer: Peer) -> Result<Admitted, ApiError> {
        if let Some(id) = session_cookie(headers)
            && let Some(user) = self.desk.session(SecretHash::of(&id)).await
        {
            return Ok(Admitted { user, cookie: None });
        }
        let given = match headers.get(header::AUTHORIZATION) {
            None => None,
            Some(value) => Some(Credential::read(value.as_bytes()).ok_or_else(|| self.wrong("cannot be read"))?),
        };
        let local = self.config.kind == AuthType::Local && peer.same_user;
        match given {
            // `curl -u name:` where no password is needed says nothing.
            None => self.without(local),
            Some(Credential::Basic { password, .. }) if local && password.is_empty() => self.without(local),
            Some(given) => {
                let user = self.check(&given, peer).await?;
                let id = self.desk.open_session(user.clone()).await;
                let secure = if peer.tls { "; Secure" } else { "" };
                let cookie = id.map(|id| format!("{COOKIE}={id}; Max-Age=600; Path=/; HttpOnly; SameSite=Lax{secure}"));
                Ok(Admitted { user, cookie })
            }
        }
    }

    fn without(&self, local: bool) -> Result<Admitted, ApiError> {
        match local {
            true => Ok(Admitted { user: User { name: self.local_name.to_string(), admin: true }, cookie: None }),
            false => Err(self.missing()),
        }
    }

    async fn check(&self, given: &Credential, peer: Peer) -> Result<User, ApiError> {
        let secret = given.secret();
        if let Some(known) = self.desk.token(SecretHash::of(secret), unix_ms()).await {
            let mut user = known.map_err(|_expired| self.wrong("the token has expired"))?;
            if user.name.is_empty() {
                // The appliance's own token is this user's.
                user.name = self.local_name.to_string();
            }
            return Ok(user);
        }
        // Tokens cannot be guessed, so they are looked at in any case; what can be guessed, or costs, is not.
        let who = failure_key(peer.address.ip());
        if let Some(seconds) = self.desk.blocked_for(who).await {
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "Too many failed attempts")
                .remedy(format!("wait {seconds} s"))
                .retry_after(seconds));
        }
        let checked = match given {
            Credential::Basic { user, password } => self.check_password(user, password, peer),
            Credential::Token(token) => match &self.hub {
                Some(hub) => self.ask_hub(hub, token).await,
                None => Err(self.wrong("no such token")),
            },
        };
        if let Err(why) = &checked
            && why.status() == StatusCode::UNAUTHORIZED
        {
            self.desk.failed(who).await;
        }
        checked
    }

    fn check_password(&self, user: &str, password: &str, peer: Peer) -> Result<User, ApiError> {
        if self.config.kind != AuthType::Basic || user.is_empty() {
            return Err(self.wrong("no such token"));
        }
        let right = match self.config.password.as_str() {
            // Like dask-gateway's: any name. Never beyond this machine.
            "" => peer.address.ip().to_canonical().is_loopback(),
            set => bool::from(SecretHash::of(set).as_bytes().ct_eq(SecretHash::of(password).as_bytes())),
        };
        match right {
            true => Ok(self.named(user)),
            false => Err(self.wrong("wrong password")),
        }
    }

    async fn ask_hub(&self, hub: &Hub, token: &str) -> Result<User, ApiError> {
        let hash = SecretHash::of(token);
        if let Some(user) = self.desk.hub_user(hash).await {
            return Ok(user);
        }
        let said = hub.user(token).await.map_err(|why| match why {
            hub::HubError::Unknown => self.wrong("the hub does not know this token"),
            hub::HubError::NoScope(scope) => self.wrong(&format!("the hub's token lacks the scope {scope}")),
            hub::HubError::Down(why) => {
                ApiError::new(StatusCode::BAD_GATEWAY, format!("the JupyterHub does not answer: {why}"))
                    .remedy("check gateway.auth.hub_api_url, and that the hub runs")
            }
        })?;
        let user = User { admin: said.admin || self.named(&said.name).admin, name: said.name };
        self.desk.remember_hub_user(hash, user.clone()).await;
        Ok(user)
    }

    fn named(&self, name: &str) -> User {
        User { name: name.to_owned(), admin: self.config.admin_users.iter().any(|admin| admin == name) }
    }

    fn missing(&self) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "Authentication required").challenge(self.scheme())
    }

    fn wrong(&self, why: &str) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, format!("Authentication required: {why}"))
            .challenge(self.scheme())
            .remedy("make a token with `rask token create` and give it as the password, or as `Authorization: Bearer`")
    }

    const fn scheme(&self) -> &'static str {
        match self.hub {
            Some(_) => "jupyterhub",
            None => "Basic",
        }
    }
}

/// A configuration of `[gateway.auth]` that cannot work, or a store that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSetup(pub String);

impl std::fmt::Display for AuthSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AuthSetup {}

fn session_cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value.to_owned())
}

/// Somebody with IPv6 has a whole network of addresses: they count as one.
fn failure_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(std::net::Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}
