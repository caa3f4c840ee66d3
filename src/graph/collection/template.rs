//! A template: the task of any block of a layer, with holes where blocks differ.
//!
//! Source: `rask_pyhost/outlines.py`, which makes them with Dask's own `substitute`.

use crate::base::SeededMap;
use crate::graph::error::Stop;
use crate::graph::known::{GraphNode, Reader};
use crate::pickle::{Kind, NodeId, Nodes};

use super::convert::{Entry, NodeKind};
use super::work::{GraphWork, distinct};

/// What leads to a hole nests a few levels.
const DEPTH_MAX: u32 = 60;

/// A template, ready to be filled.
pub(super) struct Template {
    task: Piece,
    /// What the task needs whatever the block, as far as it is not in a hole.
    needs: Vec<u32>,
    data_producer: bool,
}

/// What fills a hole of one block.
pub(super) struct Filling {
    /// Takes the place of the reference to it.
    pub(super) node: NodeId,
    /// Numbers of keys.
    pub(super) needs: Vec<u32>,
}

/// A part of a template.
enum Piece {
    /// The same for all blocks.
    Same(NodeId),
    /// The key of the block.
    Own,
    Hole(usize),
    /// A frozenset of keys, and of those that holes need.
    Needs {
        same: Vec<u32>,
        holes: Vec<usize>,
    },
    Tuple(Vec<Piece>),
    List(Vec<Piece>),
    /// Keys and values in turn.
    Dict(Vec<Piece>),
    Call(NodeId, Box<Piece>),
    /// Class, arguments, state.
    Object(NodeId, NodeId, Box<Piece>),
}

impl Template {
    /// The template under `task`, whose holes are `(mark, number)`.
    pub(super) fn new(work: &mut GraphWork<'_>, task: NodeId, mark: &str) -> Result<Self, Stop> {
        let known = Reader::new(&work.nodes).graph_node(task, false);
        let Some(GraphNode::Task { dependencies, data_producer }) = known else {
            return Err("a template that is no task".into());
        };
        let leading = leading(work, task, mark)?;
        let mut compiler = Compiler { work, mark, leading };
        let needs = match compiler.piece(dependencies, 0)? {
            Piece::Needs { same, .. } => same,
            _ => compiler.keys(dependencies)?.0,
        };
        Ok(Self { task: compiler.piece(task, 0)?, needs, data_producer })
    }

    /// The task of a block.
    pub(super) fn fill(&self, work: &mut GraphWork<'_>, key: u32, fillings: &[Filling]) -> Result<Entry, Stop> {
        let own = *work.index.nodes.get(key as usize).ok_or("a block without a key")?;
        let node = fill(work, &self.task, own, fillings)?;
        let mut needs = self.needs.clone();
        needs.extend(fillings.iter().flat_map(|filling| &filling.needs));
        distinct(&mut needs);
        Ok(Entry { key, node, needs, kind: NodeKind::Task { data_producer: self.data_producer } })
    }
}

/// Nodes from which a hole can be reached. Functions that came by value refer to themselves: no recursion.
fn leading(work: &mut GraphWork<'_>, task: NodeId, mark: &str) -> Result<SeededMap<NodeId, ()>, Stop> {
    let below = work.nodes.below(task);
    work.step(below.len())?;
    let mut parents: SeededMap<NodeId, Vec<NodeId>> = SeededMap::default();
    let mut found = Vec::new();
    for id in below {
        if hole(&work.nodes, id, mark).is_some() {
            found.push(id);
        }
        for child in work.nodes.children(id) {
            parents.entry(child).or_default().push(id);
        }
    }
    let mut leading = SeededMap::default();
    while let Some(id) = found.pop() {
        if leading.insert(id, ()).is_none() {
            found.extend(parents.get(&id).into_iter().flatten());
        }
    }
    Ok(leading)
}

/// The number in a tuple `(mark, number)`.
fn hole(nodes: &Nodes, id: NodeId, mark: &str) -> Option<i128> {
    if nodes.kind(id) != Kind::Tuple {
        return None;
    }
    match *nodes.tuple(id)? {
        [text, number] if nodes.text(text) == Some(mark) => nodes.int(number),
        _ => None,
    }
}

struct Compiler<'a, 'b> {
    work: &'a mut GraphWork<'b>,
    mark: &'a str,
    leading: SeededMap<NodeId, ()>,
}

