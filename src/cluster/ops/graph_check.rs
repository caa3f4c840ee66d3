//! `ingest = "check"`: a graph that was read here is read in Python too. Differences are logged, and Python's tasks run.

use tracing::warn;

use crate::base::{Failure, GraphTask, Key, Opaque, Text, TicketId, Value};
use crate::cluster::codec::failures::raise;
use crate::cluster::ops::graph_parts::{fail_graph, take_parts, through_python};
use crate::cluster::state::State;
use crate::cluster::state::graphs::GraphSource;
use crate::graph;
use crate::pyhost::Pyhost;

/// Run specs that are compared in one request.
const BATCH: usize = 500;
/// Differences of one graph that are logged.
const LOGGED_MAX: usize = 20;

/// Has Python read the graph as well, and compares.
pub fn check_graph(state: &mut State, ticket: TicketId, source: GraphSource, ours: Vec<GraphTask>) {
    let size = state.setup.graph_part_tasks;
    let Some(pyhost) = state.python.pyhost.clone() else {
        return take_parts(state, ticket, graph::cut(ours, source.keys, size));
    };
    let handle = state.handle.clone();
    let job = tokio::spawn(async move {
        let wanted = source.keys.clone();
        let outcome = match through_python(&pyhost, source, true).await {
            Ok(theirs) => match differences(&pyhost, &ours, &theirs, &wanted).await {
                Ok(found) => Ok((graph::cut(theirs, wanted, size), found)),
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        };
        handle
            .tell(move |state| match outcome {
                Ok((parts, found)) => {
                    for difference in found.iter().take(LOGGED_MAX) {
                        warn!(ticket, %difference, "a graph was read otherwise than Python reads it");
                    }
                    state.graphs.reads.count_check(found.len());
                    take_parts(state, ticket, parts);
                }
                Err(failure) => fail_graph(state, ticket, failure),
            })
            .await;
    });
    if let Some(pending) = state.graphs.open.get_mut(&ticket) {
        pending.job = Some(job.abort_handle());
    }
}

async fn differences(
    pyhost: &Pyhost,
    ours: &[GraphTask],
    theirs: &[GraphTask],
    wanted: &[Key],
) -> Result<Vec<Text>, Failure> {
    let graph::Comparison { mut differences, specs } = graph::compare(ours, theirs, wanted);
    for batch in specs.chunks(BATCH) {
        let pairs: Vec<[Opaque; 2]> =
            batch.iter().map(|(_, ours, theirs)| [(**ours).clone(), (**theirs).clone()]).collect();
        let told = pyhost.compare(pairs).await?;
        let told = told
            .field("differences")
            .and_then(Value::items)
            .ok_or_else(|| raise("RuntimeError", "run specs could not be compared"))?;
        for ((key, ..), difference) in batch.iter().zip(told) {
            if let Some(text) = difference.as_str() {
                differences.push(format!("{key} is another task: {text}").into());
            }
        }
        if told.len() != batch.len() {
            differences.push("some run specs were not compared".into());
        }
    }
    Ok(differences)
}
