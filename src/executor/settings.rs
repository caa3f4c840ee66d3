//! What Dask's own configuration says of a worker that does not run yet, asked of its Python.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use std::{fmt, io};

use serde::Deserialize;
use tokio::time::timeout;

use crate::files;
use crate::supervise::{self, ParentDeath};

/// A cold start from a network disk is slow.
const ANSWER: Duration = Duration::from_secs(60);

/// Dask's configuration: files, environment and defaults. A certificate or key is a path, or PEM text itself.
#[derive(Clone, Default, PartialEq, Deserialize)]
pub struct DaskSettings {
    /// `scheduler-address`
    pub scheduler: Option<String>,
    /// `distributed.comm.tls.ca-file`
    pub ca: Option<String>,
    /// `distributed.comm.tls.worker.cert`
    pub cert: Option<String>,
    /// `distributed.comm.tls.worker.key`
    pub key: Option<String>,
    /// `distributed.comm.require-encryption`
    pub require_encryption: bool,
    /// `distributed.comm.default-scheme`
    pub default_scheme: String,
    /// `distributed.comm.timeouts.connect`. Unit: seconds.
    pub connect_secs: f64,
    /// `distributed.comm.tls.ciphers`, `.min-version` and `.max-version`
    pub ciphers: Option<String>,
    pub min_version: Option<String>,
    pub max_version: Option<String>,
    /// `distributed.nanny.preload` and `.preload-argv`
    pub preload_nanny: Vec<String>,
    pub preload_nanny_argv: Vec<String>,
    /// What a nanny adds to the environment of its worker.
    pub environ: BTreeMap<String, String>,
}

/// The key may be in it as text, and is not for logs.
impl fmt::Debug for DaskSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DaskSettings")
    }
}

impl DaskSettings {
    /// Asks `python`; the script is put into `run_dir`. Must run on the main thread.
    ///
    /// Errors: no script, no interpreter, no answer that can be read; then its last line is the reason.
    pub async fn ask(python: &Path, run_dir: &Path) -> io::Result<Self> {
        let script = files::write_script(run_dir, "rask_settings", include_str!("py/rask_settings.py"))?;
        let mut command = supervise::tied(python, ParentDeath::Kill, None);
        command.arg(script).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output =
            timeout(ANSWER, command.output()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let answer = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(answer.lines().last().unwrap_or_default()).map_err(|why| {
            let words = String::from_utf8_lossy(&output.stderr);
            let last = words.trim().lines().last().map_or_else(|| why.to_string(), str::to_owned);
            io::Error::other(last)
        })
    }
}
