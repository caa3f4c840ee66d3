//! Names and constants that Dask's nodes consist of, as nodes of a pickle.

use crate::pickle::{NodeId, Nodes};

/// A container that is a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    List,
    Tuple,
    Set,
    Dict,
}

/// Names and constants that new nodes consist of.
pub(super) struct Words {
    pub(super) task: NodeId,
    pub(super) alias: NodeId,
    pub(super) data_node: NodeId,
    pub(super) task_ref: NodeId,
    /// List, tuple, set and dict, as tasks.
    pub(super) containers: [NodeId; 4],
    /// What makes them of their parts.
    pub(super) constructors: [NodeId; 4],
    pub(super) to_container: NodeId,
    pub(super) cast: NodeId,
    pub(super) run_subgraph: NodeId,
    pub(super) partial: NodeId,
    pub(super) named_tuple: NodeId,
    /// `list`, `tuple`, `set`, `frozenset`, `dict`
    pub(super) types: [NodeId; 5],
    pub(super) slice: NodeId,
    pub(super) typ: NodeId,
    pub(super) constructor: NodeId,
    pub(super) none: NodeId,
    pub(super) truths: [NodeId; 2],
    pub(super) no_args: NodeId,
    pub(super) no_kwargs: NodeId,
    pub(super) no_needs: NodeId,
}

impl Words {
    pub(super) fn new(nodes: &mut Nodes) -> Self {
        let mut text = |text| {
            let id = nodes.add_text(text);
            nodes.share(id);
            id
        };
        let [spec, builtins, functools] = ["dask._task_spec", "builtins", "functools"].map(&mut text);
        let [typ, constructor] = ["typ", "constructor"].map(&mut text);
        let types = ["list", "tuple", "set", "frozenset", "dict"].map(|name| nodes.add_global(builtins, name));
        let [list, tuple, set, ..] = types;
        let slice = nodes.add_global(builtins, "slice");
        let mut of_dask = |name| nodes.add_global(spec, name);
        Self {
            task: of_dask("Task"),
            alias: of_dask("Alias"),
            data_node: of_dask("DataNode"),
            task_ref: of_dask("TaskRef"),
            containers: ["List", "Tuple", "Set", "Dict"].map(&mut of_dask),
            constructors: [list, tuple, set, of_dask("Dict.constructor")],
            to_container: of_dask("NestedContainer.to_container"),
            cast: of_dask("_identity_cast"),
            run_subgraph: of_dask("_execute_subgraph"),
            named_tuple: of_dask("_instantiate_named_tuple"),
            partial: nodes.add_global(functools, "partial"),
            types,
            slice,
            typ,
            constructor,
            none: nodes.add_none(),
            truths: [nodes.add_bool(false), nodes.add_bool(true)],
            no_args: nodes.add_tuple(&[]),
            no_kwargs: nodes.add_dict(&[]),
            no_needs: nodes.add_frozenset(&[]),
        }
    }

    pub(super) const fn constructor_of(&self, container: Container) -> NodeId {
        let [list, tuple, set, dict] = self.constructors;
        match container {
            Container::List => list,
            Container::Tuple => tuple,
            Container::Set => set,
            Container::Dict => dict,
        }
    }

    pub(super) const fn class_of(&self, container: Container) -> NodeId {
        let [list, tuple, set, dict] = self.containers;
        match container {
            Container::List => list,
            Container::Tuple => tuple,
            Container::Set => set,
            Container::Dict => dict,
        }
    }

    pub(super) const fn type_of(&self, container: Container) -> NodeId {
        let [list, tuple, set, _, dict] = self.types;
        match container {
            Container::List => list,
            Container::Tuple => tuple,
            Container::Set => set,
            Container::Dict => dict,
        }
    }
}
