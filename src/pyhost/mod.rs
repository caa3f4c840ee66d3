//! The Python side of a scheduler: processes, the queue of requests to them, and the files they run (`py/`).
//!
//! Knows pipes and processes, no tasks. Users' code runs only in those processes, never in this one. One process keeps
//! what users leave behind (plugins, names, background work); others materialise graphs and are interchangeable.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod config;
mod error;
mod files;
mod process;
mod reply;
mod slot;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::base::BulkGraph;
use crate::base::Failure;
use crate::base::Key;
use crate::base::Opaque;
use crate::base::PickledPart;
use crate::base::Text;
use crate::base::Value;

pub use config::PyhostConfig;
pub use error::{AskError, PyhostError};
pub use files::{Script, write_script};

use slot::Slot;
use slot::SlotCommand;

/// A graph for Python to read.
#[derive(Clone, Debug)]
pub struct GraphRequest {
    /// `expr_ser` as it came.
    pub expr: Arc<Opaque>,
    /// The keys that the client wants.
    pub keys: Vec<Key>,
    /// `annotations` as they came.
    pub annotations: Option<Arc<Opaque>>,
    /// It is to be compared with a reading of ours.
    pub check: bool,
}

/// Requests that may wait for one process. Past it callers wait for room, which holds back the client that asks.
const QUEUE_MAX: usize = 256;

/// A handle on the Python side. Cloning it is cheap; all clones share the processes, which end with the last clone.
#[derive(Clone, Debug)]
pub struct Pyhost {
    /// The first keeps state; the others, if any, do graphs.
    slots: Arc<Vec<Place>>,
    /// Says `true`, or is gone, when the processes shall end.
    stop: Arc<watch::Sender<bool>>,
}

/// The way to one slot.
#[derive(Debug)]
struct Place {
    inbox: mpsc::Sender<SlotCommand>,
    /// Requests that wait for it or are being worked on.
    load: AtomicUsize,
}

/// Counts a request as long as somebody waits for its answer.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pyhost {
    /// A handle; no process starts before it is needed. Must be called inside a tokio runtime.
    pub fn new(config: PyhostConfig) -> Self {
        let count = config.max_processes.max(1);
        let config = Arc::new(config);
        let (stop, stopped) = watch::channel(false);
        let slots = (0..count).map(|number| {
            let (sender, inbox) = mpsc::channel(QUEUE_MAX);
            tokio::spawn(Slot::new(number, Arc::clone(&config), stopped.clone()).run(inbox));
            Place { inbox: sender, load: AtomicUsize::new(0) }
        });
        Self { slots: Arc::new(slots.collect()), stop: Arc::new(stop) }
    }

    /// Materialises and culls a graph.
    pub async fn graph(&self, request: GraphRequest) -> Result<BulkGraph, Failure> {
        let body = Value::map([
            ("expr", Value::Serialized(request.expr)),
            ("keys", Value::Array(request.keys.iter().map(Key::to_value).collect())),
            ("annotations", request.annotations.map_or(Value::Nil, Value::Serialized)),
            ("check", Value::Bool(request.check)),
        ]);
        let slot = self.graph_slot().ok_or(PyhostError::Closed)?;
        let result = ask(slot, "graph", body).await?;
        reply::bulk_graph(&result).map_err(|what| PyhostError::Reply { what }.into())
    }

    /// Loads an expression as a worker would, if there is one, and says what is known of these names and of the objects
    /// in these pickles. Source: `rask_pyhost/vouching.py`, `op_vouch`.
    ///
    /// Errors: what loading it raised, in the words of Dask's scheduler; no answer.
    pub async fn vouch(
        &self,
        expr: Option<Arc<Opaque>>,
        names: &[(Text, Text)],
        objects: &[Bytes],
    ) -> Result<Value, AskError> {
        let pair = |(module, name): &(Text, Text)| Value::Array(vec![module.clone().into(), name.clone().into()]);
        let body = Value::map([
            ("expr", expr.map_or(Value::Nil, Value::Serialized)),
            ("names", Value::Array(names.iter().map(pair).collect())),
            ("objects", Value::Array(objects.iter().cloned().map(Value::Bin).collect())),
        ]);
        let slot = self.graph_slot().ok_or(PyhostError::Closed)?;
        ask(slot, "vouch", body).await
    }

    /// The layers of an expression of arrays, or why there is no outline of it. Source: `rask_pyhost/outlines.py`.
    ///
    /// Errors: as with [`Pyhost::vouch`].
    pub async fn outline(&self, expr: Arc<Opaque>) -> Result<Result<PickledPart, Text>, AskError> {
        let slot = self.graph_slot().ok_or(PyhostError::Closed)?;
        let result = ask(slot, "outline", Value::map([("expr", Value::Serialized(expr))])).await?;
        Ok(reply::outline(&result))
    }

    /// Says of each pair of pickled tasks how they differ, if they do.
    pub async fn compare(&self, pairs: Vec<[Opaque; 2]>) -> Result<Value, Failure> {
        let pair = |pair: [Opaque; 2]| Value::Array(pair.map(|task| Value::Pickled(Arc::new(task))).to_vec());
        let body = Value::map([("pairs", Value::Array(pairs.into_iter().map(pair).collect()))]);
        let slot = self.graph_slot().ok_or(PyhostError::Closed)?;
        Ok(ask(slot, "compare", body).await?)
    }

    /// `distributed.versions.get_versions()` of the interpreter.
    pub async fn versions(&self) -> Result<Value, Failure> {
        let slot = self.graph_slot().ok_or(PyhostError::Closed)?;
        Ok(ask(slot, "versions", Value::Map(Vec::new())).await?)
    }

    /// Any other request: `body` is a map, the answer is its `result`. Runs where the users' plugins live, and files
    /// that were uploaded meanwhile reach the other processes too.
    pub async fn call(&self, op: &str, body: Value) -> Result<Value, Failure> {
        let slot = self.slots.first().ok_or(PyhostError::Closed)?;
        let result = ask(slot, op, body).await?;
        for file in result.field("files").and_then(Value::items).unwrap_or_default() {
            self.share_file(file).await;
        }
        Ok(result)
    }

    /// Ends the processes, whatever they do, and waits until they are gone. Requests under way and later ones fail.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        for slot in self.slots.iter() {
            slot.inbox.closed().await;
        }
    }

    async fn share_file(&self, file: &Value) {
        for slot in self.slots.iter() {
            // A slot that is gone needs no file.
            let _ = slot.inbox.send(SlotCommand::File { body: file.clone() }).await;
        }
    }

    /// The least busy slot for graphs, the first of equals: a second process starts only when the first is busy.
    fn graph_slot(&self) -> Option<&Place> {
        let graphs = self.slots.get(1..).filter(|slots| !slots.is_empty()).unwrap_or(&self.slots);
        graphs.iter().min_by_key(|slot| slot.load.load(Ordering::Relaxed))
    }
}

async fn ask(slot: &Place, op: &str, body: Value) -> Result<Value, AskError> {
    let (reply, answer) = oneshot::channel();
    let command = SlotCommand::Ask { op: op.into(), body, reply };
    slot.load.fetch_add(1, Ordering::Relaxed);
    let _counted = Counted(&slot.load);
    slot.inbox.send(command).await.map_err(|_| PyhostError::Closed)?;
    answer.await.unwrap_or_else(|_| Err(PyhostError::Closed.into()))
}
