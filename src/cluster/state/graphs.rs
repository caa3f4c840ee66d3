//! Graphs that were submitted and are not in the scheduler yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::base::{ClientId, GraphPart, Key, Opaque, PickledPart, SeededMap, Text, TicketId};
use crate::graph::Vouched;

/// Graphs under way.
#[derive(Debug, Default)]
pub struct Graphs {
    next_ticket: TicketId,
    pub open: SeededMap<TicketId, IncomingGraph>,
    /// What was read and enters the scheduler part by part.
    pub parts: VecDeque<(TicketId, std::vec::IntoIter<GraphPart>)>,
    /// What Python said about the names that graphs refer to.
    pub vouched: Arc<Vouched>,
    pub reads: Reads,
}

/// How graphs were read.
#[derive(Debug, Default)]
pub struct Reads {
    /// Read here.
    pub here: u64,
    /// Read in Python, by reason.
    pub in_python: BTreeMap<Text, u64>,
    /// Read in both, and differences that were found.
    pub checked: u64,
    pub differences: u64,
}

/// Reasons hold names of users' classes; past this many they are counted together.
const REASONS_MAX: usize = 100;

impl Reads {
    /// Counts a graph that went to Python.
    pub fn count_python(&mut self, reason: &Text) {
        let known = self.in_python.len() < REASONS_MAX || self.in_python.contains_key(reason);
        *self.in_python.entry(if known { reason.clone() } else { "other".into() }).or_default() += 1;
    }

    /// Counts a graph that was read both ways.
    pub const fn count_check(&mut self, differences: usize) {
        self.checked += 1;
        self.differences += differences as u64;
    }
}

/// A graph that is not in yet.
#[derive(Debug)]
pub struct IncomingGraph {
    pub client: ClientId,
    /// None once the graph is being read.
    pub source: Option<GraphSource>,
    /// Reads the graph in Python; ended when the client leaves.
    pub job: Option<AbortHandle>,
}

/// What is needed to read a graph.
#[derive(Clone, Debug)]
pub struct GraphSource {
    pub expr: Arc<Opaque>,
    pub keys: Vec<Key>,
    pub priority: Option<Vec<(Key, f64)>>,
    pub annotations: Option<Arc<Opaque>>,
    /// How often Python was asked about it.
    pub asks: u32,
    /// The outline that Python gave of it.
    pub outline: Option<PickledPart>,
    /// Python has loaded it.
    pub was_loaded: bool,
}

impl Graphs {
    /// A fresh ticket.
    pub const fn ticket(&mut self) -> TicketId {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// Are there parts to hand over?
    pub fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Number of graphs that are not in yet.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The graphs of a client that are not in yet.
    pub fn of_client(&self, client: ClientId) -> Vec<TicketId> {
        let of_client = |(ticket, graph): (&TicketId, &IncomingGraph)| (graph.client == client).then_some(*ticket);
        self.open.iter().filter_map(of_client).collect()
    }
}
