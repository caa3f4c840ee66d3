//! A graph that has been read: what `graph` makes and `sched` runs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::key::Key;
use super::value::{Opaque, PickledPart, Text, Value};

/// One task of a graph, ready to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GraphTask {
    pub key: Key,
    /// What it needs; keys outside the graph must be known to the scheduler already.
    pub dependencies: Vec<Key>,
    /// What the worker is sent, as `run_spec` frames. None for an alias to its own key: data that exists already.
    pub run_spec: Option<Arc<Opaque>>,
    /// Place in the order of the graph: the static order's, or the client's `internal_priority`.
    pub order: Option<f64>,
    /// The task makes data rather than transforming it: `Task.data_producer`.
    pub data_producer: bool,
    /// Shared by all tasks that were annotated alike.
    pub annotations: Option<Arc<Annotations>>,
    /// Only for the barrier task of a P2P shuffle.
    pub shuffle: Option<Arc<ShuffleSpec>>,
}

/// A part of a graph, itself a graph: all its tasks need is in it, in earlier parts, or known to the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GraphPart {
    /// In any order.
    pub tasks: Vec<GraphTask>,
    /// Keys of this part that the client wants; in the last part also those that no part contains.
    pub wanted: Vec<Key>,
    /// Keys of this part that later parts need.
    pub hold: Vec<Key>,
    /// Held keys that no later part needs.
    pub free: Vec<Key>,
}

/// Annotations of a task, the part that scheduling understands and the whole map that the worker gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Annotations {
    /// Bigger runs first.
    pub priority: f64,
    /// Names, addresses or hosts of allowed workers; empty: no restriction.
    pub workers: Vec<Text>,
    /// Prefer `workers`, but take others when there are none.
    pub allow_other_workers: bool,
    /// How often the task may err before it counts.
    pub retries: u32,
    /// Amount of each resource that the task occupies.
    pub resources: Vec<(Text, f64)>,
    /// The whole map, as `compute-task` carries it.
    pub wire: Value,
}

/// What placement must know of a P2P shuffle. Source: `distributed/shuffle/_core.py`, `ShuffleSpec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShuffleSpec {
    /// The shuffle's id.
    pub id: Text,
    /// How partitions map to workers.
    pub layout: ShuffleLayout,
    /// The Python `ShuffleSpec` object, for the `ShuffleRunSpec` that workers are sent.
    pub spec: PickledPart,
}

/// The output partitions of a shuffle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ShuffleLayout {
    /// `DataFrameShuffleSpec`: of `npartitions`, those in `parts_out` are wanted.
    DataFrame { npartitions: i64, parts_out: Vec<i64> },
    /// `ArrayRechunkSpec`: how many chunks the new array has along each axis.
    Rechunk { new_chunks: Vec<usize> },
}

/// A graph as pyhost hands it over: materialised, but its tasks still in one pickle and in no order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BulkGraph {
    /// A dict: key -> node.
    pub nodes: PickledPart,
    /// Annotation maps that occur. The first is for all tasks that `annotated` does not list.
    pub annotations: Vec<Value>,
    /// (place in `nodes`, place in `annotations`).
    pub annotated: Vec<(u32, u32)>,
    /// The barrier tasks among them (place in `nodes`).
    pub shuffles: Vec<(u32, ShuffleSpec)>,
}
