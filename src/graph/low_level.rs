//! `LLGExpr`: what submit, `get` and nested clients send. A dict of key to node.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::GraphTask;
use crate::base::Key;
use crate::pickle::NodeId;
use crate::pickle::Splitter;

use super::error::Stop;
use super::input::GraphInput;
use super::known::GraphNode;
use super::known::Reader;
use super::order;

/// One node of the graph, before culling.
struct Entry {
    key: Key,
    node: NodeId,
    dependencies: Vec<Key>,
    data_producer: bool,
    is_data: bool,
}

/// The tasks under the wanted keys, dependencies first.
pub(super) fn read(
    reader: &mut Reader<'_>,
    buffers: &[Bytes],
    graph: NodeId,
    input: &GraphInput<'_>,
) -> Result<Vec<GraphTask>, Stop> {
    let entries = entries(reader, graph)?;
    let edges: Vec<_> = entries.iter().map(|entry| (&entry.key, entry.dependencies.as_slice())).collect();
    let mut wanted = order::depth_first(&edges, input.keys);
    // Where nothing else decides, tasks run in the order in which the user's program made them.
    wanted.sort_unstable();
    let mut splitter = Splitter::new(reader.nodes, buffers);
    let mut tasks = Vec::with_capacity(wanted.len());
    let mut is_data = Vec::with_capacity(wanted.len());
    for entry in wanted.into_iter().filter_map(|at| entries.get(at as usize)) {
        let run_spec = splitter.part_wire(entry.node)?;
        tasks.push(GraphTask {
            key: entry.key.clone(),
            dependencies: entry.dependencies.clone(),
            run_spec: Some(Arc::new(run_spec)),
            data_producer: entry.data_producer,
            ..GraphTask::default()
        });
        is_data.push(entry.is_data);
    }
    match input.internal_priority {
        Some(given) => Ok(order::by_client(tasks, given)),
        None => Ok(order::by_graph(tasks, &is_data)?),
    }
}

fn entries(reader: &mut Reader<'_>, graph: NodeId) -> Result<Vec<Entry>, Stop> {
    let raw = reader.nodes.entries(graph).ok_or("a graph that is no dict")?;
    let mut entries = Vec::with_capacity(raw.len());
    for (key, node) in raw {
        let key = reader.key(key)?;
        let known = reader.graph_node(node, false).ok_or("a task that is not one of dask's nodes")?;
        let dependencies = reader.dependencies(known)?;
        // An alias to itself stands for data that is on the cluster already.
        if matches!(known, GraphNode::Alias { .. }) && dependencies.first() == Some(&key) {
            continue;
        }
        let data_producer = match known {
            GraphNode::Task { data_producer, .. } => data_producer,
            GraphNode::Alias { .. } => false,
            GraphNode::Data => true,
        };
        let is_data = matches!(known, GraphNode::Data);
        entries.push(Entry { key, node, dependencies, data_producer, is_data });
    }
    Ok(entries)
}
