//! What the fleet is told by the appliance, and where things of a cluster are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::remote_workers::SpanConfig;
use crate::base::BoxError;
use crate::batch::Backend;
use crate::host::Interpreter;
use crate::peer::{EnvLock, LockError};
use crate::pki::Pair;
use crate::supervise::ParentDeath;

/// Finds and checks the interpreter that a path means; `None`: the appliance's own.
pub type FindPython = Arc<dyn Fn(Option<PathBuf>) -> BoxFuture<'static, Result<Interpreter, BoxError>> + Send + Sync>;

/// What is the same for all clusters of an appliance.
#[derive(Clone)]
pub struct FleetConfig {
    /// The state folder.
    pub state: PathBuf,
    /// Logs go to a folder per cluster in here, instead of into the cluster's own.
    pub logs: Option<PathBuf>,
    /// Older files kept of each log.
    pub log_keep: u32,
    /// Arguments of every rask process that is started: configuration, state folder, form of the log.
    pub common_args: Vec<OsString>,
    /// Where schedulers listen for their workers.
    pub host: IpAddr,
    /// Where the appliance serves their pages.
    pub http_port: u16,
    /// Where the same user reaches the cluster `local` without TLS.
    pub plain_address: Option<String>,
    /// Finds interpreters.
    pub find_python: FindPython,
    /// Pause between two checks of the load.
    pub adaptive_period: Duration,
    /// Whether clusters outlive this process. `Nothing`: they do.
    pub parent_death: ParentDeath,
    /// Other machines. None: clusters stay on this one.
    pub span: Option<SpanConfig>,
    /// Batch systems whose jobs join as machines.
    pub backends: Vec<Backend>,
    /// A control group in which groups for workers may be made.
    pub cgroup: Option<PathBuf>,
    /// Of this machine.
    pub share: MachineShare,
}

impl fmt::Debug for FleetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetConfig").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What the workers of all clusters may take of this machine together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineShare {
    pub workers: u32,
    /// Unit: bytes.
    pub memory_bytes: u64,
}

impl MachineShare {
    /// How many workers with this memory limit (0: none) one cluster may have, beside `others` and their memory.
    pub fn beside(self, others: u32, others_bytes: u64, each_bytes: u64) -> u32 {
        let by_memory = self.memory_bytes.saturating_sub(others_bytes).checked_div(each_bytes);
        let by_memory = by_memory.map_or(u32::MAX, |workers| u32::try_from(workers).unwrap_or(u32::MAX));
        self.workers.saturating_sub(others).min(by_memory)
    }
}

impl FleetConfig {
    /// The folder of a cluster.
    pub fn folder(&self, name: &str) -> ClusterFolder {
        let path = self.state.join("clusters").join(name);
        let logs = match &self.logs {
            Some(dir) => dir.join(name),
            None => path.join("logs"),
        };
        ClusterFolder { path, logs }
    }
}

/// The files of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFolder {
    /// Itself.
    pub path: PathBuf,
    /// Its logs; they stay when the cluster has ended.
    pub logs: PathBuf,
}

impl ClusterFolder {
    /// Where its scheduler listens for the appliance.
    pub fn control(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Where its worker pool does.
    pub fn workers(&self) -> PathBuf {
        self.path.join("workers.sock")
    }

    /// Where its scheduler serves its pages.
    pub fn http(&self) -> PathBuf {
        self.path.join("http.sock")
    }

    pub fn cert(&self) -> PathBuf {
        self.path.join("tls.crt")
    }

    pub fn key(&self) -> PathBuf {
        self.path.join("tls.key")
    }

    /// A copy of its record: the database may be lost while it runs.
    pub fn record(&self) -> PathBuf {
        self.path.join("record.json")
    }

    /// What its workers put on disk.
    pub fn spill(&self) -> PathBuf {
        self.path.join("spill")
    }

    /// Makes it, for our eyes only, with the credentials in it.
    pub(super) fn make(&self, pair: &Pair) -> io::Result<()> {
        let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(&self.path)?;
        private(&self.logs)?;
        private(&self.spill())?;
        write_secret(&self.cert(), &pair.cert_pem)?;
        write_secret(&self.key(), &pair.key_pem)
    }

    /// The credentials in it.
    pub(super) fn pair(&self) -> io::Result<Pair> {
        Ok(Pair { cert_pem: fs::read_to_string(self.cert())?, key_pem: fs::read_to_string(self.key())? })
    }

    /// Removes all but the logs.
    pub(super) fn clear(&self) {
        for file in [self.control(), self.workers(), self.http(), self.cert(), self.key(), self.record()] {
            let _may_not_exist = fs::remove_file(file);
        }
        for folder in [self.spill(), self.path.join("scheduler")] {
            let _may_not_exist = fs::remove_dir_all(folder);
        }
        // Without logs in it nothing of it stays.
        let _may_hold_logs = fs::remove_dir(&self.path);
    }
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    // A file that is there keeps its mode; a new one never has another.
    let _may_not_exist = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Interpreters that were checked: a check starts Python, which takes longer than starting a cluster.
pub(super) struct Pythons {
    find: FindPython,
    known: Mutex<BTreeMap<Option<PathBuf>, Interpreter>>,
    locks: Mutex<BTreeMap<PathBuf, EnvLock>>,
}

impl Pythons {
    pub(super) fn new(find: FindPython) -> Self {
        Self { find, known: Mutex::default(), locks: Mutex::default() }
    }

    /// What an interpreter's environment consists of, as of the first time that it was asked for.
    pub(super) async fn lock(&self, python: &Path) -> Result<EnvLock, LockError> {
        let mut locks = self.locks.lock().await;
        if let Some(lock) = locks.get(python) {
            return Ok(lock.clone());
        }
        let lock = EnvLock::of(python).await?;
        locks.insert(python.to_path_buf(), lock.clone());
        Ok(lock)
    }

    /// The interpreter that `asked` means. One that is gone from its place is looked for anew.
    pub(super) async fn get(&self, asked: Option<&Path>) -> Result<Interpreter, BoxError> {
        let asked = asked.map(Path::to_path_buf);
        let mut known = self.known.lock().await;
        if let Some(found) = known.get(&asked).filter(|found| found.path.exists()) {
            return Ok(found.clone());
        }
        let found = (self.find)(asked.clone()).await?;
        known.insert(asked, found.clone());
        Ok(found)
    }
}
