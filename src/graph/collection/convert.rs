//! Legacy tasks, tuples that begin with something callable, become Dask's nodes.
//!
//! Source: `dask/_task_spec.py`, `convert_legacy_task`.

use crate::base::SeededMap;
use crate::graph::error::Stop;
use crate::graph::known::GraphNode;
use crate::graph::vouch::Role;
use crate::pickle::{Kind, NodeId};

use super::build::Parts;
use super::words::Container;
use super::work::{GraphWork, distinct};

/// Tuples and lists nested deeper are left to Python, which refuses most of them.
const DEPTH_MAX: u32 = 150;

/// Whether such a reference counts depends on what else the graph needs.
const ELSEWHERE: &str = "a legacy task of delayed that refers to others inside a set or tuple";

/// What a task is, as far as the graph is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Task { data_producer: bool },
    Alias,
    Data,
}

/// A task of the graph.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Number of its key.
    pub(super) key: u32,
    pub(super) node: NodeId,
    /// Numbers of keys, ascending.
    pub(super) needs: Vec<u32>,
    pub(super) kind: NodeKind,
}

/// A literal, or one of Dask's nodes with what it needs.
#[derive(Clone)]
struct Made {
    id: NodeId,
    needs: Option<Vec<u32>>,
}

impl Made {
    const fn literal(id: NodeId) -> Self {
        Self { id, needs: None }
    }
}

/// Converts the values of one graph.
pub(super) struct Converter<'a, 'b> {
    work: &'a mut GraphWork<'b>,
    /// By number: is it a key of this graph?
    is_key: &'a [bool],
    /// What the tasks need is looked for in lists only, before they are converted: what `HighLevelGraph.cull` does.
    only_in_lists: bool,
    /// What was converted and is referred to again.
    done: SeededMap<NodeId, Made>,
}

impl<'a, 'b> Converter<'a, 'b> {
    pub(super) fn new(work: &'a mut GraphWork<'b>, is_key: &'a [bool], only_in_lists: bool) -> Self {
        Self { work, is_key, only_in_lists, done: SeededMap::default() }
    }

    /// The task under a key. `None`: an alias to itself, which stands for a result that is on the cluster.
    pub(super) fn entry(&mut self, key: u32, key_node: NodeId, value: NodeId) -> Result<Option<Entry>, Stop> {
        if !self.work.nodes.has_room(1 << 24) {
            return Err("a graph of more objects than are counted".into());
        }
        if let Some((known, needs)) = self.work.graph_node(value)? {
            let kind = match known {
                GraphNode::Task { data_producer, .. } => NodeKind::Task { data_producer },
                GraphNode::Alias { .. } => NodeKind::Alias,
                GraphNode::Data => NodeKind::Data,
            };
            let entry = Entry { key, node: value, needs, kind };
            return Ok(Some(entry).filter(|entry| !is_own_alias(entry)));
        }
        let target = match self.work.reference(value) {
            Some(target) => Some((self.work.key(target)?, target)),
            None => self.alias_of(value)?.map(|number| (number, value)),
        };
        if let Some((number, target)) = target {
            let node = self.work.alias(Some(key_node), target);
            let entry = Entry { key, node, needs: vec![number], kind: NodeKind::Alias };
            return Ok(Some(entry).filter(|entry| !is_own_alias(entry)));
        }
        let made = self.plain(value, Some(key_node), 0)?;
        Ok(Some(match made.needs {
            Some(needs) => Entry { key, node: made.id, needs, kind: NodeKind::Task { data_producer: false } },
            None => {
                let node = self.work.data(key_node, made.id);
                Entry { key, node, needs: Vec::new(), kind: NodeKind::Data }
            }
        }))
    }

    /// The key that a literal equals. A tuple that is a task is none.
    fn alias_of(&mut self, id: NodeId) -> Result<Option<u32>, Stop> {
        if self.is_task(id)? {
            return Ok(None);
        }
        let number = self.work.equal_key(id)?;
        Ok(number.filter(|&number| self.is_key.get(number as usize) == Some(&true)))
    }

    fn is_task(&mut self, id: NodeId) -> Result<bool, Stop> {
        if self.work.nodes.kind(id) != Kind::Tuple {
            return Ok(false);
        }
        match self.work.nodes.tuple(id).and_then(|items| items.first()).copied() {
            Some(head) => self.work.is_callable(head),
            None => Ok(false),
        }
    }

