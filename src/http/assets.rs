//! The page's files: embedded, or from a folder while the page is developed. Knows caching, compression and policy.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// What a page may load and who may frame it: only our own pages, since a stranger could lay something of his own over
/// buttons such as Stop.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; \
    connect-src 'self' ws: wss:; worker-src 'self' blob:; frame-ancestors 'self'; base-uri 'self'; form-action 'self'";
/// The same of panes, which have no buttons that change anything: JupyterLab and others show them in frames.
const PANE_POLICY: &str = "default-src 'self'; img-src 'self' data:; \
    connect-src 'self' ws: wss:; worker-src 'self' blob:; frame-ancestors *; base-uri 'self'; form-action 'self'";
/// How the addresses of panes begin. Source: `distributed/dashboard/scheduler.py`.
const PANE: &str = "individual-";

/// Smaller files gain nothing. Unit: bytes.
const GZIP_MIN: usize = 860;

#[cfg(feature = "web")]
#[derive(rust_embed::RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Embedded;

/// Forces a new look at the folder when its content changed.
#[cfg(feature = "web")]
const _STAMP: Option<&str> = option_env!("RASK_WEB_STAMP");

/// Shown where the page was not built in.
const PLACEHOLDER: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>rask</title></head><body>\
    <h1>rask</h1><p>This build has no dashboard page. What it would show: <a href=\"api/state\">api/state</a>, \
    <a href=\"json/identity.json\">json/identity.json</a>, <a href=\"json/counts.json\">json/counts.json</a>, \
    <a href=\"metrics\">metrics</a>; in a terminal: <code>rask top</code>.</p></body></html>\n";

/// Where the page's files come from.
#[derive(Clone, Debug, Default)]
pub struct Assets {
    /// A folder instead of what is embedded; nothing is cached then.
    folder: Option<PathBuf>,
}

/// A file, ready to be sent.
#[derive(Clone, Debug)]
struct File {
    body: Bytes,
    gzip: Option<Bytes>,
    etag: String,
}

/// Files of the binary, made ready once.
fn ready() -> &'static Mutex<BTreeMap<String, Arc<File>>> {
    static READY: OnceLock<Mutex<BTreeMap<String, Arc<File>>>> = OnceLock::new();
    READY.get_or_init(Mutex::default)
}

impl File {
    fn new(body: Bytes, compressible: bool) -> Self {
        let hash = Sha256::digest(&body);
        let etag = HEXLOWER.encode(hash.get(..12).unwrap_or(&hash));
        let gzip = (compressible && body.len() >= GZIP_MIN).then(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            // Writing to memory can't fail.
            let _ = encoder.write_all(&body);
            encoder.finish().map(Bytes::from).unwrap_or_default()
        });
        Self { body, gzip: gzip.filter(|gzip| !gzip.is_empty()), etag }
    }
}

impl Assets {
    /// The embedded files, or those of a folder.
    pub const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The text of a file of the page; none if it is not there.
    pub fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(self.read(path)?.to_vec()).ok()
    }

    fn read(&self, path: &str) -> Option<Bytes> {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain {
            return None;
        }
        match &self.folder {
            Some(folder) => std::fs::read(folder.join(path)).ok().map(Bytes::from),
            None => embedded(path),
        }
    }

    fn file(&self, path: &str) -> Option<Arc<File>> {
        let compressible = !matches!(extension(path), "png" | "woff2" | "ico" | "jpg" | "gz");
        if self.folder.is_some() {
            return Some(Arc::new(File::new(self.read(path)?, false)));
        }
        let known = ready().lock().ok().and_then(|files| files.get(path).cloned());
        if let Some(file) = known {
            return Some(file);
        }
        let file = Arc::new(File::new(self.read(path)?, compressible));
        // Other builds read from disk, where a file may change.
        if !cfg!(debug_assertions)
            && let Ok(mut files) = ready().lock()
        {
            files.insert(path.to_owned(), file.clone());
        }
        Some(file)
    }

    /// A file below `assets/` or beside the index; 404 if it is not there.
    pub fn serve(&self, path: &str, headers: &HeaderMap) -> Response {
        let Some(file) = self.file(path) else {
            return (StatusCode::NOT_FOUND, "there is no such file in the page\n").into_response();
        };
        // Names below assets/ hold a hash of the content.
        let cache = match (&self.folder, path.starts_with("assets/")) {
            (None, true) => "public, max-age=31536000, immutable",
            _ => "no-cache",
        };
        respond(&file, content_type(path), cache, headers)
    }

    /// The page, told where its files and data are: `path` is the path it was asked by, below the cluster's base. A
    /// `ticket` lets it read without an origin.
    pub fn index(&self, path: &str, ticket: Option<&str>, headers: &HeaderMap) -> Response {
        let html = self.text("index.html").unwrap_or_else(|| PLACEHOLDER.to_owned());
        let html = with_base(&html, &base_of(path), ticket);
        let file = File::new(Bytes::from(html), self.folder.is_none());
        let mut response = respond(&file, "text/html; charset=utf-8", "no-cache", headers);
        let is_pane = path.rsplit('/').next().is_some_and(|page| page.starts_with(PANE));
        let policy = if is_pane { PANE_POLICY } else { POLICY };
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        response
    }
}

#[cfg(feature = "web")]
fn embedded(path: &str) -> Option<Bytes> {
    Embedded::get(path).map(|file| Bytes::from(file.data.into_owned()))
}

#[cfg(not(feature = "web"))]
fn embedded(_path: &str) -> Option<Bytes> {
    None
}

fn respond(file: &File, content_type: &'static str, cache: &'static str, asked: &HeaderMap) -> Response {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let packed = file.gzip.as_ref().filter(|_| text(header::ACCEPT_ENCODING).contains("gzip"));
    let etag = format!("\"{}{}\"", file.etag, if packed.is_some() { "-gzip" } else { "" });
    let fresh = text(header::IF_NONE_MATCH).split(',').any(|known| known.trim() == etag);
    let mut response = if fresh {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let body = packed.unwrap_or(&file.body).clone();
        ([(header::CONTENT_TYPE, content_type)], body).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if packed.is_some() && !fresh {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// From a page's path back to the base: `./` for `/status`, `../../` for `/info/main/workers.html`.
fn base_of(path: &str) -> String {
    let depth = path.trim_start_matches('/').matches('/').count();
    if depth == 0 { "./".to_owned() } else { "../".repeat(depth) }
}

fn with_base(html: &str, base: &str, ticket: Option<&str>) -> String {
    let ticket = ticket.map_or_else(String::new, |ticket| format!("<meta name=\"rask-ticket\" content=\"{ticket}\">"));
    html.replacen("<head>", &format!("<head><base href=\"{base}\">{ticket}"), 1)
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, end)| end)
}

fn content_type(path: &str) -> &'static str {
    match extension(path) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_finds_its_base_from_any_depth() {
        assert_eq!(base_of("/status"), "./");
        assert_eq!(base_of("/info/main/workers.html"), "../../");
        assert_eq!(base_of("/info/worker/tcp%3A%2F%2Fa%3A1.html"), "../../");
        assert_eq!(with_base("<html><head><title>", "./", None), "<html><head><base href=\"./\"><title>");
    }

    #[test]
    fn files_outside_the_folder_are_not_served() {
        let assets = Assets::new(Some(PathBuf::from("/etc")));
        assert!(assets.read("../etc/hostname").is_none() && assets.read("/etc/hostname").is_none());
    }
}
