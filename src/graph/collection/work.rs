//! What is known of a graph while it is read: its keys by number, the roles of its objects.

use bytes::Bytes;

use crate::base::{Key, SeededMap, Value};
use crate::graph::error::Stop;
use crate::graph::known::{GraphNode, Name, Reader};
use crate::graph::vouch::{GraphQuestion, Role, Roles, Vouched};
use crate::pickle::{Kind, NodeId, Nodes, Splitter, SplitterTables};

use super::words::Words;

/// Objects that one graph may ask about; past it Python reads it all.
const ASKED_MAX: usize = 10_000;
/// Unit: bytes.
const ASKED_BYTES_MAX: usize = 16 << 20;
/// Steps that a graph may take: what Dask's own graphs take is a few for each node.
const STEPS_PER_NODE: usize = 30;
const STEPS_MIN: usize = 100_000;
/// Blocks, and references of blocks to many others, that are made of one outline.
const MADE_MAX: usize = 1 << 25;
/// Tuples nested deeper are no keys. As `base::Key` has it.
const KEY_DEPTH_MAX: u32 = 64;

/// Keys by number.
#[derive(Default)]
pub(super) struct Index {
    numbers: SeededMap<Key, u32>,
    pub(super) keys: Vec<Key>,
    /// A node for each.
    pub(super) nodes: Vec<NodeId>,
}

impl Index {
    /// The number of a key, which may be new.
    pub(super) fn intern(&mut self, key: Key, node: NodeId) -> u32 {
        let next = self.keys.len() as u32;
        let number = *self.numbers.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            next
        });
        if number == next {
            self.nodes.push(node);
        }
        number
    }

    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        self.numbers.get(key).copied()
    }
}

/// The graph that is being read.
pub(super) struct GraphWork<'a> {
    pub(super) nodes: Nodes,
    pub(super) buffers: &'a [Bytes],
    known: Option<&'a Vouched>,
    pub(super) words: Words,
    pub(super) index: Index,
    roles: SeededMap<NodeId, Roles>,
    pub(super) question: GraphQuestion,
    asked_bytes: usize,
    /// Bounds the work on graphs that refer to the same things in very many ways.
    steps_left: usize,
    /// Blocks and references that were made of templates.
    made: usize,
    tables: SplitterTables,
}

impl<'a> GraphWork<'a> {
    pub(super) fn new(mut nodes: Nodes, buffers: &'a [Bytes], known: Option<&'a Vouched>) -> Self {
        let steps_left = nodes.len().saturating_mul(STEPS_PER_NODE).saturating_add(STEPS_MIN);
        let words = Words::new(&mut nodes);
        Self {
            nodes,
            buffers,
            known,
            words,
            index: Index::default(),
            roles: SeededMap::default(),
            question: GraphQuestion::default(),
            asked_bytes: 0,
            steps_left,
            made: 0,
            tables: SplitterTables::default(),
        }
    }

    /// Counts steps, and stops a graph that takes too many.
    pub(super) fn step(&mut self, count: usize) -> Result<(), Stop> {
        self.steps_left = self.steps_left.checked_sub(count).ok_or("a graph that repeats itself very often")?;
        Ok(())
    }

    /// Counts what is made of templates: an outline is short, whatever it stands for.
    pub(super) fn make(&mut self, count: usize) -> Result<(), Stop> {
        self.made = self.made.saturating_add(count);
        if self.made > MADE_MAX || !self.nodes.has_room(1 << 24) {
            return Err("a graph of more blocks than are counted".into());
        }
        self.steps_left = self.steps_left.saturating_add(count.saturating_mul(STEPS_PER_NODE));
        Ok(())
    }

    /// The number of a key that must be readable.
    pub(super) fn key(&mut self, id: NodeId) -> Result<u32, Stop> {
        if !self.may_be_key(id, KEY_DEPTH_MAX - 1)? {
            return Err("a key that is no plain value".into());
        }
        let key = Reader::new(&self.nodes).key(id)?;
        Ok(self.index.intern(key, id))
    }

    /// One of Dask's own nodes, with the numbers of the keys that it needs.
    pub(super) fn graph_node(&mut self, id: NodeId) -> Result<Option<(GraphNode, Vec<u32>)>, Stop> {
        if !matches!(self.nodes.kind(id), Kind::NewObj | Kind::Reduce) {
            return Ok(None);
        }
        let Some(known) = Reader::new(&self.nodes).graph_node(id, false) else { return Ok(None) };
        let mut needs = match known {
            GraphNode::Task { dependencies, .. } => {
                let keys = self.nodes.tuple(dependencies).unwrap_or_default().to_vec();
                keys.into_iter().map(|key| self.key(key)).collect::<Result<_, _>>()?
            }
            GraphNode::Alias { target } => vec![self.key(target)?],
            GraphNode::Data => Vec::new(),
        };
        distinct(&mut needs);
        Ok(Some((known, needs)))
    }

    /// The key that a reference (`TaskRef`, a client's future) stands for.
    pub(super) fn reference(&self, id: NodeId) -> Option<NodeId> {
        let (class, args) = self.nodes.reduce(id)?;
        let is_reference = Reader::new(&self.nodes).name(class) == Name::Reference;
        self.nodes.tuple(args).filter(|_| is_reference)?.first().copied()
    }

