//! Graphs of arrays, from the outline that Python gives of them.
//!
//! Source: `dask/array/optimization.py`, `optimize`; `rask_pyhost/outlines.py`.

use crate::graph::error::Stop;
use crate::pickle::{NodeId, Nodes};

use super::blocks::{Blocks, Grids};
use super::convert::{Converter, Entry};
use super::fuse;
use super::overlap::Overlap;
use super::pipeline::{Culled, fuse_linear, mark};
use super::work::GraphWork;

const ODD: &str = "an outline of an odd form";

/// Two of these in a row are made one. Source: `dask/array/optimization.py`, `GETTERS`.
const GETTERS: [(&str, &str); 4] = [
    ("dask.array.core", "getter"),
    ("dask.array.core", "getter_nofancy"),
    ("dask.array.core", "getter_inline"),
    ("dask.array.chunk", "getitem"),
];

/// An array: wanted keys, and its layers, users before what they need.
pub(super) struct Outline {
    keys: Vec<NodeId>,
    layers: Vec<Layer>,
}

enum Layer {
    Blocks(Blocks),
    Overlap(Overlap),
    /// Keys and values.
    Tasks(Vec<(NodeId, NodeId)>),
}

impl Outline {
    /// Reads `[(keys, [layer, ..])]`.
    pub(super) fn read(nodes: &Nodes) -> Result<Self, Stop> {
        let operands = nodes.items(nodes.root()).ok_or(ODD)?;
        let [operand] = operands.as_slice() else { return Err("arrays that are not one graph".into()) };
        let Some(&[keys, layers]) = nodes.tuple(*operand) else { return Err(ODD.into()) };
        let layers = nodes.items(layers).ok_or(ODD)?;
        let layers = layers.into_iter().map(|id| Layer::read(nodes, id)).collect::<Result<_, _>>()?;
        Ok(Self { keys: nodes.items(keys).ok_or(ODD)?, layers })
    }

    /// Its tasks after Dask's optimizations of arrays.
    pub(super) fn tasks(mut self, work: &mut GraphWork<'_>) -> Result<Vec<Entry>, Stop> {
        let mut wanted = Vec::with_capacity(self.keys.len());
        for &key in &self.keys {
            wanted.push(work.key(key)?);
        }
        let (numbers, is_key) = self.number_keys(work)?;
        let mut is_needed = vec![false; work.index.keys.len()];
        wanted.iter().for_each(|&number| mark(&mut is_needed, number));
        let grids = Grids::new(self.layers.iter().filter_map(|layer| match layer {
            Layer::Blocks(blocks) => Some(blocks),
            Layer::Tasks(_) | Layer::Overlap(_) => None,
        }));
        let mut entries = Vec::new();
        let mut is_made = vec![false; is_needed.len()];
        for (layer, numbers) in self.layers.iter().zip(numbers) {
            let made = match layer {
                Layer::Blocks(blocks) => {
                    blocks.expand(work, &grids, |number| is_needed.get(number as usize) == Some(&true))?
                }
                Layer::Overlap(_) => Vec::new(),
                Layer::Tasks(tasks) => {
                    let mut made = Vec::with_capacity(tasks.len());
                    for (&(key, value), number) in tasks.iter().zip(numbers) {
                        made.extend(Converter::new(work, &is_key, true).entry(number, key, value)?);
                    }
                    made
                }
            };
            for entry in &made {
                mark(&mut is_made, entry.key);
                entry.needs.iter().for_each(|&need| mark(&mut is_needed, need));
            }
            entries.extend(made);
        }
        for layer in &self.layers {
            let Layer::Blocks(blocks) = layer else { continue };
            let is = |flags: &[bool], number: u32| flags.get(number as usize) == Some(&true);
            if blocks.numbers().iter().any(|&number| is(&is_needed, number) && !is(&is_made, number)) {
                return Err("layers that need each other".into());
            }
        }
        optimize(work, entries, &wanted)
    }

    /// Numbers of the keys per layer of tasks (none for layers of blocks); and by number: is it a key of this graph?
    fn number_keys(&mut self, work: &mut GraphWork<'_>) -> Result<(Vec<Vec<u32>>, Vec<bool>), Stop> {
        let mut is_key = Vec::new();
        let mut numbers = Vec::with_capacity(self.layers.len());
        let mut take = |of_layer: &[u32]| {
            for &number in of_layer {
                if is_key.get(number as usize) == Some(&true) {
                    return Err("a key in several layers");
                }
                mark(&mut is_key, number);
            }
            Ok(())
        };
        for layer in &mut self.layers {
            if let Layer::Overlap(overlap) = layer {
                *layer = Layer::Tasks(overlap.tasks(work)?);
            }
            match layer {
                // It has just become tasks.
                Layer::Overlap(_) => {}
                Layer::Blocks(blocks) => {
                    take(blocks.name_all(work)?)?;
                    numbers.push(Vec::new());
                }
                Layer::Tasks(tasks) => {
                    let of_layer: Vec<u32> = tasks.iter().map(|&(key, _)| work.key(key)).collect::<Result<_, _>>()?;
                    take(&of_layer)?;
                    numbers.push(of_layer);
                }
            }
        }
        Ok((numbers, is_key))
    }
}

impl Layer {
    fn read(nodes: &Nodes, id: NodeId) -> Result<Self, Stop> {
        let (&kind, told) = nodes.tuple(id).and_then(<[_]>::split_first).ok_or(ODD)?;
        match (nodes.text(kind), told) {
            (Some("tasks"), &[tasks]) => Ok(Self::Tasks(nodes.entries(tasks).ok_or(ODD)?)),
            (Some("overlap"), told) => Ok(Self::Overlap(Overlap::read(nodes, told)?)),
            (Some("blocks"), told) => Ok(Self::Blocks(Blocks::read(nodes, told)?)),
            _ => Err(ODD.into()),
        }
    }
}

fn optimize(work: &mut GraphWork<'_>, entries: Vec<Entry>, wanted: &[u32]) -> Result<Vec<Entry>, Stop> {
    let culled = Culled::new(work, entries, wanted);
    let mut order = culled.met.clone();
    order.sort_unstable();
    let is_getter: Vec<bool> = culled.entries.iter().map(|entry| is_getter(work, entry.node)).collect();
    let getters = |chain: &[u32]| chain.iter().filter(|&&at| is_getter.get(at as usize) == Some(&true)).count();
    if is_getter.contains(&true)
        && fuse::chains(&culled.needs, &order, &culled.is_wanted).iter().any(|chain| getters(chain) > 1)
    {
        return Err("slices of slices, which Dask merges".into());
    }
    fuse_linear(work, &culled, &order)
}

/// Is this a task that takes a part of an array, in a way that Dask merges with another?
fn is_getter(work: &GraphWork<'_>, id: NodeId) -> bool {
    let function = work.nodes.state(id).and_then(|state| work.nodes.tuple(state)).and_then(|slots| slots.get(6));
    function.and_then(|&function| work.nodes.global(function)).is_some_and(|name| GETTERS.contains(&name))
}
