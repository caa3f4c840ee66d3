//! A submitted graph becomes tasks: submit and map are expanded here, a whole-graph pickle from pyhost is split here.
//!
//! Names `base` and `pickle` only. Never runs Python: what it can't read it hands back as "needs Python".

use crate::base::BulkGraph;
use crate::base::Failure;
use crate::base::GraphTask;
use crate::base::Key;
use crate::base::Opaque;
use crate::base::Text;
use crate::pickle::PickleError;

/// What `update-graph` carries, as far as reading the graph is concerned.
#[derive(Clone, Copy, Debug)]
pub struct GraphInput<'a> {
    /// `expr_ser`.
    pub expr: &'a Opaque,
    /// The keys that the client wants.
    pub keys: &'a [Key],
    /// `internal_priority`; `None` when the client leaves the order to us.
    pub internal_priority: Option<&'a [(Key, f64)]>,
    /// `annotations`, a pickled dict; `None` when there are none.
    pub annotations: Option<&'a Opaque>,
}

/// The outcome of reading a graph without Python.
#[derive(Clone, Debug, PartialEq)]
pub enum GraphRead {
    /// Its tasks, dependencies before dependents.
    Tasks(Vec<GraphTask>),
    /// Only Python can read it; says why, for the log.
    NeedsPython(Text),
}

/// Why a graph is no graph.
#[derive(Clone, Debug, PartialEq)]
pub enum GraphError {
    /// The whole-graph pickle from pyhost does not read.
    Pickle(PickleError),
    /// A reply that contradicts itself.
    Reply(&'static str),
}

impl GraphError {
    /// As the user sees it, on every key of the graph.
    pub fn failure(&self) -> Failure {
        Failure::Raised(crate::base::PyError::builtin("RuntimeError", ""))
    }
}

/// Reads a graph without Python, or says that it takes Python.
pub fn read(_input: &GraphInput<'_>) -> Result<GraphRead, GraphError> {
    Ok(GraphRead::NeedsPython("not read yet".into()))
}

/// The tasks of a graph that pyhost has read.
pub fn split_bulk(_reply: &BulkGraph) -> Result<Vec<GraphTask>, GraphError> {
    Err(GraphError::Reply("not read yet"))
}
