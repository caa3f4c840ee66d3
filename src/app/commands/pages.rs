//! Asks a cluster's pages from the command line: which pages are meant, and one question with its answer.

use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use super::api::fitting;
use crate::app::command_error::CommandError;
use crate::app::local::state_dir::{Running, state_dir};
use crate::base::url_part;

/// A scheduler answers at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer. Unit: bytes.
const BODY_MAX: u64 = 256 << 20;

/// Which cluster is meant, as given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Meant {
    /// `--cluster`: one of the running appliance.
    pub cluster: Option<String>,
    /// `--url`: its pages, wherever they are.
    pub url: Option<String>,
}

/// The pages of one cluster.
pub(crate) struct PagesOf {
    base: String,
    agent: ureq::Agent,
}

impl PagesOf {
    /// The pages that are meant. Errors: nothing runs.
    pub(crate) fn find(meant: &Meant, state: Option<&Path>) -> Result<Self, CommandError> {
        let base = match &meant.url {
            Some(url) => base_of(url),
            None => {
                let state = state_dir(state)?;
                let running = Running::find(&state).ok_or_else(|| {
                    CommandError::world(format!("no rask runs with the state folder {}", state.display()))
                        .remedy("start one: rask up; or name a scheduler's pages with --url http://HOST:8787")
                })?;
                format!("{}/clusters/{}/", running.http, meant.cluster.as_deref().unwrap_or("local"))
            }
        };
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        Ok(Self { base, agent: config.build().into() })
    }

    /// Where they are.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// One question. Errors: no answer, or a refusal with its own words.
    pub(crate) fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Json, CommandError> {
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", url_part(value))).collect();
        let url = fitting(format!("{}{path}?{}", self.base, query.join("&")))?;
        let silent = |why: String| {
            CommandError::world(format!("{} does not answer: {why}", self.base))
                .remedy("check the address; a cluster that is starting or failed has no pages")
        };
        let mut answer = self.agent.get(url).call().map_err(|why| silent(why.to_string()))?;
        let code = answer.status().as_u16();
        let text =
            answer.body_mut().with_config().limit(BODY_MAX).read_to_string().map_err(|why| silent(why.to_string()))?;
        let body: Json = serde_json::from_str(&text).unwrap_or_default();
        if code == 200 {
            return Ok(body);
        }
        let said = |name: &str| body.get(name).and_then(Json::as_str).map(str::to_owned);
        let failure = CommandError::world(said("error").unwrap_or_else(|| format!("{} answers {code}", self.base)));
        Err(match said("remedy") {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        })
    }
}

/// `http://host:8787/status` and `host:8787` mean the same pages.
fn base_of(url: &str) -> String {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let url = url.trim_end_matches('/').trim_end_matches("/status");
    format!("{url}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_found_however_they_are_written() {
        for url in ["http://h:8787/status", "h:8787", "http://h:8787/"] {
            assert_eq!(base_of(url), "http://h:8787/");
        }
        assert_eq!(base_of("https://x/clusters/a/status"), "https://x/clusters/a/");
    }
}
