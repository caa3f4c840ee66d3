//! Graphs that were read, on their way into the scheduler: in parts, or not at all.

use crate::base::{Failure, GraphPart, GraphTask, TicketId};
use crate::cluster::codec::failures::raise;
use crate::cluster::state::State;
use crate::cluster::state::graphs::GraphSource;
use crate::graph;
use crate::pyhost::{GraphRequest, Pyhost};
use crate::sched::Event;

/// The first part goes in at once, unless others wait their turn.
pub fn take_parts(state: &mut State, ticket: TicketId, parts: Vec<GraphPart>) {
    let alone = !state.graphs.has_parts();
    state.graphs.parts.push_back((ticket, parts.into_iter()));
    if alone {
        next_graph_part(state);
    }
}

/// Hands one part to the core; graphs take turns.
pub fn next_graph_part(state: &mut State) {
    let Some((ticket, mut rest)) = state.graphs.parts.pop_front() else { return };
    // The graph may have failed meanwhile.
    if !state.graphs.open.contains_key(&ticket) {
        return;
    }
    let Some(part) = rest.next() else { return };
    let last = rest.len() == 0;
    if !last {
        state.graphs.parts.push_back((ticket, rest));
    }
    let sched = &state.sched;
    state.records.computations.on_tasks(state.clock.wall(), &part.tasks, || sched.ended_totals());
    state.step(Event::GraphPart { ticket, part, last });
}

/// The graph ends in an error of all its keys.
pub fn fail_graph(state: &mut State, ticket: TicketId, failure: Failure) {
    if state.graphs.open.remove(&ticket).is_some() {
        state.step(Event::GraphFailed { ticket, failure });
    }
}

/// The tasks of a graph as Python reads it.
pub async fn through_python(pyhost: &Pyhost, source: GraphSource, check: bool) -> Result<Vec<GraphTask>, Failure> {
    let request = GraphRequest { expr: source.expr, keys: source.keys, annotations: source.annotations, check };
    let bulk = pyhost.graph(request).await?;
    let priority = source.priority;
    let split = tokio::task::spawn_blocking(move || {
        graph::split_bulk(&bulk, priority.as_deref()).map_err(|error| error.failure())
    });
    split.await.unwrap_or_else(|_| Err(raise("RuntimeError", "splitting the graph failed")))
}