impl Compiler<'_, '_> {
    fn piece(&mut self, id: NodeId, depth: u32) -> Result<Piece, Stop> {
        if !self.leading.contains_key(&id) {
            return Ok(Piece::Same(id));
        }
        if depth > DEPTH_MAX {
            return Err("a template that nests very deep".into());
        }
        self.work.step(1)?;
        if hole(&self.work.nodes, id, self.mark) == Some(-1) {
            return Ok(Piece::Own);
        }
        if let Some(key) = self.work.reference(id)
            && self.work.nodes.is_plain(id)
            && let Some(number) = hole(&self.work.nodes, key, self.mark)
        {
            let number = usize::try_from(number).map_err(|_| "a block that refers to itself")?;
            return Ok(Piece::Hole(number));
        }
        let nodes = &self.work.nodes;
        match nodes.kind(id) {
            Kind::FrozenSet if nodes.is_plain(id) => {
                let (same, holes) = self.keys(id)?;
                Ok(Piece::Needs { same, holes })
            }
            Kind::Tuple if nodes.is_plain(id) && hole(nodes, id, self.mark).is_none() => {
                let items = nodes.tuple(id).unwrap_or_default().to_vec();
                Ok(Piece::Tuple(self.pieces(&items, depth)?))
            }
            Kind::List => {
                let items = nodes.items(id).ok_or("a list with a state")?;
                Ok(Piece::List(self.pieces(&items, depth)?))
            }
            Kind::Dict => {
                let entries = nodes.entries(id).ok_or("a dict with a state")?;
                let items: Vec<NodeId> = entries.into_iter().flat_map(|(key, value)| [key, value]).collect();
                Ok(Piece::Dict(self.pieces(&items, depth)?))
            }
            Kind::Reduce if nodes.is_plain(id) => {
                let (function, args) = nodes.reduce(id).ok_or("a call of nothing")?;
                let args = self.piece(args, depth + 1)?;
                self.constant(function)?;
                Ok(Piece::Call(function, Box::new(args)))
            }
            Kind::NewObj => {
                let (class, args) = nodes.new_obj(id).ok_or("an object of no class")?;
                let state = nodes.state(id).ok_or("an object without a state")?;
                self.constant(class)?;
                self.constant(args)?;
                Ok(Piece::Object(class, args, Box::new(self.piece(state, depth + 1)?)))
            }
            _ => Err("a template with a hole in an odd place".into()),
        }
    }

    fn pieces(&mut self, items: &[NodeId], depth: u32) -> Result<Vec<Piece>, Stop> {
        items.iter().map(|&item| self.piece(item, depth + 1)).collect()
    }

    fn constant(&self, id: NodeId) -> Result<(), Stop> {
        if self.leading.contains_key(&id) { Err("a template with a hole in an odd place".into()) } else { Ok(()) }
    }

    /// The keys in a frozenset, and the holes.
    fn keys(&mut self, id: NodeId) -> Result<(Vec<u32>, Vec<usize>), Stop> {
        let (mut same, mut holes) = (Vec::new(), Vec::new());
        for item in self.work.nodes.tuple(id).unwrap_or_default().to_vec() {
            match hole(&self.work.nodes, item, self.mark) {
                Some(number) => holes.push(usize::try_from(number).map_err(|_| "a block that needs itself")?),
                None => same.push(self.work.key(item)?),
            }
        }
        Ok((same, holes))
    }
}

fn fill(work: &mut GraphWork<'_>, piece: &Piece, own: NodeId, fillings: &[Filling]) -> Result<NodeId, Stop> {
    let all = |work: &mut GraphWork<'_>, pieces: &[Piece]| {
        pieces.iter().map(|piece| fill(work, piece, own, fillings)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match piece {
        Piece::Same(id) => *id,
        Piece::Own => own,
        Piece::Hole(number) => fillings.get(*number).ok_or("a hole that nothing fills")?.node,
        Piece::Needs { same, holes } => {
            let mut needs = same.clone();
            for &number in holes {
                needs.extend(&fillings.get(number).ok_or("a hole that nothing fills")?.needs);
            }
            distinct(&mut needs);
            work.needs(&needs)
        }
        Piece::Tuple(pieces) => {
            let items = all(work, pieces)?;
            work.nodes.add_tuple(&items)
        }
        Piece::List(pieces) => {
            let items = all(work, pieces)?;
            work.nodes.add_list(&items)
        }
        Piece::Dict(pieces) => {
            let items = all(work, pieces)?;
            work.nodes.add_dict(&items)
        }
        Piece::Call(function, args) => {
            let args = fill(work, args, own, fillings)?;
            work.nodes.add_reduce(*function, args)
        }
        Piece::Object(class, args, state) => {
            let state = fill(work, state, own, fillings)?;
            work.nodes.add_object(*class, *args, state)
        }
    })
}

/// Whether two nodes load to the same. What is the same node needs no look: so functions are compared.
pub(super) fn is_same(work: &mut GraphWork<'_>, left: NodeId, right: NodeId) -> Result<bool, Stop> {
    let mut stack = vec![(left, right)];
    while let Some((left, right)) = stack.pop() {
        if left == right {
            continue;
        }
        work.step(1)?;
        let kind = work.nodes.kind(left);
        if kind != work.nodes.kind(right) {
            return Ok(false);
        }
        if kind == Kind::FrozenSet {
            if keys_in(work, left)? != keys_in(work, right)? {
                return Ok(false);
            }
            continue;
        }
        let nodes = &work.nodes;
        let is_leaf = matches!(kind, Kind::Atom | Kind::Text | Kind::Bytes | Kind::ByteArray);
        if is_leaf {
            if !nodes.is_equal_leaf(left, right) {
                return Ok(false);
            }
            continue;
        }
        let (left, right) = (nodes.children(left), nodes.children(right));
        if left.len() != right.len() || kind == Kind::Buffer {
            return Ok(false);
        }
        stack.extend(left.into_iter().zip(right));
    }
    Ok(true)
}

fn keys_in(work: &mut GraphWork<'_>, set: NodeId) -> Result<Vec<u32>, Stop> {
    let mut keys = Vec::new();
    for item in work.nodes.tuple(set).unwrap_or_default().to_vec() {
        keys.push(work.key(item)?);
    }
    distinct(&mut keys);
    Ok(keys)
}
