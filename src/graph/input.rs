//! What reading a graph is given, and what comes of it.

use crate::base::{GraphTask, Key, Opaque, PickledPart, Text};

use super::vouch::{GlobalName, GraphQuestion, Vouched};

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
    /// What is known of names. `None`: nobody can be asked, so that any name will do.
    pub vouched: Option<&'a Vouched>,
    /// How often Python was asked about this very graph: what it could not say then it can't say now.
    pub asks: u32,
    /// What Python made of a graph of arrays: its layers, those of blocks as templates.
    pub outline: Option<&'a PickledPart>,
    /// Python has loaded this graph already.
    pub was_loaded: bool,
}

/// The outcome of reading a graph without Python.
#[derive(Clone, Debug, PartialEq)]
pub enum GraphRead {
    /// Its tasks, dependencies before dependents.
    Tasks(Vec<GraphTask>),
    /// Its tasks, which may go to workers once Python has loaded the expression; Python is also to say what it knows
    /// of these names.
    Unvouched(Vec<GraphTask>, Vec<GlobalName>),
    /// Python has to answer this; then it is to be read again.
    Ask(GraphQuestion),
    /// Python has to outline it; then it is to be read again.
    Outline,
    /// Only Python can read it; says why, for the log.
    NeedsPython(Text),
}
