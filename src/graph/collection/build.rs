//! Dask's nodes as nodes of a pickle: what their classes' own pickles look like.
//!
//! Source: `dask/_task_spec.py`, the slots of the classes in alphabetical order.

use crate::pickle::NodeId;

use super::words::Container;
use super::work::GraphWork;

/// What a task consists of.
pub(super) struct Parts {
    /// `None` inside another task.
    pub(super) key: Option<NodeId>,
    pub(super) function: NodeId,
    /// A tuple.
    pub(super) args: NodeId,
    /// A dict.
    pub(super) kwargs: NodeId,
    /// A frozenset of keys.
    pub(super) needs: NodeId,
    pub(super) data_producer: bool,
}

impl GraphWork<'_> {
    /// The frozenset of the keys with these numbers.
    pub(super) fn needs(&mut self, needs: &[u32]) -> NodeId {
        if needs.is_empty() {
            return self.words.no_needs;
        }
        let keys: Vec<NodeId> = needs.iter().filter_map(|&need| self.index.nodes.get(need as usize).copied()).collect();
        self.nodes.add_frozenset(&keys)
    }

    /// A `Task`.
    pub(super) fn task(&mut self, parts: &Parts) -> NodeId {
        let words = &self.words;
        let [no, yes] = words.truths;
        let producer = if parts.data_producer { yes } else { no };
        let (none, task, no_args) = (words.none, words.task, words.no_args);
        let key = parts.key.unwrap_or(none);
        let state = [producer, parts.needs, none, none, none, parts.args, parts.function, key, parts.kwargs];
        let state = self.nodes.add_tuple(&state);
        self.nodes.add_object(task, no_args, state)
    }

    /// A `List`, `Tuple`, `Set` or `Dict` (of keys and values in turn).
    pub(super) fn container(&mut self, container: Container, args: &[NodeId], needs: NodeId) -> NodeId {
        let args = self.nodes.add_tuple(args);
        let words = &self.words;
        let [no, _] = words.truths;
        let (none, no_args, class) = (words.none, words.no_args, words.class_of(container));
        let (constructor, kind) = (words.constructor_of(container), words.type_of(container));
        let state = [no, needs, none, none, none, args, constructor, words.to_container, none, kind, words.no_kwargs];
        let state = self.nodes.add_list(&state);
        self.nodes.add_object(class, no_args, state)
    }

    /// The named arguments of a container as a task: its constructor, which its own pickle leaves out.
    pub(super) fn constructor_kwargs(&mut self, container: Container) -> NodeId {
        let pair = [self.words.constructor, self.words.constructor_of(container)];
        self.nodes.add_dict(&pair)
    }

    /// An `Alias` of `target`: under `key`, or inside a task.
    pub(super) fn alias(&mut self, key: Option<NodeId>, target: NodeId) -> NodeId {
        let args = match key {
            Some(key) => self.nodes.add_tuple(&[key, target]),
            None => self.nodes.add_tuple(&[target]),
        };
        self.nodes.add_reduce(self.words.alias, args)
    }

    /// A `DataNode`.
    pub(super) fn data(&mut self, key: NodeId, value: NodeId) -> NodeId {
        let args = self.nodes.add_tuple(&[key, value]);
        self.nodes.add_reduce(self.words.data_node, args)
    }

    /// A `TaskRef`.
    pub(super) fn task_ref(&mut self, key: NodeId) -> NodeId {
        let args = self.nodes.add_tuple(&[key]);
        self.nodes.add_reduce(self.words.task_ref, args)
    }
}
