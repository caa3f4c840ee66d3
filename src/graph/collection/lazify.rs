//! Lists that only one function reads need not be made: `list` and `reify` inside a task are dropped.
//!
//! Source: `dask/bag/core.py`, `lazify_task`.

use crate::graph::error::Stop;
use crate::graph::vouch::Role;
use crate::pickle::{Kind, NodeId};

use super::build::Parts;
use super::words::Container;
use super::work::GraphWork;

/// Tasks nested deeper are left to Python.
const DEPTH_MAX: u32 = 300;
/// Lists at least this long are not searched.
const LIST_MAX: usize = 50;

/// A task read from its state.
struct View {
    /// `None`: a `Task`.
    container: Option<Container>,
    args: Vec<NodeId>,
    parts: Parts,
    /// Nothing is remembered in it that a new task would not know.
    is_fresh: bool,
}

impl GraphWork<'_> {
    /// The task without needless lists. `start`: what it returns itself has to stay what it is.
    pub(super) fn lazify(&mut self, id: NodeId, start: bool) -> Result<NodeId, Stop> {
        self.lazify_at(id, start, 0)
    }

    fn lazify_at(&mut self, id: NodeId, start: bool, depth: u32) -> Result<NodeId, Stop> {
        if depth > DEPTH_MAX {
            return Err("a task that nests very deep".into());
        }
        self.step(1)?;
        match self.nodes.kind(id) {
            Kind::NewObj => match self.view(id)? {
                Some(view) => self.lazify_task(id, view, start, depth),
                None => self.pass_object(id),
            },
            Kind::Reduce | Kind::NewObjEx => self.pass_object(id),
            Kind::List => {
                let items = self.nodes.items(id).ok_or("a list with a state")?;
                if items.len() >= LIST_MAX {
                    return Ok(id);
                }
                let lazy = self.lazify_all(&items, depth)?;
                Ok(if lazy == items { id } else { self.nodes.add_list(&lazy) })
            }
            Kind::Tuple => match self.nodes.tuple(id).and_then(|items| items.first()).copied() {
                Some(head) if self.is_callable(head)? => Err("a tuple in a task that is like a task".into()),
                _ => Ok(id),
            },
            _ => Ok(id),
        }
    }

    fn lazify_all(&mut self, items: &[NodeId], depth: u32) -> Result<Vec<NodeId>, Stop> {
        items.iter().map(|&item| self.lazify_at(item, false, depth + 1)).collect()
    }

    /// An object that is no task has to be no list either.
    fn pass_object(&mut self, id: NodeId) -> Result<NodeId, Stop> {
        if self.graph_node(id)?.is_some() || self.reference(id).is_some() || self.role(id)? != Role::Special {
            return Ok(id);
        }
        Err("an object of a special class".into())
    }

    fn lazify_task(&mut self, id: NodeId, mut view: View, start: bool, depth: u32) -> Result<NodeId, Stop> {
        if view.container == Some(Container::List) && view.args.len() < LIST_MAX {
            return self.lazify_list(id, &view, depth);
        }
        let mut is_same = view.is_fresh && view.container.is_none() && !view.parts.data_producer;
        if !start && self.makes_list(view.parts.function) {
            let &[inner, ref more @ ..] = view.args.as_slice() else { return Err("a list of nothing".into()) };
            if let Some(inner) = self.view(inner)? {
                if !more.is_empty() {
                    return Err("a list of several arguments".into());
                }
                view = inner;
                is_same = false;
            }
        }
        if self.runs_subgraph(view.parts.function) {
            return self.lazify_subgraph(view, depth);
        }
        let args = self.lazify_all(&view.args, depth)?;
        if is_same && args == view.args {
            return Ok(id);
        }
        let kwargs = match view.container {
            Some(container) if !self.nodes.entries(view.parts.kwargs).is_some_and(|kwargs| kwargs.is_empty()) => {
                return Err(Stop::NeedsPython(format!("a {container:?} with named arguments").into()));
            }
            Some(container) => self.constructor_kwargs(container),
            None => view.parts.kwargs,
        };
        let args = self.nodes.add_tuple(&args);
        Ok(self.task(&Parts { args, kwargs, data_producer: false, ..view.parts }))
    }

    fn lazify_list(&mut self, id: NodeId, view: &View, depth: u32) -> Result<NodeId, Stop> {
        let args = self.lazify_all(&view.args, depth)?;
        if let &[only] = args.as_slice()
            && self.nodes.kind(only) == Kind::List
        {
            return Err("a list of one list".into());
        }
        let is_same = view.is_fresh && view.parts.key.is_none() && !view.parts.data_producer && args == view.args;
        Ok(if is_same { id } else { self.container(Container::List, &args, view.parts.needs) })
    }

    fn lazify_subgraph(&mut self, view: View, depth: u32) -> Result<NodeId, Stop> {
        let &[subgraph, output, ref rest @ ..] = view.args.as_slice() else { return Err("an odd fused task".into()) };
        let entries = self.nodes.entries(subgraph).ok_or("an odd fused task")?;
        let output_key = self.key(output)?;
        let mut last = None;
        let mut pairs = Vec::with_capacity(entries.len() * 2);
        for (key, task) in entries {
            if self.key(key)? == output_key {
                last = Some([key, self.lazify_at(task, true, depth + 1)?]);
            } else {
                pairs.extend([key, self.lazify_at(task, false, depth + 1)?]);
            }
        }
        pairs.extend(last.ok_or("a fused task without its output")?);
        let subgraph = self.nodes.add_dict(&pairs);
        let args: Vec<NodeId> = [subgraph, output].into_iter().chain(rest.iter().copied()).collect();
        let args = self.nodes.add_tuple(&args);
        Ok(self.task(&Parts { args, ..view.parts }))
    }

    /// Is it a task that runs several?
    pub(super) fn is_fused(&self, id: NodeId) -> bool {
        let view = self.view(id).ok().flatten();
        view.is_some_and(|view| self.runs_subgraph(view.parts.function))
    }

    fn runs_subgraph(&self, function: NodeId) -> bool {
        self.nodes.global(function) == Some(("dask._task_spec", "_execute_subgraph"))
    }

    fn makes_list(&self, function: NodeId) -> bool {
        matches!(self.nodes.global(function), Some(("builtins", "list") | ("dask.bag.core", "reify")))
    }

    fn view(&self, id: NodeId) -> Result<Option<View>, Stop> {
        let Some((class, _)) = self.nodes.new_obj(id) else { return Ok(None) };
        let container = match self.nodes.global(class) {
            Some(("dask._task_spec", "Task")) => None,
            Some(("dask._task_spec", "List")) => Some(Container::List),
            Some(("dask._task_spec", "Tuple")) => Some(Container::Tuple),
            Some(("dask._task_spec", "Set")) => Some(Container::Set),
            Some(("dask._task_spec", "Dict")) => Some(Container::Dict),
            _ => return Ok(None),
        };
        let state = self.nodes.state(id).and_then(|state| self.nodes.items(state)).ok_or("a task without a state")?;
        let (producer, needs, coro, repr, token, args, function, key, kwargs) = match *state.as_slice() {
            [producer, needs, coro, repr, token, args, function, key, kwargs] if container.is_none() => {
                (producer, needs, coro, repr, token, args, function, key, kwargs)
            }
            [producer, needs, coro, repr, token, args, _, function, key, _, kwargs] if container.is_some() => {
                (producer, needs, coro, repr, token, args, function, key, kwargs)
            }
            _ => return Err("a task of another form".into()),
        };
        let data_producer = self.nodes.bool(producer).ok_or("a task of another form")?;
        let items = self.nodes.tuple(args).ok_or("a task of another form")?.to_vec();
        let key = Some(key).filter(|&key| !self.nodes.is_none(key));
        let is_fresh = [coro, repr, token].iter().all(|&slot| self.nodes.is_none(slot));
        let parts = Parts { key, function, args, kwargs, needs, data_producer };
        Ok(Some(View { container, args: items, parts, is_fresh }))
    }
}