    /// Something inside a task.
    fn inner(&mut self, id: NodeId, depth: u32) -> Result<Made, Stop> {
        if depth > DEPTH_MAX {
            return Err("a task that nests very deep".into());
        }
        if let Some(made) = self.done.get(&id) {
            self.work.step(made.needs.as_ref().map_or(1, Vec::len))?;
            return Ok(made.clone());
        }
        let made = self.inner_anew(id, depth)?;
        if self.work.nodes.is_shared(id) {
            // What is one object in the pickle stays one object in each task.
            if made.id != id {
                self.work.nodes.share(made.id);
            }
            self.done.insert(id, made.clone());
        }
        Ok(made)
    }

    fn inner_anew(&mut self, id: NodeId, depth: u32) -> Result<Made, Stop> {
        if let Some((_, needs)) = self.work.graph_node(id)? {
            return Ok(Made { id, needs: Some(needs) });
        }
        let target = match self.work.reference(id) {
            Some(target) => Some((self.work.key(target)?, target)),
            None => self.alias_of(id)?.map(|number| (number, id)),
        };
        if let Some((number, target)) = target {
            return Ok(Made { id: self.work.alias(None, target), needs: Some(vec![number]) });
        }
        self.plain(id, None, depth)
    }

    /// What is neither one of Dask's nodes nor a reference.
    fn plain(&mut self, id: NodeId, key: Option<NodeId>, depth: u32) -> Result<Made, Stop> {
        match self.work.nodes.kind(id) {
            Kind::Tuple if self.is_task(id)? => self.task(id, key, depth),
            Kind::Tuple | Kind::List | Kind::Set | Kind::FrozenSet => self.sequence(id, key, depth),
            Kind::Dict if self.work.nodes.entries(id).is_none() => Err("a dict with a state".into()),
            Kind::NewObj | Kind::Reduce | Kind::NewObjEx => match self.work.role(id)? {
                Role::Plain | Role::Callable => Ok(Made::literal(id)),
                Role::NamedTuple => self.named_tuple(id, key, depth),
                Role::Special => Err("an object of a special class".into()),
            },
            Kind::Atom
            | Kind::Text
            | Kind::Bytes
            | Kind::ByteArray
            | Kind::Global
            | Kind::Dict
            | Kind::Buffer
            | Kind::ReadOnly => Ok(Made::literal(id)),
        }
    }

    fn task(&mut self, id: NodeId, key: Option<NodeId>, depth: u32) -> Result<Made, Stop> {
        let items = self.work.nodes.tuple(id).unwrap_or_default().to_vec();
        let Some((&function, args)) = items.split_first() else { return Err("an empty task".into()) };
        if !self.work.nodes.is_plain(id) {
            return Err("a tuple with a state".into());
        }
        self.work.step(args.len())?;
        let mut needs = Vec::new();
        let mut made = Vec::with_capacity(args.len());
        for &arg in args {
            let is_dict = self.work.nodes.kind(arg) == Kind::Dict;
            let arg = if is_dict { self.dict(arg)? } else { self.inner(arg, depth + 1)? };
            needs.extend(arg.needs.into_iter().flatten());
            made.push(arg.id);
        }
        let kwargs = self.work.words.no_kwargs;
        Ok(self.finish(key, function, &made, kwargs, needs))
    }

    fn finish(
        &mut self,
        key: Option<NodeId>,
        function: NodeId,
        args: &[NodeId],
        kwargs: NodeId,
        mut needs: Vec<u32>,
    ) -> Made {
        distinct(&mut needs);
        let args = if args.is_empty() { self.work.words.no_args } else { self.work.nodes.add_tuple(args) };
        let set = self.work.needs(&needs);
        let id = self.work.task(&Parts { key, function, args, kwargs, needs: set, data_producer: false });
        Made { id, needs: Some(needs) }
    }

