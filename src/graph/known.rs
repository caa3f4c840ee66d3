//! Recognises Dask's own node classes among the nodes of a pickle, and reads keys.
//!
//! Source: `dask/_task_spec.py`, the classes and their `__reduce__` and `__getstate__`.

use crate::base::Key;
use crate::base::SeededMap;
use crate::base::Value;
use crate::pickle::Kind;
use crate::pickle::NodeId;
use crate::pickle::Nodes;

use super::error::Stop;

/// A global that means something to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Task,
    Barrier,
    Alias,
    DataNode,
    /// `TaskRef`, a client's `Future` or an actor's handle: stands for the result under a key.
    Reference,
    Range,
    Other,
}

/// A value of a graph that is one of Dask's nodes.
#[derive(Clone, Copy, Debug)]
pub(super) enum GraphNode {
    /// Dependencies (a frozenset) and `data_producer`.
    Task { dependencies: NodeId, data_producer: bool },
    /// The key it points to.
    Alias { target: NodeId },
    /// Plain data.
    Data,
}

/// Reads one pickle; remembers what it has seen.
pub(super) struct Reader<'a> {
    pub(super) nodes: &'a Nodes,
    names: SeededMap<NodeId, Name>,
    keys: SeededMap<NodeId, Key>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(nodes: &'a Nodes) -> Self {
        Self { nodes, names: SeededMap::default(), keys: SeededMap::default() }
    }

    /// Which of our globals `id` is.
    pub(super) fn name(&mut self, id: NodeId) -> Name {
        if let Some(&name) = self.names.get(&id) {
            return name;
        }
        let name = match self.nodes.global(id) {
            Some(("dask._task_spec", "Task" | "List" | "Tuple" | "Set" | "Dict")) => Name::Task,
            Some(("distributed.shuffle._core", "P2PBarrierTask")) => Name::Barrier,
            Some(("dask._task_spec", "Alias")) => Name::Alias,
            Some(("dask._task_spec", "DataNode")) => Name::DataNode,
            Some(
                ("dask._task_spec", "TaskRef") | ("distributed.client", "Future") | ("distributed.actor", "Actor"),
            ) => Name::Reference,
            Some(("builtins", "range")) => Name::Range,
            _ => Name::Other,
        };
        self.names.insert(id, name);
        name
    }

    /// The node as one of Dask's; `None` when it is anything else (a legacy task, say).
    ///
    /// `any_task` also takes classes that look like tasks, which only pyhost can vouch for.
    pub(super) fn graph_node(&mut self, id: NodeId, any_task: bool) -> Option<GraphNode> {
        if let Some((class, _)) = self.nodes.new_obj(id) {
            let known = matches!(self.name(class), Name::Task) || any_task;
            let state = self.nodes.state(id).filter(|_| known)?;
            return self.task_state(state);
        }
        let (class, args) = self.nodes.reduce(id).filter(|_| self.nodes.is_plain(id))?;
        match (self.name(class), self.nodes.tuple(args)?) {
            (Name::Alias, &[target] | &[_, target]) => Some(GraphNode::Alias { target }),
            (Name::DataNode, [_, _]) => Some(GraphNode::Data),
            _ => None,
        }
    }

    /// The slots in alphabetical order: `_data_producer` and `_dependencies` come first in every class of tasks.
    fn task_state(&self, state: NodeId) -> Option<GraphNode> {
        let mut first = [state; 2];
        match self.nodes.kind(state) {
            Kind::Tuple => first.copy_from_slice(self.nodes.tuple(state)?.get(..2)?),
            _ => first.copy_from_slice(self.nodes.items(state)?.get(..2)?),
        }
        let [data_producer, dependencies] = first;
        let data_producer = self.nodes.bool(data_producer)?;
        (self.nodes.kind(dependencies) == Kind::FrozenSet).then_some(GraphNode::Task { dependencies, data_producer })
    }

    /// The keys that a node needs.
    pub(super) fn dependencies(&mut self, node: GraphNode) -> Result<Vec<Key>, Stop> {
        match node {
            GraphNode::Task { dependencies, .. } => {
                let nodes = self.nodes;
                nodes.tuple(dependencies).unwrap_or_default().iter().map(|&key| self.key(key)).collect()
            }
            GraphNode::Alias { target, .. } => Ok(vec![self.key(target)?]),
            GraphNode::Data => Ok(Vec::new()),
        }
    }

    /// A node as a task key.
    pub(super) fn key(&mut self, id: NodeId) -> Result<Key, Stop> {
        if !self.nodes.is_shared(id) {
            return self.read_key(id);
        }
        if let Some(key) = self.keys.get(&id) {
            return Ok(key.clone());
        }
        let key = self.read_key(id)?;
        self.keys.insert(id, key.clone());
        Ok(key)
    }

    fn read_key(&self, id: NodeId) -> Result<Key, Stop> {
        if let Some(text) = self.nodes.text(id) {
            return Ok(Key::text(text));
        }
        // Lists are read as arrays too, but no list is a key.
        let plain = matches!(self.nodes.kind(id), Kind::Tuple | Kind::Atom | Kind::Bytes | Kind::Reduce);
        let value = self.nodes.value(id).ok().filter(|_| plain).unwrap_or(Value::Nil);
        Key::from_value(&value).ok_or_else(|| "a key that is no plain value".into())
    }
}
