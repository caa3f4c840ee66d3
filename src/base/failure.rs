//! How tasks and requests fail, as data.

use serde::{Deserialize, Serialize};

use super::key::Key;
use super::value::{Text, Value};

/// How a task, or a request about one, failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Failure {
    /// As a worker or pyhost reported it: forwarded, never opened.
    Remote {
        /// The exception, still pickled (bytes or a `Serialized`).
        exception: Value,
        /// The traceback, still pickled, or nil.
        traceback: Value,
        /// `repr` of the exception.
        exception_text: Text,
        /// The formatted traceback.
        traceback_text: Text,
    },
    /// Raised by rask itself; the driver writes the pickle.
    Raised(PyError),
}

/// A Python exception that rask raises, as data. Written as a pickle only where it leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PyError {
    /// An exception of `builtins` with one text argument: `ValueError`, `KeyError`, `RuntimeError`, `TimeoutError`...
    Builtin {
        /// Name of the class in `builtins` (`TimeoutError` means `asyncio.TimeoutError`, the same class since 3.11).
        class: Text,
        /// Its only argument.
        message: Text,
    },
    /// `KeyError(key)`: the argument is the key itself.
    MissingKey(Value),
    /// `distributed.scheduler.KilledWorker`.
    KilledWorker {
        /// The task that outlived its workers.
        key: Key,
        /// Address of the worker that died last.
        worker: Text,
        name: Value,
        allowed_failures: u32,
    },
    /// `distributed.scheduler.NoWorkerError`.
    NoWorker {
        /// The task that found no worker.
        key: Key,
        /// Unit: seconds.
        timeout_secs: f64,
    },
    /// `distributed.scheduler.NoValidWorkerError`.
    NoValidWorker {
        /// The task that found no worker.
        key: Key,
        /// Its host restrictions.
        hosts: Vec<Text>,
        /// Its worker restrictions.
        workers: Vec<Text>,
        /// Its resource restrictions.
        resources: Vec<(Text, f64)>,
        /// Unit: seconds.
        timeout_secs: f64,
    },
    /// `distributed.shuffle._exceptions.P2PConsistencyError`.
    P2pConsistency(Text),
}

impl PyError {
    /// An exception of `builtins`.
    pub fn builtin(class: &str, message: impl Into<Text>) -> Self {
        Self::Builtin { class: class.into(), message: message.into() }
    }
}
