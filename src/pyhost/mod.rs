//! The Python side of a scheduler: processes, the queue of requests to them, and the files they run (`py/`).
//!
//! Knows pipes and processes, no tasks. Users' code runs only in those processes, never in this one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::BulkGraph;
use crate::base::Failure;
use crate::base::Key;
use crate::base::Opaque;
use crate::base::PyError;
use crate::base::Value;

/// How to run the Python side.
#[derive(Clone, Debug)]
pub struct PyhostConfig {
    /// The interpreter; the workers' one, because graphs name the user's own modules.
    pub python: PathBuf,
    /// Working folder of the processes.
    pub cwd: PathBuf,
    /// Added to the environment that this process has.
    pub env: Vec<(String, String)>,
    /// Where the Python files are written (made with mode 0700).
    pub run_dir: PathBuf,
    /// Most processes at once.
    pub max_processes: usize,
    /// Longest one request may take; the process that exceeds it is killed.
    pub deadline: Duration,
}

/// A graph for Python to read.
#[derive(Clone, Debug)]
pub struct GraphRequest {
    /// `expr_ser` as it came.
    pub expr: Arc<Opaque>,
    /// The keys that the client wants.
    pub keys: Vec<Key>,
    /// Compute `dask.order`: the client gave no `internal_priority`.
    pub want_order: bool,
    /// `annotations` as they came.
    pub annotations: Option<Arc<Opaque>>,
}

/// A handle on the Python side. Cloning it is cheap; all clones share the processes.
#[derive(Clone, Debug)]
pub struct Pyhost {
    config: Arc<PyhostConfig>,
}

impl Pyhost {
    /// A handle; no process starts before it is needed. Must be called inside a tokio runtime.
    pub fn new(config: PyhostConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    /// Starts a process ahead of the first request, without waiting for it.
    pub fn warm(&self) {
        let _ = &self.config;
    }

    /// Materialises, culls and orders a graph.
    pub async fn graph(&self, _request: GraphRequest) -> Result<BulkGraph, Failure> {
        Err(Failure::Raised(PyError::builtin("RuntimeError", "no pyhost yet")))
    }

    /// `distributed.versions.get_versions()` of the interpreter.
    pub async fn versions(&self) -> Result<Value, Failure> {
        self.call("versions", Value::Map(Vec::new())).await
    }

    /// Any other request: `body` is a map, the answer is its `result`.
    pub async fn call(&self, _op: &str, _body: Value) -> Result<Value, Failure> {
        Err(Failure::Raised(PyError::builtin("RuntimeError", "no pyhost yet")))
    }

    /// Ends the processes and waits until they are gone. Later requests fail.
    pub async fn shutdown(&self) {}
}
