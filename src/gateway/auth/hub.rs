//! A JupyterHub's word about a token.
//!
//! Source: `dask_gateway_server/auth.py`, `JupyterHubAuthenticator`; the hub's API, `GET /user`.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::setup::AuthSetupError;

/// A hub answers within milliseconds, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// A hub that can be asked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JupyterHub {
    url: Arc<str>,
    service: Arc<str>,
    agent: ureq::Agent,
}

/// Why a hub does not vouch for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HubError {
    /// It does not know the token, or does not let it say whose it is.
    Unknown,
    /// It knows it, and the token may not use this service.
    NoScope(String),
    /// It is not there, or says nonsense.
    Down(String),
}

/// Somebody a hub knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubUser {
    pub name: String,
    pub admin: bool,
}

#[derive(Deserialize)]
struct Said {
    name: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    scopes: Vec<String>,
}

impl JupyterHub {
    /// Errors: no address.
    pub fn new(api_url: &str, service: &str) -> Result<Self, AuthSetupError> {
        if !api_url.starts_with("http://") && !api_url.starts_with("https://") {
            return Err(AuthSetupError::HubUrl { url: api_url.to_owned() });
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            // The hub is near by; a company's proxy is not the way to it.
            .proxy(None)
            .build();
        Ok(Self {
            url: format!("{}/user", api_url.trim_end_matches('/')).into(),
            service: service.into(),
            agent: config.into(),
        })
    }

    /// Who holds this token?
    pub(super) async fn user(&self, token: &str) -> Result<HubUser, HubError> {
        let (hub, token) = (self.clone(), token.to_owned());
        let asked = tokio::task::spawn_blocking(move || hub.ask(&token)).await;
        asked.unwrap_or_else(|why| Err(HubError::Down(why.to_string())))
    }

    fn ask(&self, token: &str) -> Result<HubUser, HubError> {
        let down = |why: ureq::Error| HubError::Down(why.to_string());
        let request = self.agent.get(&*self.url).header("Authorization", format!("token {token}"));
        let mut answer = request.call().map_err(down)?;
        match answer.status().as_u16() {
            200 => self.vouched(answer.body_mut().read_json().map_err(down)?),
            // Since JupyterHub 2 every token may ask whose it is, so 403 is said to those that nobody has.
            401 | 403 | 404 => Err(HubError::Unknown),
            other => Err(HubError::Down(format!("it answered {other}"))),
        }
    }

    fn vouched(&self, said: Said) -> Result<HubUser, HubError> {
        let Some(name) = said.name.filter(|name| !name.is_empty()) else { return Err(HubError::Unknown) };
        if !self.service.is_empty() {
            let needed = format!("access:services!service={}", self.service);
            if !said.scopes.iter().any(|scope| *scope == needed || scope == "access:services") {
                return Err(HubError::NoScope(needed));
            }
        }
        let kind = said.kind.unwrap_or_else(|| "user".to_owned());
        let plain = kind == "user" && !name.contains(':');
        Ok(HubUser { admin: said.admin, name: if plain { name } else { format!("{kind}:{name}") } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, service: &str) -> Result<HubUser, HubError> {
        let hub = JupyterHub::new("http://127.0.0.1:1/hub/api/", service).expect("an address");
        hub.vouched(serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn users_services_and_scopes_are_told_apart() {
        let user = |name: &str, admin| Ok(HubUser { name: name.to_owned(), admin });
        assert_eq!(said(r#"{"name":"a","kind":"user","admin":true}"#, ""), user("a", true));
        assert_eq!(said(r#"{"name":"a:b","kind":"user"}"#, ""), user("user:a:b", false));
        assert_eq!(said(r#"{"name":"s","kind":"service"}"#, ""), user("service:s", false));
        assert_eq!(said(r#"{"kind":"user"}"#, ""), Err(HubError::Unknown));
        let scoped = r#"{"name":"a","kind":"user","scopes":["access:services!service=rask"]}"#;
        assert_eq!(said(scoped, "rask"), user("a", false));
        assert_eq!(said(r#"{"name":"a","scopes":["access:services"]}"#, "rask"), user("a", false));
        let lacking = HubError::NoScope("access:services!service=other".to_owned());
        assert_eq!(said(scoped, "other"), Err(lacking));
        assert!(JupyterHub::new("localhost:8081", "").is_err());
    }
}
