//! The command line's way to a running appliance: its REST API, found through the state folder or named by its URL.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, RequestBuilder};

use crate::app::command_error::CommandError;
use crate::app::local::authority;
use crate::app::local::cli_token::token_path;
use crate::app::local::state_dir::{Running, state_dir};

/// An appliance answers at once, or is in trouble; `?wait` takes 20 s.
const PATIENCE: Duration = Duration::from_secs(40);
/// Longest URL: the head of a request may have 64 KiB. Unit: bytes.
const URL_BYTES_MAX: usize = 60_000;
/// Where the API is.
const BASE: &str = "/api/rask/v1";

/// How a command finds an appliance.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// `--url`; else the one of the state folder.
    pub url: Option<String>,
    pub token: Option<String>,
    /// `--ca-file`, for HTTPS; else the authority of the state folder.
    pub ca_file: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
}

/// A connection to an appliance.
pub(crate) struct ApiClient {
    base: String,
    token: Option<String>,
    agent: Agent,
}

impl ApiClient {
    /// Errors: nothing runs and no URL was given.
    pub(crate) fn find(remote: &Remote) -> Result<Self, CommandError> {
        let state = state_dir(remote.state_dir.as_deref())?;
        let (base, token) = match &remote.url {
            Some(url) => {
                if !url.starts_with("http://") && !url.starts_with("https://") {
                    return Err(CommandError::usage(format!("--url {url} is not a URL"))
                        .remedy("give it like http://127.0.0.1:8787"));
                }
                (url.trim_end_matches('/').to_owned(), remote.token.clone())
            }
            None => {
                let running = Running::find(&state).ok_or_else(|| {
                    CommandError::world(format!("no rask runs with the state folder {}", state.display()))
                        .remedy("start one with `rask up`, or name one with --url")
                })?;
                let own = || fs::read_to_string(token_path(&state)).ok();
                (running.http, remote.token.clone().or_else(own))
            }
        };
        Ok(Self { agent: agent(&base, remote.ca_file.as_deref(), &state)?, base, token })
    }

    /// `GET`, as JSON.
    pub(crate) fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.read(self.signed(self.agent.get(self.url(path)?)).call())
    }

    /// `POST`, as JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        self.read(self.signed(self.agent.post(self.url(path)?)).send_json(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<(), CommandError> {
        self.read(self.signed(self.agent.delete(self.url(path)?)).call()).map(|_| ())
    }

    /// `GET` of text, line by line, for as long as it comes.
    pub(crate) fn lines(&self, path: &str, mut each: impl FnMut(&str)) -> Result<(), CommandError> {
        let endless = self.signed(self.agent.get(self.url(path)?));
        let answer = endless.config().timeout_global(None).timeout_recv_body(None).build().call();
        let answer = answer.map_err(|why| self.silent(&why))?;
        if !answer.status().is_success() {
            return self.read(Ok(answer)).map(|_| ());
        }
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            each(&line.map_err(|why| CommandError::world(format!("{} broke off: {why}", self.base)))?);
        }
        Ok(())
    }

    fn url(&self, path: &str) -> Result<String, CommandError> {
        fitting(format!("{}{BASE}{path}", self.base))
    }

    fn signed<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.trim())),
            // The same user on this machine may need none.
            None => request,
        }
    }

    fn read(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<Value, CommandError> {
        let mut answer = answer.map_err(|why| self.silent(&why))?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(1 << 30).read_to_string();
        let text = text.map_err(|why| CommandError::world(format!("{} broke off: {why}", self.base)))?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let said = |field: &str| body.get(field).and_then(Value::as_str).map(str::to_owned);
        let what = said("error").unwrap_or_else(|| format!("{} answered {status}", self.base));
        let failure = match status {
            400 | 422 => CommandError::usage(what),
            _ => CommandError::world(what),
        };
        Err(match said("remedy") {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        })
    }

    fn silent(&self, why: &ureq::Error) -> CommandError {
        CommandError::world(format!("{} does not answer: {why}", self.base))
            .remedy("check that rask runs there, and --url")
    }
}

/// A URL, if servers would read it. Names and keys become a part of it.
pub(super) fn fitting(url: String) -> Result<String, CommandError> {
    match url.len() {
        ..=URL_BYTES_MAX => Ok(url),
        bytes => {
            Err(CommandError::usage(format!("a name or key this long cannot be asked for: the URL has {bytes} bytes"))
                .remedy(format!("at most {URL_BYTES_MAX} are possible")))
        }
    }
}

fn agent(base: &str, ca_file: Option<&Path>, state: &Path) -> Result<Agent, CommandError> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        // What runs here or on the LAN is not behind a company's proxy.
        .proxy(None)
        .user_agent(concat!("rask/", env!("CARGO_PKG_VERSION")));
    if base.starts_with("https://") {
        let own = authority::folder(state).join("ca.crt");
        let file = ca_file.map(Path::to_path_buf).or_else(|| own.exists().then_some(own));
        if let Some(file) = file {
            let text =
                fs::read(&file).map_err(|why| CommandError::usage(format!("cannot read {}: {why}", file.display())))?;
            let authority = Certificate::from_pem(&text)
                .map_err(|why| CommandError::usage(format!("{} holds no certificate: {why}", file.display())))?;
            let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[authority])).build();
            config = config.tls_config(tls);
        }
    }
    Ok(config.build().into())
}