    /// The number of the key that a literal equals, if it is one that Dask compares with keys.
    pub(super) fn equal_key(&mut self, id: NodeId) -> Result<Option<u32>, Stop> {
        if !self.may_be_key(id, KEY_DEPTH_MAX)? {
            return Ok(None);
        }
        let key = Reader::new(&self.nodes).key(id).ok();
        Ok(key.and_then(|key| self.index.find(&key)))
    }

    fn may_be_key(&mut self, id: NodeId, depth: u32) -> Result<bool, Stop> {
        self.step(1)?;
        match self.nodes.kind(id) {
            Kind::Text => Ok(self.nodes.text(id).is_some()),
            Kind::Bytes => Ok(depth < KEY_DEPTH_MAX),
            Kind::Atom => match self.nodes.value(id) {
                Ok(value) => Ok(!value.is_nil()),
                // Larger than any number in a key that is read.
                Err(_) if self.nodes.int(id).is_some() => Ok(false),
                Err(_) => Err("a number or string of an odd kind".into()),
            },
            Kind::Tuple if depth > 0 && self.nodes.is_plain(id) => {
                let len = self.nodes.tuple(id).map_or(0, <[_]>::len);
                for at in 0..len {
                    let item = self.nodes.tuple(id).and_then(|items| items.get(at)).copied();
                    if !item.map_or(Ok(false), |item| self.may_be_key(item, depth - 1))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            // A number of NumPy's: those of its classes that are floats to Python stand for keys by themselves, too.
            Kind::Reduce => match self.nodes.value(id) {
                Ok(value) => Ok(depth < KEY_DEPTH_MAX || matches!(value, Value::Float(_))),
                Err(_) => Ok(false),
            },
            _ => Ok(false),
        }
    }

    /// The role of an object that a call or a class made. Until Python has answered it passes for a plain one.
    pub(super) fn role(&mut self, id: NodeId) -> Result<Role, Stop> {
        if self.nodes.value(id).is_ok() {
            return Ok(Role::Plain);
        }
        let maker = self.nodes.reduce(id).or_else(|| self.nodes.new_obj(id)).map(|(maker, _)| maker);
        if let Some((module, name)) = maker.and_then(|maker| self.nodes.global(maker)) {
            let makes = self.known.and_then(|known| known.roles(module, name)).and_then(|roles| roles.makes);
            return makes.map_or_else(|| Ok(self.ask(id)?.own), Ok);
        }
        if self.nodes.new_obj(id).is_some()
            && let Some(class) = maker
        {
            let makes = self.ask(class)?.makes;
            return makes.map_or_else(|| Ok(self.ask(id)?.own), Ok);
        }
        Ok(self.ask(id)?.own)
    }

    /// Can this be called, so that a tuple which begins with it is a task?
    pub(super) fn is_callable(&mut self, id: NodeId) -> Result<bool, Stop> {
        match self.nodes.kind(id) {
            Kind::Global => {
                let (module, name) = self.nodes.global(id).ok_or("a name that is no text")?;
                let roles = self.known.and_then(|known| known.roles(module, name));
                let roles = roles.ok_or_else(|| Stop::NeedsPython(format!("the name {module}.{name}").into()))?;
                Ok(roles.own == Role::Callable)
            }
            Kind::NewObj | Kind::Reduce | Kind::NewObjEx => {
                if self.graph_node(id)?.is_some() {
                    return Err("a tuple that begins with a task".into());
                }
                if self.reference(id).is_some() {
                    return Ok(false);
                }
                match self.role(id)? {
                    Role::Callable => Ok(true),
                    Role::Plain | Role::NamedTuple => Ok(false),
                    Role::Special => Err("an object of a special class".into()),
                }
            }
            _ => Ok(false),
        }
    }

    fn ask(&mut self, id: NodeId) -> Result<Roles, Stop> {
        if let Some(&roles) = self.roles.get(&id) {
            return Ok(roles);
        }
        let known = self.known.ok_or("an object that only Python knows")?;
        let tables = std::mem::take(&mut self.tables);
        let mut splitter = Splitter::with_tables(&self.nodes, self.buffers, tables);
        let part = splitter.part(id);
        self.tables = splitter.into_tables();
        let part = part?;
        if !part.buffers.is_empty() {
            return Err("a large object that only Python knows".into());
        }
        let roles = known.object(&part.pickle).unwrap_or_else(|| {
            self.asked_bytes += part.pickle.len();
            self.question.objects.push(part.pickle);
            Roles { own: Role::Plain, makes: Some(Role::Plain) }
        });
        if self.question.objects.len() > ASKED_MAX || self.asked_bytes > ASKED_BYTES_MAX {
            self.question.objects.clear();
            return Err("more objects than Python is asked about".into());
        }
        self.roles.insert(id, roles);
        Ok(roles)
    }
}

/// Sorts, and leaves each once.
pub(super) fn distinct(numbers: &mut Vec<u32>) {
    numbers.sort_unstable();
    numbers.dedup();
}
