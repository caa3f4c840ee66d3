//! A graph that pyhost has read: one pickle of a dict, cut into tasks.

use std::sync::Arc;

use crate::base::BulkGraph;
use crate::base::GraphTask;
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

/// The tasks of a graph that pyhost has read, dependencies first. Where the client gave the order, `order` is left to
/// [`super::apply_priority`].
///
/// Errors: a pickle that can't be split, a reply that contradicts itself, annotations of a wrong type.
pub fn split_bulk(reply: &BulkGraph) -> Result<Vec<GraphTask>, GraphError> {
    let nodes = pickle::read(&reply.nodes.pickle, reply.nodes.buffers.len())?;
    let entries = nodes.entries(nodes.root()).ok_or(GraphError::Reply("the graph is no dict"))?;
    if !reply.order.is_empty() && reply.order.len() != entries.len() {
        return Err(GraphError::Reply("an order of another length"));
    }
    let mut reader = Reader::new(&nodes);
    let mut splitter = Splitter::new(&nodes, &reply.nodes.buffers);
    let mut tasks = Vec::with_capacity(entries.len());
    for (at, (key, node)) in entries.into_iter().enumerate() {
        let known = reader.graph_node(node, true).ok_or(GraphError::Reply("a task of an unknown kind"))?;
        let part = splitter.part(node)?;
        tasks.push(GraphTask {
            key: reader.key(key).map_err(unreadable)?,
            dependencies: reader.dependencies(known).map_err(unreadable)?,
            run_spec: Some(Arc::new(pickle::to_wire(&part))),
            order: reply.order.get(at).copied(),
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
    Ok(order::sort(tasks))
}

fn unreadable(stop: Stop) -> GraphError {
    match stop {
        Stop::NeedsPython(_) => GraphError::Pickle(PickleError::NeedsPython("a key that is no plain value")),
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
