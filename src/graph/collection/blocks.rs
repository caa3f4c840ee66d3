//! A layer of blocks that are all made alike: which keys, which inputs, which tasks.
//!
//! Source: `dask/blockwise.py`, `_make_blockwise_graph`; `rask_pyhost/outlines.py`, `blocks_of`.

use crate::base::{Key, SeededMap};
use crate::graph::error::Stop;
use crate::graph::known::Reader;
use crate::pickle::{NodeId, Nodes};

use super::build::Parts;
use super::convert::Entry;
use super::template::{Filling, Template, is_same};
use super::words::Container;
use super::work::{GraphWork, distinct};

/// Blocks of one layer that are counted; of more Python may make what is needed.
const BLOCKS_MAX: usize = 1 << 24;
const AXES_MAX: usize = 64;
const ODD: &str = "an outline of an odd form";

/// A layer of blocks, as it is told.
pub(super) struct Blocks {
    name: Key,
    mark: String,
    template: NodeId,
    dims: Vec<usize>,
    /// Coordinates; `None`: all that there are.
    only: Option<Vec<Vec<usize>>>,
    holes: Vec<Hole>,
    /// Keys, and what Python made under them.
    samples: Vec<(NodeId, NodeId)>,
    /// Numbers of the keys of all blocks, in the order of their coordinates.
    numbers: Vec<u32>,
}

enum Hole {
    Input {
        /// Its text as a node and as a key.
        name: (NodeId, Key),
        axes: Vec<Axis>,
        /// The key under which joined inputs stand, what joins them, along which axes.
        join: Option<(NodeId, NodeId, NodeId)>,
    },
    Source {
        source: Source,
        token: NodeId,
        axes: Vec<Axis>,
    },
}

/// What tells blocks apart beside their inputs.
enum Source {
    /// Per axis the sizes of the blocks.
    Shape(Vec<Vec<NodeId>>),
    /// Per axis where blocks begin; the last one ends at one more.
    Slice(Vec<Vec<NodeId>>),
    /// Their coordinates.
    Place,
    Table(SeededMap<Key, NodeId>),
}

#[derive(Clone, Copy)]
enum Axis {
    /// A coordinate of the block.
    Own(usize),
    /// The first, whatever the block.
    Zero,
    /// All of so many.
    All(usize),
    /// The first, so many times.
    First(usize),
}

impl Blocks {
    /// Reads `(output, mark, template, dims, blocks, holes, samples)`.
    pub(super) fn read(nodes: &Nodes, told: &[NodeId]) -> Result<Self, Stop> {
        let &[output, mark, template, dims, only, holes, samples] = told else { return Err(ODD.into()) };
        let name = Reader::new(nodes).key(output)?;
        if name.as_text().is_none() {
            return Err("a layer whose name is no text".into());
        }
        let list = |id| nodes.items(id).ok_or(ODD);
        let numbers = |id| list(id)?.into_iter().map(|id| size(nodes, id)).collect::<Result<Vec<_>, _>>();
        let dims = numbers(dims)?;
        let only = match nodes.is_none(only) {
            true => None,
            false => Some(list(only)?.into_iter().map(numbers).collect::<Result<Vec<_>, _>>()?),
        };
        let holes = list(holes)?.into_iter().map(|id| Hole::read(nodes, id)).collect::<Result<_, _>>()?;
        let pair = |id| match nodes.tuple(id) {
            Some(&[key, task]) => Ok((key, task)),
            _ => Err(ODD),
        };
        let samples = list(samples)?.into_iter().map(pair).collect::<Result<_, _>>()?;
        let mark = nodes.text(mark).ok_or(ODD)?.to_owned();
        let blocks = Self { name, mark, template, dims, only, holes, samples, numbers: Vec::new() };
        if blocks.dims.len() > AXES_MAX || blocks.len().is_none_or(|len| len > BLOCKS_MAX) {
            return Err("a layer of more blocks than are counted".into());
        }
        Ok(blocks)
    }

