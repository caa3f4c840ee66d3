//! A layer of overlapping blocks: each block with edges of its neighbours around it.
//!
//! Source: `dask/layers.py`, `ArrayOverlapLayer`; `rask_pyhost/outlines.py`, `overlap_of`.

use crate::base::SeededMap;
use crate::graph::error::Stop;
use crate::pickle::{NodeId, Nodes};

use super::template::is_same;
use super::work::GraphWork;

const ODD: &str = "an outline of an odd form";
/// Blocks of one layer that are counted. Each has up to three to the power of its axes edges.
const BLOCKS_MAX: usize = 1 << 22;
const AXES_MAX: usize = 8;

/// A layer of overlapping blocks, as it is told.
pub(super) struct Overlap {
    /// The array that overlaps, and the names of what the layer makes.
    names: [NodeId; 3],
    axes: Vec<Axis>,
    getitem: NodeId,
    concatenate: NodeId,
    /// Keys, and what Python made under them.
    samples: Vec<(NodeId, NodeId)>,
}

struct Axis {
    blocks: usize,
    /// How much is taken of the block before, and of that behind.
    depth: [i64; 2],
}

/// A place along an axis: a block, or an edge of its neighbour.
struct Place {
    /// `1.1`, `2`, `2.9`
    node: NodeId,
    /// The block that it lies in.
    block: NodeId,
    slice: NodeId,
    is_edge: bool,
}

/// Keys and values, in the order in which Dask makes them.
pub(super) type Tasks = Vec<(NodeId, NodeId)>;

impl Overlap {
    /// Reads `([name, getitem-.., overlap-..], [(blocks, before, behind), ..], getitem, concatenate, samples)`.
    pub(super) fn read(nodes: &Nodes, told: &[NodeId]) -> Result<Self, Stop> {
        let &[names, axes, getitem, concatenate, samples] = told else { return Err(ODD.into()) };
        let names = nodes.items(names).and_then(|names| names.try_into().ok()).ok_or(ODD)?;
        let number = |id| nodes.int(id).and_then(|number| u32::try_from(number).ok()).ok_or(ODD);
        let axis = |id| match nodes.tuple(id) {
            Some(&[blocks, before, behind]) => {
                let depth = [number(before)?.into(), number(behind)?.into()];
                Ok(Axis { blocks: number(blocks)? as usize, depth })
            }
            _ => Err(ODD),
        };
        let axes = nodes.items(axes).ok_or(ODD)?.into_iter().map(axis).collect::<Result<Vec<_>, _>>()?;
        let count = axes.iter().try_fold(1usize, |count, axis| count.checked_mul(axis.blocks));
        if axes.is_empty() || axes.len() > AXES_MAX || count.is_none_or(|count| count > BLOCKS_MAX) {
            return Err("overlapping blocks of more axes or more in number than are counted".into());
        }
        let samples = nodes.entries(samples).ok_or(ODD)?;
        Ok(Self { names, axes, getitem, concatenate, samples })
    }

    /// Its legacy tasks.
    pub(super) fn tasks(&self, work: &mut GraphWork<'_>) -> Result<Tasks, Stop> {
        let places: Vec<Vec<Vec<Place>>> = self.axes.iter().map(|axis| axis.places(work)).collect();
        let mut edges = Vec::new();
        let mut blocks = Vec::new();
        let mut at = vec![0; self.axes.len()];
        loop {
            let around: Vec<&[Place]> =
                places.iter().zip(&at).map(|(axis, &at)| axis.get(at).map(Vec::as_slice).unwrap_or_default()).collect();
            // Each part is named, made, and a part of the block.
            work.make(3 * around.iter().map(|places| places.len()).product::<usize>())?;
            self.block(work, &around, &mut edges, &mut blocks);
            if !next(&mut at, |axis| self.axes.get(axis).map_or(0, |axis| axis.blocks)) {
                break;
            }
        }
        edges.append(&mut blocks);
        self.compare(work, &edges)?;
        Ok(edges)
    }