    /// A dict that is itself an argument: its values are not searched, but those that are references count.
    fn dict(&mut self, id: NodeId) -> Result<Made, Stop> {
        let entries = self.work.nodes.entries(id).ok_or("a dict with a state")?;
        self.work.step(entries.len())?;
        let mut needs = Vec::new();
        let mut parts = Vec::with_capacity(entries.len() * 2);
        for part in entries.into_iter().flat_map(|(key, value)| [key, value]) {
            parts.push(part);
            if !matches!(self.work.nodes.kind(part), Kind::NewObj | Kind::Reduce | Kind::NewObjEx) {
                continue;
            }
            if let Some((_, of_node)) = self.work.graph_node(part)? {
                needs.extend(of_node);
            } else if let Some(target) = self.work.reference(part) {
                needs.push(self.work.key(target)?);
            } else if self.work.role(part)? == Role::Special {
                return Err("an object of a special class".into());
            }
        }
        distinct(&mut needs);
        let set = self.work.needs(&needs);
        let id = self.work.container(Container::Dict, &parts, set);
        Ok(Made { id, needs: Some(needs) })
    }

    fn sequence(&mut self, id: NodeId, key: Option<NodeId>, depth: u32) -> Result<Made, Stop> {
        let kind = self.work.nodes.kind(id);
        let is_whole = !matches!(kind, Kind::Tuple | Kind::FrozenSet) || self.work.nodes.is_plain(id);
        let items = self.work.nodes.items(id).filter(|_| is_whole).ok_or("a container with a state")?;
        self.work.step(items.len())?;
        let mut needs = None;
        let mut made = Vec::with_capacity(items.len());
        for item in items {
            let item = self.inner(item, depth + 1)?;
            if let Some(of_item) = item.needs {
                needs.get_or_insert_with(Vec::new).extend(of_item);
            }
            made.push(item.id);
        }
        let Some(needs) = needs else { return Ok(Made::literal(id)) };
        if self.only_in_lists && kind != Kind::List {
            return Err(ELSEWHERE.into());
        }
        let [list, tuple, set, frozen, _] = self.work.words.types;
        let kind = match kind {
            Kind::List => list,
            Kind::Tuple => tuple,
            Kind::Set => set,
            _ => frozen,
        };
        let pair = [self.work.words.typ, kind];
        let kwargs = self.work.nodes.add_dict(&pair);
        let cast = self.work.words.cast;
        Ok(self.finish(key, cast, &made, kwargs, needs))
    }

    /// Source: `dask/_task_spec.py`, `_wrap_namedtuple_task`.
    fn named_tuple(&mut self, id: NodeId, key: Option<NodeId>, depth: u32) -> Result<Made, Stop> {
        let (class, fields) = self.work.nodes.new_obj(id).ok_or("a named tuple that is made in an odd way")?;
        let fields = self.work.nodes.tuple(fields).ok_or("a named tuple that is made in an odd way")?.to_vec();
        let mut needs = None;
        let mut made = Vec::with_capacity(fields.len());
        for field in fields {
            // Dask reads these once more, dicts within included.
            let kind = self.work.nodes.kind(field);
            if matches!(kind, Kind::Dict | Kind::List | Kind::Tuple | Kind::Set | Kind::FrozenSet) {
                let inside = self.work.nodes.below(field);
                self.work.step(inside.len())?;
                if inside.iter().any(|&id| self.work.nodes.kind(id) == Kind::Dict) {
                    return Err("a dict in a named tuple".into());
                }
            }
            let field = self.inner(field, depth + 1)?;
            if let Some(of_field) = field.needs {
                needs.get_or_insert_with(Vec::new).extend(of_field);
            }
            made.push(field.id);
        }
        if self.only_in_lists && needs.is_some() {
            return Err(ELSEWHERE.into());
        }
        let fields = match &mut needs {
            None => self.work.nodes.add_tuple(&made),
            Some(needs) => {
                distinct(needs);
                let set = self.work.needs(needs);
                self.work.container(Container::Tuple, &made, set)
            }
        };
        let no_needs = self.work.needs(&[]);
        let kwargs = self.work.container(Container::Dict, &[], no_needs);
        let maker = self.work.nodes.add_tuple(&[self.work.words.named_tuple, class]);
        let maker = self.work.nodes.add_reduce(self.work.words.partial, maker);
        let none = self.work.words.no_kwargs;
        Ok(self.finish(key, maker, &[fields, kwargs], none, needs.unwrap_or_default()))
    }
}

fn is_own_alias(entry: &Entry) -> bool {
    entry.kind == NodeKind::Alias && entry.needs == [entry.key]
}