    /// Numbers of the keys of all blocks.
    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    fn len(&self) -> Option<usize> {
        match &self.only {
            Some(only) => Some(only.len()),
            None => self.dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim)),
        }
    }

    /// The coordinates of a block.
    fn place(&self, at: usize) -> Vec<usize> {
        if let Some(only) = &self.only {
            return only.get(at).cloned().unwrap_or_default();
        }
        let mut rest = at;
        let mut place: Vec<usize> =
            self.dims.iter().rev().map(|&dim| (rest % dim.max(1), rest /= dim.max(1)).0).collect();
        place.reverse();
        place
    }

    /// Gives the keys of all blocks numbers.
    pub(super) fn name_all(&mut self, work: &mut GraphWork<'_>) -> Result<&[u32], Stop> {
        let count = self.len().unwrap_or(0);
        work.make(count)?;
        let text = work.nodes.add_text(self.name.as_text().unwrap_or_default());
        work.nodes.share(text);
        let mut coordinates = Coordinates::default();
        self.numbers.reserve(count);
        for at in 0..count {
            let place = self.place(at);
            let number = coordinates.key(work, (text, &self.name), &place)?;
            self.numbers.push(number);
        }
        Ok(&self.numbers)
    }

    /// The tasks of those blocks for which `wants` says so by the number of their key.
    pub(super) fn expand(
        &self,
        work: &mut GraphWork<'_>,
        grids: &Grids<'_>,
        mut wants: impl FnMut(u32) -> bool,
    ) -> Result<Vec<Entry>, Stop> {
        let template = Template::new(work, self.template, &self.mark)?;
        let mut coordinates = Coordinates::default();
        let samples = self.samples(work)?;
        let mut entries = Vec::new();
        for (at, &number) in self.numbers.iter().enumerate() {
            let sample = samples.get(&number);
            let is_wanted = wants(number);
            if !is_wanted && sample.is_none() {
                continue;
            }
            let place = self.place(at);
            let mut fillings = Vec::with_capacity(self.holes.len());
            for hole in &self.holes {
                fillings.push(hole.fill(work, grids, &mut coordinates, &place)?);
            }
            let entry = template.fill(work, number, &fillings)?;
            if let Some(&sample) = sample
                && !is_same(work, entry.node, sample)?
            {
                return Err("a template that Python fills otherwise".into());
            }
            if is_wanted {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// What Python made, by the numbers of their keys.
    fn samples(&self, work: &mut GraphWork<'_>) -> Result<SeededMap<u32, NodeId>, Stop> {
        let samples = self.samples.iter().map(|&(key, task)| Ok((work.key(key)?, task)));
        samples.collect()
    }
}

impl Hole {
    fn read(nodes: &Nodes, id: NodeId) -> Result<Self, Stop> {
        let told = nodes.tuple(id).ok_or(ODD)?;
        let kind = told.first().and_then(|&kind| nodes.text(kind)).ok_or(ODD)?;
        match (kind, told) {
            ("key", &[_, name, axes, token, join, along]) => {
                let key = Reader::new(nodes).key(name)?;
                let join = (!nodes.is_none(join)).then_some((token, join, along));
                Ok(Self::Input { name: (name, key), axes: axes_of(nodes, axes)?, join })
            }
            (_, &[_, token, axes, tables]) => {
                let table = |id| nodes.items(id).ok_or(ODD);
                let all = || table(tables)?.into_iter().map(table).collect::<Result<Vec<_>, _>>();
                let source = match kind {
                    "shape" => Source::Shape(all()?),
                    "slice" => Source::Slice(all()?),
                    "place" => Source::Place,
                    "table" => Source::Table(
                        nodes
                            .entries(tables)
                            .ok_or(ODD)?
                            .into_iter()
                            .map(|(key, value)| Ok((Reader::new(nodes).key(key)?, value)))
                            .collect::<Result<_, Stop>>()?,
                    ),
                    _ => return Err(ODD.into()),
                };
                Ok(Self::Source { source, token, axes: axes_of(nodes, axes)? })
            }
            _ => Err(ODD.into()),
        }
    }

    fn fill(
        &self,
        work: &mut GraphWork<'_>,
        grids: &Grids<'_>,
        coordinates: &mut Coordinates,
        place: &[usize],
    ) -> Result<Filling, Stop> {
        match self {
            Self::Input { name, axes, join } => {
                let mut input = Input { name, grid: grids.by_name.get(&name.1).copied(), coordinates, at: Vec::new() };
                let filling = input.fill(work, axes, place)?;
                let Some((token, function, along)) = *join else { return Ok(filling) };
                let (args, needs) = (work.nodes.add_tuple(&[filling.node, along]), work.needs(&filling.needs));
                let kwargs = work.words.no_kwargs;
                let node = work.task(&Parts { key: Some(token), function, args, kwargs, needs, data_producer: false });
                Ok(Filling { node, needs: filling.needs })
            }
            Self::Source { source, token, axes } => {
                let place = axes.iter().map(|axis| axis.single(place)).collect::<Result<Vec<_>, _>>()?;
                let value = source.value(work, coordinates, &place)?;
                Ok(Filling { node: work.data(*token, value), needs: Vec::new() })
            }
        }
    }
}

impl Axis {
    fn single(self, place: &[usize]) -> Result<usize, Stop> {
        match self {
            Self::Own(at) => Ok(*place.get(at).ok_or(ODD)?),
            Self::Zero => Ok(0),
            Self::All(_) | Self::First(_) => Err(ODD.into()),
        }
    }
}

impl Source {
    fn value(&self, work: &mut GraphWork<'_>, coordinates: &mut Coordinates, place: &[usize]) -> Result<NodeId, Stop> {
        let pick = |tables: &[Vec<NodeId>], more: usize| {
            let pairs = tables.iter().zip(place);
            pairs.map(|(table, &at)| table.get(at + more).copied().ok_or(ODD)).collect::<Result<Vec<_>, _>>()
        };
        let items = match self {
            Self::Shape(tables) => pick(tables, 0)?,
            Self::Slice(tables) => {
                let (starts, ends) = (pick(tables, 0)?, pick(tables, 1)?);
                let (slice, none) = (work.words.slice, work.words.none);
                let slices = starts.into_iter().zip(ends).map(|(start, end)| {
                    let args = work.nodes.add_tuple(&[start, end, none]);
                    work.nodes.add_reduce(slice, args)
                });
                slices.collect()
            }
            Self::Place => place.iter().map(|&at| coordinates.get(work, at).0).collect(),
            Self::Table(values) => {
                let key = Key::tuple(&place.iter().map(|&at| coordinates.get(work, at).1).collect::<Vec<_>>());
                return Ok(*values.get(&key).ok_or("a block that is not in its table")?);
            }
        };
        Ok(work.nodes.add_tuple(&items))
    }
}

/// The layers of blocks that consist of all their blocks, by name: their keys need no look-up.
#[derive(Default)]
pub(super) struct Grids<'a> {
    by_name: SeededMap<Key, &'a Blocks>,
}

impl<'a> Grids<'a> {
    pub(super) fn new(layers: impl Iterator<Item = &'a Blocks>) -> Self {
        let whole = layers.filter(|blocks| blocks.only.is_none());
        Self { by_name: whole.map(|blocks| (blocks.name.clone(), blocks)).collect() }
    }
}

/// References to the blocks of an input.
struct Input<'a> {
    name: &'a (NodeId, Key),
    grid: Option<&'a Blocks>,
    coordinates: &'a mut Coordinates,
    /// The coordinates so far.
    at: Vec<usize>,
}