    /// The parts of one block, and the block.
    fn block(&self, work: &mut GraphWork<'_>, around: &[&[Place]], edges: &mut Tasks, blocks: &mut Tasks) {
        if around.iter().any(|places| places.is_empty()) {
            return;
        }
        let [name, getitem, overlap] = self.names;
        let mut parts = Vec::new();
        let mut at = vec![0; around.len()];
        loop {
            let places: Vec<&Place> = around.iter().zip(&at).filter_map(|(places, &at)| places.get(at)).collect();
            let key = tuple(work, getitem, &places.iter().map(|place| place.node).collect::<Vec<_>>());
            let of = tuple(work, name, &places.iter().map(|place| place.block).collect::<Vec<_>>());
            if places.iter().any(|place| place.is_edge) {
                let slices: Vec<NodeId> = places.iter().map(|place| place.slice).collect();
                let slices = work.nodes.add_tuple(&slices);
                edges.push((key, work.nodes.add_tuple(&[self.getitem, of, slices])));
            } else {
                edges.push((key, of));
                let block = tuple(work, overlap, &places.iter().map(|place| place.node).collect::<Vec<_>>());
                blocks.push((block, block));
            }
            parts.push(key);
            if !next(&mut at, |axis| around.get(axis).map_or(0, |places| places.len())) {
                break;
            }
        }
        let parts = work.nodes.add_list(&parts);
        let shape: Vec<NodeId> = around.iter().map(|places| work.nodes.add_int(places.len() as i64)).collect();
        let shape = work.nodes.add_tuple(&shape);
        if let Some((_, task)) = blocks.last_mut() {
            *task = work.nodes.add_tuple(&[self.concatenate, parts, shape]);
        }
    }

    fn compare(&self, work: &mut GraphWork<'_>, tasks: &[(NodeId, NodeId)]) -> Result<(), Stop> {
        let mut samples = SeededMap::default();
        for &(key, task) in &self.samples {
            samples.insert(work.key(key)?, task);
        }
        for &(key, task) in tasks {
            if let Some(sample) = samples.remove(&work.key(key)?)
                && !is_same(work, task, sample)?
            {
                return Err("overlapping blocks that Python makes otherwise".into());
            }
        }
        if samples.is_empty() { Ok(()) } else { Err("overlapping blocks that only Python makes".into()) }
    }
}

impl Axis {
    /// Per block what lies around it.
    fn places(&self, work: &mut GraphWork<'_>) -> Vec<Vec<Place>> {
        let [before, behind] = self.depth;
        let none = work.words.none;
        let [zero, from, to] = [0, -before, behind].map(|number| work.nodes.add_int(number));
        let [whole, last, first] = [(none, none), (from, none), (zero, to)].map(|(from, to)| slice(work, from, to));
        let blocks: Vec<NodeId> = (0..self.blocks).map(|at| work.nodes.add_int(at as i64)).collect();
        let neighbour =
            |at: Option<usize>, depth: i64| at.and_then(|at| blocks.get(at)).filter(|_| depth != 0).copied();
        let mut places = Vec::with_capacity(self.blocks);
        for (at, &block) in blocks.iter().enumerate() {
            let mut around = Vec::with_capacity(3);
            if let Some(block) = neighbour(at.checked_sub(1), before) {
                let node = work.nodes.add_float(at as f64 - 0.9);
                around.push(Place { node, block, slice: last, is_edge: true });
            }
            around.push(Place { node: block, block, slice: whole, is_edge: false });
            if let Some(block) = neighbour(at.checked_add(1), behind) {
                let node = work.nodes.add_float(at as f64 + 0.9);
                around.push(Place { node, block, slice: first, is_edge: true });
            }
            places.push(around);
        }
        places
    }
}

/// A key.
fn tuple(work: &mut GraphWork<'_>, name: NodeId, places: &[NodeId]) -> NodeId {
    let items: Vec<NodeId> = std::iter::once(name).chain(places.iter().copied()).collect();
    let key = work.nodes.add_tuple(&items);
    work.nodes.share(key);
    key
}

fn slice(work: &mut GraphWork<'_>, from: NodeId, to: NodeId) -> NodeId {
    let args = work.nodes.add_tuple(&[from, to, work.words.none]);
    work.nodes.add_reduce(work.words.slice, args)
}

/// The next place in the order of a nested loop; false after the last.
fn next(at: &mut [usize], len: impl Fn(usize) -> usize) -> bool {
    for axis in (0..at.len()).rev() {
        let Some(place) = at.get_mut(axis) else { return false };
        *place += 1;
        if *place < len(axis) {
            return true;
        }
        *place = 0;
    }
    false
}
