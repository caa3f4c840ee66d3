//! `LLGExpr`: what submit, `get` and nested clients send. A dict of key to node.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::GraphTask;
use crate::base::Key;
use crate::base::SeededMap;
use crate::pickle;
use crate::pickle::NodeId;
use crate::pickle::Splitter;

use super::GraphInput;
use super::error::Stop;
use super::known::GraphNode;
use super::known::Reader;
use super::order;

/// One node of the graph, before culling.
struct Entry {
    key: Key,
    node: NodeId,
    dependencies: Vec<Key>,
    data_producer: bool,
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
    let wanted = order::depth_first(&edges, input.keys);
    let given = input.internal_priority.map(|all| all.iter().map(|(key, at)| (key, *at)).collect::<SeededMap<_, _>>());
    let mut splitter = Splitter::new(reader.nodes, buffers);
    let mut tasks = Vec::with_capacity(wanted.len());
    for (at, entry) in wanted.into_iter().filter_map(|at| entries.get(at as usize)).enumerate() {
        let part = splitter.part(entry.node)?;
        tasks.push(GraphTask {
            key: entry.key.clone(),
            dependencies: entry.dependencies.clone(),
            run_spec: Some(Arc::new(pickle::to_wire(&part))),
            order: given.as_ref().map_or(Some(at as f64), |given| given.get(&entry.key).copied()),
            data_producer: entry.data_producer,
            ..GraphTask::default()
        });
    }
    Ok(tasks)
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
        entries.push(Entry { key, node, dependencies, data_producer });
    }
    Ok(entries)
}
