//! A graph that pyhost has read: one pickle of a dict, cut into tasks.

use std::sync::Arc;

use crate::base::BulkGraph;
use crate::base::GraphTask;
use crate::base::Key;
use crate::base::SeededMap;
use crate::pickle;
use crate::pickle::PickleError;
use crate::pickle::Splitter;

use super::GraphError;
use super::annotations;
use super::error::Stop;
use super::known::GraphNode;
use super::known::Reader;
use super::order;

/// The tasks of a graph that pyhost has read, dependencies first, in the client's order if it gave one.
///
/// Errors: a pickle that can't be split, a reply that contradicts itself, annotations of a wrong type, a cycle.
pub fn split_bulk(reply: &BulkGraph, internal_priority: Option<&[(Key, f64)]>) -> Result<Vec<GraphTask>, GraphError> {
    let nodes = pickle::read(&reply.nodes.pickle, reply.nodes.buffers.len())?;
    let entries = nodes.entries(nodes.root()).ok_or(GraphError::Reply("the graph is no dict"))?;
    let mut reader = Reader::new(&nodes);
    let mut splitter = Splitter::new(&nodes, &reply.nodes.buffers);
    let mut tasks = Vec::with_capacity(entries.len());
    let mut is_data = Vec::with_capacity(entries.len());
    for (key, node) in entries {
        let known = reader.graph_node(node, true).ok_or(GraphError::Reply("a task of an unknown kind"))?;
        is_data.push(matches!(known, GraphNode::Data));
        let run_spec = splitter.part_wire(node)?;
        tasks.push(GraphTask {
            key: reader.key(key).map_err(unreadable)?,
            dependencies: reader.dependencies(known).map_err(unreadable)?,
            run_spec: Some(Arc::new(run_spec)),
            data_producer: match known {
                GraphNode::Task { data_producer, .. } => data_producer,
                GraphNode::Alias { .. } => false,
                GraphNode::Data => true,
            },
            ..GraphTask::default()
        });
    }
    annotate(reply, &mut tasks)?;
    for (at, spec) in &reply.shuffles {
        let task = tasks.get_mut(*at as usize).ok_or(GraphError::Reply("a shuffle without a task"))?;
        task.shuffle = Some(Arc::new(spec.clone()));
    }
    match internal_priority {
        Some(given) => Ok(order::by_client(tasks, given)),
        None => order::by_graph(tasks, &is_data),
    }
}

fn unreadable(stop: Stop) -> GraphError {
    match stop {
        Stop::NeedsPython(_) | Stop::Ask(_) | Stop::Outline => {
            GraphError::Pickle(PickleError::NeedsPython("a key that is no plain value"))
        }
        Stop::Refused(error) => error,
    }
}

fn annotate(reply: &BulkGraph, tasks: &mut [GraphTask]) -> Result<(), GraphError> {
    let mut table = Vec::with_capacity(reply.annotations.len());
    for map in &reply.annotations {
        let empty = map.fields().is_none_or(<[_]>::is_empty);
        table.push(if empty { None } else { Some(Arc::new(annotations::interpret(map.clone())?)) });
    }
    let special: SeededMap<u32, u32> = reply.annotated.iter().copied().collect();
    if table.iter().all(Option::is_none) {
        return Ok(());
    }
    for (task, at) in tasks.iter_mut().zip(0u32..) {
        let entry = special.get(&at).copied().unwrap_or(0);
        task.annotations = table.get(entry as usize).cloned().flatten();
    }
    Ok(())
}