impl Input<'_> {
    /// A reference, or for each contracted axis a list. Source: `dask/blockwise.py`, `_lol_product`.
    fn fill(&mut self, work: &mut GraphWork<'_>, axes: &[Axis], place: &[usize]) -> Result<Filling, Stop> {
        let Some((axis, rest)) = axes.split_first() else {
            let number = self.key(work)?;
            let node = *work.index.nodes.get(number as usize).ok_or("a key without a node")?;
            return Ok(Filling { node: work.task_ref(node), needs: vec![number] });
        };
        let (count, is_first) = match *axis {
            Axis::Own(_) | Axis::Zero => {
                self.at.push(axis.single(place)?);
                let filling = self.fill(work, rest, place);
                self.at.pop();
                return filling;
            }
            Axis::All(count) => (count, false),
            Axis::First(count) => (count, true),
        };
        work.make(count)?;
        let (mut refs, mut needs) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for at in 0..count {
            self.at.push(if is_first { 0 } else { at });
            let one = self.fill(work, rest, place)?;
            self.at.pop();
            refs.push(one.node);
            needs.extend(one.needs);
        }
        distinct(&mut needs);
        let set = work.needs(&needs);
        Ok(Filling { node: work.container(Container::List, &refs, set), needs })
    }

    fn key(&mut self, work: &mut GraphWork<'_>) -> Result<u32, Stop> {
        let Some(grid) = self.grid else { return self.coordinates.key(work, (self.name.0, &self.name.1), &self.at) };
        let mut flat = 0usize;
        for (&at, &dim) in self.at.iter().zip(&grid.dims) {
            if at >= dim {
                return Err("a block of an input that is not there".into());
            }
            flat = flat.saturating_mul(dim).saturating_add(at);
        }
        let number = grid.numbers.get(flat).copied().filter(|_| self.at.len() == grid.dims.len());
        number.ok_or_else(|| "a block of an input that is not there".into())
    }
}

