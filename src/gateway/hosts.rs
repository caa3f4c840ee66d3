//! Under which names we answer. A page of another site must not talk to us through somebody's browser, neither by
//! pointing its own name at our address (DNS rebinding, seen in `Host`) nor by asking across sites (seen in `Origin`).

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};

use super::error::ApiError;

/// The names. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Lower case, no port, no brackets.
    names: Arc<Vec<String>>,
}

impl Hosts {
    /// Loopback's names, those of the machine and those that were configured.
    pub fn new(own: &[String], configured: &[String]) -> Self {
        let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let all = loopback.iter().chain(own).chain(configured);
        Self { names: Arc::new(all.map(|name| normal(name)).collect()) }
    }

    /// May a request with this target and these headers be answered?
    ///
    /// Errors: 400 without a host, 403 for a name that is not ours or a page of another site.
    pub fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(header::HOST).into_iter();
        let (host, more) = (hosts.next(), hosts.next());
        // A full URL in the request line says it too, and must not say something else.
        let said = host.and_then(|host| host.to_str().ok()).map(str::to_owned);
        let in_line = uri.authority().map(|authority| authority.as_str().to_owned());
        if more.is_some() {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "the request names more than one Host"));
        }
        let Some(host) = said.clone().or_else(|| in_line.clone()) else {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "the request names no Host"));
        };
        for name in [said, in_line].into_iter().flatten() {
            self.known(&name)?;
        }
        match headers.get(header::ORIGIN) {
            None => Ok(()),
            // A pane in a frame without an origin: the cluster that made its ticket judges it.
            Some(origin) if origin == "null" && method == Method::GET && is_pane(uri) => Ok(()),
            Some(origin) => self.same_site(&host, origin.to_str().unwrap_or("unreadable")),
        }
    }

    fn known(&self, host: &str) -> Result<(), ApiError> {
        let name = normal(host_of(host));
        // `.localhost` never leaves the machine (RFC 6761).
        if self.names.contains(&name) || name.ends_with(".localhost") {
            return Ok(());
        }
        let shown: String = name.chars().take(100).collect();
        Err(ApiError::forbidden(format!("the Host {shown:?} is not one of ours")).remedy(
            "use http://localhost or this machine's address, or add the name to security.allowed_hosts in rask.toml",
        ))
    }

    fn same_site(&self, host: &str, origin: &str) -> Result<(), ApiError> {
        let place = origin.split_once("://").map(|(_, place)| place);
        // A reverse proxy may rewrite Host: then the name that browsers see is configured, or is ours anyway on
        // another port. Another port of this very machine is another site.
        let same = place.is_some_and(|place| place.eq_ignore_ascii_case(host));
        let configured = || {
            place.is_some_and(|place| {
                let name = normal(host_of(place));
                !is_loopback(&name) && self.names.contains(&name)
            })
        };
        if same || configured() {
            return Ok(());
        }
        let shown: String = origin.chars().take(100).collect();
        Err(ApiError::forbidden(format!("requests from pages of {shown} are not answered"))
            .remedy("open the dashboard itself, or add the page's host to security.allowed_hosts in rask.toml"))
    }
}

fn is_pane(uri: &Uri) -> bool {
    let has_ticket = |query: &str| query.split('&').any(|pair| pair.starts_with("ticket="));
    uri.path().starts_with("/clusters/") && uri.query().is_some_and(has_ticket)
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `host:port` without the port, `[::1]:1` without the brackets.
fn host_of(text: &str) -> &str {
    if let Some((inside, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside;
    }
    match text.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        _ => text,
    }
}

fn normal(name: &str) -> String {
    name.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn ask(host: Option<&'static str>, origin: Option<&'static str>) -> Option<StatusCode> {
        let hosts = Hosts::new(&["192.168.1.5".to_owned()], &["Rask.Example.org".to_owned()]);
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, HeaderValue::from_static(host));
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        hosts.admit(&Method::GET, &Uri::from_static("/x"), &headers).err().map(|why| why.status())
    }

    #[test]
    fn only_our_names_are_answered() {
        for host in [
            "localhost:8787",
            "LOCALHOST",
            "127.0.0.1:1",
            "[::1]:8787",
            "192.168.1.5",
            "rask.example.org.",
            "a.localhost",
        ] {
            assert_eq!(ask(Some(host), None), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8787", "192.168.1.6", ""] {
            assert_eq!(ask(Some(host), None), Some(StatusCode::FORBIDDEN), "{host}");
        }
        assert_eq!(ask(None, None), Some(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        assert_eq!(ask(Some("localhost:8787"), Some("http://localhost:8787")), None);
        assert_eq!(ask(Some("127.0.0.1:8787"), Some("https://rask.example.org")), None);
        for origin in ["http://localhost:3000", "https://evil.example", "null", "http://127.0.0.1:8787"] {
            assert_eq!(ask(Some("localhost:8787"), Some(origin)), Some(StatusCode::FORBIDDEN), "{origin}");
        }
    }

    /// Goal: a pane that shows a ticket is passed on to the cluster that made it, for reading, and nothing else is.
    #[test]
    fn panes_without_an_origin_are_left_to_their_cluster() {
        let hosts = Hosts::new(&[], &[]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        headers.insert(header::ORIGIN, HeaderValue::from_static("null"));
        let passes = |method: &Method, uri: &'static str| hosts.admit(method, &Uri::from_static(uri), &headers).is_ok();
        assert!(passes(&Method::GET, "/clusters/a/feed?ticket=1"));
        assert!(!passes(&Method::GET, "/clusters/a/feed") && !passes(&Method::POST, "/clusters/a/feed?ticket=1"));
        assert!(!passes(&Method::GET, "/api/rask/v1/tokens?ticket=1"));
        headers.insert(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(hosts.admit(&Method::GET, &Uri::from_static("/clusters/a/feed?ticket=1"), &headers).is_err());
    }

    #[test]
    fn a_full_url_must_name_us_too() {
        let hosts = Hosts::new(&[], &[]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        let status = |uri: &'static str| {
            hosts.admit(&Method::GET, &Uri::from_static(uri), &headers).err().map(|why| why.status())
        };
        assert_eq!(status("http://localhost/x"), None);
        assert_eq!(status("http://evil.example/x"), Some(StatusCode::FORBIDDEN));
    }
}
