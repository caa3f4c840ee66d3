//! Answers who sends a request: by session, token, password, JupyterHub, or because it is the same user on this machine.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};

use subtle::ConstantTimeEq;

use super::credential::Credential;
use super::hub::{HubError, JupyterHub};
use super::sessions::SessionsHandle;
use super::setup::AuthSetupError;
use super::token::SecretHash;
use super::user::{Caller, User};
use crate::clock::unix_ms;
use crate::config::{AuthType, GatewayAuth};
use crate::gateway::error::ApiError;
use crate::store::StoreHandle;

/// Name of the cookie that stands for credentials given before.
const COOKIE: &str = "rask-session";

/// Answers "who is this" for every request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    config: Arc<GatewayAuth>,
    /// Who the same user on this machine is.
    local_name: Arc<str>,
    hub: Option<JupyterHub>,
    pub(in crate::gateway) sessions: SessionsHandle,
}

/// Somebody, and the cookie that spares the next request the credentials.
pub(in crate::gateway) struct Admitted {
    pub user: User,
    pub cookie: Option<String>,
}

impl Auth {
    /// Reads the tokens. Errors: the store's; a configuration that cannot work.
    pub async fn new(config: GatewayAuth, local_name: &str, store: StoreHandle) -> Result<Self, AuthSetupError> {
        let hub = match config.kind {
            AuthType::Jupyterhub => Some(JupyterHub::new(&config.hub_api_url, &config.service_name)?),
            AuthType::Local | AuthType::Basic | AuthType::Token => None,
        };
        let sessions = SessionsHandle::start(store).await?;
        Ok(Self { config: Arc::new(config), local_name: local_name.into(), hub, sessions })
    }

    /// Lets the holder of `secret` do everything in this user's name, as long as this process lives.
    pub async fn set_own(&self, secret: &str) {
        self.sessions.set_own(secret).await;
    }

    /// May programs of other users of this machine come in, to show a password?
    pub(in crate::gateway) fn admits_strangers(&self) -> bool {
        self.config.kind != AuthType::Local
    }

    /// Who sends a request with these headers?
    ///
    /// Errors: 401 without or with wrong credentials, 429 after too many wrong ones, 5xx if the hub is in trouble.
    pub(in crate::gateway) async fn identify(&self, headers: &HeaderMap, peer: Caller) -> Result<Admitted, ApiError> {
        if let Some(id) = session_cookie(headers)
            && let Some(user) = self.sessions.session(SecretHash::of(&id)).await
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
                let id = self.sessions.open_session(user.clone()).await;
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

    async fn check(&self, given: &Credential, peer: Caller) -> Result<User, ApiError> {
        let secret = given.secret();
        if let Some(known) = self.sessions.token(SecretHash::of(secret), unix_ms()).await {
            let mut user = known.map_err(|_expired| self.wrong("the token has expired"))?;
            if user.name.is_empty() {
                // The appliance's own token is this user's.
                user.name = self.local_name.to_string();
            }
            return Ok(user);
        }
        // Tokens cannot be guessed, so they are looked at in any case; what can be guessed, or costs, is not.
        let who = failure_key(peer.address.ip());
        if let Some(seconds) = self.sessions.blocked_for(who).await {
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
            self.sessions.failed(who).await;
        }
        checked
    }

    fn check_password(&self, user: &str, password: &str, peer: Caller) -> Result<User, ApiError> {
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

    async fn ask_hub(&self, hub: &JupyterHub, token: &str) -> Result<User, ApiError> {
        let hash = SecretHash::of(token);
        if let Some(user) = self.sessions.hub_user(hash).await {
            return Ok(user);
        }
        let said = hub.user(token).await.map_err(|why| match why {
            HubError::Unknown => self.wrong("the hub does not know this token"),
            HubError::NoScope(scope) => self.wrong(&format!("the hub's token lacks the scope {scope}")),
            HubError::Down(why) => {
                ApiError::new(StatusCode::BAD_GATEWAY, format!("the JupyterHub does not answer: {why}"))
                    .remedy("check gateway.auth.hub_api_url, and that the hub runs")
            }
        })?;
        let user = User { admin: said.admin || self.named(&said.name).admin, name: said.name };
        self.sessions.remember_hub_user(hash, user.clone()).await;
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