/// Small numbers as nodes and as keys.
#[derive(Default)]
struct Coordinates {
    known: Vec<(NodeId, Key)>,
}

/// Larger ones are made anew each time.
const COORDINATES_MAX: usize = 1 << 16;

impl Coordinates {
    fn get(&mut self, work: &mut GraphWork<'_>, at: usize) -> (NodeId, Key) {
        let make = |work: &mut GraphWork<'_>, at: usize| (work.nodes.add_int(at as i64), Key::int(at as i64));
        if at >= COORDINATES_MAX {
            return make(work, at);
        }
        while self.known.len() <= at {
            let next = make(work, self.known.len());
            self.known.push(next);
        }
        self.known.get(at).cloned().unwrap_or_else(|| make(work, at))
    }

    /// The number of the key `(name, *place)`.
    fn key(&mut self, work: &mut GraphWork<'_>, (text, name): (NodeId, &Key), place: &[usize]) -> Result<u32, Stop> {
        let mut items = Vec::with_capacity(place.len() + 1);
        let mut nodes = Vec::with_capacity(place.len() + 1);
        items.push(name.clone());
        nodes.push(text);
        for &at in place {
            let (node, key) = self.get(work, at);
            items.push(key);
            nodes.push(node);
        }
        let key = Key::tuple(&items);
        if let Some(number) = work.index.find(&key) {
            return Ok(number);
        }
        let node = work.nodes.add_tuple(&nodes);
        work.nodes.share(node);
        Ok(work.index.intern(key, node))
    }
}

fn axes_of(nodes: &Nodes, axes: NodeId) -> Result<Vec<Axis>, Stop> {
    let axes = nodes.items(axes).ok_or(ODD)?;
    if axes.len() > AXES_MAX {
        return Err(ODD.into());
    }
    axes.into_iter().map(|axis| axis_of(nodes, axis)).collect()
}

fn axis_of(nodes: &Nodes, axis: NodeId) -> Result<Axis, Stop> {
    match nodes.tuple(axis) {
        None if nodes.int(axis) == Some(-1) => Ok(Axis::Zero),
        None => Ok(Axis::Own(size(nodes, axis)?)),
        Some(&[kind, count]) => match nodes.text(kind) {
            Some("all") => Ok(Axis::All(size(nodes, count)?)),
            Some("first") => Ok(Axis::First(size(nodes, count)?)),
            _ => Err(ODD.into()),
        },
        Some(_) => Err(ODD.into()),
    }
}

fn size(nodes: &Nodes, id: NodeId) -> Result<usize, Stop> {
    let number = nodes.int(id).and_then(|number| u32::try_from(number).ok());
    number.map(|number| number as usize).ok_or_else(|| "a number of blocks that is no such number".into())
}
